"What fastai's verbs do to a learner of two views: a fit is a fit, everything else leaves it as it was"
import math, warnings
from collections import namedtuple
import numpy as np, pandas as pd, pytest, torch, torch.nn as nn, torch.nn.functional as F
from fastai.basics import Callback, CancelStepException
from fastai.callback.progress import CSVLogger, ShowGraphCallback
from fastai.callback.tracker import EarlyStoppingCallback, ReduceLROnPlateau, SaveModelCallback
from fastai.callback.training import GradientAccumulation
from pathlearn.learning import *
from pathlearn.learning.watch import check_bf16
from pathlearn.data import PatchData
from pathlearn.evaluate import embed
from pathlearn.networks import MomentumCopy, Outputs, Predictor, Projector
from pathlearn.views import standard_view

class Out(Outputs, namedtuple('Out', 'p1 p2 z1 z2')): __slots__ = ()

class Siamese(nn.Module):
    def __init__(self, enc):
        super().__init__()
        self.encoder,self.projector,self.predictor = enc, Projector(enc.n_out,32,32), Predictor(32,16)
    def forward(self, x1, x2):
        z1,z2 = (self.projector(self.encoder(x)) for x in (x1,x2))
        return Out(self.predictor(z1), self.predictor(z2), z1, z2)

def loss(o, *_): return -(F.cosine_similarity(o.p1, o.z2.detach()).mean() + F.cosine_similarity(o.p2, o.z1.detach()).mean())
def groups(m): return [[*m.encoder.parameters(), *m.projector.parameters()], list(m.predictor.parameters())]

torch.manual_seed(0)
IMAGES = torch.randint(256, (48,3,16,16), dtype=torch.uint8)
DATA = PatchData(IMAGES, torch.arange(48)%3, classes=['a','b','c'])

def learner(*cbs, bs=16, valid=16, loss=loss, lr=.05, tmp=None, **kw):
    torch.manual_seed(1)
    part = PatchData(IMAGES[:valid]) if valid else None
    dls = PatchData(IMAGES).dls(part, bs=bs, device='cpu')
    dls.train.rng.seed(1)
    return ssl_learner(dls, Siamese(dls_encoder(dls, 'tiny')), loss, view=standard_view(16), lr=lr, cbs=cbs, path=tmp, **kw)

def weights(learn): return {n:t.as_subclass(torch.Tensor).clone() for n,t in learn.model.state_dict().items()}
def same(a, b): return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
def quiet(learn, n, *a, **kw):
    with learn.no_logging(): learn.fit(n, *a, **kw)
    return learn

class Rates(Callback):
    order = 90
    def before_fit(self): self.seen = []
    def after_step(self): self.seen.append([h['lr'] for h in self.opt.hypers])

class Interrupt(Callback):
    order = 95
    def __init__(self, event, epoch=1): setattr(self, event, self.strike); self.at = epoch
    def strike(self):
        if self.epoch == self.at: raise KeyboardInterrupt

# --- what a fit is

def test_validate_and_predictions_leave_a_resuming_learner_alone(tmp_path):
    learn = learner(Resume(tmp_path/'run.pt'))
    learn.validate(); learn.get_preds() # before any fit
    assert not (tmp_path/'run.pt').exists()
    quiet(learn, 1)
    with torch.no_grad(): learn.model.encoder.body[0].weight.add_(1)
    was, file, seen = weights(learn), (tmp_path/'run.pt').read_bytes(), list(learn.collapse_watch.history)
    learn.validate(); learn.get_preds(); learn.validate(dl=learn.dls.train)
    assert same(was, weights(learn)) and file == (tmp_path/'run.pt').read_bytes()
    assert learn.collapse_watch.history == seen

def test_lr_find_neither_reads_nor_writes(tmp_path):
    learn = learner(Resume(tmp_path/'run.pt'), tmp=tmp_path)
    was = weights(learn)
    learn.lr_find(num_it=20, show_plot=False)
    assert not (tmp_path/'run.pt').exists() and same(was, weights(learn))
    quiet(learn, 2)
    was,file,seen = weights(learn), (tmp_path/'run.pt').read_bytes(), list(learn.collapse_watch.history)
    learn.lr_find(num_it=20, show_plot=False)
    assert same(was, weights(learn)) and file == (tmp_path/'run.pt').read_bytes()
    assert learn.collapse_watch.history == seen

