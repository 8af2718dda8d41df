"The supervised baseline: its weights, its loss, its command, and that nobody else is given a label by it"
import os, re, subprocess, sys
import numpy as np, pandas as pd, pytest, torch
from sklearn.utils.class_weight import compute_class_weight
from forking import RUNNER
from pathlearn.all import *
from pathlearn.learning import METHODS, find_method
from pathlearn.learning.callbacks import LabelledView, ViewPair
from pathlearn.supervised import WeightedLoss
from fastai.callback.core import Callback

TISSUE = synthetic_tissue(n=90, size=16).train

# --- weights and loss

@pytest.mark.parametrize('labels', [[0,1], [0]*95 + [1]*5, [3,1,0,2,2,2,2,1], [0]*7 + [1]*2 + [2]*13])
def test_weights_are_those_of_scikit_learn(labels):
    theirs = compute_class_weight('balanced', classes=np.unique(labels), y=np.array(labels))
    ours = class_weights(labels)
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_allclose(ours[labels].mean(), 1, rtol=1e-6)

def test_a_class_without_a_patch_is_named_and_counts_nowhere():
    with pytest.warns(UserWarning, match='no training patch is of class fat, debris: it has no weight'):
        w = class_weights([0,0,2], 4, ['normal','fat','tumour','debris'])
    np.testing.assert_allclose(w, [.75,0,1.5,0])
    data = PatchData(TISSUE.images[:20], [0]*10 + [2]*10, classes=['normal','fat','tumour'])
    with pytest.warns(UserWarning, match='no training patch is of class fat'): learn = supervised_learner(data.dls(bs=10), 'tiny')
    with learn.no_bar(), learn.no_logging(): learn.fit(2)
    assert learn.model.classifier.out_features == 3 and np.isfinite([float(l) for l in learn.recorder.losses]).all()

def by_numpy(logits, labels, weights): # in float64, without torch
    z = logits - logits.max(1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(1, keepdims=True))
    w = weights[labels]
    return -(w*logp[np.arange(len(labels)), labels]).sum()/w.sum()

@pytest.mark.parametrize('scale', [1, 50, 1e4])
def test_the_loss_is_an_independent_computation(scale):
    rng = np.random.default_rng(0)
    logits, labels = scale*rng.normal(size=(64,5)), rng.choice(5, 64, p=[.6,.2,.1,.07,.03])
    w = class_weights(labels, 5)
    want = by_numpy(logits, labels, w.double().numpy())
    found = weighted_loss(torch.tensor(logits), torch.tensor(labels), w)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, want, rtol=1e-12)
    np.testing.assert_allclose(WeightedLoss(w)(torch.tensor(logits).float(), torch.tensor(labels)), want, rtol=1e-5)
    np.testing.assert_allclose(weighted_loss(torch.tensor(logits), torch.tensor(labels)), by_numpy(logits, labels, np.ones(5)), rtol=1e-12)

def test_every_class_has_the_same_say():
    "Twice the patches of a class, with the same logits, change nothing"
    torch.manual_seed(0)
    logits, labels = torch.randn(30,3), torch.arange(30) % 3
    twice = torch.cat([torch.arange(30), (labels == 1).nonzero().flatten()])
    a, b = (weighted_loss(logits[at], labels[at], class_weights(labels[at])) for at in (torch.arange(30), twice))
    torch.testing.assert_close(a, b)

# --- labels: who is given them, and who refuses what

@pytest.mark.parametrize('labels, words', [
    (None, 'learns from labels, and there are none'), (np.tile([[1,1,0],[0,1,0]], (10,1)), '3 findings for each patch'), ([1]*20, 'one class only')])
def test_labels_that_do_not_serve_are_refused(labels, words):
    data = PatchData(TISSUE.images[:20], labels)
    with pytest.raises(ValueError, match=words): supervised_learner(data.dls(bs=10), 'tiny')

class Target(Callback):
    order = 50
    def before_backward(self): self.was = self.y
def alone(): return [n for n,m in METHODS.items() if m.data == 'patches' and not m.labels]

@pytest.mark.parametrize('name', alone())
def test_a_method_without_labels_sees_none(name):
    "Patches with labels, with others, and with none end in the same weights, and the loss is given no number"
    method, ends = find_method(name), []
    images, dice = TISSUE.images[:40], torch.Generator().manual_seed(1)
    for labels in (TISSUE.labels[:40], torch.randint(4, (40,), generator=dice), None):
        set_seed(0)
        own = dict(k=4) if method.k else dict(opt='adamw', latent=8) if name == 'autoencoder' else {}
        learn = method.learner(PatchData(images, labels).dls(bs=20), arch='conv3' if name == 'autoencoder' else 'tiny', cbs=Target(), **own)
        with learn.no_bar(), learn.no_logging(): learn.fit(1)
        target = learn.target.was
        assert not (torch.is_tensor(target) and target.numel())
        assert any(isinstance(cb, ViewPair) for cb in learn.cbs) and not any(isinstance(cb, LabelledView) for cb in learn.cbs)
        ends.append([p.detach().clone() for p in learn.model.parameters()])
    assert all(torch.equal(a, b) for other in ends[1:] for a,b in zip(ends[0], other))

