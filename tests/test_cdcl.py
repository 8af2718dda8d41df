"CDCL where a notebook is the wrong place: stopped training, memory, files that are not what one expects"
import subprocess, sys
import numpy as np, pytest, torch
from PIL import Image
from pathlearn.cdcl import *
from fastai.callback.core import Callback

class Stop(Callback):
    order = 90 # after Resume has written
    def __init__(self, epoch): self.last = epoch
    def after_epoch(self):
        if self.epoch == self.last: raise KeyboardInterrupt

def train(file, *cbs, **kw):
    nuclei = synthetic_nuclei(n=20, size=64)
    set_seed(0)
    learn = cdcl_learner(semi_dls(nuclei[:4], nuclei[4:], bs=4, device='cpu'), 'tiny', start=1, grid=4, cbs=[Resume(file), *cbs], **kw)
    with learn.no_logging(): learn.fit(4)
    return learn

@pytest.mark.parametrize('kw', [{}, dict(w_contr=0, cutmix=True), dict(bf16=True)], ids=['CDCL', 'CutMix', 'bf16'])
def test_a_stopped_run_ends_in_the_same_weights(kw, tmp_path):
    calm = train(tmp_path/'calm.pt', **kw)
    with pytest.raises(KeyboardInterrupt): train(tmp_path/'run.pt', Stop(2), **kw) # in the unsupervised epochs: bank, ramp and teacher count
    again = train(tmp_path/'run.pt', **kw)
    for (n,a),b in zip(calm.model.state_dict().items(), again.model.state_dict().values()): assert torch.equal(a, b), n
    for a,b in zip(calm.loss_func.bank.state_dict().values(), again.loss_func.bank.state_dict().values()): assert torch.equal(a, b)
    assert again.recorder.values == calm.recorder.values and again.loss_func.empty == calm.loss_func.empty

def test_a_large_image_needs_little_memory():
    code = '''
import resource, torch
from pathlearn.cdcl import *
mask, = segment(UNet(encoder('tiny'), stride=2), torch.randint(256, (1,3,1000,1000), dtype=torch.uint8))
assert mask.shape == (1000,1000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20)
'''
    res = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    print('peak of the whole process:', res.stdout.strip(), 'GiB')
    assert float(res.stdout) < 2

@pytest.fixture
def folder(tmp_path):
    "Twelve drawn nuclei images; a function that writes one of them anew"
    drawn = synthetic_nuclei(n=12, size=64)
    for kind in ('images', 'masks'): (tmp_path/kind).mkdir()
    def write(i, image=None, mask=None):
        image = drawn.images[i].permute(1,2,0).numpy() if image is None else image
        mask = drawn.masks[i].numpy().astype(np.uint16) if mask is None else mask
        Image.fromarray(image).save(tmp_path/'images'/f'{i:02}.png'); Image.fromarray(mask).save(tmp_path/'masks'/f'{i:02}.png')
    for i in range(12): write(i)
    return tmp_path, drawn, write

def test_full_alpha_falls_away_and_sixteen_bits_are_refused(folder):
    path, drawn, write = folder
    rgb = drawn.images[0].permute(1,2,0).numpy()
    write(0, np.dstack([rgb, np.full((64,64), 255, np.uint8)]))
    data = nuclei_data(path)
    assert torch.equal(data.images[0], drawn.images[0]) and torch.equal(data.masks, drawn.masks.to(data.masks.dtype))
    write(1, drawn.images[1].float().mean(0).numpy().astype(np.uint16)*257)
    with pytest.raises(UnreadableImage, match='01.png cannot be read as an image: it has more than 8 bits a channel: scale it'): nuclei_data(path)

def test_an_image_without_a_nucleus_is_trained_on(folder):
    path, drawn, write = folder
    write(0, mask=np.zeros((64,64), np.uint16))
    data = nuclei_data(path)
    learn = cdcl_learner(semi_dls(data[:2], data[2:], bs=4, device='cpu'), 'tiny', start=0, grid=4)
    with learn.no_logging(): learn.fit(1)
    assert np.isfinite(learn.recorder.losses).all()

@pytest.mark.parametrize('what,sentence', [
    (lambda d: semi_dls(d[:4], d[:0]), 'there are no unlabelled images'),
    (lambda d: semi_dls(PatchData(d.images[:4]), d), 'has no masks'),
    (lambda d: semi_dls(PatchData(d.images[:4], masks=torch.zeros(4,64,64).int()), d), 'no nucleus in the masks of 4 labelled images'),
    (lambda d: cdcl_learner(semi_dls(d[:4], d, bs=4), 'tiny', grid=3), 'resize to a multiple of 24'),
    (lambda d: cdcl_learner(semi_dls(d[:4], d, bs=4), UNet(encoder('tiny'), n_classes=3), start=0, grid=4).fit(1), 'logits of 3 classes'),
    (lambda d: segment(UNet(encoder('tiny')), d, tile=100), 'sides of 32, 64, 96')])
def test_bad_input_is_told_in_a_sentence(what, sentence):
    with pytest.raises((ValueError, RuntimeError), match=sentence): what(synthetic_nuclei(n=12, size=64))

def test_few_labelled_images_are_told_once():
    nuclei = synthetic_nuclei(n=12, size=64)
    with pytest.warns(UserWarning, match='each stands in a batch several times') as seen:
        learn = cdcl_learner(semi_dls(nuclei[:2], nuclei[2:], bs=4, device='cpu'), 'tiny', start=0, grid=4)
        with learn.no_logging(): learn.fit(2)
    assert sum('several times' in str(w.message) for w in seen) == 1
