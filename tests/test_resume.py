"Training that is stopped ends, once continued, in the weights of training that nobody disturbed; for kills see test_kill.py"
import json, os, subprocess, sys
import pytest
from forking import RUNNER

STOP = RUNNER + '''
import numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler) # jobs in the background begin with interrupts ignored
root = Path(sys.argv[1])
np.savez(root/'patches.npz', train_images=np.random.default_rng(0).integers(256, size=(64,16,16,3), dtype=np.uint8))
def train(name): return cli.pathlearn_train(f'clusiam --data {root}/patches.npz --epochs 12 --arch tiny --bs 16 --k 4 --device cpu --out {root}/{name}'.split())

codes = [ended(fork(train, 'calm'))]
child, log = fork(train, 'stopped'), root/'stopped'/'log.txt'
wait_until(lambda: log.exists() and '4/12' in log.read_text(), child)
os.kill(child, signal.SIGINT)
codes.append(ended(child))
between = sorted(p.name for p in (root/'stopped').iterdir())
epochs = load_encoder(root/'stopped'/'clusiam.safetensors').meta['epochs']
codes += [ended(fork(train, 'stopped')), ended(fork(train, 'stopped'))]
calm,stopped = (load_encoder(root/n/'clusiam.safetensors').state_dict() for n in ('calm','stopped'))
print(json.dumps(dict(codes=codes, between=between, epochs=epochs, equal=all(torch.equal(calm[n], stopped[n]) for n in calm),
                      lines=[l.split()[1] for l in log.read_text().splitlines() if l.startswith('epoch')])))
'''

PHASES = RUNNER.replace('pathlearn.clusiam', 'pathlearn.autoencoder') + '''
import numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)
root = Path(sys.argv[1])
np.savez(root/'patches.npz', train_images=np.random.default_rng(0).integers(256, size=(64,16,16), dtype=np.uint8))
def train(name): return cli.pathlearn_train(f'autoencoder --data {root}/patches.npz --epochs 12 --warmup 6 --bs 16 --k 3 --latent 8 --device cpu --out {root}/{name}'.split())

codes = [ended(fork(train, 'calm'))]
equal, calm = [], load_encoder(root/'calm'/'autoencoder.safetensors').state_dict()
for stop in (3,6,9): # in the first phase, between the two, in the second
    log = root/f'stop{stop}'/'log.txt'
    child = fork(train, f'stop{stop}')
    wait_until(lambda: log.exists() and f'{stop}/12' in log.read_text(), child)
    os.kill(child, signal.SIGINT)
    codes += [ended(child), ended(fork(train, f'stop{stop}'))]
    again = load_encoder(root/f'stop{stop}'/'autoencoder.safetensors').state_dict()
    equal.append(all(torch.equal(calm[n], again[n]) for n in calm))
print(json.dumps(dict(codes=codes, equal=equal)))
'''

