"From features to a verdict: `pathlearn_mil` as a process, every bad input, resuming; pictures of the highest tiles and GeoJSON"
import json, os, shutil, subprocess, sys
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest, torch
from pathlearn import cli_slides
from pathlearn.mil import Bag, drawn_bags, load_mil, predict_bags, read_bag, save_bag
from pathlearn.slides import load_tiles, open_slide, save_geojson, tile_labels, tile_slide, top_places, top_tiles

N,F = 60, 12
OPTIONS = '--epochs 8 --lr .01 --device cpu'.split()

def table(path, bags, **columns): # csv of slides; columns: name -> list
    t = pd.DataFrame(dict(slide_id=[b.name for b in bags], label=[('normal','tumor')[b.label] for b in bags], **columns))
    t.to_csv(path, index=False)
    return t

@pytest.fixture(scope='module')
def source(tmp_path_factory):
    "A job of drawn slides: features, tiles in the same places, and a table of labels with patients of two slides each"
    job = tmp_path_factory.mktemp('drawn')/'job'
    bags = drawn_bags(n=N, patches=40, n_in=F, share=.12)
    image = np.full((2400,2400,3), 200, np.uint8)
    tiles = tile_slide(open_slide(image, mpp=1.), px=256, mpp=1., tissue=np.ones((2400,2400), bool))
    for b in bags:
        save_bag(b, job/'features_lite0'/f'{b.name}.h5')
        tiles.xy,tiles.tissue,tiles.name = b.coords.numpy(), np.ones(len(b)), b.name
        tiles.save(job/'tiles'/f'{b.name}.h5')
    table(job/'labels.csv', bags, case_id=[f'p{i//4}{i%2}' for i in range(N)])
    return job

@pytest.fixture
def job(source, tmp_path): return shutil.copytree(source, tmp_path/'job')

def call(job, out, *more, labels='labels.csv', classes=('--classes','normal','tumor')):
    "In this process -> exit code"
    given = ['--labels', job/labels] if labels else []
    return cli_slides.pathlearn_mil([str(a) for a in (job, *given, *classes, '--out', out, *OPTIONS, *more)])

def files(out): return {p.relative_to(out): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(out.rglob('*')) if p.is_file() and p.name not in ('log.txt','settings.json')}

