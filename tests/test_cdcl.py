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
import torch
from pathlearn.cdcl import *
mask, = segment(UNet(encoder('tiny'), stride=2), torch.randint(256, (1,3,1000,1000), dtype=torch.uint8))
assert mask.shape == (1000,1000)
print(int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])/2**20) # `ru_maxrss` would begin at what the parent process had
'''
    res = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    print('peak of the whole process:', res.stdout.strip(), 'GiB')
    assert float(res.stdout) < 2

LARGE = '''
import torch, torch.nn as nn
from pathlearn.cdcl import *
class Net(nn.Conv2d): # needs next to nothing itself
    def __init__(self): super().__init__(3, 2, 1)
def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])/2**10
x = torch.randint(256, (1,3,4000,4000), dtype=torch.uint8)
segment(Net(), x[:,:,:300,:300])
before = peak()
mask, = segment(Net(), x, size={size})
assert mask.shape == (4000,4000)
print(peak()-before)
'''

@pytest.mark.parametrize('size,most', [(None,160), (1000,140)]) # floats of the whole image: 557 and 254 MiB
def test_memory_is_bounded_by_the_tile(size, most):
    res = subprocess.run([sys.executable, '-c', LARGE.format(size=size)], capture_output=True, text=True, check=True)
    print('on top of the image:', res.stdout.strip(), 'MiB')
    assert float(res.stdout) < most

class Wide(torch.nn.Module):
    "A network whose answer depends on what lies around a pixel"
    def __init__(self): super().__init__(); torch.manual_seed(0); self.a, self.b = torch.nn.Conv2d(3, 2, 9, padding=4), torch.nn.Conv2d(2, 2, 5, padding=2)
    def forward(self, x): return 3*self.b((3*self.a(x-.5)).tanh())

def whole_map(net, x, size, tile, overlap): # what `segment` does in bands, with floats of the whole image
    from torchvision.transforms.functional import resize
    y = resize(to_unit(x[None]), size, antialias=True) if size else to_unit(x[None])
    h,w = y.shape[2:]
    tile = min(tile, -(-max(h,w)//32)*32)
    overlap, y = min(overlap, tile//2), torch.nn.functional.pad(y, (0,max(0,tile-w),0,max(0,tile-h)), mode='replicate')
    edge = torch.minimum(torch.arange(tile)+1, torch.arange(tile,0,-1)).clamp(max=overlap or 1)
    weight, total = (edge[:,None]*edge).float(), torch.zeros(2, *y.shape[2:])
    def starts(n): return sorted({min(i, n-tile) for i in range(0, n-overlap, tile-overlap)})
    for i in starts(y.shape[2]):
        for j in starts(y.shape[3]):
            p = net(y[:,:,i:i+tile,j:j+tile]).softmax(1)[0,1]
            total[:,i:i+tile,j:j+tile] += torch.stack([p*weight, weight])
    p = (total[0]/total[1])[:h,:w]
    return (torch.nn.functional.interpolate(p[None,None], x.shape[1:], mode='bilinear')[0,0] if size else p) > .5

@pytest.mark.parametrize('shape,size,tile,overlap', [((300,417),None,96,32), ((40,300),None,64,16), ((500,333),128,64,32), ((500,333),700,128,64),
                                                     ((200,150),64,256,64), ((333,900),333,96,48), ((97,803),111,32,8), ((45,33),None,32,0)])
def test_bands_give_the_mask_of_the_whole_image(shape, size, tile, overlap):
    x = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.avg_pool2d(x, 7, 1, 3, count_include_pad=False)[0]
    x, net = (255*(x-x.min())/(x.max()-x.min())).byte(), Wide().eval()
    with torch.no_grad(): true = whole_map(net, x, size, tile, overlap)
    mask, = segment(net, [x], size, tile, overlap)
    assert 0 < true.float().mean() < 1 and (mask.bool() != true).float().mean() < 1e-4 # a pixel at one half may fall either way

@pytest.mark.data
def test_a_perfect_mask_splits_into_its_nuclei(shared):
    "The Bowl's test part at the working size: peaks of the plain distance gave .84 and .87"
    from PIL import ImageOps
    from pathlearn.commands.nuclei import Nuclei
    nuclei = Nuclei(shared/'dsb2018_stage1_train.tar.xz', 32)
    for size,least in ((128,.915), (256,.93)):
        ids = [torch.tensor(np.array(ImageOps.fit(Image.fromarray(t.numpy()), (size,size), Image.NEAREST))) for _,t in nuclei.test]
        assert np.mean([panoptic_quality(split_touching(t > 0), t) for t in ids]) >= least

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

def test_full_alpha_falls_away_and_sixteen_bits_are_scaled(folder):
    path, drawn, write = folder
    rgb = drawn.images[0].permute(1,2,0).numpy()
    write(0, np.dstack([rgb, np.full((64,64), 255, np.uint8)]))
    data = nuclei_data(path)
    assert torch.equal(data.images[0], drawn.images[0]) and torch.equal(data.masks, drawn.masks.to(data.masks.dtype))
    grey = drawn.images[1].float().mean(0).numpy().astype(np.uint16)
    write(1, grey*257)
    assert (nuclei_data(path).images[1].numpy() == grey).all()

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

def test_a_row_is_scored_anew_without_training(folder, tmp_path, monkeypatch):
    "Weights that are complete are loaded when their row is missing, with what their file tells of the training"
    import pandas as pd
    from pathlearn.commands.reproduce import cdcl as room
    from pathlearn.cli import pathlearn_reproduce
    path, table = folder[0], tmp_path/'res'/f'cdcl_{tmp_path.name}.csv'
    args = ['cdcl', '--data', str(path), '--size', '64', '--arch', 'tiny', '--epochs', '1', '--start', '0', '--bs', '4', '--seed', '0', '--device', 'cpu',
            '--out', str(table.parent), '--runs', str(tmp_path/'runs'), '--schemes', 'SupOnly', '--grid', '4']
    assert pathlearn_reproduce(args) in (None, 0)
    first = pd.read_csv(table, dtype=str)
    table.unlink()
    monkeypatch.setattr(room, '_fit', lambda *a: pytest.fail('it trains again'))
    assert pathlearn_reproduce(args) in (None, 0)
    again = pd.read_csv(table, dtype=str)
    pd.testing.assert_frame_equal(first, again)
    assert again.minutes.notna().iloc[-1] and again.weights.iloc[-1] == 'random'
    names = [n+end for n in ('perfect mask','perfect mask at 64 px') for end in ('',', true seeds')]
    assert again.method.tolist() == ['Otsu', *names, 'SupOnly']
    score = again.set_index('method')[['dice','panoptic quality']].astype(float)
    assert (score.loc[names[2:],'dice'] == 1).all() and (score.loc[names,'dice'] > .98).all()
    assert score.loc[names[1],'panoptic quality'] >= score.loc[names[0],'panoptic quality'] > score.loc['SupOnly','panoptic quality']
