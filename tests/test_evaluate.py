"Scores on real patches, and what needs a long import or a failing model"
import warnings
import numpy as np, pytest, torch, torch.nn as nn
from pathlearn.data import PatchData, npz_data
from pathlearn.evaluate import embed, floor_rows
from pathlearn.explore import reduce

@pytest.mark.data
def test_floor_of_the_lung_patches(shared):
    "The figures that the folder of real data states for colour alone"
    rows = floor_rows(npz_data(shared/'lc25000_lung_64.npz'), arch=None)
    assert rows.loc['mean RGB', '5-NN'] == pytest.approx(.820, abs=.001)
    assert rows.loc['colour histogram', '5-NN'] == pytest.approx(.923, abs=.001)
    assert rows.loc['colour histogram', 'linear'] == pytest.approx(.930, abs=.002)

class Fails(nn.Module):
    "An encoder that breaks off, or diverges, at its second batch"
    def __init__(self, value=None): super().__init__(); self.norm, self.batches, self.value = nn.BatchNorm2d(3), 0, value
    def forward(self, xb):
        self.batches += 1
        h = self.norm(xb.float()).mean((2,3))
        if self.batches < 2: return h
        if self.value is None: raise RuntimeError('out of memory')
        return h*self.value

@pytest.mark.parametrize('value, error, message', [(None, RuntimeError, 'out of memory'),
                                                   (float('nan'), ValueError, '4 of 8 rows of features hold NaN'),
                                                   (float('inf'), ValueError, 'smaller learning rate')])
def test_a_failing_encoder_is_left_as_it_was(value, error, message):
    net = Fails(value)
    net.norm.eval()
    with pytest.raises(error, match=message): embed(net, PatchData(torch.randint(1, 256, (8,3,16,16), dtype=torch.uint8)), bs=4)
    assert net.training and not net.norm.training and torch.is_grad_enabled()

@pytest.mark.slow
def test_umap_is_quiet_and_reproducible():
    x = np.random.RandomState(0).randn(40, 8)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        first = reduce(x, 'umap')
    assert first.shape == (40,2) and np.isfinite(first).all()
    np.testing.assert_array_equal(first, reduce(x, 'umap'))
    assert (first != reduce(x, 'umap', seed=1)).any()