def test_lr_find_moves_the_rate_itself(tmp_path):
    learn = learner(tmp=tmp_path)
    learn.lr_find(num_it=20, show_plot=False, stop_div=False)
    assert learn.recorder.lrs == sorted(learn.recorder.lrs) and learn.recorder.lrs[-1] > 1

def test_a_second_fit_trains_on_and_a_new_process_repeats_neither(tmp_path):
    plain = learner(); quiet(plain, 2); first = weights(plain); quiet(plain, 1)
    file = tmp_path/'run.pt'
    learn = learner(Resume(file)); quiet(learn, 2); assert same(first, weights(learn))
    quiet(learn, 1)
    assert same(weights(plain), weights(learn)) and not same(first, weights(learn))
    again = learner(Resume(file)); quiet(again, 2)
    assert same(first, weights(again)) # as it was between the two
    quiet(again, 1)
    assert same(weights(plain), weights(again))
    assert again.recorder.values == plain.recorder.values

@pytest.mark.parametrize('event', ['before_epoch','before_train','after_step','after_epoch'])
def test_a_stop_in_the_second_fit(event, tmp_path):
    plain = learner(); quiet(plain, 2); quiet(plain, 3)
    learn = learner(Resume(tmp_path/'run.pt')); quiet(learn, 2)
    with pytest.raises(KeyboardInterrupt): quiet(learn, 3, cbs=Interrupt(event))
    again = learner(Resume(tmp_path/'run.pt')); quiet(again, 2); quiet(again, 3)
    assert same(weights(plain), weights(again))
    quiet(learn, 3) # the same learner picks it up as well
    assert same(weights(plain), weights(learn))

@pytest.mark.parametrize('stop', [0,1,2])
def test_accumulated_gradients_are_part_of_the_state(stop, tmp_path):
    acc = lambda: GradientAccumulation(32) # three batches of 16 per epoch: an epoch ends half way
    plain = quiet(learner(acc()), 4)
    with pytest.raises(KeyboardInterrupt): quiet(learner(acc(), Resume(tmp_path/'run.pt')), 4, cbs=Interrupt('before_epoch', stop+1))
    again = quiet(learner(acc(), Resume(tmp_path/'run.pt')), 4)
    assert same(weights(plain), weights(again))

@pytest.mark.parametrize('event', ['before_epoch','after_pred','after_step','after_epoch'])
@pytest.mark.parametrize('cb', [None, CSVLogger, Resume])
def test_after_ctrl_c_everything_is_put_back(event, cb, tmp_path, capsys):
    learn = learner(*[Resume(tmp_path/'run.pt')]*(cb is Resume), *[CSVLogger()]*(cb is CSVLogger),
                    KNNWatch(DATA, DATA), tmp=tmp_path, splitter=groups, fixed=(-1,))
    logger,metrics = learn.logger, list(learn.metrics)
    with pytest.raises(KeyboardInterrupt): learn.fit(3, .02, cbs=Interrupt(event))
    assert learn.logger is logger and list(learn.metrics) == metrics and not learn.fitting
    assert [h['lr'] for h in learn.opt.hypers] == [.02]*2
    assert 'save' not in vars(learn) and not hasattr(learn, 'progress')
    capsys.readouterr()
    learn.fit(1 if cb is not Resume else 3, .02)
    assert 'epoch' in capsys.readouterr().out

def test_a_file_of_another_learner_is_refused(tmp_path):
    file = tmp_path/'run.pt'
    quiet(learner(Resume(file)), 1)
    def other(o, *_): return loss(o)
    with pytest.raises(ValueError, match='another learner: its method is Siamese by loss'): quiet(learner(Resume(file), loss=other), 1)
    with pytest.raises(ValueError, match='its optimiser is'): quiet(learner(Resume(file), opt_func=torch_adam), 1)
    with pytest.raises(ValueError, match='its groups is 1'): quiet(learner(Resume(file), splitter=groups), 1)
    with pytest.raises(ValueError, match='run of 1 epochs'): quiet(learner(Resume(file)), 2)

