"A method of another package, registered by an entry point, is trained, resumed, embedded and reported by the commands"
import os, re, subprocess, sys
import pytest

MODULE = '''from pathlearn.basics import *
import collections, torch.nn as nn
class Toy(nn.Module):
    def __init__(self, encoder, width):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.n_out, width)
    def forward(self, x1, x2): return Out(*(self.head(self.encoder(x)) for x in (x1, x2)))
def loss(out, *_): return -nn.functional.cosine_similarity(*out).mean()
Out = collections.namedtuple('Out', 'z1 z2')
def toy_learner(dls, arch='tiny', width=16, **kwargs):
    return ssl_learner(dls, Toy(dls_encoder(dls, arch), width), loss, **kwargs)
method = Method('toy', 'A toy <method>', toy_learner, 'tiny', own=(Option('width', 16, "outputs", int, 2),), model='Toy')
'''
TITLE = 'A toy &lt;method&gt;'

@pytest.fixture(scope='module')
def command(tmp_path_factory):
    "Runs a command in a process that finds the toy's package, as an installer would leave it, and nothing else that is new"
    folder = tmp_path_factory.mktemp('installed')
    about = folder/'toymethod-1.0.dist-info'
    about.mkdir()
    (folder/'toymethod.py').write_text(MODULE)
    (about/'METADATA').write_text('Metadata-Version: 2.1\nName: toymethod\nVersion: 1.0\n')
    (about/'entry_points.txt').write_text('[pathlearn.methods]\ntoy = toymethod:method\n')
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get('PYTHONPATH')])])
    env = os.environ | dict(PYTHONPATH=path, OMP_NUM_THREADS='1', MPLBACKEND='Agg')
    def call(name, line, before='', after=''):
        code = f'import sys; from pathlearn.cli import pathlearn_{name} as f\n{before}\nr = f(sys.argv[1:])\n{after}\nsys.exit(r)'
        return subprocess.run([sys.executable, '-c', code, *line.split()], capture_output=True, text=True, env=env, cwd=folder)
    return call

@pytest.fixture(scope='module')
def run(command):
    "The line that trains the toy, and what it printed"
    line = 'toy --data synthetic --size 16 --epochs 2 --bs 100 --width 8 --device cpu --out run'
    done = command('train', line)
    assert done.returncode == 0, done.stderr
    return line, done.stdout, done

def test_help_names_it_without_loading_it(command):
    done = command('train', '--help', before='import atexit; atexit.register(lambda: print("torch" in sys.modules))')
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == 'False'
    assert re.search(r'clubyol,.*\btoy\b', done.stdout, re.S) and '--width' not in done.stdout

def test_its_own_options_are_offered_when_it_is_asked_for(command):
    done = command('train', 'toy --help')
    assert done.returncode == 0 and 'toy alone:' in done.stdout and '--width' in done.stdout and '(default: 16)' in done.stdout
    done = command('train', 'toy --data synthetic --width 1')
    assert done.returncode == 2 and "--width: expected a whole number of at least 2, found '1'" in done.stderr
    done = command('train', 'simsiam --data synthetic --width 4')
    assert done.returncode == 2 and 'no option --width' in done.stderr

def test_it_trains_and_reports(run, command):
    _, out, _ = run
    assert out.startswith('A toy <method> on ') and out.count('epoch ') >= 2
    done = command('embed', 'run/toy.safetensors --data synthetic --size 16 --device cpu --out embedded', after='''
from pathlib import Path
for page in ('run', 'embedded'): print('title:', Path(page, 'report.html').read_text().split('<title>')[1].split('</title>')[0])
import numpy as np; print('shape:', np.load('embedded/features.npz')['features'].shape)
import pandas as pd; print('rows:', *pd.read_csv('run/table.csv', index_col=0).index, sep='|')''')
    assert done.returncode == 0, done.stderr
    assert f'title: {TITLE} on synthetic\n' in done.stdout and f'title: synthetic, seen by {TITLE}\n' in done.stdout
    assert re.search(r'shape: \(\d+, 256\)', done.stdout) and '|untrained encoder|A toy <method>\n' in done.stdout

def test_the_same_command_is_complete_and_another_is_refused(run, command):
    line, _, _ = run
    again = command('train', line)
    assert again.returncode == 0 and 'complete already' in again.stdout and not re.search(r'^epoch ', again.stdout, re.M)
    other = command('train', line.replace('--width 8', '--width 9'))
    assert other.returncode == 2 and 'width was 8 and is now 9' in other.stderr

def test_it_goes_on_where_it_was_stopped(command):
    line = 'toy --data synthetic --size 16 --epochs 2 --bs 100 --device cpu --out stopped'
    stop = '''from pathlearn.learning import Watch
import pathlearn.commands.train as t
class Stop(Watch):
    def after_batch(self):
        if self.epoch == 1: raise KeyboardInterrupt
t.watches = lambda *a: [Stop()]'''
    first = command('train', line, before=stop)
    assert first.returncode == 130 and '1 of 2 epochs are safe' in first.stderr
    second = command('train', line)
    assert second.returncode == 0 and 'going on' in second.stdout
    assert [l.split()[1] for l in second.stdout.splitlines() if l.startswith('epoch')] == ['2/2']

def test_a_broken_package_does_no_harm_to_others(command, run, tmp_path):
    "Its name is offered; who asks for it is told; weights of others go on being named"
    about = tmp_path/'broken-1.0.dist-info'
    about.mkdir()
    (about/'METADATA').write_text('Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n')
    (about/'entry_points.txt').write_text('[pathlearn.methods]\nbroken = no_such_module:method\n')
    also = f'import sys; sys.path.append({str(tmp_path)!r})'
    done = command('train', 'broken --data synthetic', before=also)
    assert done.returncode == 2 and "the package that brings the method 'broken' cannot be imported" in done.stderr
    done = command('embed', 'run/toy.safetensors --data synthetic --size 16 --device cpu --out again', before=also)
    assert done.returncode == 0, done.stderr
