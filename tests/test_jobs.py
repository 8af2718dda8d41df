"Folders of slides: bad ones, killed processes, shares, Dask, commands and exit codes"
import json, os, re, subprocess, sys
from pathlib import Path
import h5py, numpy as np, pandas as pd, pytest, torch
from PIL import Image
from forking import RUNNER
from drawn import GRID, LINE, draw
from pathlearn import cli, cli_slides
from pathlearn.data import PatchData
from pathlearn.evaluate import untrained_encoder
from pathlearn.mil.bags import read_bag
from pathlearn.slides import *
from pathlearn.slides import jobs
from pathlearn.slides.records import MOST, Task, attempt, read_state

@pytest.fixture(scope='module')
def slides(tmp_path_factory): return draw(tmp_path_factory.mktemp('drawn')/'slides', 'abcd')

@pytest.fixture
def net(): return untrained_encoder(PatchData(torch.zeros(1,3,32,32, dtype=torch.uint8)), 'tiny')

@pytest.fixture
def weights(tmp_path):
    from pathlearn.clusiam import clusiam_learner
    from pathlearn.learning import save_encoder
    torch.manual_seed(0)
    learn = clusiam_learner(PatchData(torch.randint(256, (8,3,32,32), dtype=torch.uint8)).dls(bs=8), 'tiny', k=4, dim=32, hidden=16)
    save_encoder(learn, file := tmp_path/'small.safetensors', size=32)
    return file

def contents(out, *parts): return {p.relative_to(out).as_posix(): p.read_bytes() for part in parts for p in sorted((Path(out)/part).iterdir())}
def outputs(out): return contents(out, 'tiles', 'tissue', *[p.name for p in Path(out).glob('features_*')])
def leftovers(out): return [p.name for p in Path(out).rglob('*.tmp')]