def torch_adam(params, **kw):
    from fastai.optimizer import Adam
    return Adam(params, **kw)

def test_the_best_weights_are_those_of_the_best_epoch_after_a_stop_too(tmp_path):
    best = lambda: SaveModelCallback('score', fname='best')
    class Score(Watch): # falls: the first epoch is the best
        names = ('score',)
        def after_train(self): self.record(score=-float(self.epoch))
    calm = quiet(learner(Score(), tmp=tmp_path/'a'), 4, cbs=best())
    with pytest.raises(KeyboardInterrupt): quiet(learner(Score(), Resume(tmp_path/'run.pt'), tmp=tmp_path/'b'), 4, cbs=[best(), Interrupt('after_step', 2)])
    again = quiet(learner(Score(), Resume(tmp_path/'run.pt'), tmp=tmp_path/'b'), 4, cbs=best())
    assert same(weights(calm), weights(again))

# --- counting

def test_valid_loss_is_weighted_by_images():
    # halves of different brightness, far apart
    x = torch.cat([torch.full((32,3,16,16), 10), torch.full((8,3,16,16), 250)]).to(torch.uint8)
    def bright(o, *_): return o.z1.mean()*0 + o.p1.shape[0]
    learn = learner(loss=bright, bs=16)
    learn.dls = PatchData(IMAGES).dls(PatchData(x), bs=16, device='cpu')
    assert learn.validate()[0] == pytest.approx((32*16 + 8*8)/40)

@pytest.mark.parametrize('n', [16,17,24])
def test_predictions_of_every_image(n):
    learn = learner(valid=n, bs=16)
    preds,targets = learn.get_preds()
    assert [len(z) for z in preds] == [n]*4 and targets.shape == (n,0)
    assert math.isfinite(learn.validate()[0])

def test_labels_never_reach_the_loss():
    seen = []
    def spy(o, *rest): seen.extend(rest); return loss(o)
    torch.manual_seed(0)
    dls = DATA.dls(DATA, bs=16, device='cpu')
    quiet(ssl_learner(dls, Siamese(dls_encoder(dls, 'tiny')), spy, view=standard_view(16)), 1)
    assert seen and all(t.numel() == 0 and len(t) == 16 for t in seen)

# --- rates

def test_the_rate_of_a_fit_is_obeyed():
    learn = learner(Rates(), splitter=groups, fixed=(-1,))
    quiet(learn, 2, .4)
    assert learn.rates.seen[0] == [.4,.4] and learn.rates.seen[-1] == [.2,.4]
    quiet(learn, 2)
    assert learn.rates.seen[0] == [.05,.05]

def test_one_cycle_is_obeyed_and_the_predictor_stays():
    learn = learner(Rates(), splitter=groups, fixed=(-1,))
    with learn.no_logging(): learn.fit_one_cycle(4, .3)
    enc,pred = zip(*learn.rates.seen)
    assert max(enc) == pytest.approx(.3, rel=1e-3) and enc[0] == pytest.approx(.3/25) and enc[-1] < .01
    assert set(pred) == {.3}

def test_the_predictor_stays_after_freeze():
    learn = learner(Rates(), splitter=groups, fixed=(-1,))
    learn.freeze()
    was = weights(learn)
    quiet(learn, 2)
    now = weights(learn)
    assert [r[1] for r in learn.rates.seen] == [.05]*6
    assert torch.equal(was['encoder.body.0.weight'], now['encoder.body.0.weight'])
    assert any(not torch.equal(was[n], now[n]) for n in was if n.startswith('predictor'))

def test_plateau_wins_and_the_run_says_so():
    learn = learner(Rates(), ReduceLROnPlateau('train_loss', min_delta=100, factor=10))
    with pytest.warns(UserWarning, match='ReduceLROnPlateau sets the learning rate of this fit, and CosineLR steps aside'): quiet(learn, 4)
    firsts = [r[0] for r in learn.rates.seen[::3]]
    assert firsts == pytest.approx([.05,.05,.005,.0005])

