"Files as they come: whole, cut short, wrong; and the real ones where they are at hand"
import shutil, subprocess, sys, tarfile, urllib.error, warnings
import numpy as np, pytest, torch
from PIL import Image
from pathlearn import data as module
from pathlearn.data import *

rng = np.random.default_rng(0)
def pixels(n, *shape): return rng.integers(0, 256, (n, *shape), dtype=np.uint8)

@pytest.fixture
def npz(tmp_path):
    "Writes arrays that are right, unless an argument says otherwise; an argument of None leaves the key out"
    def write(**changes):
        arrays = {f'{s}_{k}': v for s in ('train','val','test')
                  for k,v in dict(images=pixels(6, 8, 8, 3), labels=np.arange(6, dtype=np.uint8)[:,None]%3).items()} | changes
        np.savez(tmp_path/'made.npz', **{k: v for k,v in arrays.items() if v is not None})
        return tmp_path/'made.npz'
    return write

@pytest.fixture
def folder(tmp_path):
    "Two classes of three images of 12 x 10 px"
    for i,x in enumerate(pixels(6, 10, 12, 3)):
        file = tmp_path/'images'/('a','b')[i%2]/f'{i}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x).save(file)
    return tmp_path/'images'

def cut_short(file, keep=.6):
    file.write_bytes(file.read_bytes()[:int(keep*file.stat().st_size)])
    return file

def test_import_is_silent():
    run = subprocess.run([sys.executable, '-c', 'import pathlearn.data'], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, '', '')

# arrays

def test_npz_whole(npz):
    splits = npz_data(npz(classes=np.array(['x','y','z']), train_groups=np.arange(6)))
    assert [len(p) for p in splits] == [6,6,6] and splits.train.classes == ['x','y','z']
    assert splits.train.images.shape == (6,3,8,8) and splits.test.groups is None

@pytest.mark.parametrize('changes,message', [
    (dict(train_images=None), 'expected train_images, train_labels'),
    (dict(train_images=pixels(6, 8, 8, 8)), r'train part: images have shape \[6, 8, 8, 8\], expected \[N,H,W\]'),
    (dict(val_images=pixels(6, 8, 8, 3).astype(float)), 'val part: images are torch.float64, expected uint8'),
    (dict(test_images=np.full((6,8,8,3), np.nan)), 'test part: images hold 1152 NaN'),
    (dict(train_images=pixels(0, 8, 8, 3)), 'train part: images hold no image'),
    (dict(val_labels=np.arange(5)), 'val part: labels number 5, images 6'),
    (dict(val_labels=np.arange(6)/2), 'val part: labels are torch.float64'),
    (dict(train_labels=np.array(list('aabbcc'))), 'train part: .*names belong in classes'),
    (dict(test_images=pixels(6, 8, 9, 3)), 'expected one shape'),
    (dict(classes=np.array(['x','y'])), 'labels run from 0 to 2, expected 0 to 1'),
    (dict(train_labels=np.array([None]*6)), 'Python objects, which are never loaded'),
    (dict(train_groups=np.arange(4)), r'train part: groups have shape \[4\], expected \[6\]'),
])
def test_npz_wrong(npz, changes, message):
    file = npz(**changes)
    with pytest.raises(ValueError, match=message) as e: npz_data(file)
    assert 'made.npz' in str(e.value)

@pytest.mark.parametrize('keep', [0, .3, .7, .999])
def test_npz_cut_short(npz, keep):
    with pytest.raises(ValueError, match='made.npz cannot be read as an npz file: it is damaged, cut short'):
        npz_data(cut_short(npz(), keep))

def test_npz_flipped_bits(npz):
    file = npz()
    raw = bytearray(file.read_bytes()); raw[400:420] = bytes(20); file.write_bytes(raw)
    with pytest.raises(ValueError, match='cannot be read as an npz file'): npz_data(file)

def test_npz_that_is_a_single_array(tmp_path):
    np.save(tmp_path/'one.npy', pixels(3, 8, 8))
    with pytest.raises(ValueError, match='one.npy cannot be read as an npz file'): npz_data(tmp_path/'one.npy')

def test_npz_groups_in_two_parts(npz):
    with pytest.warns(UserWarning, match='2 groups stand in both train and test, e.g. 4'):
        npz_data(npz(train_groups=np.arange(6), test_groups=np.arange(4,10)))