def test_the_supervised_one_sees_them_and_one_view():
    class Peek(Callback):
        order = 50
        def before_backward(self): self.was = [*self.xb, self.y]
    learn = supervised_learner(TISSUE.dls(bs=30), 'tiny', cbs=Peek())
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    view, label = learn.peek.was
    assert view.shape == (30,3,16,16) and view.is_floating_point() and label.dtype == torch.int64 and 0 <= label.min() and label.max() < 9
    assert METHODS['supervised'].labels and not any(METHODS[n].labels for n in alone())

# --- the command

def files(root):
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(64,16,16,3), dtype=np.uint8)
    labels = np.array([0]*52 + [1]*12)
    np.savez(root/'patches.npz', train_images=images, train_labels=labels, val_images=images[40:], val_labels=labels[40:], test_images=images[40:], test_labels=labels[40:])
    np.savez(root/'bare.npz', train_images=images)
    np.savez(root/'findings.npz', train_images=images, train_labels=np.tile([[1,1,0],[0,1,0]], (32,1)))
    np.savez(root/'one.npz', train_images=images, train_labels=labels*0)

def command(name, line, folder):
    code = f'import sys; from pathlearn.cli import pathlearn_{name} as f; sys.exit(f(sys.argv[1:]))'
    env = os.environ | dict(OMP_NUM_THREADS='1', MPLBACKEND='Agg')
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', code, *line.split()], capture_output=True, text=True, env=env, cwd=folder)

def test_it_trains_reports_and_embeds(tmp_path):
    files(tmp_path)
    line = 'supervised --data patches.npz --epochs 2 --arch tiny --bs 16 --device cpu --out run'
    done = command('train', line, tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'right' in done.stdout and 'recall' in done.stdout
    page = (tmp_path/'run/report.html').read_text()
    assert 'Supervised, re-weighted' in page and 'at their labels, which it learned from' in page and 'never at a label' not in page
    assert 'Supervised, re-weighted' in list(pd.read_csv(tmp_path/'run/table.csv', index_col=0).index)
    done = command('train', line, tmp_path)
    assert done.returncode == 0 and 'complete already' in done.stdout
    done = command('train', line + ' --no-balanced', tmp_path)
    assert done.returncode == 2 and 'balanced was True and is now False' in done.stderr
    done = command('embed', 'run/supervised.safetensors --data patches.npz --device cpu --out embedded', tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path/'embedded/features.npz')['features'].shape == (64+24+24, 256)
    assert 'seen by Supervised, re-weighted' in (tmp_path/'embedded/report.html').read_text()

@pytest.mark.parametrize('name, words', [('bare', 'learns from labels, and there are none'), ('findings', '3 findings for each patch'), ('one', 'one class only')])
def test_the_command_refuses_data_before_it_begins(name, words, tmp_path):
    files(tmp_path)
    done = command('train', f'supervised --data {name}.npz --epochs 2 --arch tiny --device cpu --out run', tmp_path)
    assert done.returncode == 2 and re.search(words, done.stderr) and 'Traceback' not in done.stderr and not (tmp_path/'run').exists()

STOP = RUNNER.replace('pathlearn.clusiam', 'pathlearn.supervised') + '''
import numpy as np
from pathlearn.commands import train as room
def short(out, *args, **kw): # the report takes seconds, and none is asked for here
    page = out/'report.html'
    page.write_text('no page')
    return page
room.write_report, room.rehearse = short, lambda *args, **kw: None
root = Path(sys.argv[1])
rng = np.random.default_rng(0)
np.savez(root/'patches.npz', train_images=rng.integers(256, size=(64,16,16,3), dtype=np.uint8), train_labels=np.array([0]*52 + [1]*12))
def train(name): return cli.pathlearn_train(f'supervised --data {root}/patches.npz --epochs 12 --arch tiny --bs 16 --device cpu --out {root}/{name}'.split())
assert ended(fork(train, 'calm')) == 0
log = root/'stopped'/'log.txt'
for at in ('3/12','8/12'):
    child = fork(train, 'stopped')
    wait_until(lambda: log.exists() and at in log.read_text(), child)
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL
assert ended(fork(train, 'stopped')) == 0
calm, stopped = (torch.load(root/n/'training.pt', weights_only=True) for n in ('calm','stopped'))
def same(a, b):
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[n], b[n]) for n in a)
    if isinstance(a, list): return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if torch.is_tensor(a) else a == b
print({n: same(calm[n], stopped[n]) for n in ('model','opt')} | {n: same(calm['rng'][n], stopped['rng'][n]) for n in ('torch','loader')} | {'watch':same(calm['cbs']['class_watch'], stopped['cbs']['class_watch'])})
'''

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_two_kills_change_no_bit(tmp_path):
    env = os.environ | dict(OMP_NUM_THREADS='1', MPLBACKEND='Agg')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', STOP, str(tmp_path)], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == str(dict(model=True, opt=True, torch=True, loader=True, watch=True)), done.stdout + done.stderr
