"Real data that the notebooks ask for by name: where they are found, how they are made, what is said where they are not"
import json, re, shutil
from pathlib import Path
import numpy as np, pytest
from PIL import Image
from pathlearn import cli
from pathlearn.data import *
from pathlearn.data import recipes
from pathlearn.synthetic import synthetic_tissue

ROOT = Path(__file__).parents[1]

def turned(image, angle, mirrors):
    "A copy as LC25000 made them: turned, cut to the largest square inside, scaled up, perhaps mirrored"
    w,a = image.width, np.radians(abs(angle))
    cut = (w - w/(np.cos(a)+np.sin(a)))/2
    image = image.rotate(angle, Image.BICUBIC).crop((cut, cut, w-cut, w-cut)).resize((w,w), Image.BICUBIC)
    for wanted,way in zip(mirrors, (Image.FLIP_LEFT_RIGHT, Image.FLIP_TOP_BOTTOM)):
        if wanted: image = image.transpose(way)
    return image

def copies(photos, n, seed=0): # -> n of each
    rng = np.random.default_rng(seed)
    return [turned(o, rng.uniform(-25,25), rng.random(2) < .5) for o in photos for _ in range(n)]

def thumbs(images): return np.stack([np.asarray(o.convert('L').resize((96,96), Image.BILINEAR)) for o in images])

@pytest.fixture
def empty(tmp_path, monkeypatch):
    "A person who has nothing yet"
    monkeypatch.delenv('PATHLEARN_DATA', raising=False)
    monkeypatch.setattr(Path, 'home', lambda: tmp_path/'home')
    (tmp_path/'here').mkdir(); monkeypatch.chdir(tmp_path/'here')
    return tmp_path

def sources(): # -> notebook, source of each cell
    for f in sorted((ROOT/'nbs').rglob('*.ipynb')):
        if '.ipynb_checkpoints' in f.parts: continue
        for c in json.loads(f.read_text(encoding='utf-8'))['cells']: yield f.name, ''.join(c['source'])

# found by name

def test_no_notebook_reads_a_path_outside_the_repository():
    assert not [(f,m) for f,s in sources() for m in re.findall(r"""['"](?:\.\./){2,}[^'"]*""", s)]

def test_whatever_a_notebook_asks_for_has_its_recipe(empty):
    asked = {m for f,s in sources() if f != '00m_real_data.ipynb' for m in re.findall(r"prepared\('([^']+)'\)", s)}
    assert asked and asked <= {*recipes._WAYS}
    for name in asked:
        with pytest.raises(FileNotFoundError, match=f'^{name} is in none of .*PATHLEARN_DATA=.*to make it: ') as e: prepared(name)
        assert str(empty/'home'/'.pathlearn'/name) in str(e.value)

def test_places_in_their_order(empty, monkeypatch):
    for place in (empty/'home'/'.pathlearn', empty/'here', empty/'named'):
        place.mkdir(parents=True, exist_ok=True); (place/'a.npz').touch()
        if place.name == 'named': monkeypatch.setenv('PATHLEARN_DATA', str(place))
        assert prepared('a.npz') == place/'a.npz'
    (empty/'named'/'dsb2018_stage1_train.tar.xz').touch()
    assert prepared('dsb2018_stage1_train').name == 'dsb2018_stage1_train.tar.xz'
    with pytest.raises(FileNotFoundError, match='must be put there'): prepared('b.npz')

def test_a_tutorial_without_its_data_says_how_to_get_them(empty):
    cells = [s for f,s in sources() if f == 'clusiam_lung.ipynb' and "prepared('" in s]
    code = '\n'.join(l for l in cells[0].splitlines() if not l.startswith('#'))
    with pytest.raises(FileNotFoundError, match='pathlearn_prepare lc25000 FOLDER --out'): exec(code, dict(npz_data=npz_data, prepared=prepared))

# copies of a photograph

