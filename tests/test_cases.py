"""Awkward files and moments that people have met: each case, and what happens now.

The cases lie beside the checkout in ../shared/cases; each folder has a `make.py` that draws its input and a README that says what was
seen. What stands here is the case itself; other files of the same kind are tested where the kind is settled."""
import json, os, re, runpy, shutil, subprocess, sys
from pathlib import Path
import numpy as np, pytest, torch
from pathlearn import cli
from pathlearn.data import folder_data, npz_data, nuclei_data

CASES = Path(__file__).parents[2]/'shared'/'cases'
pytestmark = pytest.mark.skipif(not CASES.exists(), reason='no cases: ../shared/cases is not there')
SMALL = '--arch', 'tiny', '--size', 32, '--bs', 32, '--device', 'cpu'

@pytest.fixture
def made(tmp_path, monkeypatch):
    "Draw the input of a case -> its folder"
    def make(case):
        monkeypatch.setattr(sys, 'argv', ['make.py', str(tmp_path/'input')])
        runpy.run_path(str(CASES/case/'make.py'), run_name='__main__')
        return tmp_path/'input'
    return make

@pytest.fixture
def call(capfd):
    "Run a command in this process -> exit code, what it said"
    def run(command, *args):
        try: code = getattr(cli, f'pathlearn_{command}')([str(a) for a in args])
        except SystemExit as e: code = e.code
        said = capfd.readouterr()
        assert 'Traceback' not in said.out + said.err
        return code, said.out + said.err
    return run

def ids(data): return [len(m.unique()) - bool((m==0).any()) - bool((m==-1).any()) for m in data.masks]
def foreground(data): return (data.masks > 0).float().mean((1,2))
def complete(out): return {f.suffix for f in out.iterdir()} >= {'.safetensors','.html'}

# images and folders

def test_planes_of_an_ome_file(made):
    path = made('r02-ome-planes')
    try: data = folder_data(path)
    except ValueError as e: assert re.search(r'p\d\d\.ome\.tif', str(e)) and '3' in str(e)
    else: assert data.n_in == 3

def test_capital_names_of_parts(made, call, tmp_path):
    code,said = call('train', 'simsiam', *SMALL, '--data', made('r22-capital-train'), '--epochs', 1, '--out', tmp_path/'o')
    assert code == 0 and '22 images' in said and '2 classes' in said # a fifth of Train is for validation, Test for testing
    assert 'Train' not in (tmp_path/'o'/'table.txt').read_text()

def test_one_grey_image(made, call, tmp_path):
    args = 'train', 'simsiam', *SMALL, '--data', made('r27-one-grey'), '--epochs', 1, '--out', tmp_path/'o'
    code,said = call(*args)
    assert code == 2 and 'grey.png' in said and '--channels 3' in said and not (tmp_path/'o').exists()
    code,said = call(*args, '--channels', 3)
    assert code == 0 and '41 images' in said

def test_other_formats(made):
    data = folder_data(made('a15-other-formats-beside'))
    assert len(data) == 40 and sum(n.endswith('.webp') for n in data.names) == 20

def test_a_bomb_is_named(made):
    with pytest.raises(ValueError, match=r'big\.png'): folder_data(made('r31-bomb'))

def test_workers_of_all_kinds(made, tmp_path):
    path = made('a21-start-methods')
    for kind in ('spawn','forkserver'):
        done = subprocess.run([sys.executable, tmp_path/'spawn.py', path, kind], capture_output=True, text=True)
        assert done.stdout.split() == [kind, '32'] and 'p003.png' in done.stderr, done

# masks and outlines

def read_or_refused(path, words, **kw): # -> PatchData, or None where a sentence with one of the words refused it
    try: return nuclei_data(path, **kw)
    except ValueError as e:
        assert re.search(words, str(e)), e
        return None

def test_jpeg_masks(made, call, tmp_path):
    path = made('r05-jpeg-masks')
    data = read_or_refused(path, 'threshold')
    assert data is None or foreground(data).mean() < .09 and max(ids(data)) <= 5
    data = nuclei_data(path, threshold=127)
    assert max(ids(data)) <= 5 and abs(foreground(data).mean() - .07) < .02
    small = '--arch', 'tiny', '--size', 64, '--bs', 4, '--epochs', 2, '--start', 1
    code,said = call('train', 'cdcl', '--data', path, *small, '--out', tmp_path/'o')
    assert code == 2 and '--threshold' in said
    assert call('train', 'cdcl', '--data', path, *small, '--out', tmp_path/'o', '--threshold', 127)[0] == 0

def test_void_pixels(made):
    path = made('r07-void')
    data = read_or_refused(path, '255')
    assert data is None or max(ids(data)) <= 5
    data = nuclei_data(path, ignore=255)
    assert 4 <= max(ids(data)) <= 5 and abs(foreground(data).mean() - .07) < .02 and (data.masks == -1).any()