def test_a_bad_slide_stops_no_other(slides, net, tmp_path):
    folder = tmp_path/'slides'; folder.mkdir()
    for p in slides.iterdir(): (folder/p.name).write_bytes(p.read_bytes())
    whole = (slides/'b.png').read_bytes()
    (folder/'b.png').write_bytes(whole[:len(whole)//2])
    Image.fromarray(np.full((256,256,3), 250, np.uint8)).save(folder/'e.png')
    table = embed_slides(net, folder, tmp_path/'job', **GRID).set_index('name')
    assert [*table.state] == ['done','bad','done','done','bad']
    assert 'b.png' in table.error['b'] and 'have 25% of tissue' in table.error['e']
    assert pd.read_csv(tmp_path/'job'/'report.csv').shape == (5,9)
    assert {*outputs(tmp_path/'job')} == {f'{part}/{n}.{end}' for n in 'acd' for part,end in (('tiles','h5'),('tissue','png'),('features_untrained','h5'))} | {'tissue/e.png'}, 'of a slide without tissue there is the picture'
    with pytest.raises(ValueError, match='b.png'): embed_slides(net, folder, tmp_path/'other', **GRID, skip_bad=False)

def test_two_shares_are_the_whole(slides, net, tmp_path):
    embed_slides(net, slides, tmp_path/'all', **GRID)
    first = embed_slides(net, slides, tmp_path/'shared', **GRID, shard='0/2')
    assert [*first.name] == ['a','c']
    assert [*embed_slides(net, slides, tmp_path/'shared', **GRID, shard='1/2').name] == ['b','d']
    assert outputs(tmp_path/'shared') == outputs(tmp_path/'all')
    assert not len(embed_slides(net, slides, tmp_path/'shared', **GRID, shard='7/8'))

def test_the_file_is_read_by_the_names_of_trident(slides, net, tmp_path):
    "A reader that knows that layout alone"
    embed_slides(net, slides/'a.png', tmp_path, **GRID, encoder='My net')
    with h5py.File(tmp_path/'features_my-net'/'a.h5') as f:
        x,xy,known = f['features'][:], f['coords'][:], dict(f['coords'].attrs)
        assert f['features'].attrs['encoder'] == 'my-net' and x.dtype == np.float16 and xy.dtype == np.int64
    assert len(x) == len(xy) and {'patch_size','patch_size_level0','level0_magnification','target_magnification','overlap','name','level0_width','level0_height'} <= {*known}
    image = np.asarray(Image.open(slides/'a.png'))
    n = int(known['patch_size_level0'])
    px,py = xy[5]
    tile = torch.from_numpy(image[py:py+n,px:px+n].copy()).permute(2,0,1)[None]
    with torch.no_grad(): want = net.eval()(tile.float()/255)
    torch.testing.assert_close(torch.from_numpy(x[5]).float(), want[0], rtol=2e-3, atol=2e-3)

def test_features_too_large_for_16_bits_are_a_bad_slide(slides, tmp_path):
    class Loud(torch.nn.Module):
        n_out = 3
        def forward(self, x): return x.float().mean((2,3))*1e6
    table = embed_slides(Loud(), slides/'a.png', tmp_path, **GRID)
    assert table.state[0] == 'bad' and '16-bit floats end at 65504' in table.error[0]

def test_other_settings_are_refused_before_any_work(slides, net, tmp_path):
    tile_slides(slides, tmp_path, **GRID)
    was = contents(tmp_path, 'tiles', 'state')
    for other,words in ((dict(px=48), r'px \(found 32, asked 48\)'), (dict(overlap=4, min_tissue=.5), r'overlap \(found 0, asked 4\), min_tissue \(found 0.25, asked 0.5\)')):
        with pytest.raises(ValueError, match=f'holds tiles of other settings: {words}. Take those'): tile_slides(slides, tmp_path, **GRID|other)
        with pytest.raises(ValueError, match='other settings'): embed_slides(net, slides, tmp_path, **other)
    for wrong in (dict(px=4), dict(overlap=32), dict(min_tissue=2), dict(mpp=-1), dict(slide_mpp=352.)):
        with pytest.raises(ValueError): tile_slides(slides, tmp_path/'new', **GRID|wrong)
    assert contents(tmp_path, 'tiles', 'state') == was and not (tmp_path/'new').exists()

def test_another_slide_of_the_same_name_is_refused(slides, tmp_path):
    tile_slides(slides/'a.png', tmp_path/'job', **GRID)
    (tmp_path/'x').mkdir()
    (tmp_path/'x'/'a.png').write_bytes((slides/'a.png').read_bytes())
    tile_slides(tmp_path/'x', tmp_path/'job', **GRID)                    # it was moved
    (tmp_path/'x'/'a.png').write_bytes((slides/'b.png').read_bytes())
    with pytest.raises(ValueError, match='is another slide of that name'): tile_slides(tmp_path/'x', tmp_path/'job', **GRID)

def test_a_slide_that_was_replaced_is_done_again(slides, net, tmp_path):
    (tmp_path/'s').mkdir(); file = tmp_path/'s'/'a.png'
    file.write_bytes((slides/'a.png').read_bytes())
    embed_slides(net, tmp_path/'s', tmp_path/'job', **GRID)
    before = outputs(tmp_path/'job')
    file.write_bytes((slides/'b.png').read_bytes())
    tile_slides(tmp_path/'s', tmp_path/'job', **GRID)
    after = outputs(tmp_path/'job')
    assert [*after] == ['tiles/a.h5','tissue/a.png'] and after['tiles/a.h5'] != before['tiles/a.h5'] # old features are gone

def test_leftovers_of_killed_processes_are_removed(slides, tmp_path):
    gone = subprocess.Popen([sys.executable, '-c', '']); gone.wait()
    for part,end in (('tiles','h5'),('tissue','png'),('state','json')):
        (tmp_path/part).mkdir()
        (tmp_path/part/f'a.{end}.{gone.pid}.tmp').write_text('half')
    (tmp_path/'tiles'/f'b.h5.{os.getppid()}.tmp').write_text('of a process that lives')
    tile_slides(slides, tmp_path, **GRID)
    assert leftovers(tmp_path) == [f'b.h5.{os.getppid()}.tmp']

def test_a_full_disk_ends_the_work(slides, tmp_path, monkeypatch):
    import errno
    def full(*_): raise OSError(errno.ENOSPC, 'no space')
    monkeypatch.setattr(jobs, '_save_picture', full)
    with pytest.raises(OSError, match='no space'): tile_slides(slides, tmp_path, **GRID)
    assert len([*(tmp_path/'state').iterdir()]) == 1 # the others were not tried

def test_a_resume_opens_no_slide(tmp_path, monkeypatch):
    "Slides that are done are known by their small files: tests/bench/bench_jobs.py takes the time"
    (tmp_path/'s').mkdir(); (tmp_path/'job'/'tiles').mkdir(parents=True)
    tiling = dict(px=32, mpp=1.75, overlap=0, min_tissue=.25, slide_mpp=1.75)
    for i in range(60): (tmp_path/'s'/f'{i:03}.png').touch()
    for i in range(60):
        task = Task(str(tmp_path/'s'/f'{i:03}.png'), f'{i:03}', str(tmp_path/'job'), tiling)
        with attempt(task, 'tiles') as facts:
            with h5py.File(task.file('tiles'), 'w') as f: f['coords'] = [[0,0]]
            facts['n'] = 1
    def never(*_): raise AssertionError('a slide was opened')
    monkeypatch.setattr(jobs, 'open_slide', never)
    table = tile_slides(tmp_path/'s', tmp_path/'job', **GRID)
    assert len(table) == 60 and (table.state == 'done').all()

def test_real_slides(shared, net, tmp_path):
    if not (folder := shared/'slides').is_dir(): pytest.skip(f'no data: there is no {folder}')
    table = embed_slides(net, folder/'cmu_small_region.svs', tmp_path, px=64, mpp=2.)
    assert table.state[0] == 'done' and table.tiles[0] > 10
    assert len(read_bag(tmp_path/'features_untrained'/'cmu_small_region.h5')) == table.tiles[0]
    bad = tile_slides(folder/'tcga_cr_7395_region.svs', tmp_path/'b', px=64, mpp=2.)
    assert 'tells no micrometres per pixel' in bad.error[0]

# commands

def call(name, *args, capsys):
    capsys.readouterr()
    code = getattr(cli if name == "embed" else cli_slides, f'pathlearn_{name}')([*map(str, args)])
    found = capsys.readouterr()
    return code, found.out, found.err

def test_tile_then_embed(slides, weights, tmp_path, capsys):
    job = tmp_path/'job'
    code,out,_ = call('tile', slides, '--out', job, *LINE, capsys=capsys)
    assert code == 0 and out.startswith('4 slides to do\n') and 'complete: 4 of 4 slides' in out
    assert re.search(r'^2/4 b: \d+ tiles; \d+ tiles/s, \d\d:\d\d left$', out, re.M), out
    code,out,_ = call('embed', job, '--encoder', weights, capsys=capsys)
    assert code == 0 and [*outputs(job)][-1] == 'features_small/d.h5' or 'features_small/a.h5' in outputs(job), out
    with h5py.File(job/'features_small'/'a.h5') as f: assert f['assignments'].shape == f['features'].shape[:1]
    page = (job/'report.html').read_text()
    assert page.count('<img') == 12 and '4 of 4 slides are done' in page and 'k-means' not in page
    was = outputs(job)
    for args in ((slides, '--encoder', weights, '--out', job, *LINE), (weights, '--data', slides, '--out', job, *LINE)): # two ways to say it
        code,out,_ = call('embed', *args, capsys=capsys)
        assert code == 0 and out.startswith('0 slides to do')
    assert outputs(job) == was

def test_the_page_of_a_job_shows_a_map_and_tiles_of_each_slide(slides, net, tmp_path, monkeypatch):
    from pathlearn.commands import job_page
    folder, job = tmp_path/'slides', tmp_path/'job'
    folder.mkdir()
    for p in slides.iterdir(): (folder/p.name).write_bytes(p.read_bytes())
    tile_slides(folder, job, **GRID)
    assert job_page.write_job_page(job).read_text().count('<img') == 4 and not (job/'page').exists(), 'no features yet: the edge of the tissue alone'
    embed_slides(net, folder, job, **GRID)
    text = job_page.write_job_page(job).read_text()
    assert text.count('<img') == 12 and text.count('The encoder makes no clusters: the groups are those of k-means') == 4
    assert len(text) < 4*150_000 and len({*re.findall(r'row by row: (.*?)\.</p>', text)}) == 4
    counts = [int(n) for n in re.findall(r'group \d+ \((\d+) tile', re.search(r'row by row: (.*?)\.</p>', text)[1])]
    assert sum(counts) == job_report(job).set_index('name').tiles['a'] and counts == sorted(counts, reverse=True) and len(counts) <= 6
    def never(*args): raise AssertionError('a slide is opened again')
    with monkeypatch.context() as m:
        m.setattr(job_page, 'open_slide', never)
        assert job_page.write_job_page(job).read_text() == text, 'what was found is kept'
    (job/'page'/'a.json').write_text('{"key": ')                       # half of a file
    (job/'page'/'b.json').unlink(); (folder/'b.png').unlink()          # the slide has gone
    again = job_page.write_job_page(job).read_text()
    assert 'Colours repeat' not in again                             # six groups
    with monkeypatch.context() as m:
        m.setattr(job_page, 'slide_groups', lambda features: np.arange(len(features)) % 12)
        (job/'page'/'a.json').unlink()
        assert job_page.write_job_page(job).read_text().count('Colours repeat after 10 groups') == 1
    assert again.count('<img') == 10 and f"No map and no tiles: there is no slide at {folder/'b.png'}" in again

def test_exit_codes(slides, weights, tmp_path, capsys):
    folder = tmp_path/'s'; folder.mkdir()
    (folder/'a.png').write_bytes((slides/'a.png').read_bytes())
    (folder/'b.png').write_bytes((slides/'b.png').read_bytes()[:999])
    code,out,err = call('tile', folder, '--out', tmp_path/'job', *LINE, capsys=capsys)
    assert code == 1 and '2/2 b: BAD: ' in out and 'complete: 1 of 2 slides' in out and err.startswith('bad slide: ') and 'b.png' in err
    for args,words in (((folder, '--out', tmp_path/'job', '--px', '48', *LINE[2:]), 'px (found 32, asked 48)'), ((folder, '--out', tmp_path/'n', '--px', '2'), '--px: expected'),
                       ((folder, '--out', tmp_path/'n'), 'count as slides when their scale is given'), ((tmp_path/'none', '--out', tmp_path/'n'), 'no folder at'),
                       ((folder, '--out', tmp_path/'n', *LINE, '--shard', '2/2'), "'i/n' is expected"), ((folder, *LINE), 'required: --out')):
        code,_,err = call('tile', *args, capsys=capsys)
        assert code == 2 and words in err and len(err.splitlines()) == 1, err
    for args,words in (((folder, '--encoder', weights, *LINE), 'name it, --out JOB'), ((folder, '--encoder', weights, '--out', tmp_path/'n', *LINE, '--html'), '--html is for patches'),
                       ((weights, '--encoder', weights, '--data', folder), 'not allowed'), ((folder, '--encoder', 'none.safetensors', '--out', tmp_path/'n', *LINE), 'there are no weights at none.safetensors')):
        code,_,err = call('embed', *args, capsys=capsys)
        assert code == 2 and words in err, err

def test_a_run_of_a_job_array_takes_its_share(slides, tmp_path, capsys, monkeypatch):
    for n,v in dict(ID=6, MIN=5, MAX=6, COUNT=2, STEP=1).items(): monkeypatch.setenv(f'SLURM_ARRAY_TASK_{n}', str(v))
    code,out,_ = call('tile', slides, '--out', tmp_path, *LINE, capsys=capsys)
    assert code == 0 and out.startswith('share 1/2 of the slides') and [p.stem for p in sorted((tmp_path/'tiles').iterdir())] == ['b','d']
    monkeypatch.setenv('SLURM_ARRAY_TASK_STEP', '2')
    assert call('tile', slides, '--out', tmp_path, *LINE, capsys=capsys)[0] == 2

# processes that are killed

KILLED = RUNNER + '''
from pathlearn.slides import jobs
from pathlearn.slides.records import read_states
root, line = Path(sys.argv[1]), '--px 32 --mpp 1.75 --slide-mpp 1.75'.split()
def embed(name, hook=None):
    if hook: hook()
    return cli.pathlearn_embed([str(root/'slides'), '--encoder', str(root/'small.safetensors'), '--out', str(root/name), *line])

def seen(stage, slide, out): # is the slide in work?
    return lambda: read_states(out).get(slide, {}).get('stages', {}).get(stage, {}).get('state') == 'begun'

def slow(): # the child alone: time to be met in the middle of a write
    whole = jobs._save_features
    def late(bag, tiles, task, stage):
        with jobs.whole_file(task.file(stage)) as tmp:
            tmp.write_bytes(b'half')
            if task.name == 'c': time.sleep(60)
        whole(bag, tiles, task, stage)
    jobs._save_features = late

def fatal(): # a slide that ends its process
    def work(task, model=None): os.kill(os.getpid(), signal.SIGKILL)
    whole = jobs._tile
    jobs._tile = lambda task, model=None: whole(task, model) if task.name != 'b' else killed(task)
    def killed(task):
        with jobs.attempt(task, 'tiles'): os.kill(os.getpid(), signal.SIGKILL)

codes = [ended(fork(embed, 'calm'))]
child = fork(embed, 'stopped')
wait_until(seen('tiles', 'b', root/'stopped'), child)
os.kill(child, signal.SIGKILL); codes.append(ended(child))
child = fork(embed, 'stopped', slow)
wait_until(lambda: [*(root/'stopped'/'features_small').glob('c.h5.*.tmp')], child)
os.kill(child, signal.SIGKILL); codes.append(ended(child))
half = len([*(root/'stopped').rglob('*.tmp')])
codes.append(ended(fork(embed, 'stopped')))
codes += [ended(fork(embed, 'fatal', fatal)) for _ in range(5)]
print(json.dumps(dict(codes=codes, half=half)))
'''

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_killed_runs_end_in_equal_bytes(slides, weights, tmp_path):
    (tmp_path/'slides').symlink_to(slides)
    done = subprocess.run([sys.executable, '-c', KILLED, str(tmp_path)], capture_output=True, text=True, timeout=200, env=os.environ | dict(OMP_NUM_THREADS='1', MPLBACKEND='Agg'))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    r = json.loads(done.stdout.splitlines()[-1])
    assert r['codes'] == [0, -9, -9, 0, -9, -9, -9, 1, 1] and r['half'] >= 1, (r, done.stderr)
    assert outputs(tmp_path/'stopped') == outputs(tmp_path/'calm') and not leftovers(tmp_path/'stopped')
    states = [read_state(tmp_path/'stopped', n)['stages']['features_small'] for n in 'abcd']
    assert [s['attempts'] for s in states] == [1,1,2,1]
    table = pd.read_csv(tmp_path/'fatal'/'report.csv').set_index('name')
    assert [*table.state] == ['done','killed','done','done'] and table.attempts['b'] == MOST
    assert 'was killed 3 times' in table.error['b'] and 'state/b.json' in table.error['b']

DASK = '''
import json, os, signal, sys, threading, time
from pathlib import Path
from distributed import LocalCluster
from pathlearn.slides import embed_slides
from pathlearn.slides.records import read_states

if __name__ == '__main__':
    root, killed = Path(sys.argv[1]), []
    def begun(): # the process that embeds
        for s in read_states(root/'job').values():
            if (e := s['stages'].get('features_small', {})).get('state') == 'begun': return int(e['process'].split()[0])
    def kill():
        until = time.time() + 120
        while time.time() < until and not killed:
            if pid := begun():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(.002)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        threading.Thread(target=kill, daemon=True).start()
        told = []
        table = embed_slides(root/'small.safetensors', root/'slides', root/'job', px=32, mpp=1.75, overlap=16, slide_mpp=1.75, bs=2,
                             scheduler=cluster.scheduler_address, tell=lambda row, k, n: told.append((row and row['name'], k, n)))
    print(json.dumps(dict(killed=killed, states=[*table.state], attempts=[*map(int, table.attempts)], told=told)))
'''

def test_a_worker_of_dask_is_killed(slides, weights, tmp_path):
    pytest.importorskip('distributed', reason='the extra distributed is not installed')
    (tmp_path/'slides').symlink_to(slides)
    (tmp_path/'run.py').write_text(DASK)
    run = subprocess.Popen([sys.executable, tmp_path/'run.py', tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | dict(OMP_NUM_THREADS='1', MPLBACKEND='Agg'))
    embed_slides(weights, slides, tmp_path/'calm', **GRID, overlap=16, bs=2) # meanwhile
    out,err = run.communicate(timeout=400) # of which a free machine takes a tenth
    assert run.returncode == 0, out[-2000:] + err[-3000:]
    r = json.loads(out.splitlines()[-1])
    assert len(r['killed']) == 1 and r['states'] == ['done']*4 and sorted(r['attempts']) == [1,1,1,2], r
    assert sorted(n for n,*_ in r['told'] if n) == [*'abcd'] and r['told'][-1][1:] == [4,4]
    assert outputs(tmp_path/'job') == outputs(tmp_path/'calm') and not leftovers(tmp_path/'job')

def test_dask_is_asked_for_only_when_it_is_wanted(slides, weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'distributed', None)
    tile_slides(slides, tmp_path/'a', **GRID)
    with pytest.raises(ImportError, match=r"pip install 'pathlearn\[distributed\]'"): embed_slides(weights, slides, tmp_path/'b', **GRID, scheduler='tcp://127.0.0.1:9')