def test_npz_findings(npz):
    findings = np.eye(6, 4, dtype=np.int8)
    splits = npz_data(npz(**{f'{s}_labels': findings for s in ('train','val','test')}))
    assert splits.train.c == 4 and splits.train.dls(bs=4).one_batch()[1].dtype == torch.float32

# MedMNIST

def test_medmnist_2d_names_and_sizes():
    from medmnist.info import INFO
    names = [n for n,i in INFO.items() if not i['python_class'].endswith('3D')]
    assert len(names) == 12
    for n in names:
        for size in (28,64,128,224):
            file,url,md5,classes = module._medmnist_file(n, size)
            assert file in url and len(md5) == 32 and classes == list(INFO[n]['label'].values())

def test_medmnist_without_network(tmp_path, monkeypatch):
    def broken(*args): raise urllib.error.URLError('no route to host')
    monkeypatch.setattr(module, 'download_url', broken)
    with pytest.raises(FileNotFoundError) as e: medmnist_data('pathmnist', 64, root=tmp_path)
    for part in ('pathmnist_64.npz', str(tmp_path), 'zenodo.org', 'no route to host', 'put it there'): assert part in str(e.value)
    assert not list(tmp_path.iterdir())

def test_medmnist_broken_download_leaves_nothing(tmp_path, monkeypatch):
    def half(url, root, name, md5):
        (module.Path(root)/name).write_bytes(b'half')
        raise RuntimeError('File not found or corrupted.')
    monkeypatch.setattr(module, 'download_url', half)
    with pytest.raises(FileNotFoundError, match='the download failed'): medmnist_data('bloodmnist', root=tmp_path)
    assert not list(tmp_path.iterdir())

def test_medmnist_download(npz, tmp_path, monkeypatch):
    import hashlib, medmnist.info
    source = npz()
    monkeypatch.setitem(medmnist.info.INFO['pathmnist'], 'MD5', hashlib.md5(source.read_bytes()).hexdigest())
    monkeypatch.setattr(module, 'download_url', lambda url,root,name,md5: shutil.copy(source, module.Path(root)/name))
    splits = medmnist_data('pathmnist', root=tmp_path/'new'/'folder')
    assert splits.test.classes[0] == 'adipose' and splits.train.c == 9
    assert [f.name for f in (tmp_path/'new'/'folder').iterdir()] == ['pathmnist.npz']
    assert len(medmnist_data('pathmnist', root=tmp_path/'new'/'folder', download=False).train) == 6

def test_medmnist_other_file_is_left_alone(npz, tmp_path):
    other = npz().rename(tmp_path/'pathmnist.npz')
    before = other.read_bytes()
    with pytest.raises(ValueError, match='not the published file .* read it as it is with npz_data'):
        medmnist_data('pathmnist', root=tmp_path)
    assert other.read_bytes() == before

# folders

def test_folder_whole(folder):
    found = folder_data(folder)
    assert found.images.shape == (6,3,10,12) and found.classes == ['a','b'] and found.labels.tolist() == [0,0,0,1,1,1]
    assert folder_data(folder, size=8).images.shape == (6,3,8,8)

def test_folder_takes_other_files_in_its_stride(folder):
    (folder/'.DS_Store').write_bytes(b'x'); (folder/'a'/'notes.txt').write_text('x'); (folder/'a'/'._0.png').write_bytes(b'x')
    (folder/'.cache').mkdir()
    assert len(folder_data(folder)) == 6

@pytest.mark.parametrize('keep', [0, .2, .7])
def test_folder_bad_image(folder, keep):
    cut_short(folder/'b'/'3.png', keep)
    with pytest.raises(UnreadableImage, match='3.png cannot be read as an image.*1 of 6 images are bad.*skip_bad=True'):
        folder_data(folder)
    with pytest.warns(UserWarning, match='skipped 1 of 6 images that cannot be read: .*3.png'):
        found = folder_data(folder, skip_bad=True)
    assert found.labels.tolist() == [0,0,0,1,1]

def test_folder_only_bad_images(folder):
    for f in folder.rglob('*.png'): f.write_bytes(b'not an image')
    with pytest.raises(UnreadableImage, match='6 of 6 images are bad'): folder_data(folder, skip_bad=True)
    with pytest.raises(UnreadableImage, match='none of the 6 images'): folder_dls(folder, 8, skip_bad=True)

