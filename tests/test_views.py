"Distributions and devices: what reads badly in the notebook"
import pytest, torch
from torchvision.transforms import RandomResizedCrop
from pathlearn.views import Geometry, standard_view, strong_view, weak_view
from pathlearn.views.geometry import crop_windows

VIEWS = [standard_view, weak_view, strong_view]

def test_windows_follow_torchvision():
    torch.manual_seed(0)
    x = torch.zeros(1, 3, 64, 64)
    theirs = torch.tensor([RandomResizedCrop.get_params(x[0], (.2, 1.), (3/4, 4/3)) for _ in range(4000)]).float()
    ours = crop_windows(torch.zeros(4000, 3, 64, 64))
    h, w = theirs[:, 2]/64, theirs[:, 3]/64
    for a, b in ((ours[:, 0], w), (ours[:, 1], h), (ours.prod(1), w*h)):
        assert abs(a.mean()-b.mean()) < .015 and abs(a.std()-b.std()) < .015
    centre = Geometry(64, scale=(.2, 1.)).draw(torch.zeros(4000, 3, 64, 64))[:, :, 2]
    assert abs(centre[:, 0].std() - ((2*theirs[:, 1]+theirs[:, 3])/64-1).std()) < .015

@pytest.mark.parametrize('make', VIEWS)
def test_oblong_images(make):
    assert make(32)(torch.rand(3, 3, 40, 90)).shape == (3, 3, 32, 32)

@pytest.mark.parametrize('make', VIEWS)
def test_images_of_a_batch_do_not_mix(make):
    "Changing one image changes its own view only"
    x = torch.rand(6, 3, 32, 32)
    y = x.clone(); y[2] = 1-y[2]
    torch.manual_seed(0); a = make(32)(x)
    torch.manual_seed(0); b = make(32)(y)
    same = [torch.equal(i, j) for i, j in zip(a, b)]
    assert same == [True, True, False, True, True, True]

@pytest.mark.parametrize('make', VIEWS)
def test_nan_is_refused(make):
    x = torch.rand(2, 3, 32, 32); x[1, 0, 3, 3] = float('nan')
    with pytest.raises(ValueError, match='NaN'): make(32)(x)

def test_the_input_is_left_alone():
    x = torch.rand(4, 3, 32, 32); before = x.clone()
    for make in VIEWS: make(32)(x); make(32, exact=True)(x)
    assert torch.equal(x, before)

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('make', VIEWS)
def test_same_distribution_on_the_gpu(make):
    x = torch.rand(1, 3, 32, 32).expand(4000, -1, -1, -1).contiguous()
    a, b = make(32)(x), make(32)(x.cuda()).cpu()
    assert (a.mean(0)-b.mean(0)).abs().mean() < .01 and (a.std(0)-b.std(0)).abs().mean() < .01
