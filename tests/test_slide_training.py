"Training straight from slides: each tile once, orders, workers, damaged places, kills, and the command"
import json, os, random, subprocess, sys
import pytest, torch
from PIL import Image
from safetensors.torch import load_file
from forking import RUNNER
from drawn import GRID, LINE, draw
from pathlearn import cli
from pathlearn.commands.slide_training import slides_seen
from pathlearn.slides import *
from pathlearn.slides.streams import windows_of
from pathlearn.synthetic import synthetic_slide

TINY = '--epochs 1 --arch tiny --bs 32 --device cpu --workers 0'.split()

@pytest.fixture(scope='module')
def slides(tmp_path_factory): return draw(tmp_path_factory.mktemp('drawn')/'slides', 'abc')

@pytest.fixture(scope='module')
def job(slides):
    tile_slides(slides, out := slides.parent/'job', **GRID)
    return out

@pytest.fixture(scope='module')
def real(shared):
    "Pairs of the two real slides and their tiles, 56 um a side"
    if not (folder := shared/'slides').is_dir(): pytest.skip(f'no data: there is no {folder}')
    found = [open_slide(folder/'cmu_small_region.svs'), open_slide(folder/'tcga_cr_7395_region.svs', .25)]
    return [(s, tile_slide(s, px=56, mpp=1.)) for s in found]

def prints(x): return [hash(o.numpy().tobytes()) for o in x]
def epoch(dls): return prints(x for b, in dls.train for x in b)
def every(dls): # all tiles, as the slides give them
    data = dls.train.dataset
    return sorted(prints(data[i][0] for i in range(len(data))))

@pytest.mark.parametrize('workers, open_slides', [(0,8), (0,1), (2,1), (3,8)])
def test_each_tile_once(real, workers, open_slides):
    dls = slide_dls(real, bs=30, workers=workers, open_slides=open_slides, buffer=100, drop_last=False, seed=1, device='cpu')
    first,second = epoch(dls),epoch(dls)
    assert sorted(first) == sorted(second) == every(dls) and first != second
    again = slide_dls(real, bs=30, workers=workers, open_slides=2, buffer=100, drop_last=False, seed=1, device='cpu')
    assert epoch(again) == first and epoch(again) == second
    assert epoch(slide_dls(real, bs=30, workers=workers, buffer=100, drop_last=False, seed=2, device='cpu')) != first
    assert len(dls.train.dataset.shelf.open) <= open_slides