def test_folder_layout(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no folder'): folder_data(tmp_path/'nowhere')
    with pytest.raises(ValueError, match='is a file, expected a folder'): folder_data(folder/'a'/'0.png')
    (folder/'c').mkdir()
    with pytest.raises(ValueError, match='c holds no image: add some, or remove the folder'): folder_data(folder)
    (folder/'c').rmdir()
    shutil.copy(folder/'a'/'0.png', folder/'loose.png')
    with pytest.raises(ValueError, match='1 images beside its class folders'): folder_data(folder)

def test_folder_16_bit(folder):
    Image.fromarray(np.zeros((10,12), np.uint16)).save(folder/'a'/'deep.png')
    with pytest.raises(UnreadableImage, match='deep.png .*more than 8 bits a channel'): folder_data(folder)

@pytest.mark.parametrize('mode,n_in', [('1',1), ('L',1), ('LA',1), ('P',3), ('RGBA',3), ('CMYK',3), ('RGB',3)])
def test_folder_modes(tmp_path, mode, n_in):
    Image.fromarray(pixels(1, 8, 8, 3)[0]).convert(mode).save(tmp_path/('x.tif' if mode == 'CMYK' else 'x.png'))
    assert folder_data(tmp_path).n_in == n_in

def test_folder_splits_share_classes(folder, tmp_path):
    root = tmp_path/'divided'
    shutil.copytree(folder, root/'train'); shutil.copytree(folder/'b', root/'valid'/'b')
    splits = folder_splits(root)
    assert splits.val.labels.tolist() == [1,1,1] and splits.val.classes == ['a','b'] and splits.test is None
    shutil.copytree(folder/'b', root/'test'/'c')
    with pytest.raises(ValueError, match='c is a class that train does not have'): folder_splits(root)
    with pytest.raises(FileNotFoundError, match='folder_data reads a folder without parts'): folder_splits(folder)

def test_folder_splits_one_shape(folder, tmp_path):
    root = tmp_path/'divided'
    shutil.copytree(folder, root/'train'); (root/'test'/'a').mkdir(parents=True)
    Image.new('RGB', (9,9)).save(root/'test'/'a'/'x.png')
    with pytest.raises(ValueError, match=r'images of test are \[3, 9, 9\], of train \[3, 10, 12\]'): folder_splits(root)
    assert folder_splits(root, size=8).test.size == 8

@pytest.mark.parametrize('workers', [0, 2])
def test_stream_bad_image(folder, workers):
    cut_short(folder/'b'/'3.png')
    with pytest.raises(UnreadableImage, match='3.png cannot be read'): list(folder_dls(folder, 8, bs=2, workers=workers).train)
    dls = folder_dls(folder, 8, bs=2, workers=workers, skip_bad=True, drop_last=False, device='cpu')
    with pytest.warns(UserWarning, match='skipped 1 of 6 images that cannot be read: .*3.png'):
        assert sum(len(x) for x,_ in dls.train) == 5

def test_stream_order_resumes(folder):
    dls = folder_dls(folder, 8, bs=2, workers=2, device='cpu')
    state = dls.train.rng.getstate()
    first = torch.cat([x for x,_ in dls.train])
    dls.train.rng.setstate(state)
    assert torch.equal(first, torch.cat([x for x,_ in dls.train]))

# nuclei

def test_nuclei_folders(tmp_path):
    def make(*parts, shape=(8,8), value=0):
        file = tmp_path.joinpath(*parts); file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(shape, value, np.uint8)).save(file)
    make('one', 'images', 'one.png', shape=(8,8,4))
    with pytest.raises(ValueError, match='masks holds no mask'): nuclei_data(tmp_path)
    make('one', 'masks', '0.png', value=255)
    assert nuclei_data(tmp_path).masks.unique().tolist() == [1]
    make('one', 'masks', '1.png', shape=(8,9))
    with pytest.raises(ValueError, match=r'1.png is 8x9, its image .*one.png is 8x8'): nuclei_data(tmp_path, size=4)
    with pytest.raises(ValueError, match='1.png is 8x9'): list(nuclei_items(tmp_path))
    cut_short(tmp_path/'one'/'masks'/'1.png', .2)
    with pytest.raises(UnreadableImage, match='1.png cannot be read as a mask'): nuclei_data(tmp_path)
    make('one', 'images', 'two.png', shape=(8,8,3))
    with pytest.raises(ValueError, match='holds 2 images, expected one'): nuclei_data(tmp_path)

