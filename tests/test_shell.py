"What a terminal can do to a command, and how it ends: exit codes, one sentence, a file with the traceback"
import errno, signal, subprocess, sys, time
import numpy as np, pytest
from pathlearn import cli
from pathlearn.commands import faults, shell, terminal

def call(command, *args):
    return getattr(cli, f'pathlearn_{command}')([str(a) for a in args])

def sentence(capsys):
    err = capsys.readouterr().err
    assert 'Traceback' not in err and len(err.strip().splitlines()) == 1, err
    return err

COMMANDS = 'demo', 'train', 'embed', 'reproduce'

@pytest.mark.parametrize('command', COMMANDS)
def test_version(command, capsys):
    assert call(command, '--version') == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ('pathlearn ', 'torch ', 'Python 3.'))

@pytest.mark.parametrize('command, groups', [('train', 'data network training views output'), ('embed', 'encoder data output'), ('demo', 'training output'),
                                             ('reproduce', 'data network training views output')])
def test_help_has_groups(command, groups, capsys):
    assert call(command, '--help') == 0
    text = capsys.readouterr().out
    places = [text.index(f'\n{g}:\n') for g in groups.split()]
    assert places == sorted(places) and '(default: ' in text

@pytest.mark.parametrize('command, line, words', [
    ('train', 'clusaim --data x', "no method 'clusaim': did you mean clusiam?"), ('train', 'CluSiam --data x', 'did you mean clusiam?'),
    ('train', 'clusiam --datas x', 'no option --datas: did you mean --data?'), ('train', 'clusiam --data x --sise 32', 'did you mean --size?'),
    ('train', 'clusiam --data x --sise=32', 'did you mean --size?'), ('train', 'clusiam -data x', 'did you mean --data?'), ('train', 'clusiam --data x --s 3', 'write it out'),
    ('train', 'clusiam --data x --view stong', "no view 'stong': did you mean strong?"), ('train', 'cdcl --data x --share 1/3', "There are 1/128"),
    ('reproduce', 'ca2c --data x', 'did you mean ca2cl?'), ('embed', 'w --data x --html umpa', 'did you mean umap?'), ('train', 'clusiam --data x --xyzzy', 'no option --xyzzy'),
    ('train', 'clusiam --data x --device cuda:1', 'CUDA_VISIBLE_DEVICES'), ('train', 'clusiam --data x --device mps', 'There are cpu, cuda'),
    ('train', 'clusiam --data x --channels 2', 'There are 1, 3'), ('train', 'clusiam --data x --channels grey', "found 'grey'"),
    ('train', 'clusiam --data x --seed 4294967296', 'at most 4294967295'), ('demo', '--seed 4294967296', 'at most 4294967295'), ('reproduce', 'clusiam --data x --seed 0 -1', "found '-1'")])
def test_usage(command, line, words, capsys):
    assert call(command, *line.split()) == 2
    assert words in sentence(capsys)

@pytest.mark.parametrize('option', ['epochs', 'bs', 'k', 'lr', 'size', 'view-size', 'seed', 'alpha', 'eps', 'lam', 'latent', 'warmup', 'grid', 'start'])
@pytest.mark.parametrize('value', ['1e3x', '-1', 'nan', 'inf', '', ' ', '1,5', '9'*30])
def test_numbers_are_read_or_refused(option, value, capsys):
    assert call('train', 'clusiam', '--data', 'x', f'--{option}={value}') == 2
    assert f'--{option}: expected a' in sentence(capsys)

@pytest.mark.parametrize('line', [('train','clusiam','--data',''), ('train','clusiam','--data','x','--out',''), ('train','clusiam','--data','x','--arch',' '), ('embed','','--data','x'),
                                  ('embed','w','--data','x','--out',''), ('demo','--out',''), ('reproduce','clusiam','--data','x','--runs','')])
def test_empty_texts(line, capsys):
    assert call(*line) == 2 and 'expected a name' in sentence(capsys)

def test_a_shortened_option_is_said(capsys):
    p = shell.make_parser('tool', '', [])
    p.add_argument('--epochs', type=shell.number(int, 1))
    assert shell.run(p, lambda args: None, ['--epo', '3']) == 0 and '--epo is read as --epochs' in capsys.readouterr().out

