"Twelve kills at random moments, some of them in the middle of writing, end in the weights of a run that nobody disturbed"
import json, os, subprocess, sys
import pytest
from forking import RUNNER

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')

SCRIPT = RUNNER + '''
import random
import numpy as np
from pathlearn.commands import train as room
from pathlearn.learning import load_encoder

root = Path(sys.argv[1])
rng = np.random.default_rng(0)
np.savez(root/'patches.npz', train_images=rng.integers(256, size=(64,16,16,3), dtype=np.uint8))
LINE = f'clusiam --data {root}/patches.npz --epochs 24 --arch tiny --bs 16 --k 4 --device cpu --out {root}/'

def short(out, *args, **kw): # the report takes seconds, and none is asked for here
    page = out/'report.html'
    page.write_text('no page')
    return page
room.write_report = short
room.rehearse = lambda *args, **kw: None # nor tried before
asked = room.learner_settings
room.learner_settings = lambda *given: asked(*given) | dict(dim=32, hidden=16) # a small file, written fast

def train(name): return cli.pathlearn_train((LINE+name).split())

def kill(pid):
    try: os.kill(pid, signal.SIGKILL)
    except ProcessLookupError: pass

def caught_writing(pid, out, timeout=20): # -> has the checkpoint a temporary file now?
    "Wait for the child to write, and kill it in the middle"
    until = time.time() + timeout
    while time.time() < until and os.waitpid(pid, os.WNOHANG) == (0,0):
        if tmp := [*out.glob('training.pt.*.tmp')]:
            kill(pid)
            return tmp[0].exists()
    return False

def epochs(out): # of the whole file that stands there
    file = out/'training.pt'
    return torch.load(file, weights_only=True)['epoch'] if file.exists() else 0

def weights(out): return load_encoder(out/'clusiam.safetensors').state_dict()
def same(a, b): return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)

began = time.time()
assert ended(fork(train, 'calm')) == 0
length, want = time.time() - began, weights(root/'calm')

dice, kills, writing, equal, left, runs = random.Random(3), [], 0, [], 0, 0
while len(kills) < 12:
    runs += 1
    out = root/f'run{runs}'
    while not (out/'report.html').exists():
        child, before = fork(train, out.name), len(kills)
        if len(kills) >= 12: pass
        elif before % 3 == 2: # every third kill hits a write
            time.sleep(dice.uniform(0, length/4))
            writing += caught_writing(child, out)
        else:
            time.sleep(dice.uniform(0, length/3))
            kill(child)
        try: code = ended(child)
        except ChildProcessError: continue # it had ended before
        if code == -signal.SIGKILL: kills.append(epochs(out))
        else: assert code == 0, code
    equal.append(same(weights(out), want))
    left += len([*out.glob('*.tmp')])
    epoch_lines = [l.split()[1] for l in (out/'log.txt').read_text().splitlines() if l.startswith('epoch')]
    assert {f'{i}/24' for i in range(1, 25)} == {*epoch_lines}, epoch_lines
print(json.dumps(dict(kills=kills, writing=writing, equal=equal, left=left, seconds=length)))
'''

def test_twelve_kills_change_no_bit(tmp_path):
    env = os.environ | dict(OMP_NUM_THREADS='1', MPLBACKEND='Agg')
    done = subprocess.run([sys.executable, '-c', SCRIPT, str(tmp_path)], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    r = json.loads(done.stdout.splitlines()[-1])
    assert len(r['kills']) == 12
    assert len({e for e in r['kills'] if 0 < e < 24}) >= 4, f"the kills did not hit in the middle: {r}"
    assert r['writing'] >= 1, f"no kill hit a write: {r}"
    assert r['equal'] and all(r['equal'])
    assert not r['left'], 'temporary files of killed runs are still there'