@pytest.mark.parametrize('workers', [0,2])
def test_all_but_the_last_batch_are_full(real, workers):
    dls = slide_dls(real, bs=30, workers=workers, device='cpu')
    sizes = [len(b) for b, in dls.train]
    assert sizes == [30]*(len(dls.train.dataset)//30) and len(sizes) == len(dls.train)

def test_what_is_read_are_the_tiles(real):
    data = SlideTiles(real)
    for i in (0, 5, len(data)-1):
        slide,tiles = real[int(data.slide_of(i))]
        assert torch.equal(data[i][0], slide.read(data.xy[i], 56, 1.))
    assert sorted(map(tuple, data.xy[:data.begins[1]].tolist())) == sorted(map(tuple, real[0][1].xy.tolist()))

def test_a_window_is_read_row_by_row(real):
    for _,tiles in real:
        xy,first = windows_of(tiles, 4)
        for w,end in zip(first, [*first[1:], len(xy)]):
            part = xy[w:end]
            assert 1 <= end-w <= 16 and (part.max(0) - part.min(0) < 4*tiles.step).all()
            assert [(y,x) for x,y in part.tolist()] == sorted((y,x) for x,y in part.tolist())

def test_batches_mix_the_slides(job):
    dls = slide_dls(job, bs=24, seed=0, window=4, device='cpu')
    data = dls.train.dataset
    assert len(data.slides) == 3
    known = dict(zip(prints(data[i][0] for i in range(len(data))), data.slide_of(range(len(data))).tolist()))
    for b, in dls.train: assert len({known[p] for p in prints(b)}) == 3

SPAWN = '''
import sys, multiprocessing
from pathlearn.slides import *
if __name__ == '__main__':
    multiprocessing.set_start_method(sys.argv[2], force=True)
    dls = slide_dls(sys.argv[1], bs=16, workers=2, drop_last=False, seed=4, device='cpu')
    data = dls.train.dataset
    def prints(x): return [hash(o.numpy().tobytes()) for o in x]
    wanted = sorted(prints(data[i][0] for i in range(len(data)))) # the slides are open here when the workers start
    assert sorted(prints(x for b, in dls.train for x in b)) == wanted
    print('once', len(wanted))
'''

@pytest.mark.parametrize('way', ['spawn','fork'])
def test_workers_of_both_kinds(job, way, tmp_path):
    (tmp_path/'script.py').write_text(SPAWN)
    done = subprocess.run([sys.executable, tmp_path/'script.py', job, way], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and done.stdout.startswith('once'), done.stderr

@pytest.fixture(scope='module')
def zeroed(shared, tmp_path_factory):
    "A real slide with a region that cannot be decoded, and its tiles"
    if not (file := shared/'slides'/'cmu_small_region.svs').is_file(): pytest.skip(f'no data: there is no {file}')
    data = bytearray(file.read_bytes())
    data[1_000_000:1_060_000] = bytes(60_000)
    path = tmp_path_factory.mktemp('bad')/'zeroed.svs'
    path.write_bytes(data)
    with open_slide(file) as s: tiles = tile_slide(s, px=112, mpp=.5)
    tiles.name = 'zeroed'
    return open_slide(path), tiles

@pytest.mark.parametrize('workers', [0,2])
def test_a_damaged_place_names_slide_and_tile(zeroed, workers):
    dls = slide_dls([zeroed], bs=32, workers=workers, buffer=64, seed=0, device='cpu')
    with pytest.raises(OSError, match=r'^zeroed, the tile at \(\d+, \d+\): .*damaged there.*skip_bad=True$'): epoch(dls)

@pytest.mark.parametrize('workers', [0,2])
def test_a_damaged_place_is_left_out_and_counted(zeroed, workers):
    dls = slide_dls([zeroed], bs=32, workers=workers, buffer=64, skip_bad=True, drop_last=False, seed=0, device='cpu')
    with pytest.warns(UserWarning, match=r'skipped (\d+) of [\d,]+ tiles that cannot be read, of 1 slide: zeroed') as told: n = len(epoch(dls))
    data = dls.train.dataset
    lost = int(data.bad.sum())
    assert 0 < lost < 40 and n == len(data) - lost
    assert f'skipped {lost} of' in str(told[-1].message) and f'zeroed ({lost})' in str(told[-1].message)
    assert len(dls.one_batch()[0]) == 32

def test_methods_take_a_stream(job):
    from pathlearn.autoencoder import autoencoder_learner, fit_two_phases
    from pathlearn.clustered import pcl_learner
    from pathlearn.clusiam import clusiam_learner
    dls = slide_dls(job, bs=32, seed=0, device='cpu')
    for learner,kw in ((clusiam_learner,dict(k=4, dim=32, hidden=16)), (pcl_learner,dict(dim=16, ks=(4,), queue=32, alone=0))):
        learn = learner(dls, 'tiny', **kw)
        with learn.no_bar(), learn.no_logging(): learn.fit(2)
        assert all(torch.isfinite(torch.tensor(learn.recorder.losses)))
    learn = autoencoder_learner(dls, latent=8)
    with learn.no_bar(), learn.no_logging(): fit_two_phases(learn, 1, 2, k=3)
    assert learn.model.cluster_head is not None

def test_memory_is_bounded(job, real):
    with pytest.raises(ValueError, match='are 11.7 GiB: 8 GiB are the most'): slide_dls(job, buffer=4_100_000, device='cpu')
    assert SlideTiles(real).buffer == 4096
    waits,most = set(),0
    from pathlearn.slides.streams import mixed
    def counted():
        for i in range(500): waits.add(i); yield i
    for o in mixed(counted(), 60, random.Random(0)):
        most = max(most, len(waits)); waits.discard(o)
    assert most == 60

def test_fingerprints_of_tiles(job):
    pairs,bad = job_tiles(job)
    seen = slides_seen(pairs)
    assert not bad and seen['n'] == dict(train=3) and json.loads(json.dumps(seen)) == seen
    closed,tiles = pairs[0]
    assert slides_seen([(closed,tiles[1:]), *pairs[1:]])['content'] != seen['content']

# ---- the command

def train(*args): return cli.pathlearn_train([str(a) for a in args])

def test_slides_are_tiled_and_trained_on(slides, tmp_path, capsys):
    out = tmp_path/'run'
    assert train('simsiam', '--data', slides, *LINE, *TINY, '--out', out) == 0
    told = capsys.readouterr().out
    assert '3/3 c: ' in told and 'SimSiam on slides: ' in told and 'tiles of 3 slides, 32 px of 1.75 um' in told
    page = (out/'report.html').read_text(encoding='utf-8')
    assert ' tiles of 3 slides of slides, 32 px of 1.75 µm each, straight from the files, and never at a label.' in page
    assert f'pathlearn_embed {out}/tiles_job --encoder {out}/simsiam.safetensors' in page
    assert len([*(out/'tiles_job'/'tiles').glob('*.h5')]) == 3
    settings = json.loads((out/'settings.json').read_text())
    assert {n: settings[n] for n in GRID} == GRID and settings['min_tissue'] == .25 and settings['workers'] == 0
    before = load_file(out/'simsiam.safetensors')
    assert train('simsiam', '--data', slides, *LINE, *TINY, '--out', out) == 0
    assert 'complete already' in capsys.readouterr().out
    after = load_file(out/'simsiam.safetensors') # the header's order of keys varies, so tensors are compared
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    for other,words in ((['--px', 48], 'other settings: px (found 32, asked 48)'), (['--workers', 1], 'workers was 0 and is now 1'), (['--overlap', 8], 'overlap (found 0, asked 8)')):
        assert train('simsiam', '--data', slides, *LINE, *TINY, '--out', out, *other) == 2
        assert words in capsys.readouterr().err
    Image.fromarray(synthetic_slide(300, seed=9)[0].permute(1,2,0).numpy()).save(slides/'new.png')
    try:
        assert train('simsiam', '--data', slides, *LINE, *TINY, '--out', out) == 2
        assert 'began with 3 slides: 1 came (new)' in capsys.readouterr().err
    finally: (slides/'new.png').unlink()

def test_bad_slides_are_named_and_left_out(tmp_path, capsys):
    folder = draw(tmp_path/'slides', 'ab')
    (folder/'b.png').write_bytes(b'no picture')
    assert train('simsiam', '--data', folder, *LINE, *TINY, '--out', tmp_path/'run') == 1
    told = capsys.readouterr()
    assert 'complete: weights in' in told.out and 'bad slide: ' in told.err and 'b.png' in told.err and 'Traceback' not in told.err
    assert '1 slide could not be used and was left out' in (tmp_path/'run'/'report.html').read_text(encoding='utf-8')
    draw(folder, 'abc')
    tile_slides(folder, tmp_path/'job', **GRID)
    (folder/'c.png').unlink()
    assert train('simsiam', '--data', tmp_path/'job', *TINY, '--out', tmp_path/'other') == 1
    assert 'bad slide: c: there is no slide at' in capsys.readouterr().err
    for f in folder.iterdir(): f.unlink()
    assert train('simsiam', '--data', tmp_path/'job', *TINY, '--out', tmp_path/'none') == 2
    assert 'holds no slide that can be read' in capsys.readouterr().err and not (tmp_path/'none').exists()

def test_a_damaged_slide_in_training(zeroed, tmp_path, capsys):
    slide,tiles = zeroed
    from pathlearn.slides.records import Task, attempt
    task = Task(str(slide.source.path), 'zeroed', str(tmp_path/'job'), dict(px=112, mpp=.5, overlap=0, min_tissue=.25, slide_mpp=None))
    with attempt(task, 'tiles') as facts: # finding tissue meets the damage, so the tiles are those of the sound file
        tiles.save(task.file('tiles')); facts.update(n=len(tiles), tissue_mm2=1., slide_mpp=slide.mpp)
    line = ['simsiam', '--data', tmp_path/'job', '--epochs', 1, '--arch', 'tiny', '--bs', 64, '--device', 'cpu', '--out', tmp_path/'run']
    assert train(*line) in (1,2)
    err = capsys.readouterr().err
    assert 'zeroed, the tile at (' in err and '--skip-bad' in err and 'Traceback' not in err
    assert train(*line, '--skip-bad') == 0
    assert 'note: skipped ' in capsys.readouterr().out

@pytest.mark.parametrize('args, words', [
    ('cdcl', 'cdcl learns from masks of nuclei'), ('supervised', 'tiles of JOB have none: pathlearn_mil learns'), ('simsiam --size 64', '--size is for patches'),
    ('simsiam --channels 1', '--channels is for patches'), ('simsiam --px 64', 'were cut with px 32, and --px 64 is asked for'), ('simsiam --alpha .3', 'simsiam has no --alpha'),
    ('simsiam --slide-mpp .5', 'were cut with slide_mpp 1.75'), ('clusiam --k 5000', '5000 clusters asked for')])
def test_refusals(job, args, words, tmp_path, capsys):
    method,*more = args.split()
    assert train(method, '--data', job, *more, *TINY, '--out', tmp_path/'run') == 2
    err = capsys.readouterr().err.replace(str(job), 'JOB')
    assert words in err and len(err.strip().splitlines()) == 1 and not (tmp_path/'run').exists()

@pytest.mark.parametrize('args, words', [
    ('--data synthetic --px 64', '--px is for whole slides, and synthetic is no folder and no file of slides'),
    ('--data synthetic --mpp .5', '--mpp is for whole slides'), ('--data pathmnist --workers 2', '--workers 2 is for whole slides')])
def test_options_of_slides_for_patches(args, words, capsys):
    assert train('simsiam', *args.split()) == 2
    assert words in capsys.readouterr().err

KILLED = RUNNER + '''
from pathlearn.commands import slide_training as room
def short(out, *args, **kw): # the report takes seconds, and none is asked for here
    (page := out/'report.html').write_text('no page')
    return page
room.write_report, room.rehearse = short, lambda *args, **kw: None
job, root = sys.argv[1], Path(sys.argv[2])
def train(name): return cli.pathlearn_train(f'simsiam --data {job} --epochs 6 --arch tiny --bs 24 --device cpu --workers {sys.argv[3]} --out {root}/{name}'.split())
def done(log, n): return log.exists() and f'{n}/6' in log.read_text()
codes = [ended(fork(train, 'calm'))]
for n in (1, 4):
    child, log = fork(train, 'killed'), root/'killed'/'log.txt'
    wait_until(lambda: done(log, n), child)
    os.kill(child, signal.SIGKILL)
    codes.append(ended(child))
codes.append(ended(fork(train, 'killed')))
states = [torch.load(root/n/'training.pt', weights_only=True)['model'] for n in ('calm','killed')]
print(json.dumps(dict(codes=codes, equal=all(torch.equal(states[0][n], states[1][n]) for n in states[0]))))
'''

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
@pytest.mark.parametrize('workers', [0,2])
def test_kills_change_no_bit(job, workers, tmp_path):
    env = os.environ | dict(OMP_NUM_THREADS='1', MPLBACKEND='Agg')
    done = subprocess.run([sys.executable, '-c', KILLED, str(job), str(tmp_path), str(workers)], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == dict(codes=[0,-9,-9,0], equal=True), done.stderr