def test_a_schedule_by_batch_follows_the_fit():
    learn = learner(Rates(), sched=Schedule(lambda t: (1-t)**.9), lr=1e-3)
    for lr in (None, .01):
        quiet(learn, 2, lr)
        assert [r[0] for r in learn.rates.seen] == pytest.approx([(lr or 1e-3)*(1-i/6)**.9 for i in range(6)])
    with pytest.raises(ValueError, match="'batch' or each 'epoch'"): Schedule(lambda t: t, each='step')

def test_an_own_schedule_in_a_fit_wins():
    learn = learner(Rates())
    with pytest.warns(UserWarning, match='Schedule sets'): quiet(learn, 2, cbs=Schedule(lambda t: 1-t))
    assert [r[0] for r in learn.rates.seen] == pytest.approx([.05*(1-i/6) for i in range(6)])

def test_validate_before_any_fit():
    learn = learner()
    assert learn.opt is None and math.isfinite(learn.validate()[0])

# --- columns

def test_columns_leave_with_their_callback():
    learn = learner()
    watch = KNNWatch(DATA, DATA, k=1)
    quiet(learn, 1, cbs=watch)
    assert 'knn' in learn.recorder.metric_names and not learn.metrics
    quiet(learn, 1)
    assert 'knn' not in learn.recorder.metric_names
    new = KNNWatch(DATA, DATA, k=5)
    quiet(learn, 1, cbs=new)
    names = list(learn.recorder.metric_names)[1:]
    assert names.count('knn') == 1 and learn.recorder.values[-1][names.index('knn')] == new.history[-1]['knn']

def test_columns_leave_after_a_stop_and_own_metrics_stay():
    def mine(o, *_): return o.z1.mean()
    learn = learner(metrics=mine)
    with pytest.raises(KeyboardInterrupt): quiet(learn, 2, cbs=[KNNWatch(DATA, DATA), Interrupt('after_step')])
    assert learn.metrics.attrgot('name') == ['mine']
    quiet(learn, 1)
    assert 'knn' not in learn.recorder.metric_names and 'mine' in learn.recorder.metric_names
    assert len(learn.validate()) == 2 + 1 # loss, mine, spread: a column of the watch that stays, empty here

def test_fastais_own_callbacks_work_beside_ours(tmp_path, capsys):
    learn = learner(KNNWatch(DATA, DATA, k=1, every=2), tmp=tmp_path)
    own = [CSVLogger(), SaveModelCallback('knn'), EarlyStoppingCallback('knn', patience=6), ShowGraphCallback(), Resume(tmp_path/'run.pt')]
    learn.fit(5, cbs=own)
    table = pd.read_csv(tmp_path/'history.csv')
    assert len(table) == 5 and table.knn.isna().tolist() == [True,False,True,False,False]
    assert table.knn.dropna().tolist() == [h['knn'] for h in learn.knn_watch.history]
    assert (tmp_path/'models'/'model.pth').exists()
    text = capsys.readouterr().out
    assert text.count('epoch ') >= 5 and 'nan' not in text
    assert learn.logger is print
    learn.fit(1, cbs=CSVLogger())
    assert len(pd.read_csv(tmp_path/'history.csv')) == 1

def test_trackers_that_stay_do_not_mind_the_other_verbs(tmp_path):
    learn = learner(KNNWatch(DATA, DATA, k=1), EarlyStoppingCallback('knn', patience=9), ShowGraphCallback(), tmp=tmp_path)
    learn.get_preds(); quiet(learn, 1); learn.get_preds()
    learn.lr_find(num_it=20, show_plot=False)
    learn.remove_cb(EarlyStoppingCallback) # fails in fastai's own `validate`
    learn.validate(); quiet(learn, 1); learn.validate()

def test_a_second_backward_pass_shows_its_part():
    class Parts:
        def __init__(self): self.parts = {}
        def __call__(self, o, *_): l = loss(o); self.parts = dict(first=l.detach()); return l
    class Later(Callback):
        def before_backward(self):
            self.learn.loss_func.parts['second'] = torch.tensor(2.)
            self.learn.loss = self.loss + 2
    learn = quiet(learner(LossParts('first','second'), Later(), loss=Parts()), 1)
    (row,) = learn.loss_parts.history
    assert row['second'] == 2
    assert learn.recorder.values[0][0] == pytest.approx(row['first'] + 2, abs=.1)

