"SwAV: codes beside loops and beside lightly's values, the sphere, the frozen epoch, the queue, small crops, and a run that is killed"
import os, warnings
from types import SimpleNamespace
import numpy as np, pytest, torch, torch.nn.functional as F
from bench.swav_values import CASES, cosines, figures
from fastai.callback.core import Callback
from forking import killed_twice
from pathlearn.swav import *
from pathlearn.swav import SwAVLoss

LIGHTLY = { # lightly 1.6.0: (N, K) -> weighted sum and sum of squares of the codes at eps .05, the loss; the same with a queue; the loss with two small crops
    (8,5): (0.717264782366, 5.90431179595, 2.49515519514, 1.95364547754, 6.23635516333, 2.5529603232, 4.15259628707),
    (32,30): (3.1769346507, 10.7095167204, 3.35260310202, 1.9288603186, 11.0128567019, 3.18958296865, 5.83665538912),
    (16,48): (1.09159004493, 2.89943333434, 4.32002017199, 1.45243098467, 3.40344106981, 4.20603774643, 6.9040031756)}

@pytest.mark.parametrize('case', CASES)
def test_codes_and_loss_are_those_of_lightly(case):
    "Its Sinkhorn leaves out the division by K, which cancels"
    s1,s2,older = cosines(*case)
    plain = figures(sinkhorn(s1), swav_loss(s1, s2))
    queued = figures(sinkhorn(torch.cat([older,s1]))[len(older):], swav_loss(s1, s2, older=torch.stack([older,older.flip(0)])))
    crops = swav_loss(s1, s2, small=torch.stack([older,s2.flip(0)], 1)).item()
    np.testing.assert_allclose([*plain,*queued,crops], LIGHTLY[case], rtol=1e-9)

def by_loops(scores, eps, rounds):
    Q = (scores/eps).exp()
    (B,K),Q = Q.shape, Q/Q.sum()
    for _ in range(rounds):
        for k in range(K): Q[:,k] = Q[:,k]/Q[:,k].sum()/K
        for i in range(B): Q[i] = Q[i]/Q[i].sum()/B
    return Q*B

@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('eps, rounds', [(.05,1), (.05,3), (.03,10), (1.,3)])
def test_loops_and_the_fast_form_agree(case, eps, rounds):
    s = cosines(*case)[0]
    q = sinkhorn(s, eps, rounds)
    torch.testing.assert_close(q, by_loops(s, eps, rounds), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(q.sum(1), torch.ones(len(s), dtype=torch.float64))
    torch.testing.assert_close(swav_loss(s, s, eps=eps, rounds=rounds), -(q*(s/.1).log_softmax(1)).sum(1).mean())

@pytest.mark.parametrize('case', CASES)
def test_many_rounds_give_each_prototype_the_same(case):
    q = sinkhorn(cosines(*case)[0], .2, 2000)
    torch.testing.assert_close(q.sum(0), torch.full((case[1],), case[0]/case[1], dtype=torch.float64), rtol=1e-6, atol=0)

@pytest.mark.parametrize('eps', [.05, .005, .0005])
def test_single_precision_neither_overflows_nor_vanishes(eps):
    "exp(1/.0005) has 869 digits"
    s = cosines(32, 30)[0]
    q = sinkhorn(s.float(), eps)
    assert q.dtype == torch.float32 and q.isfinite().all()
    torch.testing.assert_close(q.sum(1), torch.ones(32))
    torch.testing.assert_close(q.double(), sinkhorn(s, eps), rtol=0, atol=2e-2 if eps < .005 else 1e-3)

def test_mixed_precision_changes_no_code():
    s1,s2,_ = (s.float() for s in cosines(32, 30))
    plain = sinkhorn(s1), swav_loss(s1, s2)
    with torch.autocast('cpu', torch.bfloat16): mixed = sinkhorn(s1), swav_loss(s1, s2)
    for p,m in zip(plain, mixed): assert torch.equal(p, m) and m.dtype == torch.float32
    assert sinkhorn(s1.bfloat16()).dtype == torch.float32

def test_no_gradient_reaches_the_codes():
    s1,s2,_ = cosines(16, 5)
    s1,s2 = s1.requires_grad_(), s2.requires_grad_()
    assert not sinkhorn(s1).requires_grad
    grads = torch.autograd.grad(swav_loss(s1, s2), (s1,s2))
    held = sinkhorn(s1), sinkhorn(s2) # constants, as labels are
    by_labels = torch.autograd.grad((F.cross_entropy(s1/.1, held[1]) + F.cross_entropy(s2/.1, held[0]))/2, (s1,s2))
    for a,b in zip(grads, by_labels): torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)

@pytest.mark.parametrize('call, words', [
    (lambda s: sinkhorn(s[0]), r'found shape \[5\]'), (lambda s: sinkhorn(s[:0]), r'found shape \[0, 5\]'),
    (lambda s: sinkhorn(s, eps=-1), 'found -1'), (lambda s: sinkhorn(s, eps=float('nan')), 'found nan'),
    (lambda s: sinkhorn(s, rounds=1.5), 'found 1.5'), (lambda s: swav_loss(s, s[:4]), r'found \[8, 5\] and \[4, 5\]')])
def test_what_makes_no_codes_gets_a_sentence(call, words):
    with pytest.raises(ValueError, match=words): call(cosines(8, 5)[0])

TISSUE = synthetic_tissue(n=90, size=16).train
def small(**kw):
    set_seed(0)
    learn = swav_learner(TISSUE.dls(bs=30), 'tiny', **dict(k=5, dim=16, hidden=16, lr=.1) | kw)
    return learn