def test_one_name_in_two_folders(made):
    data = nuclei_data(made('r09-same-name-two-folders'))
    assert [m.nonzero().min(0).values.tolist() for m in data.masks] == [[5,5],[35,35]] and len(set(data.groups)) == 2

def test_xml_of_other_programs(made):
    path = made('a05-other-xml')
    with pytest.raises(ValueError, match=r'voc\.xml'): nuclei_data(path)
    for f in ('voc.xml','voc.png'): (path/f).unlink()
    try: data = nuclei_data(path)
    except ValueError as e: assert 'ellipse.xml' in str(e)
    else: assert foreground(data).min() > 0
    for f in ('ellipse.xml','ellipse.png'): (path/f).unlink()
    assert (nuclei_data(path).masks[0] > 0).sum() > 150 # half of 20 x 20 pixels

def test_probabilities(made):
    path = made('a09-probabilities')
    assert read_or_refused(path/'float', 'threshold') is None
    assert max(ids(nuclei_data(path/'float', threshold=.5))) <= 5
    data = read_or_refused(path/'smooth', 'threshold')
    assert data is None or max(ids(data)) <= 5
    assert max(ids(nuclei_data(path/'smooth', threshold=127))) <= 5

def test_grey_masks_with_alpha(made):
    data = nuclei_data(made('a10-grey-alpha-mask'))
    assert 3 <= max(ids(data)) <= 5 and abs(foreground(data).mean() - .07) < .02

# labels and published sets

def test_shapes_of_labels(made, call, tmp_path):
    path = made('r25-label-shapes')
    assert npz_data(path/'column.npz').train.c == 3
    with pytest.warns(UserWarning, match='one_hot.npz'): assert npz_data(path/'one_hot.npz').train.c == 3
    with pytest.warns(UserWarning, match='from_one.npz.*0'): npz_data(path/'from_one.npz')
    code,said = call('train', 'simsiam', *SMALL, '--data', path/'one_hot.npz', '--epochs', 1, '--out', tmp_path/'o')
    assert code == 0 and '3 classes' in said and (tmp_path/'o'/'table.csv').exists()

def test_a_rare_class(made, call, tmp_path):
    path = made('r28-rare-class')
    code,said = call('train', 'simsiam', *SMALL, '--data', path, '--epochs', 1, '--out', tmp_path/'o')
    assert code == 0 and 'rare' in said and complete(tmp_path/'o')
    code,said = call('embed', tmp_path/'o'/'simsiam.safetensors', '--data', path, '--out', tmp_path/'e')
    assert code == 0 and {'features.npz','report.html'} <= {f.name for f in (tmp_path/'e').iterdir()}
    assert len(np.load(tmp_path/'e'/'features.npz')['names']) == 30

def test_eight_tissues(made, call, tmp_path):
    code,said = call('train', 'simsiam', *SMALL, '--data', made('a17-eight-tissues'), '--epochs', 1, '--out', tmp_path/'o')
    assert code == 0 and '8 classes' in said and 'BACK' in said

# runs

def test_a_folder_that_grew(made, call, tmp_path):
    path = made('a03-folder-grew')
    args = 'train', 'simsiam', *SMALL, '--data', path, '--epochs', 2, '--out', tmp_path/'o'
    assert call(*args)[0] == 0
    before = (tmp_path/'o'/'report.html').read_bytes()
    shutil.copytree(tmp_path/'input_more', path, dirs_exist_ok=True)
    code,said = call(*args)
    assert code == 2 and '40' in said and '--continue-on-new-data' in said
    assert (tmp_path/'o'/'report.html').read_bytes() == before
    code,said = call(*args, '--continue-on-new-data')
    assert code == 0
    assert 'looked at 80 patches' not in (tmp_path/'o'/'report.html').read_text()

def test_data_that_moved(made, call, tmp_path):
    path = made('r17-moved-data')
    args = 'train', 'simsiam', *SMALL, '--epochs', 2, '--out', tmp_path/'o', '--data'
    assert call(*args, path/'here')[0] == 0
    (path/'here').rename(path/'there')
    code,said = call(*args, path/'there')
    assert code == 0 and 'there' in said

def test_our_own_files_damaged(made, call, tmp_path):
    path = made('a13-own-files-damaged')
    for name,file in dict(a='settings.json', b='training.pt').items():
        kept = (path/name/file).read_bytes()
        code,said = call('train', 'simsiam', *SMALL, '--data', path/'x', '--epochs', 2, '--out', path/name)
        assert code == 2 and file in said and (path/name/file).read_bytes() == kept

def process(*args, shell='', **kw):
    "A command in a process of its own, by a shell that adds `shell`"
    line = ' '.join(f"'{a}'" for a in (sys.executable, '-c', f'import sys; from pathlearn.cli import pathlearn_{args[0]} as f; sys.exit(f())', *args[1:]))
    return subprocess.run(['bash', '-c', shell.replace('COMMAND', line)], capture_output=True, text=True, timeout=300, **kw)