# --- no numbers

@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_a_loss_that_is_no_number_stops_before_the_weights_move(bad, tmp_path):
    class Break(Callback):
        def after_loss(self):
            if self.training and self.train_iter == 4: self.learn.loss_grad = self.loss_grad*bad; self.learn.loss = self.loss_grad.clone()
    learn = learner(Resume(tmp_path/'run.pt'))
    with pytest.raises(FloatingPointError, match='epoch 2, step 5 of the fit.*learning rate of .*run.pt'): quiet(learn, 3, cbs=Break())
    assert all(torch.isfinite(t).all() for t in weights(learn).values())
    assert torch.load(tmp_path/'run.pt', weights_only=True)['epoch'] == 1

def test_a_gradient_that_is_no_number_stops():
    class Break(Callback):
        order = 20
        def before_step(self):
            if self.train_iter == 2: next(self.model.parameters()).grad.fill_(float('nan'))
    with pytest.raises(FloatingPointError, match='norm of the gradient.*step 3'): quiet(learner(), 2, cbs=Break())

def test_a_broken_image_is_named():
    class Break(Callback):
        order = 6
        def before_batch(self):
            if self.training: self.xb[0][0,0,0,0] = float('nan')
    with pytest.raises(FloatingPointError, match='images of this batch'): quiet(learner(), 1, cbs=Break())

def test_a_watched_figure_that_is_no_number_stops(tmp_path):
    class Odd(Watch):
        names = ('odd',)
        def after_train(self): self.record(odd=float('nan') if self.epoch else 1.)
    with pytest.raises(FloatingPointError, match='odd is nan at epoch 2'): quiet(learner(Odd(), Resume(tmp_path/'r.pt')), 3)
    assert torch.load(tmp_path/'r.pt', weights_only=True)['epoch'] == 1

def test_a_validation_that_is_no_number_stops():
    def sick(o, *_): return loss(o) if o.p1.requires_grad else loss(o)*float('nan')
    with pytest.raises(FloatingPointError, match='valid_loss is nan'): quiet(learner(loss=sick), 1)

class FakeScaler(Callback): # as mixed precision does: the gradients of odd steps overflow, and the step is left out
    order = 10
    def before_step(self):
        if self.train_iter%2:
            for p in self.model.parameters():
                if p.grad is not None: p.grad.fill_(float('inf'))
            raise CancelStepException()

def test_steps_that_a_scaler_skips_do_not_stop():
    learn = learner(FakeScaler(), Rates())
    quiet(learn, 2)
    assert all(torch.isfinite(t).all() for t in weights(learn).values())

def test_a_target_stands_still_where_the_optimiser_does():
    class Target(Siamese):
        def __init__(self, enc): super().__init__(enc); self.target,self.moves = MomentumCopy(enc, m=.5),0
        def update_target(self): self.moves += 1; self.target.update(self.encoder)
    def moves(*cbs):
        learn = learner(MomentumTarget(), *cbs)
        learn.model = Target(learn.model.encoder)
        return quiet(learn, 2).model.moves
    assert moves() == 6 and moves(FakeScaler()) == 3 and moves(GradientAccumulation(32)) == 3

# --- settings that cannot work

def test_what_cannot_work_is_told_before_training():
    with pytest.raises(ValueError, match='waits for 100 images before each step, and an epoch has 48'): quiet(learner(), 1, cbs=GradientAccumulation(100))
    with pytest.raises(ValueError, match="follows 'accuracy', which is not logged: expected one of train_loss, valid_loss, spread"):
        quiet(learner(), 1, cbs=SaveModelCallback('accuracy'))

def test_half_precision_on_a_cpu_is_said(monkeypatch):
    with pytest.warns(UserWarning, match='act on a GPU'): quiet(learner().to_bf16(), 1)
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
    with pytest.warns(UserWarning, match='no instructions for bfloat16'): check_bf16('cpu')
    with warnings.catch_warnings(): warnings.simplefilter('error'); check_bf16('cuda')

