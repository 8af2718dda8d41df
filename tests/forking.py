"Scripts of their own that fork a child for each start: the child trains, the parent kills it"
import json, os, subprocess, sys

# One process imports fastai, seconds long, and forks a child for each attempt: the child trains, the parent stops it.
RUNNER = '''
import json, os, signal, sys, time, traceback
from pathlib import Path
import torch
torch.set_num_threads(1)
from pathlearn.clusiam import *
from pathlearn import cli

def fork(work, *args):
    pid = os.fork()
    if pid: return pid
    code = 1
    try: code = work(*args) or 0
    except BaseException: traceback.print_exc()
    finally:
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(code)

def ended(pid, timeout=60): # -> exit code, or minus the signal
    until = time.time() + timeout
    while time.time() < until:
        done,status = os.waitpid(pid, os.WNOHANG)
        if done: return os.waitstatus_to_exitcode(status)
        time.sleep(.002)
    os.kill(pid, signal.SIGKILL)
    raise TimeoutError(f'child {pid} did not end')

def wait_until(seen, child, timeout=120): # a child that ends before, or hangs, fails the test and does not stop it for ever
    until = time.time() + timeout
    while not seen():
        done,status = os.waitpid(child, os.WNOHANG)
        if done: raise ChildProcessError(f'child {child} ended with {os.waitstatus_to_exitcode(status)} before it was to be stopped')
        if time.time() > until: raise TimeoutError(f'child {child} did not get there')
        time.sleep(.002)
'''

# A run that nobody disturbs, one that is killed at two epochs and goes on, and its features; the last line tells what both left.
KILLED = RUNNER.replace('pathlearn.clusiam', 'pathlearn.MODULE') + '''
import numpy as np
root = Path(sys.argv[1])
np.savez(root/'patches.npz', train_images=np.random.default_rng(0).integers(256, size=(64,16,16,3), dtype=np.uint8))
def train(name): return cli.pathlearn_train(f'METHOD --data {root}/patches.npz --epochs 20 --arch tiny --bs 16 --device cpu --out {root}/{name} OPTIONS'.split())
def embedded(name): return cli.pathlearn_embed(f'{root}/{name}/METHOD.safetensors --data {root}/patches.npz --device cpu --out {root}/embedded'.split())
def done(log, n): return log.exists() and f'{n}/20' in log.read_text()

codes = [ended(fork(train, 'calm'))]
for n in EPOCHS:
    child, log = fork(train, 'killed'), root/'killed'/'log.txt'
    wait_until(lambda: done(log, n), child)
    os.kill(child, signal.SIGKILL)
    codes.append(ended(child))
codes += [ended(fork(train, 'killed')), ended(fork(embedded, 'killed'))]
calm,killed = (load_encoder(root/n/'METHOD.safetensors').state_dict() for n in ('calm','killed'))
states = [torch.load(root/n/'training.pt', weights_only=True)['model'] for n in ('calm','killed')]
print(json.dumps(dict(codes=codes, equal=all(torch.equal(calm[n], killed[n]) for n in calm), all_equal=all(torch.equal(states[0][n], states[1][n]) for n in states[0]),
                      shapes={n: list(t.shape) for n,t in states[0].items() if '.' not in n}, clustered=bool(states[0].get('phi', torch.zeros(1)).all()),
                      features=list(np.load(root/'embedded'/'features.npz')['features'].shape), left=sorted(p.name for p in (root/'killed').iterdir()))))
'''

def killed_twice(method, module, options, epochs, folder): # -> dict of what the training left; asserts that the kills changed no bit
    script = KILLED.replace('MODULE', module).replace('METHOD', method).replace('OPTIONS', options).replace('EPOCHS', repr(epochs))
    env = os.environ | dict(OMP_NUM_THREADS='1', MPLBACKEND='Agg')
    done = subprocess.run([sys.executable, '-c', script, str(folder)], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    r = json.loads(done.stdout.splitlines()[-1])
    assert r['codes'] == [0, -9, -9, 0, 0], done.stderr
    assert r['equal'] and r['all_equal'] and r['features'][0] == 64 and 'report.html' in r['left'], r
    return r