def test_a_pipe_that_closes(made, tmp_path):
    done = process('train', 'simsiam', *SMALL, '--data', made('a12-closed-pipe'), '--epochs', 3, '--out', tmp_path/'o',
                   shell='COMMAND | head -1; exit ${PIPESTATUS[0]}')
    assert done.returncode == 0 and done.stderr == '' and complete(tmp_path/'o')
    assert 'complete' in (tmp_path/'o'/'log.txt').read_text()

def test_a_full_disk(made, call, tmp_path):
    args = 'train', 'simsiam', *SMALL, '--data', made('r19-disk-full'), '--epochs', 2, '--out', tmp_path/'o'
    done = process(*args, shell='ulimit -f 2000; COMMAND')
    assert done.returncode == 1 and 'training.pt' in done.stderr and 'Traceback' not in done.stderr
    assert re.search('large|space', done.stderr)
    assert call(*args)[0] == 0 and complete(tmp_path/'o') and not [*(tmp_path/'o').glob('*.tmp')]

def test_a_list_of_threads(made, tmp_path):
    done = process('train', 'simsiam', *SMALL, '--data', made('r12-thread-list'), '--epochs', 1, '--out', tmp_path/'o',
                   shell='COMMAND', env=os.environ | dict(OMP_NUM_THREADS='2,1'))
    assert done.returncode == 0 and complete(tmp_path/'o')

def test_all_patches_alike(made, call, tmp_path):
    from pathlearn.explore import reduce
    with pytest.warns(UserWarning, match='alike|same'): assert np.isfinite(reduce(np.ones((120,8)), 'tsne', cache=False)).all()
    code,said = call('train', 'clusiam', *SMALL, '--k', 20, '--data', made('r14-all-alike'), '--epochs', 2, '--out', tmp_path/'o')
    assert re.search('alike|same', said)
    if code == 0: assert re.search('alike|same', (tmp_path/'o'/'report.html').read_text())
    else: assert code == 2

def test_two_runs_in_one_folder(made, call, tmp_path):
    code = 'import sys; from pathlearn.cli import pathlearn_train as f; sys.exit(f())'
    args = 'simsiam', *SMALL, '--data', made('a20-stops-and-twins'), '--epochs', 6, '--out', tmp_path/'o'
    twins = [subprocess.Popen([sys.executable, '-c', code, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [t.communicate(timeout=300)[1] for t in twins]
    assert 0 in [t.returncode for t in twins] and complete(tmp_path/'o')
    for t,s in zip(twins, said): assert t.returncode == 0 or t.returncode == 2 and str(tmp_path/'o') in s
    calm = [*args[:-1], tmp_path/'calm']    # in a process of its own too: threads set by other tests change sums
    assert subprocess.run([sys.executable, '-c', code, *map(str, calm)], capture_output=True).returncode == 0
    from safetensors.torch import load_file
    one,two = (load_file(p/'simsiam.safetensors') for p in (tmp_path/'o', tmp_path/'calm'))
    assert all(torch.equal(one[k], two[k]) for k in two)

# weights

def test_the_decoder_has_one_size(made, call, tmp_path):
    path = made('a07-other-size')
    assert call('train', 'autoencoder', '--data', path, '--size', 32, '--epochs', 2, '--k', 3, '--out', tmp_path/'o')[0] == 0
    code,said = call('embed', tmp_path/'o'/'autoencoder.safetensors', '--data', path, '--size', 64, '--out', tmp_path/'e')
    assert code == 2 and '32 px' in said and '--size' in said

def test_weights_of_another_version(made, call, tmp_path):
    path = made('r29-newer-weights')
    for name in ('newer','nometa'):
        code,said = call('embed', path/f'{name}.safetensors', '--data', path/'x', '--out', tmp_path/'o')
        assert code == 2 and f'{name}.safetensors' in said and len(said.strip().splitlines()) == 1
    assert 'version' in call('embed', path/'newer.safetensors', '--data', path/'x', '--out', tmp_path/'o')[1]

# notebooks

def test_a_tutorial_in_an_empty_folder(tmp_path):
    "The cell that wants the published data says how to get them"
    nb = json.loads((Path(__file__).parents[1]/'nbs'/'tutorials'/'clusiam_lung.ipynb').read_text(encoding='utf-8'))
    cells = [''.join(c['source']) for c in nb['cells'][:6] if c['cell_type'] == 'code']
    code = 'from IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell()\n' + '\n'.join(
        f'r = shell.run_cell({c!r})\nif r.error_in_exec: raise SystemExit(str(r.error_in_exec))' for c in cells)
    env = {k: v for k,v in os.environ.items() if k != 'PATHLEARN_DATA'} | dict(HOME=str(tmp_path), MPLBACKEND='agg')
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 0 or 'pathlearn_prepare' in done.stderr, done.stderr