def result(script, folder):
    env = os.environ | dict(OMP_NUM_THREADS='1', MPLBACKEND='Agg')
    done = subprocess.run([sys.executable, '-c', script, str(folder)], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_a_stopped_command_leaves_a_usable_folder_and_goes_on(tmp_path):
    r,done = result(STOP, tmp_path)
    assert r['codes'] == [0, 130, 0, 0]
    assert {'clusiam.safetensors', 'log.txt', 'settings.json', 'training.pt'} <= set(r['between'])
    assert 'report.html' not in r['between'] and not any(n.endswith('.tmp') for n in r['between'])
    assert 3 <= r['epochs'] < 12 and f"{r['epochs']} of 12 epochs are safe" in done.stderr
    assert 'Traceback' not in done.stderr
    assert r['equal']
    assert sorted(set(r['lines']), key=lambda l: int(l.split('/')[0])) == [f'{i}/12' for i in range(1,13)]

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_a_run_of_two_phases_knows_its_phase(tmp_path):
    r,done = result(PHASES, tmp_path)
    assert r['codes'] == [0, 130, 0, 130, 0, 130, 0], done.stderr
    assert r['equal'] == [True]*3 and 'Traceback' not in done.stderr

# --- what watches remember, and what 0.1 wrote

def train(file, epochs=4, stop=None, **kw): # stop: the epoch before which Ctrl-C is pressed
    import torch
    from fastai.callback.core import Callback
    from pathlearn.clusiam import EmbeddingHistory, PatchData, Resume, clusiam_learner
    class Stop(Callback):
        def before_epoch(self):
            if self.epoch == stop: raise KeyboardInterrupt
    torch.manual_seed(0)
    data = PatchData(torch.randint(256, (64,3,16,16), dtype=torch.uint8))
    learn = clusiam_learner(data.dls(bs=16, device='cpu'), 'tiny', k=4, dim=32, hidden=16,
                            cbs=[EmbeddingHistory(data), Resume(file), Stop()], **kw)
    with learn.no_logging(): learn.fit(epochs)
    return learn

def test_the_history_of_embeddings_goes_on_after_a_stop(tmp_path):
    import torch
    calm = train(tmp_path/'calm.pt').embedding_history.epochs
    with pytest.raises(KeyboardInterrupt): train(tmp_path/'run.pt', stop=2)
    again = train(tmp_path/'run.pt').embedding_history.epochs
    assert [e['epoch'] for e in again] == [e['epoch'] for e in calm] == [0,1,2,3,4]
    assert [e['loss'] for e in again] == [e['loss'] for e in calm]
    for a,b in zip(again, calm): assert torch.equal(a['features'], b['features']) and torch.equal(a['assignments'], b['assignments'])

def test_columns_that_had_other_names_in_0_1_go_on(tmp_path):
    import torch
    calm = train(tmp_path/'calm.pt', epochs=3, patience=3).collapse_watch.history
    file = tmp_path/'run.pt'
    with pytest.raises(KeyboardInterrupt): train(file, epochs=3, patience=3, stop=2)
    state = torch.load(file, weights_only=True)
    watch = state['cbs']['collapse_watch']
    was = dict(live_with_noise='live_noise', entropy_mean='h_mean', entropy_each='h_each')
    watch['history'] = [{was.get(n, n): v for n,v in row.items()} for row in watch['history']]
    assert {*was.values()} < {*watch['history'][0]}
    torch.save(state, file)
    assert train(file, epochs=3, patience=3).collapse_watch.history == calm

# --- the name by which weights know a class

def test_a_class_in_a_room_is_stored_by_the_path_of_the_room(tmp_path, monkeypatch):
    import torch
    from pathlearn import learning
    from pathlearn.learning import weights
    from pathlearn.networks import Configured, encoder
    class Head(Configured):
        def __init__(self, n_in, n_out=3): super().__init__(); self.net = torch.nn.Linear(n_in, n_out)
        def forward(self, x): return self.net(x)
    Head.__module__ = 'pathlearn.learning.weights' # as if it were written there
    class Model(torch.nn.Module):
        def __init__(self): super().__init__(); self.encoder = encoder('tiny'); self.cluster_head = Head(256)
    monkeypatch.setattr(weights, 'Head', Head, raising=False)
    for name in ('Head','Head.__init__'): monkeypatch.setitem(weights._modidx.d['syms']['pathlearn.learning.weights'], f'pathlearn.learning.weights.{name}', ())
    file,model = tmp_path/'w.safetensors', Model()

    def stored(): # the class's path in the file
        learning.save_encoder(model, file)
        with weights.safe_open(file, 'pt') as f: spec = json.loads(f.metadata()['spec'])
        assert spec['encoder']['cls'] == 'pathlearn.networks.Encoder'
        return spec['cluster_head']['cls']
    def same():
        head = learning.load_encoder(file).cluster_head
        return type(head) is Head and torch.equal(head.net.weight, model.cluster_head.net.weight)

    assert stored() == 'pathlearn.learning.weights.Head' and same() # private to its module
    monkeypatch.setattr(learning, 'Head', Head, raising=False)
    assert stored() == 'pathlearn.learning.Head' and same() # a user imports it from the room
    monkeypatch.delattr(weights, 'Head')
    assert same() # and its module may change
