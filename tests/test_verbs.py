"""fastai's ordinary verbs on every learner of the package: one table, a method a row and a verb a column

Each method's learner is made once for a group of verbs, on images so few and small that a row takes seconds."""
import re, subprocess, sys, warnings
from functools import partial
import numpy as np, pytest, torch
from torch.utils.data import DataLoader, TensorDataset
import pathlearn.all
from pathlearn.all import *
from pathlearn.transfer import mask_dls, mask_learner
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.learner import load_learner
from fastai.optimizer import OptimWrapper, SGD
from fastcore.basics import noop

N,NV,BS = 24,13,8 # training and validation images; the last validation batch is a smaller one
DRAWN = synthetic_tissue(n=N+NV, size=16, seed=0).train
NUCLEI = synthetic_nuclei(n=N+NV, size=32, seed=0)
TRAIN,VALID = DRAWN[:N],DRAWN[N:]

def few(): return semi_dls(NUCLEI[:8], NUCLEI[8:N], NUCLEI[N:], bs=BS, device='cpu')
def masks(): return mask_dls(NUCLEI[:N], NUCLEI[N:], bs=BS, device='cpu')
def views(): return TRAIN.dls(VALID, bs=BS, device='cpu')

# name: loaders, and arguments of a learner so small that a test takes a second
SMALL = dict(
    simclr      = (views, dict(arch='tiny', dim=16)),
    simsiam     = (views, dict(arch='tiny', dim=32, hidden=16)),
    byol        = (views, dict(arch='tiny', dim=32)),
    clusiam     = (views, dict(arch='tiny', k=5, dim=32, hidden=16)),
    clubyol     = (views, dict(arch='tiny', k=5, dim=32, hidden=16)),
    barlow      = (views, dict(arch='tiny', dim=16, hidden=16)),
    vicreg      = (views, dict(arch='tiny', dim=16, hidden=16)),
    moco        = (views, dict(arch='tiny', dim=16)),
    pcl         = (views, dict(arch='tiny', dim=16)),
    supervised  = (views, dict(arch='tiny')),
    swav        = (views, dict(arch='tiny', k=5, dim=16, hidden=16)),
    ca2cl       = (views, dict(arch='tiny', k=4, dim=16)),
    autoencoder = (views, dict(arch='conv3', latent=16, opt='adamw')),
    cdcl        = (few, dict(arch='tiny', start=0, grid=4)))
SUPERVISED = dict(masks = (masks, {}))

def test_every_method_of_the_registry_has_its_row():
    assert {*SMALL} == {n for n,m in METHODS.items() if m.learner.__module__.startswith('pathlearn.')}

each = pytest.mark.parametrize('name', SMALL)
each_and_masks = pytest.mark.parametrize('name', SMALL|SUPERVISED)

class Seen(Callback):
    "What the optimiser was told at each step"
    order = 90
    def __init__(self): self.steps = []
    def before_step(self): self.steps.append([dict(h) for h in self.opt.hypers])
    def of(self, hyper): return np.array([[g[hyper] for g in groups] for groups in self.steps])

def learner(name, dls=None, **kw): # seeds make two of them equal
    loaders,args = (SMALL|SUPERVISED)[name]
    torch.manual_seed(0); np.random.seed(0)
    dls = dls or loaders()
    learn = find_method(name).learner(dls, **args|kw) if name in METHODS else mask_learner(dls, encoder('tiny'), **args|kw)
    learn.logger = noop
    return learn

def weights(learn): return {n:t.detach().as_subclass(torch.Tensor).clone() for n,t in learn.model.state_dict().items()}
def assert_same(a, b):
    assert a.keys() == b.keys()
    for n in a: torch.testing.assert_close(a[n], b[n], rtol=0, atol=0, msg=lambda m: f'{n}: {m}')
def moved(before, after): return {n for n in before if not torch.equal(before[n], after[n])}
def weights_of(module): return [p for n,p in module.named_parameters() if n.endswith('weight') and p.ndim > 1]
def losses(learn): return [float(o) for o in learn.recorder.losses]

def first_layer(learn): return weights_of(learn.model.encoder)[0]
def split(model): # the encoder, and what follows it; CDCL's and a U-Net's is a part of the way through
    own = {id(p) for p in model.encoder.parameters()}
    rest = [p for p in model.parameters() if id(p) not in own]
    return [list(model.encoder.parameters()), [p for p in rest if p.requires_grad]]

def works_or_says(verb):
    "It works, or one sentence names a function of this package to call instead"
    try: return verb()
    except Exception as e:
        called = re.search(r'(?:call|take) (\w+)\(', str(e))
        assert '\n' not in str(e) and called and called[1] in pathlearn.all.__all__, f'{type(e).__name__}: {e}'