def test_copies_of_drawn_tissue():
    tissue = synthetic_tissue(n=90, size=96, seed=1).train
    photos = [Image.fromarray(o.permute(1,2,0).numpy()) for o in tissue.images[:27]]
    assert photographs(thumbs(copies(photos, 4))).tolist() == [i//4 for i in range(108)]

@pytest.mark.parametrize('kind', ['lung_aca','lung_n','lung_scc'])
def test_copies_of_real_photographs(shared, kind):
    photos = [Image.open(f).convert('RGB') for f in sorted((shared/'lc25000_lung_224').rglob(f'{kind}/*.jpeg'))[:20]]
    assert photographs(thumbs(copies(photos, 4))).tolist() == [i//4 for i in range(80)]

def test_right_angles_blank_patches_and_few():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6,6), dtype=np.uint8)).resize((96,96), Image.BICUBIC)
    assert photographs(thumbs([image.rotate(a) for a in (0,90,180,270)])).tolist() == [0]*4
    assert photographs(np.full((3,96,96), 240, np.uint8)).tolist() == [0,1,2] # nothing to see, nothing alike
    assert photographs(np.zeros((0,96,96), np.uint8)).tolist() == []

# the command

@pytest.fixture
def lc25000(tmp_path):
    "Six drawn photographs a class of lung, four copies of each, as published"
    top = tmp_path/'lung_colon_image_set'
    tissue = synthetic_tissue(n=90, size=96, seed=2).train
    for k,c in enumerate(('lung_aca','lung_n','lung_scc')):
        (top/'lung_image_sets'/c).mkdir(parents=True)
        photos = [Image.fromarray(o.permute(1,2,0).numpy()) for o in tissue.images[6*k:6*k+6]]
        for i,o in enumerate(copies(photos, 4, k)): o.save(top/'lung_image_sets'/c/f"{c.replace('_','')}{i+1}.jpeg", quality=95)
    return top

def photo_of(name): return name.split('/')[-2], (int(re.search(r'\d+', name.split('/')[-1])[0])-1)//4

def test_prepare_lc25000(lc25000, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('PATHLEARN_DATA', str(tmp_path/'data'))
    assert cli.pathlearn_prepare(['lc25000', str(lc25000), '--size', '32', '--copies', '3']) == 0
    assert 'lung_aca: 24 pictures of 6 photographs, 18 taken' in capsys.readouterr().out
    splits = npz_data(prepared('lc25000_lung_32.npz'))
    assert sum(len(p) for p in splits) == 54 and splits.train.classes == ['lung_aca','lung_n','lung_scc']
    met = [{photo_of(n) for n in p.names} for p in splits]
    assert len(set.union(*met)) == sum(map(len, met)) == 18, 'a photograph stands in two parts'
    assert [len(m) for m in met] == [11,3,4]
    assert all(photo_of(n)[0] == p.classes[y] for p in splits for n,y in zip(p.names, p.labels))
    before = prepared('lc25000_lung_32.npz').read_bytes()
    assert cli.pathlearn_prepare(['lc25000', str(lc25000), '--size', '32']) == 2 and 'is there already' in capsys.readouterr().err
    assert prepared('lc25000_lung_32.npz').read_bytes() == before and [f.name for f in (tmp_path/'data').iterdir()] == ['lc25000_lung_32.npz']

def test_prepare_a_folder_of_pictures(lc25000, tmp_path):
    assert cli.pathlearn_prepare(['lc25000', str(lc25000.parent), '--size', '32', '--copies', '1', '--out', str(tmp_path/'f')]) == 0
    assert [len(p) for p in folder_splits(tmp_path/'f')] == [11,3,4]

def test_lc25000_is_known_as_published(lc25000):
    for path in (lc25000, lc25000.parent, lc25000/'lung_image_sets'):
        splits = published_splits(path, 32)
        assert sum(len(p) for p in splits) == 72 and not {*splits.train.groups} & {*splits.test.groups}

@pytest.mark.parametrize('args,message', [('lc25000', 'needs the folder'), ('lc25000 {d}/nowhere', 'holds no LC25000: expected lung_image_sets'), ('lc25000 {d} --organ colon', 'holds no LC25000'),
                                          ('lc25000 {d}', 'lacks pictures of lung_scc'), ('nosuchset', "MedMNIST has no 2D set 'nosuchset'")])
def test_what_cannot_be_prepared(lc25000, tmp_path, capsys, args, message):
    shutil.rmtree(lc25000/'lung_image_sets'/'lung_scc')
    code = cli.pathlearn_prepare([*args.format(d=lc25000).split(), '--out', str(tmp_path/'o.npz')])
    assert code == 2 and message in capsys.readouterr().err and not (tmp_path/'o.npz').exists()