# how a command ends

def ending(work, tmp_path, monkeypatch):
    monkeypatch.setenv('TMPDIR', str(tmp_path)); monkeypatch.setattr('tempfile.tempdir', None)
    p = shell.make_parser('tool', '', [])
    p.set_defaults(out=str(tmp_path))
    return shell.run(p, work, [])

def raiser(error):
    def work(args): raise error
    return work

def deep(error, cause): # ours, of something that the machine did
    def work(args):
        try: raise cause
        except type(cause): raise error from None
    return work

@pytest.mark.parametrize('error, code, words', [
    (KeyError('threads'), 1, "KeyError: threads"), (TypeError('a\n\tb'), 1, 'a b'), (IndexError(), 1, 'IndexError'), (AssertionError('x'), 1, 'AssertionError'), (RuntimeError('mat1'), 1, 'mat1'),
    (ValueError('Exception occured in `X` when calling event `before_fit`:\n\tthe end'), 1, '(ValueError: the end)'), (RecursionError('deep'), 1, 'RecursionError'),
    (FileNotFoundError(errno.ENOENT, 'No such', 'a.png'), 2, 'there is no file or folder a.png'), (PermissionError(errno.EACCES, 'No', 'a.png'), 2, 'a.png may not be read'),
    (IsADirectoryError(errno.EISDIR, 'Is', 'a'), 2, 'a is a folder'), (NotADirectoryError(errno.ENOTDIR, 'Not', 'a/b'), 2, 'a folder was expected'),
    (OSError(errno.ENOSPC, 'No space left on device', 'a'), 1, 'make room'), (RuntimeError('[enforce fail at inline_container.cc:672] . unexpected pos 15 vs 2'), 1, 'make room'),
    (OSError(errno.EFBIG, 'File too large'), 1, 'make room'), (OSError(errno.EIO, 'Input/output error'), 1, 'the disk reports an error'), (MemoryError(), 1, 'not enough memory'),
    (RuntimeError('CUDA out of memory. Tried to allocate 2 GiB'), 1, 'the GPU has not enough memory'), (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, 'smaller --bs'),
    (RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed.'), 1, 'a process that reads images was ended')])
def test_whose_fault(error, code, words, tmp_path, monkeypatch, capsys):
    assert ending(raiser(error), tmp_path, monkeypatch) == code
    err, kept = sentence(capsys), [*tmp_path.iterdir()]
    assert words in err and 'Exception occured' not in err
    inside = 'went wrong inside' in err
    assert inside == (len(kept) == 1) and (not inside or str(kept[0]) in err and 'Traceback' in kept[0].read_text())

def test_a_raise_of_ours_is_the_inputs(tmp_path, monkeypatch, capsys):
    from pathlearn.commands.known import load_method
    assert ending(lambda args: load_method('painting'), tmp_path, monkeypatch) == 2
    assert "there is no method 'painting'" in sentence(capsys) and not [*tmp_path.glob('pathlearn-error*')]
    assert ending(lambda args: load_method(3), tmp_path, monkeypatch) == 2 and 'no method' in sentence(capsys)

def test_a_full_disk_behind_a_sentence(tmp_path, monkeypatch, capsys):
    assert ending(deep(ValueError('x cannot be written'), OSError(errno.ENOSPC, 'No space left')), tmp_path, monkeypatch) == 1
    assert 'x cannot be written' in sentence(capsys)

def test_an_error_of_another_process():
    text = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File \"{}\", line 3, in f\n    {}\nValueError: a.png is none\n"
    assert faults.verdict(ValueError(text.format(faults._HOME/'data/files.py', 'raise ValueError(x)'))) == (2, 'a.png is none')
    assert faults.verdict(ValueError(text.format(faults._HOME/'data/files.py', 'int(x)')))[1] is None
    assert faults.verdict(ValueError(text.format('/usr/lib/PIL/Image.py', 'raise ValueError(x)')))[1] is None

def test_debug_shows_the_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('PATHLEARN_DEBUG', '1')
    assert ending(raiser(KeyError('x')), tmp_path, monkeypatch) == 1 and 'Traceback' in capsys.readouterr().err

def test_no_place_for_the_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('tempfile.mkstemp', lambda *a: raiser(OSError('read only'))(a))
    assert ending(raiser(KeyError('x')), tmp_path, monkeypatch) == 1 and 'no file could be written' in sentence(capsys)

def test_the_librarys_words():
    p = shell.make_parser('tool', '', [])
    for flag in ('--size', '--channels', '--skip-bad'): p.add_argument(flag, **dict(action='store_true') if flag == '--skip-bad' else {})
    for said,want in (('give size= to', 'give --size to'), ('n_in=3 to make', '--channels 3 to make'), ('(skip_bad=True)', '(--skip-bad)'), ('masks= of it', 'masks= of it'), ('oversize=3', 'oversize=3'),
                      ('found size=0.5.', 'found --size 0.5.'), ("size='a'", '--size a')): assert shell.in_options(said, p) == want

# terminals

WORK = '''import os, sys
from pathlearn.commands.shell import make_parser, run
def work(args):
    for i in range(3000): print('line', i, os.fsdecode(b'caf\\xe9'), '\\u0141', flush=i%2==0)
    print('done', file=open(args.out, 'w'))
p = make_parser('tool', '', [])
p.add_argument('--out')
sys.exit(run(p, work, None))'''

@pytest.mark.parametrize('how', ['{} | head -1', '{} 2>&1 | true', '{} >&-', '{} >&- 2>&- <&-', '{} >/dev/full 2>/dev/full', 'PYTHONIOENCODING=cp1252 {} >/dev/null', 'LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING=ascii {} > all'])
def test_a_terminal_that_goes_away(how, tmp_path):
    (tmp_path/'work.py').write_text(WORK)
    line = how.format(f'{sys.executable} work.py --out done')
    done = subprocess.run(['bash', '-c', f'set -o pipefail; {line}'], cwd=tmp_path, capture_output=True, text=True, errors='replace')
    assert done.returncode == 0 and not done.stderr and (tmp_path/'done').exists()
    if '| head' in how: assert len(done.stdout.splitlines()) == 1

def test_help_into_a_closed_pipe():
    code = 'import sys; from pathlearn.cli import pathlearn_train as f; sys.exit(f())'
    done = subprocess.run(['bash', '-c', f"set -o pipefail; {sys.executable} -c '{code}' --help | head -1"], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr and done.stdout.startswith('usage:')

STOP = '''import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGHUP, signal.SIG_DFL) # a job in the background ignores them
from pathlearn.commands.shell import make_parser, run
def work(args):
    try: print('ready', flush=True); time.sleep(30)
    except KeyboardInterrupt as e: time.sleep(.3); raise type(e)('2 epochs are safe') from None
sys.exit(run(make_parser('tool', '', []), work, None))'''

@pytest.mark.parametrize('signals, code, words', [(['SIGTERM'], 143, '2 epochs are safe'), (['SIGTERM','SIGTERM'], 143, '2 epochs are safe'), (['SIGINT'], 130, '2 epochs are safe'),
                                                  (['SIGINT','SIGINT'], 130, 'the same command goes on'), (['SIGHUP'], 129, '2 epochs are safe')])
def test_stopped(signals, code, words):
    p = subprocess.Popen([sys.executable, '-c', STOP], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline() == 'ready\n'
    for s in signals: p.send_signal(getattr(signal, s)); time.sleep(.1)
    err = p.communicate(timeout=20)[1]
    assert p.returncode == code and words in err and len(err.strip().splitlines()) == 1

def test_signals_are_put_back():
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    assert shell.run(shell.make_parser('tool', '', []), raiser(KeyboardInterrupt()), []) == 130
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == before
    signal.signal(signal.SIGHUP, signal.SIG_IGN) # as by nohup
    try:
        with terminal.stoppable(): assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally: signal.signal(signal.SIGHUP, signal.SIG_DFL)

# pathlearn_embed

@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    import torch
    from pathlearn.all import encoder, save_encoder
    class Model(torch.nn.Module):
        def __init__(self, arch, n_in=3): super().__init__(); self.encoder = encoder(arch, n_in, size=32)
    place = tmp_path_factory.mktemp('weights')
    for name,m in dict(tiny=Model('tiny'), conv3=Model('conv3'), grey=Model('tiny', 1)).items(): save_encoder(m, place/f'{name}.safetensors', size=32, seed=0)
    return place

def arrays(file, n=6, side=32, **more):
    np.savez(file, train_images=np.random.default_rng(0).integers(0, 255, (n,side,side,3), dtype=np.uint8), **more)
    return file

def test_rows_have_names(weights, tmp_path):
    from PIL import Image
    import pandas as pd
    for i,name in enumerate(('a/x.png', 'b/x.png', 'b/=y.png', 'a/\u0141.png')):
        (tmp_path/'in'/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32,32,3), 60*i, np.uint8)).save(tmp_path/'in'/name)
    assert call('embed', weights/'tiny.safetensors', '--data', tmp_path/'in', '--out', tmp_path/'e') == 0
    with np.load(tmp_path/'e'/'features.npz', allow_pickle=False) as f: names, features = f['names'].tolist(), f['features']
    assert sorted(names) == sorted(['a/x.png', 'b/x.png', 'b/=y.png', 'a/\u0141.png']) and len(features) == 4
    assert call('embed', weights/'tiny.safetensors', '--data', tmp_path/'in', '--out', tmp_path/'t.csv') == 0
    table = pd.read_csv(tmp_path/'t.csv')
    assert table.name.tolist() == names and table.label.tolist() == [n[0] for n in names] and np.allclose(table.filter(regex='^f').values, features, rtol=1e-6)
    assert (tmp_path/'t'/'report.html').exists()

@pytest.mark.parametrize('n', [1, 2, 3])
def test_few_patches(n, weights, tmp_path):
    assert call('embed', weights/'tiny.safetensors', '--data', arrays(tmp_path/'few.npz', n), '--out', tmp_path/'e') == 0
    with np.load(tmp_path/'e'/'features.npz') as f: assert len(f['features']) == n and f['names'].tolist() == [str(i) for i in range(n)]

def test_a_class_of_one(weights, tmp_path):
    data = arrays(tmp_path/'rare.npz', 12, train_labels=np.array([0]*11 + [1])[:,None])
    assert call('embed', weights/'tiny.safetensors', '--data', data, '--out', tmp_path/'e') == 0 and (tmp_path/'e'/'report.html').exists()

@pytest.mark.parametrize('name, extra, words', [
    ('conv3', '--size 64', 'these weights take patches of 32 px, and not of 64 px: leave --size out'), ('grey', '', 'give --channels 1'), ('tiny', '--out x.h5', '.npz, .csv or .parquet'),
    ('none', '', 'there are no weights'), ('.', '', 'name the file')])
def test_embedding_is_refused_before_it_begins(name, extra, words, weights, tmp_path, capsys):
    file = weights if name == '.' else weights/f'{name}.safetensors'
    assert call('embed', file, '--data', arrays(tmp_path/'x.npz'), '--out', tmp_path/'e', *extra.split()) == 2
    assert words in sentence(capsys) and not (tmp_path/'e').exists()

def test_parquet_is_asked_for_before_the_work(weights, tmp_path, monkeypatch, capsys):
    from pathlearn.commands import embed
    monkeypatch.setattr(embed, 'find_spec', lambda name: None)
    assert call('embed', weights/'tiny.safetensors', '--data', arrays(tmp_path/'x.npz'), '--out', tmp_path/'x.parquet') == 2
    assert 'pip install pyarrow' in sentence(capsys) and not (tmp_path/'x').exists()

def test_another_size_is_said(weights, tmp_path, capsys):
    assert call('embed', weights/'tiny.safetensors', '--data', arrays(tmp_path/'x.npz'), '--size', 48, '--out', tmp_path/'e') == 0
    assert 'trained on patches of 32 px, and look at patches of 48 px' in capsys.readouterr().out

def test_features_outlive_a_report_that_fails(weights, tmp_path, monkeypatch, capsys):
    from pathlearn.commands import embed
    monkeypatch.setattr(embed, 'write_report', raiser(KeyError('font')))
    assert call('embed', weights/'tiny.safetensors', '--data', arrays(tmp_path/'x.npz'), '--out', tmp_path/'e') == 1
    assert f"the features are in {tmp_path/'e'/'features.npz'}" in sentence(capsys) and (tmp_path/'e'/'features.npz').exists()
