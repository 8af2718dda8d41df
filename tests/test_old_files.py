"What an earlier version wrote still loads, and gives the same, but for the rounding of another processor"
import lzma, shutil
from pathlib import Path
import numpy as np, pytest, torch, torch.nn as nn
from pathlearn.all import *

HERE = Path(__file__).parent/'files'
def images(name='images'): return torch.tensor(np.load(HERE/f'{name}.npz')['images'])

@pytest.fixture
def unpacked(tmp_path):
    "The file as it was written, byte for byte; here it is kept compressed"
    def weights(name):
        file = tmp_path/f'{name}.safetensors'
        file.write_bytes(lzma.decompress((HERE/f'{name}.safetensors.xz').read_bytes()))
        return file
    return weights

@pytest.mark.parametrize('name', ['clusiam','autoencoder','cdcl'])
def test_weights_give_the_same_embeddings(name, unpacked):
    old = np.load(HERE/f'{name}_embeddings.npz')
    emb = embed(load_encoder(unpacked(name)), PatchData(images()))
    assert ('assignments' in old) == (emb.assignments is not None)
    for k in old: # processors round sums in their own order: the last bits of a feature may differ
        np.testing.assert_allclose(getattr(emb, k).numpy(), old[k], rtol=1e-5, atol=1e-6, err_msg=f'{name}: {k} changed')

def test_a_segmenter_gives_the_same_masks(unpacked):
    masks = segment(load_encoder(unpacked('cdcl')), PatchData(images('nuclei')))
    assert (torch.stack(list(masks)).numpy() == np.load(HERE/'nuclei.npz')['masks']).all()

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3,8,3,2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.n_out = 8
    def forward(self, x): return self.net(x.float()/255 if x.dtype == torch.uint8 else x)

@pytest.fixture
def one_thread():
    "The run was made so, and sums over several threads differ in the last bit"
    was = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(was)

def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path, one_thread):
    shutil.copy(HERE/'training.pt', tmp_path/'training.pt')
    torch.manual_seed(0)
    dls = synthetic_tissue(n=45, size=32, seed=3).train.dls(bs=15)
    learn = simsiam_learner(dls, Own(), dim=8, hidden=8, view=weak_view(32), cbs=Resume(tmp_path/'training.pt'))
    learn.fit(4)
    end = np.load(HERE/'training_end.npz')
    for k,v in learn.model.state_dict().items(): # another processor rounds otherwise; other views or another order move far more
        np.testing.assert_allclose(v.numpy(), end[k], rtol=1e-3, atol=1e-4, err_msg=f'{k} changed')