# --- verbs that a reader expects after one import

def test_one_import_brings_the_verbs():
    "fastai adds verbs to a Learner with each of its modules that somebody imports"
    verbs = 'fit fit_one_cycle lr_find validate get_preds predict show_results summary export load save freeze to_fp16'
    code = ("from pathlearn.learning import *; from fastai.learner import Learner; "
            f"print([v for v in '{verbs}'.split() if not hasattr(Learner, v)])")
    res = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=True)
    assert res.stdout.strip() == '[]'

# --- before any training

@each
def test_before_any_fit(name):
    learn = learner(name)
    was = weights(learn)
    assert np.isfinite(learn.validate()[0])
    preds,_ = learn.get_preds()
    sizes = {len(p) for p in (preds if isinstance(preds, tuple) else [preds]) if p.ndim}
    assert sizes == {NV}, f'{NV} images, predictions of {sizes}'
    assert 'Total params' in learn.summary()
    assert_same(was, weights(learn))

@each
def test_lr_find(name, tmp_path):
    learn = learner(name, path=tmp_path)
    was = weights(learn)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # one pass of a handful of steps may see too little
        found = learn.lr_find(num_it=15, show_plot=False)
    rates = learn.recorder.lrs
    assert len(rates) >= 12 and np.allclose(np.diff(np.log(rates)), np.log(rates[1]/rates[0]))
    assert 1e-7 <= found.valley <= 10
    assert_same(was, weights(learn))
    learn.fit(1)
    assert np.isfinite(losses(learn)).all() and moved(was, weights(learn))

@each
@pytest.mark.parametrize('verb', ['predict','show_batch','show_results'])
def test_verbs_for_looking(name, verb):
    learn = learner(name)
    verbs = dict(predict=lambda: learn.predict(learn.dls.train.dataset.images[0]), show_batch=lambda: learn.dls.show_batch(),
                 show_results=lambda: learn.show_results())
    works_or_says(verbs[verb])

# --- arguments are obeyed

@each_and_masks
def test_rates_of_a_fit(name):
    seen = Seen()
    learn = learner(name, cbs=seen, lr=.002)
    def rates(fit):
        seen.steps.clear(); fit()
        return seen.of('lr')
    own = rates(lambda: learn.fit(2))
    assert len(own) == 2*len(learn.dls.train) and 0 < own.max() <= .0021
    for lr in (.001,.003): # the schedule of the learner, on the rate of the fit
        np.testing.assert_allclose(rates(lambda: learn.fit(2, lr)), own*lr/.002, rtol=1e-6)
    np.testing.assert_allclose(rates(lambda: learn.fit(2)), own, rtol=1e-6)
    cycle = rates(lambda: learn.fit_one_cycle(4, .004))[:,0]
    assert cycle.max() == pytest.approx(.004, rel=.02) and cycle[0] == pytest.approx(.004/25) and cycle[-1] < .001
    for wd in (.3,.1):
        rates(lambda: learn.fit(1, wd=wd))
        assert set(seen.of('wd').flat) == {wd}
    other = Seen()
    learn.fit(1, cbs=other)
    assert len(other.steps) == len(learn.dls.train) and other not in learn.cbs
    assert np.isfinite(learn.validate()[0])

@each_and_masks
def test_arguments_of_a_learner(name):
    def mine(out, *_): return 42.
    seen = Seen()
    learn = learner(name, cbs=seen, lr=.002, wd=.2, opt_func=partial(SGD, mom=.5), splitter=split, metrics=mine)
    learn.fit(1)
    assert set(seen.of('wd').flat) == {.2} and set(seen.of('mom').flat) == {.5} and seen.of('lr').shape[1] == 2
    assert 0 < seen.of('lr').max() <= .0021
    assert 'mine' in learn.recorder.metric_names and 42. in learn.recorder.values[-1]
    assert 42. in learn.validate()
    learn = learner(name, lr=.002, opt_func=partial(OptimWrapper, opt=torch.optim.RMSprop))
    learn.fit(1)
    assert isinstance(learn.opt, OptimWrapper) and np.isfinite(losses(learn)).all()

@each_and_masks
def test_freeze(name):
    kw = dict(where='feature') if name == 'ca2cl' else {} # a frozen first layer has no gradient to climb
    learn = learner(name, splitter=split, **kw)
    first = next(n for n,p in learn.model.named_parameters() if p is first_layer(learn))
    learn.freeze()
    assert not first_layer(learn).requires_grad
    was = weights(learn)
    learn.fit_one_cycle(1, .01)
    changed = moved(was, weights(learn))
    assert first not in changed and any(n.endswith('weight') for n in changed)
    learn.unfreeze()
    learn.fit(1)
    assert first in moved(was, weights(learn))