@pytest.fixture(scope='module')
def run(source, tmp_path_factory):
    "The command as a process, two models -> folder, what it printed"
    out = tmp_path_factory.mktemp('run')/'verdicts'
    code = 'import sys; from pathlearn.cli_slides import pathlearn_mil as f; sys.exit(f())'
    args = [source, '--labels', source/'labels.csv', '--classes', 'normal', 'tumor', '--out', out, *OPTIONS, '--model', 'max', 'dsmil', '--geojson']
    done = subprocess.run([sys.executable, '-c', code, *map(str, args)], capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(out=out, text=done.stdout, err=done.stderr)

# --- the command

def test_slides_are_told_apart_and_each_score_has_its_interval(run):
    rows = pd.read_csv(run.out/'mil.csv')
    assert rows.model.tolist() == ['max','dsmil'] and (rows['AUC tumor'] > .9).all() and (rows.accuracy > .8).all()
    for c in ('accuracy','AUC tumor','majority class','accuracy at .5'): assert (rows[f'{c} low'] <= rows[c]).all() and (rows[c] <= rows[f'{c} high']).all()
    assert rows.over.str.endswith('patients').all() and (rows[['n_train','n_val','n_test']].sum(axis=1) == N).all()
    assert 'majority class' in run.text and 'patients of the test part' in run.text and 'complete: 2 rows' in run.text

def test_the_terminal_shows_clean_lines(run):
    assert not run.err and not any(c in run.text for c in '\r\x1b|')
    assert run.text == (run.out/'log.txt').read_text()

def test_each_slide_has_a_verdict_and_each_patient_one_part(run, source):
    t = pd.read_csv(run.out/'verdicts.csv', dtype=dict(patient=str))
    assert t.groupby('model').slide.nunique().tolist() == [N,N] and len(t) == 2*N
    assert (t.groupby(['model','patient']).part.nunique() == 1).all()
    np.testing.assert_allclose(t['p normal'] + t['p tumor'], 1, atol=1e-5)
    assert (t.verdict == np.where(t['p tumor'] >= t.threshold, 'tumor', 'normal')).all()
    row = pd.read_csv(run.out/'mil.csv').set_index('model').loc['dsmil']
    test = t[(t.model == 'dsmil') & (t.part == 'test')]
    assert (test.label == test.verdict).mean() == pytest.approx(row.accuracy)

def test_the_threshold_is_that_of_the_validation_slides(run):
    from pathlearn.mil import choose_threshold
    t = pd.read_csv(run.out/'verdicts.csv').query("model == 'max' and part == 'val'")
    want = choose_threshold(t.label == 'tumor', t[['p normal','p tumor']].to_numpy())
    assert t.threshold.iloc[0] == pytest.approx(want, abs=1e-5)

def test_a_saved_model_says_the_same(run, source):
    model = load_mil(run.out/'models'/'dsmil_0.safetensors')
    row = pd.read_csv(run.out/'verdicts.csv').query("model == 'dsmil'").iloc[-1]
    p = predict_bags(model, [read_bag(source/'features_lite0'/f'{row.slide}.h5')]).sigmoid().item()
    assert p == pytest.approx(row['p tumor'], abs=1e-4) and model.meta['encoder'] == 'lite0' and model.meta['threshold'] == pytest.approx(row.threshold)

def test_attention_lies_tile_by_tile_and_opens_as_a_map(run, source):
    t = pd.read_csv(run.out/'verdicts.csv').query("model == 'dsmil' and part == 'test'")
    made = {p.stem for p in (run.out/'attention'/'dsmil_0').glob('*.npz')}
    assert made == {*t.slide}
    hits = 0
    for name in t[(t.label == 'tumor')].slide:
        bag = read_bag(source/'features_lite0'/f'{name}.h5')
        with np.load(run.out/'attention'/'dsmil_0'/f'{name}.npz') as f: weight,at = f['attention'], f['coords']
        assert weight.shape == (len(bag),1) and np.isclose(weight.sum(), 1, atol=1e-3) and (at == bag.coords.numpy()).all()
        hits += int(bag.assignments[weight[:,0].argmax()])
        drawn = json.loads((run.out/'attention'/'dsmil_0'/f'{name}.geojson').read_text())['features']
        np.testing.assert_allclose([f['properties']['measurements']['attention'] for f in drawn], weight[:,0]*len(bag), rtol=1e-4)
    assert hits >= .8*(t.label == 'tumor').sum() # it looks at the patches that were moved

def test_a_second_call_changes_nothing_and_a_seed_adds_a_row(run, source, tmp_path, capsys):
    out = shutil.copytree(run.out, tmp_path/'out')
    before = files(out)
    assert call(source, out, '--model', 'max', 'dsmil', '--geojson') == 0 and files(out) == before
    assert 'max, seed 0: is there' in capsys.readouterr().out
    assert call(source, out, '--seed', '1', '--model', 'max', '--attention', 'none') == 0
    after = files(out)
    assert all(after[f] == v for f,v in before.items() if f.name not in ('mil.csv','verdicts.csv'))
    old,new = (pd.read_csv(o/'mil.csv') for o in (run.out,out))
    assert len(new) == 3 and new.iloc[:2].equals(old) and len(pd.read_csv(out/'verdicts.csv')) == 3*N

def test_a_run_without_its_row_is_made_again_and_equals_itself(run, source, tmp_path):
    "As after a kill: the row is written last"
    out = shutil.copytree(run.out, tmp_path/'out')
    rows = pd.read_csv(out/'mil.csv')
    rows[rows.model != 'max'].to_csv(out/'mil.csv', index=False)
    shutil.rmtree(out/'attention'/'max_0')
    assert call(source, out, '--model', 'max', '--geojson') == 0
    again = pd.read_csv(out/'mil.csv').set_index('model').loc['max'].drop(['seconds','code'])
    assert again.equals(rows.set_index('model').loc['max'].drop(['seconds','code']))
    assert len(pd.read_csv(out/'verdicts.csv')) == 2*N and len([*(out/'attention'/'max_0').iterdir()]) == len([*(run.out/'attention'/'max_0').iterdir()])

@pytest.mark.parametrize('more, words', [
    (['--lr','.1'], r'lr was [0.01] and is now [0.1]'), (['--epochs','9'], 'epochs was 8 and is now 9'), (['--test','.5'], 'test was None and is now 0.5')])
def test_other_settings_in_one_folder_are_refused(run, source, tmp_path, capsys, more, words):
    out = shutil.copytree(run.out, tmp_path/'out')
    before = files(out)
    assert call(source, out, *more) == 2 and words in sentence(capsys) and files(out) == before

def test_other_features_in_one_folder_are_refused(run, job, tmp_path, capsys):
    out = shutil.copytree(run.out, tmp_path/'out')
    f = next((job/'features_lite0').iterdir())
    bag = read_bag(f)
    save_bag(Bag(bag.features + 1, bag.coords, bag.label, bag.name), f)
    assert call(job, out) == 2 and 'features was' in sentence(capsys)

def test_new_slides_get_verdicts_with_and_without_labels(run, tmp_path, capsys):
    fresh = drawn_bags(n=20, patches=40, n_in=F, share=.12, seed=5)
    new = tmp_path/'new'
    for b in fresh: save_bag(Bag(b.features, b.coords, name=b.name), new/'features_lite0'/f'{b.name}.h5')
    model = run.out/'models'/'dsmil_0.safetensors'
    assert call(new, new/'v', '--predict', model, labels=None, classes=()) == 0
    t = pd.read_csv(new/'v'/'verdicts.csv')
    assert 'label' not in t and len(t) == 20 and len([*(new/'v'/'attention').glob('*.npz')]) == 20
    assert ((t.verdict == 'tumor') == [b.label == 1 for b in fresh]).mean() > .8
    table(new/'labels.csv', fresh)
    capsys.readouterr()
    assert call(new, new/'w', '--predict', model) == 0 and 'AUC tumor' in capsys.readouterr().out
    assert call(new, run.out, '--predict', model, labels=None, classes=()) == 2 and 'holds another run' in sentence(capsys)
    assert call(new, new/'x', '--predict', model, classes=('--classes','tumor','normal')) == 2 and 'knows the classes normal, tumor' in sentence(capsys)

def test_features_of_another_width_do_not_reach_a_saved_model(run, tmp_path, capsys):
    save_bag(Bag(torch.randn(5, F+1), name='a'), tmp_path/'features_uni'/'a.h5')
    assert call(tmp_path, tmp_path/'o', '--predict', run.out/'models'/'max_0.safetensors', labels=None, classes=()) == 2
    assert f'takes {F} features a tile (encoder lite0)' in sentence(capsys) and not (tmp_path/'o').exists()

# --- bad input: exit code 2, one sentence, before training, nothing made

def sentence(capsys):
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1 and 'Traceback' not in err, err
    return err

def change(job, f): # f: DataFrame -> DataFrame
    t = pd.read_csv(job/'labels.csv')
    f(t).to_csv(job/'labels.csv', index=False)

def put(job, x, name='drawn_0_000'): save_raw(job/'features_lite0'/f'{name}.h5', x)
def save_raw(path, x):
    import h5py
    with h5py.File(path, 'w') as f: f['features'] = x
OK = np.ones((4,F), 'f4')

BAD = {
    '1 slides have a label and no file (other)': lambda j: change(j, lambda t: pd.concat([t, t.iloc[:1].assign(slide_id='other', case_id='pp')])),
    '1 slides have a file and no label (drawn_0_000): look for other spellings, or leave them out with --leave-out': lambda j: change(j, lambda t: t[1:]),
    'class tumor has 1 patients to draw from': lambda j: change(j, lambda t: t.assign(label=['tumor']+['normal']*(N-1))),
    'gives drawn_0_003 the label cancer, and --classes are normal, tumor': lambda j: change(j, lambda t: t.assign(label=[*t.label[:3], 'cancer', *t.label[4:]])),
    'leaves the label of drawn_0_002 empty': lambda j: change(j, lambda t: t.assign(label=[*t.label[:2], '', *t.label[3:]])),
    'the test part has 8 slides and none is tumor': lambda j: change(j, lambda t: t.assign(part=np.where((np.arange(N) < 16) & (np.arange(N)%2 == 0), 'test', 'train'))),
    'patient p00 has slides in the part train and in the part test': lambda j: change(j, lambda t: t.assign(part=np.where(np.arange(N) == 2, 'test', np.repeat(['train','val','test'], [40,12,8])))),
    'into the part dev': lambda j: change(j, lambda t: t.assign(part='dev')),
    'one patch at least': lambda j: put(j, OK[:0]),
    'features that are NaN or infinite, the first is row 1': lambda j: put(j, np.where(np.arange(4)[:,None] == 1, np.nan, OK)),
    f'has {F} features a patch and drawn_0_000 has 9': lambda j: put(j, OK[:,:9]),
    'drawn_0_000.h5 cannot be read, or is damaged': lambda j: (j/'features_lite0'/'drawn_0_000.h5').write_bytes(b'no features'),
    'holds features of lite0, uni: --encoder NAME chooses one': lambda j: shutil.copytree(j/'features_lite0', j/'features_uni'),
    'has tiles and no features_ENCODER': lambda j: shutil.rmtree(j/'features_lite0'),
    'there is no such file': lambda j: (j/'labels.csv').unlink()}

@pytest.mark.parametrize('words', BAD)
def test_bad_input_is_one_sentence_before_training(words, job, capsys):
    BAD[words](job)
    assert call(job, job/'out') == 2
    assert words in sentence(capsys) and not (job/'out').exists()

@pytest.mark.parametrize('more, words', [
    (dict(labels=None), '--labels FILE is needed'), (dict(classes=()), 'such as --classes normal tumor'),
    (dict(more=['--groups','who']), '--groups who is no column of'), (dict(more=['--encoder','gin']), 'holds features of lite0'),
    (dict(more=['--model','mean']), "no model 'mean'"), (dict(more=['--test','1.5']), '--test: expected a number'),
    (dict(more=['--geojson','--attention','none']), 'leave one of them out'), (dict(more=['--predict','{job}/labels.csv']), 'labels.csv')])
def test_wrong_options_are_one_sentence(source, tmp_path, capsys, more, words):
    extra = [a.format(job=source) for a in more.pop('more', [])]
    assert call(source, tmp_path/'out', *extra, **more) == 2
    assert words in sentence(capsys) and not (tmp_path/'out').exists()

def test_tiles_of_another_run_are_refused_before_training(job, capsys):
    for f in (job/'tiles').iterdir():
        t = load_tiles(f)
        t[1:].save(f)
    assert call(job, job/'out', '--geojson') == 2 and 'they are not the' in sentence(capsys) and not (job/'out').exists()

def test_slides_can_be_left_out_and_that_is_told(job, capsys):
    change(job, lambda t: t[2:])
    assert call(job, job/'out', '--leave-out', '--model', 'max', '--attention', 'none') == 0
    said = capsys.readouterr().out
    assert 'note: left out: 2 slides have a file and no label (drawn_0_000, drawn_0_001)' in said
    assert 'drawn_0_000' not in pd.read_csv(job/'out'/'verdicts.csv').slide.tolist()

def test_patients_in_a_file_of_their_own(source, tmp_path):
    from argparse import Namespace
    from pathlearn.commands.slide_inputs import read_cohort
    t = pd.read_csv(source/'labels.csv')
    t.drop(columns='case_id').to_csv(tmp_path/'l.csv', index=False)
    t.rename(columns=dict(case_id='patient'))[['slide_id','patient']].to_csv(tmp_path/'g.csv', index=False)
    kw = dict(encoder=None, classes=['normal','tumor'], strict=True, memory=1., valid=None, test=None, seed=[0,1])
    a,b = (read_cohort(Namespace(features=source, labels=l, groups=g, **kw))[0] for l,g in ((source/'labels.csv',None), (tmp_path/'l.csv',str(tmp_path/'g.csv'))))
    assert a.test.names == b.test.names and not {*a.test.groups} & {*a.train.groups}
    for seed in (0,1):
        train,val = a.split(seed)
        assert not {*train.groups} & {*val.groups} and {*train.names} | {*val.names} == {*a.train.names}

# --- pictures that leave the notebook

@pytest.fixture(scope='module')
def slide(): # white glass with a dark square of 64 px
    image = np.full((500,700,3), 230, np.uint8)
    image[128:192,320:384] = 40
    return open_slide(image, mpp=2.)

@pytest.fixture(scope='module')
def tiles(slide): return tile_slide(slide, px=32, mpp=2., tissue=np.ones((500,700), bool))

def darkness(slide, tiles): return np.array([255 - slide.read(xy, tiles.px, tiles.mpp).float().mean().item() for xy in tiles.xy])

def test_the_highest_tiles_are_those_that_are_dark(slide, tiles):
    import matplotlib.pyplot as plt
    dark = darkness(slide, tiles)
    assert sorted(map(tuple, tiles.xy[top_places(tiles, dark, 4)].tolist())) == [(320,128),(320,160),(352,128),(352,160)]
    fig = top_tiles(slide, tiles, dark, n=4)
    shown = [a for a in fig.axes if a.images and a.get_title()[:2] in ('1:','2:','3:','4:')]
    assert len(shown) == 4 and all((a.images[0].get_array() == 40).all() for a in shown)
    assert shown[0].get_title() == '1: 215\n0.67, 0.29 mm' # the centre: (320+16) x 2 um
    plt.close(fig)

@pytest.mark.parametrize('apart', [0,64,65,150,400])
def test_places_are_far_apart_in_um_and_greedy(tiles, apart):
    score = np.random.default_rng(apart).random(len(tiles))
    got = top_places(tiles, score, 6, apart)
    um = tiles.xy*2.
    far = np.hypot(*(um[got][:,None] - um[got][None]).transpose(2,0,1)) + 1e9*np.eye(len(got))
    assert far.min() >= apart and got[0] == score.argmax()
    for i in np.flatnonzero(score > score[got[-1]]): # what was passed over lies near a higher one that was taken
        if i not in got: assert (np.hypot(*(um[got[score[got] > score[i]]] - um[i]).T) < apart).any()

def test_a_score_that_is_no_number_is_refused(slide, tiles, tmp_path):
    bad = np.full(len(tiles), np.nan)
    for f in (lambda: top_tiles(slide, tiles, bad), lambda: save_geojson(tmp_path/'a.geojson', tiles, bad)):
        with pytest.raises(ValueError, match='NaN or infinite'): f()
    with pytest.raises(ValueError, match='one number for each is expected'): top_tiles(slide, tiles, bad[1:])
    assert not [*tmp_path.iterdir()]

@pytest.mark.parametrize('mpp', [2.,3.]) # at 3 um a tile has 48 px of the scan
def test_outlines_come_back_as_labels(slide, tmp_path, mpp):
    tiles = tile_slide(slide, px=32, mpp=mpp, tissue=np.ones((500,700), bool))
    w,h = slide.size
    inside = (tiles.xy + tiles.side0 <= (w,h)).all(1)
    groups = np.random.default_rng(0).integers(-1, 3, len(tiles))
    n = save_geojson(tmp_path/'g.geojson', tiles, groups, names=['a','b','c'])
    assert n == (groups >= 0).sum()
    for c,name in enumerate('abc'):
        found = tile_labels(tiles, tmp_path/'g.geojson', names=[name])
        assert (found == (groups == c))[inside].all()
    tree = json.loads((tmp_path/'g.geojson').read_text())
    assert tree['type'] == 'FeatureCollection' and len({f['id'] for f in tree['features']}) == n
    for f in tree['features']:
        [ring] = f['geometry']['coordinates']
        assert ring[0] == ring[-1] and len(ring) == 5 and (np.array(ring) <= (w,h)).all() and (np.array(ring) >= 0).all()
        assert f['properties']['objectType'] == 'tile' and f['properties']['classification']['name'] in 'abc' and len(f['properties']['classification']['color']) == 3

def test_a_scale_keeps_its_numbers_and_its_order_of_colours(slide, tiles, tmp_path):
    dark = darkness(slide, tiles)
    save_geojson(tmp_path/'s.geojson', tiles, dark, heading='darkness')
    kept = [f['properties'] for f in json.loads((tmp_path/'s.geojson').read_text())['features']]
    assert [p['measurements']['darkness'] for p in kept] == dark.tolist()
    light = np.array([sum(p['color']) for p in kept])
    assert light[dark == dark.max()].max() < light[dark == dark.min()].min() # darker where the number is higher
    first = (tmp_path/'s.geojson').read_bytes()
    save_geojson(tmp_path/'s.geojson', tiles, dark, heading='darkness')
    assert (tmp_path/'s.geojson').read_bytes() == first
