"Scores on real patches, and what needs a long import or a failing model"
import warnings
import numpy as np, pytest, torch, torch.nn as nn
from pathlearn.data import PatchData, npz_data
from pathlearn.evaluate import Embeddings, KeepBest, embed, floor_rows, knn_vote, otsu_mask
from pathlearn.explore.jobs import MapJob
from pathlearn.explore.maps import Mapper, reduce

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

@pytest.mark.parametrize('k', [1,2,5,20,41,100])
@pytest.mark.parametrize('n_classes', [2,3,7])
def test_votes_of_any_number_of_neighbours(k, n_classes):
    rng = np.random.RandomState(k)
    train = Embeddings(rng.randn(150, 4), rng.randint(n_classes, size=150))
    test = Embeddings(rng.randn(60, 4))
    winner, share = knn_vote(train, test, k)
    for q,w,s in zip(test.normed, winner.tolist(), share.tolist()):
        near = train.labels[(train.normed @ q).argsort(descending=True)[:k]].tolist()
        most = max(map(near.count, near))
        assert w == next(c for c in near if near.count(c) == most) and s == pytest.approx(most/k)

@pytest.mark.parametrize('k', [20,25,41,61,101])
def test_no_share_above_one_and_no_minority(k):
    ray = [[1,.001*i] for i in range(k)] # the query's neighbours in this order
    _, share = knn_vote(Embeddings(ray, [1]*k), Embeddings([[1,0]]), k)
    assert share.item() == 1
    near, far = k//2, k - k//2
    if near == far: return
    winner, share = knn_vote(Embeddings(ray, [0]*near + [1]*far), Embeddings([[1,0]]), k)
    assert winner.item() == 1 and share.item() == pytest.approx(far/k)

@pytest.mark.data
def test_dark_photographs_of_tissue_keep_their_nuclei(shared):
    "Half the light changes neither the tissue nor the threshold's two parts"
    from PIL import Image
    files = sorted((shared/'lc25000_lung_224').rglob('*.jp*g'))[::40]
    assert len(files) >= 5
    for file in files:
        x = torch.tensor(np.array(Image.open(file).convert('RGB'))).permute(2,0,1)
        assert (otsu_mask(x) == otsu_mask((x*.5).byte())).float().mean() > .95, file.name

def _fit(folder, epochs=5, stop=None, keep=None, seed=0):
    "A learner whose accuracy is best in the middle, stopped after an epoch if asked"
    from fastai.callback.core import Callback
    from fastai.learner import Learner, ValueMetric
    from fastai.losses import CrossEntropyLossFlat
    from fastai.torch_core import no_random
    from pathlearn.learning import Resume
    class Script(Callback): # the figure that is followed, and a column behind it
        order = 40
        def before_fit(self): self.learn.metrics = [ValueMetric(lambda: [.1,.9,.3,.2,.4][self.epoch], 'figure'), ValueMetric(lambda: float(self.epoch), 'later')]
    class Stop(Callback):
        order = 90
        def after_epoch(self):
            if self.epoch == stop: raise KeyboardInterrupt
    class Trace(Callback): # the weights of each epoch
        order = 55
        def __init__(self): self.seen = {}
        def after_epoch(self): self.seen[self.epoch] = self.model.weight.detach().clone()
    with no_random(seed):
        data = PatchData(torch.randint(256, (16,3,8,8), dtype=torch.uint8), torch.arange(16)%2)
        class Net(nn.Linear):
            def __init__(self): super().__init__(3, 2)
            def forward(self, x): return super().forward(x.float().mean((2,3))/255)
        learn = Learner(data.dls(valid=data, bs=8), Net(), loss_func=CrossEntropyLossFlat(), lr=.1,
                        cbs=[KeepBest('figure'), Script(), Trace(), Stop(), Resume(folder/'run.pt')])
        with learn.no_bar(), learn.no_logging(): learn.fit(epochs)
    return learn

def test_the_best_weights_survive_a_stop(tmp_path):
    (tmp_path/'calm').mkdir(); (tmp_path/'stopped').mkdir()
    calm = _fit(tmp_path/'calm')
    assert torch.equal(calm.model.weight, calm.trace.seen[1]) and not torch.equal(calm.model.weight, calm.trace.seen[4])
    with pytest.raises(KeyboardInterrupt): _fit(tmp_path/'stopped', stop=2)
    again = _fit(tmp_path/'stopped')
    assert torch.equal(again.model.weight, calm.model.weight) # the best epoch lies before the stop

def test_coloured_fluorescence_on_black_is_the_bright_part():
    x = torch.zeros(3,40,40, dtype=torch.uint8); x[2,10:30,10:30] = 180 # a blue nucleus, a quarter of the picture
    mask = otsu_mask(x)
    assert mask[20,20] and mask.sum() == 400
    stained = torch.tensor([230,180,210], dtype=torch.uint8)[:,None,None].repeat(1,40,40); stained[:,10:30,10:30] = torch.tensor([90,50,120])[:,None,None]
    for light in (1., .6, .4): assert otsu_mask((stained*light).byte()).sum() == 400 # violet nuclei on pink, ever darker

def test_keep_best_knows_a_part_of_the_loss_by_its_fall():
    from types import SimpleNamespace
    best = KeepBest('cluster')
    best.learn = SimpleNamespace(recorder=SimpleNamespace(values=[[1., 2., .7]], metric_names=['epoch','train_loss','valid_loss','cluster','time']),
                                 metrics=[], loss_func=SimpleNamespace(parts=dict(cluster=0.)), fitting=True)
    assert best.score() == -.7

def test_one_row_of_a_table_keeps_its_name():
    emb = Embeddings(torch.eye(3), names=['a','b','c'])
    for idx in (1, [1], slice(1,2), torch.tensor([1]), torch.tensor([False,True,False]), np.array([1])):
        assert emb[idx].names.tolist() == ['b'] and emb[idx].features.argmax() == 1