def test_a_frozen_first_layer_and_a_step_in_it():
    learn = learner('ca2cl', splitter=split)
    learn.freeze()
    with pytest.raises(ValueError, match='frozen'): learn.fit(1)

# --- files

@each
def test_save_load_and_export(name, tmp_path):
    learn = learner(name, path=tmp_path)
    learn.fit(1)
    trained = weights(learn)
    learn.save('here')
    learn.fit(1)
    assert moved(trained, weights(learn))
    learn.load('here')
    assert_same(trained, weights(learn))

    learn.export('learner.pkl')
    assert_same(trained, weights(learn))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # fastai warns of pickles
        again = load_learner(tmp_path/'learner.pkl')
    assert_same(trained, weights(again))
    valid = learn.dls.valid
    torch.manual_seed(1); np.random.seed(1); a = learn.validate(dl=valid)
    torch.manual_seed(1); np.random.seed(1); b = again.validate(dl=valid)
    assert [*a] == [*b]
    again.dls = learner(name).dls
    again.logger = learn.logger
    again.fit(1); learn.fit(1)
    assert moved(trained, weights(again)) and moved(trained, weights(learn))

# --- precision, compiler, loaders of torch

@each
def test_half_precision_on_a_cpu(name):
    learn = learner(name)
    was = weights(learn)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        learn.to_fp16().fit(1)
    assert any('CPU' in str(w.message) and 'full precision' in str(w.message) for w in told)
    assert np.isfinite(losses(learn)).all() and moved(was, weights(learn))
    learn.to_fp32().fit(1)
    assert not hasattr(learn, 'mixed_precision') and np.isfinite(losses(learn)).all()

@pytest.mark.parametrize('name,compiler', [*((n,'aot_eager') for n in SMALL if n != 'cdcl'),
                                           pytest.param('simclr', 'inductor', marks=pytest.mark.slow)])
def test_a_compiled_encoder(name, compiler, tmp_path):
    plain,fast = learner(name),learner(name)
    fast.model.encoder = torch.compile(fast.model.encoder, backend=compiler)
    if compiler == 'inductor': torch._dynamo.reset() # the others may share a graph, of which one is enough
    for learn in (plain,fast):
        torch.manual_seed(0); np.random.seed(0)
        learn.dls.train.rng.seed(0)
        learn.fit(1)
    assert torch._dynamo.utils.counters['stats']['unique_graphs']
    np.testing.assert_allclose(losses(fast), losses(plain), rtol=1e-3, atol=1e-4)
    assert_saved(fast, VALID, tmp_path)

def assert_saved(learn, data, tmp_path):
    save_encoder(learn, tmp_path/'encoder.safetensors')
    back = load_encoder(tmp_path/'encoder.safetensors')
    torch.testing.assert_close(embed(learn, data).features, embed(back, data).features)

def test_a_compiled_encoder_of_cdcl(tmp_path): # which it runs layer by layer, uncompiled
    fast = learner('cdcl', arch=torch.compile(encoder('tiny'), backend='aot_eager'))
    was = weights(fast)
    fast.fit(1)
    assert moved(was, weights(fast))
    assert_saved(fast, NUCLEI, tmp_path)

def raw_dls(name): # loaders of torch, which know nothing of fastai
    if name == 'supervised': parts = [(d.images, d.labels) for d in (TRAIN,VALID)]
    elif name != 'cdcl': parts = [(TRAIN.images,), (VALID.images,)]
    else:
        nucleus = (NUCLEI.masks > 0).to(torch.uint8)
        half = N//2
        parts = [(NUCLEI.images[:half], NUCLEI.images[half:N], nucleus[:half]), (NUCLEI.images[N:], nucleus[N:])]
    train,valid = (TensorDataset(*p) for p in parts)
    return DataLoaders(DataLoader(train, BS, shuffle=True, drop_last=True), DataLoader(valid, BS))

@each
def test_a_loader_of_torch(name, tmp_path):
    dls = raw_dls(name)
    learn = learner(name, dls=dls, path=tmp_path)
    was = weights(learn)
    assert np.isfinite(learn.validate()[0])
    learn.fit(1)
    learn.fit_one_cycle(1, .001)
    assert np.isfinite(losses(learn)).all() and moved(was, weights(learn))
    assert np.isfinite(learn.validate()[0])
    preds,_ = learn.get_preds(dl=dls.valid)
    assert len(preds if isinstance(preds, torch.Tensor) else preds[0]) == NV
    assert_saved(learn, NUCLEI if name == 'cdcl' else VALID, tmp_path)