def test_nuclei_one_file_is_one_nucleus(tmp_path):
    "A nucleus cut in two by an overlap keeps one id, but a two-valued mask of a whole image is counted"
    apart = np.zeros((8,8), np.uint8); apart[:2] = apart[6:] = 255
    for layout in ('x', '.'):
        for kind,x in (('images', np.zeros((8,8,3), np.uint8)), ('masks', apart)):
            (tmp_path/layout/kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(x).save(tmp_path/layout/kind/'x.png')
        assert nuclei_data(tmp_path).masks.unique().tolist() == ([0,1] if layout == 'x' else [0,1,2])

def test_nuclei_coloured_and_deep_masks(tmp_path):
    (tmp_path/'images').mkdir(); (tmp_path/'masks').mkdir()
    Image.new('RGB', (8,8)).save(tmp_path/'images'/'x.png')
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8,8)*1000).save(tmp_path/'masks'/'x.png')
    assert nuclei_data(tmp_path).masks.max() == 63000
    Image.new('RGB', (8,8), (255,0,0)).save(tmp_path/'masks'/'x.png')
    with pytest.raises(ValueError, match='is coloured'): nuclei_data(tmp_path)

def test_nuclei_archive(tmp_path):
    (tmp_path/'bowl.zip').write_bytes(b'PK')
    with pytest.raises(ValueError, match='unpack it first'): nuclei_data(tmp_path/'bowl.zip')

# real files

def test_real_arrays(shared):
    with warnings.catch_warnings():
        warnings.simplefilter('error')                     # its groups are kept apart: no warning of leaks
        lung = npz_data(shared/'lc25000_lung_64.npz')
    assert [len(p) for p in lung] == [2067,296,596] and lung.train.classes == ['lung_aca','lung_n','lung_scc']
    assert lung.train.images.shape[1:] == (3,64,64) and len(np.unique(lung.train.groups)) > 500
    xray = npz_data(shared/'pneumoniamnist.npz')
    assert [len(p) for p in xray] == [3882,524,624] and xray.train.n_in == 1 and xray.train.c == 2

def test_reduced_medmnist_is_refused(shared, tmp_path):
    shutil.copy(shared/'pneumoniamnist.npz', tmp_path)
    with pytest.raises(ValueError, match='not the published file'): medmnist_data('pneumoniamnist', root=tmp_path)

def test_real_folders(shared):
    splits = folder_splits(shared/'lc25000_lung_224', size=32)
    assert sum(map(len, splits)) == 740 and splits.train.c == 3
    dls = folder_dls(shared/'lc25000_lung_224', size=32, bs=64, workers=0, device='cpu')
    assert len(dls.train.dataset) == len(splits.train) and len(dls.valid.dataset) == len(splits.val)
    assert dls.mean == pytest.approx(splits.train.mean, abs=.02)

def test_real_nuclei(shared, tmp_path):
    "The first files of the archive, unpacked"
    with tarfile.open(shared/'dsb2018_stage1_train.tar.xz') as archive:
        ids = set()
        for member in archive:
            parts = member.name.split('/')
            if len(parts) > 1 and parts[1]: ids.add(parts[1])
            if len(ids) > 4: break
            archive.extract(member, tmp_path, **(dict(filter='data') if hasattr(tarfile, 'data_filter') else {})) # older Pythons have none
    items = list(nuclei_items(tmp_path))
    assert len(items) == 4
    for image,mask,_ in items: assert image.shape == (3, *mask.shape) and image.dtype == np.uint8 and mask.max() > 1
    assert nuclei_data(tmp_path, size=64).images.shape == (4,3,64,64)


def test_streaming_over_a_bad_image_trains(tmp_path):
    "The empty second loader of a folder with a bad file must not trip over it"
    from pathlearn.siamese import simsiam_learner
    for i in range(9): Image.fromarray(np.random.default_rng(i).integers(0, 256, (32,32,3), dtype=np.uint8)).save(tmp_path/f'{i}.png')
    (tmp_path/'bad.png').write_bytes(b'no image')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        learn = simsiam_learner(folder_dls(tmp_path, 32, bs=3, workers=0, skip_bad=True), 'tiny', dim=32)
        with learn.no_logging(): learn.fit(1)
    assert len(learn.recorder.losses) == 3


def test_a_class_too_small_to_divide_is_named():
    few = PatchData(torch.zeros(9, 1, 16, 16, dtype=torch.uint8), [0]*8 + [1])
    with pytest.raises(ValueError, match='class of 1 images cannot be divided into 3 parts'): few.split()
    with pytest.raises(ValueError, match='leave nothing to train on'): few.split(.6, .6)
