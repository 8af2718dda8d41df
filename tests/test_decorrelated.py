"Barlow Twins and VICReg beside lightly's values, made once by tests/bench/lightly_values.py"
import warnings
import numpy as np, pytest, torch
from bench.lightly_values import CASES, projections
from pathlearn.decorrelated import *
from pathlearn.decorrelated import BarlowLoss, VICRegLoss

LIGHTLY = { # lightly 1.6.0: (N, D) -> Barlow Twins at lambda .0051 and .5, VICReg at 25, 25, 1 and at 10, 5, 3
    (8,6): (0.299192848466, 2.25005206939, 11.5512225527, 3.69742792463),
    (32,48): (1.54030914966, 36.8704020593, 11.1947043894, 4.63246533089),
    (64,16): (0.126533353237, 0.874180301364, 10.3157042905, 2.69219640858)}

@pytest.mark.parametrize('case', CASES)
def test_both_losses_are_those_of_lightly(case):
    z = projections(*case)
    ours = barlow_loss(*z), barlow_loss(*z, lam=.5), vicreg_loss(*z), vicreg_loss(*z, lam=10, mu=5, nu=3)
    assert all(loss.dtype == torch.float64 for loss in ours)
    np.testing.assert_allclose([loss.item() for loss in ours], LIGHTLY[case], rtol=1e-10)

@pytest.mark.parametrize('case', CASES)
def test_what_a_learner_minimises_is_the_loss_divided(case):
    from pathlearn.siamese import PairOut
    out = PairOut(*projections(*case))
    torch.testing.assert_close(BarlowLoss()(out)*case[1], barlow_loss(*out))
    torch.testing.assert_close(VICRegLoss()(out)*25, vicreg_loss(*out))

@pytest.mark.parametrize('n, dim', [(4,3), (8,24), (32,64), (60,512)])
def test_no_batch_falls_below_the_floor(n, dim):
    torch.manual_seed(0)
    for lam in (.0051, .1, 2.):
        z = torch.randn(n, dim).double()
        assert barlow_loss(z, z, lam) > barlow_floor(n, dim, lam)
    assert barlow_floor(dim+1, dim) == 0

@pytest.mark.parametrize('loss', [barlow_loss, vicreg_loss])
@pytest.mark.parametrize('spoil, words', [
    (lambda z: (z[:1], z[:1]), 'a batch of one image'), (lambda z: (z, z[:4]), r'found \[8, 6\] and \[4, 6\]'),
    (lambda z: (z, z[:,:5]), r'found \[8, 6\] and \[8, 5\]'), (lambda z: (z[0], z[0]), r'projections \[N,D\]'),
    (lambda z: (z*float('nan'), z), 'NaN or infinite'), (lambda z: (z, z/0), 'NaN or infinite')])
def test_what_cannot_be_compared_gets_a_sentence(loss, spoil, words):
    with pytest.raises(ValueError, match=words): loss(*spoil(projections(8, 6)[0]))

def test_a_constant_column_has_a_gradient_that_is_finite():
    for loss in (barlow_loss, vicreg_loss):
        z = torch.zeros(8, 4, requires_grad=True)
        loss(z, torch.ones(8, 4)).backward()
        assert torch.isfinite(z.grad).all()

TISSUE = synthetic_tissue(n=90, size=16).train

def test_weights_are_checked_and_a_tight_floor_is_told():
    dls = TISSUE.dls(bs=8)
    with pytest.raises(ValueError, match='found -1 for redundancy'): barlow_learner(TISSUE.dls(bs=30), 'tiny', lam=-1)
    with pytest.raises(ValueError, match='found inf for var'): vicreg_learner(dls, 'tiny', mu=float('inf'))
    with pytest.warns(UserWarning, match='in batches of 8 the loss of 256 columns cannot fall below 39'): barlow_learner(dls, 'tiny', dim=256)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        barlow_learner(dls, 'tiny', dim=16); barlow_learner(dls, 'tiny', dim=256, lam=0)

@pytest.mark.parametrize('make', [barlow_learner, vicreg_learner])
def test_a_rate_that_diverges_ends_in_its_epoch(make):
    "The watch of the fit speaks, and not the loss: it knows the place in the run"
    learn = make(TISSUE.dls(bs=30), 'tiny', dim=16, hidden=16, lr=1e12)
    with learn.no_bar(), learn.no_logging(), pytest.raises(FloatingPointError, match='at epoch'): learn.fit(3)