# --- weights of encoders that are not ours

class Mine(nn.Module):
    def __init__(self, n=8): super().__init__(); self.n_out,self.conv = n,nn.Conv2d(3,n,3)
    def forward(self, x): return self.conv(x.float()/255 if x.dtype == torch.uint8 else x).mean((2,3))

def test_an_own_encoder_is_saved_and_handed_over(tmp_path):
    learn = learner()
    learn.model = Siamese(Mine())
    quiet(learn, 1)
    save_encoder(learn, tmp_path/'mine.safetensors')
    with pytest.raises(ValueError, match=r'load_encoder\(path, encoder=...\)'): load_encoder(tmp_path/'mine.safetensors')
    back = load_encoder(tmp_path/'mine.safetensors', encoder=Mine())
    assert torch.equal(embed(learn, DATA).features, embed(back, DATA).features)
    with pytest.raises(ValueError, match='does not fit'): load_encoder(tmp_path/'mine.safetensors', encoder=Mine(9))
    with pytest.raises(ValueError, match='has to say n_out'): dls_encoder(learn.dls, nn.Conv2d(3,8,3))

def test_a_compiled_encoder_is_saved(tmp_path):
    learn = learner()
    learn.model.encoder = torch.compile(learn.model.encoder, backend='aot_eager')
    quiet(learn, 1)
    save_encoder(learn, tmp_path/'c.safetensors')
    back = load_encoder(tmp_path/'c.safetensors')
    torch.testing.assert_close(embed(learn, DATA).features, embed(back, DATA).features)
    learn.model = torch.compile(learn.model, backend='aot_eager')
    save_encoder(learn, tmp_path/'whole.safetensors')
    whole = load_encoder(tmp_path/'whole.safetensors')
    assert whole.meta['method'] == 'Siamese' and torch.equal(embed(whole, DATA).features, embed(back, DATA).features)

# --- collapse

def test_a_warning_names_what_was_measured():
    def no_stop(o, *_): return -2*F.cosine_similarity(o.z1, o.z2).mean()
    learn = learner(loss=no_stop, lr=1., patience=2)
    learn.model.projector = Projector(learn.model.encoder.n_out, 32, 32, last_bn=False)
    with pytest.warns(CollapseWarning, match=r'epochs \d+ to \d+: projections collapse to one point: spread 0\.\d+, below 0\.1'): quiet(learn, 8)

def test_a_young_assigner_is_no_collapse():
    flat = dict(spread=1., live=50, live_with_noise=100, entropy_mean=4.6, entropy_each=np.log(100)*.99, k=100)
    assert collapse_kind(**flat, steps=199) is None and 'near-uniform' in collapse_kind(**flat, steps=200)
    assert 'near-uniform' in collapse_kind(**flat)

# --- other loaders, other processes

def test_torchs_own_loader_trains_and_goes_on(tmp_path):
    from fastai.data.core import DataLoaders
    from torch.utils.data import DataLoader, TensorDataset
    def make(*cbs):
        torch.manual_seed(0)
        dls = DataLoaders(DataLoader(TensorDataset(IMAGES, torch.zeros(48)), batch_size=16, shuffle=True), DataLoader(TensorDataset(IMAGES[:20], torch.zeros(20)), batch_size=16))
        return ssl_learner(dls, Siamese(dls_encoder(dls, 'tiny')), loss, view=standard_view(16), cbs=cbs)
    calm = quiet(make(GradientAccumulation(32)), 3)
    with pytest.raises(KeyboardInterrupt): quiet(make(GradientAccumulation(32), Resume(tmp_path/'r.pt')), 3, cbs=Interrupt('after_loss', 1))
    again = quiet(make(GradientAccumulation(32), Resume(tmp_path/'r.pt')), 3)
    assert same(weights(calm), weights(again)) and again.recorder.values == calm.recorder.values

