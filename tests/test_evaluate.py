"Scores on real patches, and what needs a long import or a failing model"
import warnings
import numpy as np, pytest, torch, torch.nn as nn
from pathlearn.data import PatchData, npz_data
from pathlearn.evaluate import embed, floor_rows
from pathlearn.maps import MapJob, Mapper, reduce

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
def test_umap_is_quiet_reproducible_and_takes_new_patches(tmp_path, monkeypatch):
    monkeypatch.setenv('PATHLEARN_CACHE', str(tmp_path))
    group = np.arange(120) % 2
    x = np.random.RandomState(0).randn(120, 8) + 6*np.eye(2, 8)[group]
    old, new = x[:80], x[80:]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        mapper = Mapper('umap').fit(old)
        placed = mapper.transform(new)
    assert mapper.xy.shape == (80,2) and np.isfinite(mapper.xy).all()
    np.testing.assert_array_equal(mapper.xy, reduce(old, 'umap', cache=False))
    assert (mapper.xy != reduce(old, 'umap', seed=1, cache=False)).any()
    centres = np.stack([mapper.xy[group[:80] == i].mean(0) for i in (0,1)])
    nearest = np.linalg.norm(placed[:,None] - centres, axis=2).argmin(1)
    assert (nearest == group[80:]).all() # new patches land among their own
    said = []
    job = MapJob(old, 'umap', report=lambda share, words: said.append(words))
    np.testing.assert_array_equal(job.result(), mapper.xy) # made by another process, the same
    assert 'UMAP moves points' in said and list(tmp_path.glob('maps/*.npy'))