def rows(learn): return learn.model.cluster_head.prototypes.weight.detach().clone()

class Rows(Callback):
    "The prototypes at the end of each batch, and how long the queue was that helped"
    order = 80
    def before_fit(self): self.seen,self.lent,self.losses = [],[],[]
    def after_batch(self):
        if not self.training: return
        self.seen.append(rows(self.learn)); self.lent.append(self.pred.older.shape[1]); self.losses.append(self.loss.item())

def fitted(epochs, **kw):
    learn,seen = small(**kw), Rows()
    learn.add_cb(seen)
    first = rows(learn)
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs)
    return learn, seen, first

def test_prototypes_stay_on_the_sphere():
    _,seen,first = fitted(3, freeze=0)
    for w in (first, *seen.seen): torch.testing.assert_close(w.norm(dim=1), torch.ones(5))
    assert not torch.equal(first, seen.seen[0])

def test_prototypes_are_frozen_for_an_epoch():
    _,seen,first = fitted(2, wd=.1)
    steps = len(seen.seen)//2
    assert all(torch.allclose(w, first, atol=1e-6) for w in seen.seen[:steps]) # dividing by a length of 1 may round
    assert not torch.allclose(seen.seen[-1], first, atol=1e-4)

def test_the_queue_waits_for_its_epoch_and_until_it_is_full():
    n = len(TISSUE)//30
    _,seen,_ = fitted(4, queue=60, queue_from=2)
    assert seen.lent == [0]*2*n + [60]*2*n
    _,soon,_ = fitted(2, queue=60, queue_from=0)
    assert soon.lent == [0,0] + [60]*(2*n-2)
    _,off,_ = fitted(4)
    assert off.losses[:2*n] == seen.losses[:2*n] and off.losses[2*n] != seen.losses[2*n]

class Seen(Callback):
    def before_fit(self): self.shapes = []
    def after_pred(self): self.shapes.append([list(x.shape[2:]) for x in self.xb])

def test_small_crops_are_drawn_and_learned_from():
    learn = small(crops=3, cbs=[seen := Seen()])
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert all(s == [[16,16]]*2 + [[8,8]]*3 for s in seen.shapes) # never below eight pixels
    assert np.isfinite(learn.loss_parts.history[-1]['over_lnk'])
    out = learn.get_preds(dl=learn.dls.train)[0]
    assert [*out.small.shape[1:]] == [3,5]
    own = small(crops=1, crop_view=weak_view(12), cbs=[seen := Seen()])
    with own.no_bar(), own.no_logging(): own.fit(1)
    assert seen.shapes[0][2] == [12,12]
    with pytest.raises(ValueError, match='made of a `View`, found Identity'): small(crops=1, view=torch.nn.Identity())
    with pytest.raises(ValueError, match='crops are counted: expected 0 or more, found -2'): small(crops=-2)

def test_small_crops_look_at_a_small_part():
    x = torch.linspace(0, 1, 64).expand(50, 3, 64, 64) # grey value = place
    crop = small_crop(View(64, scale=(.2,1.)))(x)
    assert crop.shape[2:] == (27,27)
    width = (crop.amax((1,2,3)) - crop.amin((1,2,3)))
    assert (width < (.14*4/3)**.5).all() and (width > .8*(.05*3/4)**.5).all()

def test_sizes_are_checked_before_training():
    n = len(TISSUE)
    with pytest.raises(ValueError, match=f'k={n+1} prototypes for {n} patches'): small(k=n+1)
    with pytest.raises(ValueError, match=f'a queue of {n+1} earlier projections for {n} patches'): small(queue=n+1)
    with pytest.raises(ValueError, match='a queue of -1 earlier'): small(queue=-1)
    with pytest.raises(ValueError, match='freeze counts epochs: expected 0 or more, found -1'): small(freeze=-1)
    with pytest.raises(ValueError, match='k >= 2, found 1'): small(k=1)
    with pytest.raises(ValueError, match='temp is positive, found 0'), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        small(temp=0)
    with pytest.raises(ValueError, match='found -0.1'): small(eps=-.1)
    with pytest.warns(UserWarning, match='eps=0.2 are no sharper than predictions at temp=0.1'): small(eps=.2)

def test_the_log_says_what_was_shared_out():
    parts = fitted(2)[0].loss_parts.history
    assert all(.9 < h['entropy_code']/np.log(5) < 1+1e-6 and .5 < h['over_lnk'] < 3 for h in parts)
    loss = SwAVLoss()
    nothing = SimpleNamespace(s1=torch.zeros(8, 5), s2=torch.zeros(8, 5), older=torch.zeros(2, 0, 5), small=torch.zeros(8, 0, 5))
    assert loss(nothing).item() == pytest.approx(np.log(5)) and loss.parts['over_lnk'].item() == pytest.approx(1)

def test_assign_and_embed_name_the_nearest_prototype():
    learn = fitted(1)[0]
    model,e = learn.model.eval(), embed(learn, TISSUE)
    with torch.no_grad():
        z = model.cluster_head.project(model.encoder(TISSUE.images))
        nearest = torch.cdist(z, model.cluster_head.prototypes.weight).argmin(1)
        assert torch.equal(model.assign(TISSUE.images).argmax(1), nearest) and torch.equal(e.assignments.cpu(), nearest)

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_a_killed_command_goes_on_to_the_same_bits_and_embeds(tmp_path):
    r = killed_twice('swav', 'swav', '--k 4 --queue 32', (4,16), tmp_path) # before the queue is used, and after
    assert r['shapes']['queue'][:2] == [2, 32]