def test_going_on_is_said(tmp_path, capsys):
    learner(Resume(tmp_path/'r.pt')).fit(2)
    assert 'going on' not in capsys.readouterr().out
    learner(Resume(tmp_path/'r.pt')).fit(2)
    assert 'all epochs are done' in capsys.readouterr().out

def test_a_learner_that_has_been_fit_is_exported(tmp_path):
    from fastai.learner import load_learner
    learn = quiet(learner(KNNWatch(DATA, DATA), Resume(tmp_path/'r.pt'), tmp=tmp_path), 1)
    learn.export('all.pkl')
    with warnings.catch_warnings(): warnings.simplefilter('ignore'); back = load_learner(tmp_path/'all.pkl')
    assert same(weights(learn), weights(back))
    with pytest.raises(ValueError, match='travels without them'): quiet(back, 1)
    back.dls = PatchData(IMAGES).dls(bs=16, device='cpu')
    quiet(back, 1)
    assert len(back.knn_watch.history) == 1 and not same(weights(learn), weights(back))

def test_a_schedule_in_a_fit_keeps_the_methods_constants():
    learn = learner(Rates(), splitter=groups, fixed=(-1,))
    with pytest.warns(UserWarning, match='Schedule sets'): quiet(learn, 2, cbs=Schedule(lambda t: 1-t))
    assert [r[1] for r in learn.rates.seen] == [.05]*6 and learn.rates.seen[-1][0] == pytest.approx(.05/6)

# --- a look in the middle of a fit, and two watches of one column

class Look(Callback):
    "Validates in the middle of a fit"
    order = 45
    def after_train(self):
        if self.epoch == 1: self.learn.validate(dl=self.dls.valid)

def test_a_validation_inside_a_fit_loads_nothing(tmp_path):
    watch = KNNWatch(DATA, DATA, k=1)
    learn = quiet(learner(Resume(tmp_path/'run.pt'), watch), 3, cbs=Look())
    assert [h['epoch'] for h in watch.history] == [0,1,2]
    assert [h['epoch'] for h in learn.collapse_watch.history] == [0,1,2]
    assert learn.recorder.metric_names[-2:] == ['knn','time']

def test_a_validation_inside_a_fit_loses_no_place(tmp_path):
    class Early(Look): order = 35 # before watches and recorder
    learn = quiet(learner(Resume(tmp_path/'run.pt')), 3, cbs=Early())
    assert [h['epoch'] for h in learn.collapse_watch.history] == [0,1,2]
    assert [len(row) for row in learn.recorder.values] == [3]*3 and len(learn.recorder.losses) == 9
    state = torch.load(tmp_path/'run.pt', weights_only=True)
    assert state['epoch'] == 3 and state['smooth'][0] == 9 and len(state['log']['values']) == 3
    assert learn.train_iter == 9

def test_of_two_watches_of_one_name_the_later_fills_the_column():
    early,late = KNNWatch(DATA, DATA, k=1), KNNWatch(DATA, DATA, k=40)
    learn = quiet(learner(early), 1, cbs=late)
    assert list(learn.recorder.metric_names).count('knn') == 1
    logged = learn.recorder.values[-1][list(learn.recorder.metric_names).index('knn')-1]
    assert logged == late.history[-1]['knn'] != early.history[-1]['knn']

def test_a_checkpoint_that_cannot_be_written_is_told_before_the_first_epoch(tmp_path):
    (tmp_path/'file').write_text('no folder')
    with pytest.raises(OSError, match='cannot be written'): quiet(learner(Resume(tmp_path/'file'/'run.pt')), 1)

def test_another_batch_size_is_said(tmp_path):
    class Stop(Callback):
        def before_epoch(self):
            if self.epoch == 1: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): quiet(learner(Resume(tmp_path/'run.pt')), 2, cbs=Stop())
    with pytest.warns(UserWarning, match='batches of 16 images and goes on with 8'): quiet(learner(Resume(tmp_path/'run.pt'), bs=8), 2)

def test_an_optimiser_that_cannot_be_made_says_its_own_word():
    def broken(*args, **kwargs): raise RuntimeError('no such optimiser')
    with pytest.raises(RuntimeError, match='no such optimiser'): quiet(learner(opt_func=broken), 1)
