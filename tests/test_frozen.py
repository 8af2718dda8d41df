"Networks from elsewhere: in the library's own functions, in the command, and refused where they cannot work"
import copy, json, sys
from unittest import mock
import numpy as np, pytest, torch
from pathlearn import cli
from pathlearn.evaluate import compare, embed, fine_tune, fine_tune_score
from pathlearn.learning import load_encoder, save_encoder
from pathlearn.networks import FrozenEncoder, UNet, encoder, frozen_encoder
from pathlearn.synthetic import synthetic_nuclei, synthetic_tissue
timm = pytest.importorskip('timm')

@pytest.fixture(scope='module')
def tissue(): return synthetic_tissue(n=45, size=32)

@pytest.fixture(scope='module')
def small(tmp_path_factory): # a transformer of one layer, as a file of torch
    torch.manual_seed(0)
    net = timm.create_model('vit_tiny_patch16_224', depth=1)
    file = tmp_path_factory.mktemp('weights')/'vit.pt'
    torch.save(dict(model=net.state_dict()), file)
    return file

def lite0(size=32): return frozen_encoder('lite0', size=size)

# in the library

def test_a_module_without_its_size_and_mean_is_pointed_the_way(tissue):
    with pytest.raises(ValueError, match=r'takes no bytes.*frozen_encoder\(model'): embed(timm.create_model('resnet18', num_classes=0), tissue.test)

def test_compare_shows_it_beside_the_floors(tissue):
    table = compare({'ImageNet': lite0()}, tissue, arch='tiny')
    assert table.index[-1] == 'ImageNet' and table.loc['ImageNet', '5-NN'] > table.loc['majority class', '5-NN']

def test_fine_tuning_moves_a_copy(tissue):
    enc = lite0()
    before = copy.deepcopy(enc.state_dict())
    net = fine_tune(enc, tissue, epochs=1, bs=15)
    assert all(torch.equal(before[n], t) for n,t in enc.state_dict().items()) and enc.frozen and not net.encoder.frozen
    assert any(not torch.equal(before[n], t) for n,t in net.encoder.state_dict().items() if n.endswith('conv_stem.weight'))
    assert 0 <= fine_tune_score(enc, tissue, epochs=1, bs=15, linear=True) <= 1

def test_only_the_layer_learns_if_that_is_asked(tissue):
    enc = lite0()
    net = fine_tune(enc, tissue, epochs=1, bs=15, linear=True)
    assert all(torch.equal(t, net.encoder.state_dict()[n]) for n,t in enc.state_dict().items()), 'batch statistics moved'

def test_the_explorer_takes_its_embeddings(tissue):
    from pathlearn.explore import Explorer
    assert Explorer(embed(lite0(), tissue.test), tissue.test, how='pca') is not None

def test_weights_are_kept_and_handed_over(tissue, tmp_path):
    enc = lite0()
    class Model(torch.nn.Module):
        def __init__(self): super().__init__(); self.encoder = enc
    save_encoder(Model(), tmp_path/'x.safetensors')
    back = load_encoder(tmp_path/'x.safetensors', encoder=frozen_encoder('tf_efficientnet_lite0', size=32, weights=False))
    assert torch.equal(embed(back, tissue.test).features, embed(enc, tissue.test).features)
    with pytest.raises(ValueError, match='load_encoder\\(path, encoder=...\\)'): load_encoder(tmp_path/'x.safetensors')

def test_its_maps_carry_a_segmenter():
    from pathlearn.transfer import mask_dls, mask_learner, predict_masks
    data = synthetic_nuclei(n=8, size=64)
    enc = lite0(64)
    learn = mask_learner(mask_dls(data, bs=4, device='cpu'), enc)
    before = copy.deepcopy(learn.model.encoder.state_dict())
    learn.fit(1)
    assert predict_masks(learn, data).shape == (8,64,64)
    assert all(torch.equal(before[n], t) for n,t in learn.model.encoder.state_dict().items()), 'frozen, and yet it moved'

def test_its_maps_carry_a_detector():
    from pathlearn.transfer import detector, fit_detector, predict_boxes
    data = synthetic_nuclei(n=4, size=64)
    net = detector(lite0(64), size=64)
    assert np.isfinite(fit_detector(net, data, epochs=1, bs=4)).all() and len(predict_boxes(net, data)) == 4

def test_its_maps_carry_cdcl_and_may_learn():
    from pathlearn.cdcl import cdcl_learner
    from pathlearn.data import semi_dls
    data = synthetic_nuclei(n=8, size=64)
    learn = cdcl_learner(semi_dls(data[:4], data[4:], bs=2, device='cpu'), lite0(64).requires_grad_(True), grid=4, start=0)
    before = learn.model.encoder.body.conv_stem.weight.clone()
    learn.fit(1)
    assert not torch.equal(before, learn.model.encoder.body.conv_stem.weight)

def test_a_transformer_has_no_pyramid():
    with pytest.raises(ValueError, match="'vit_tiny_patch16_224' is no chain of layers with a map at stride 4"):
        UNet(frozen_encoder('vit_tiny_patch16_224', weights=False))

def test_the_photographs_are_known_by_their_class():
    "Top five of ImageNet by its own classifier on frozen features: normalisation, size and pooling are right"
    import skimage.data
    from pathlearn.networks import imagenet_lite0
    head, enc = imagenet_lite0().classifier, frozen_encoder('lite0')
    for name,label in dict(chelsea=285, coffee=967).items():
        x = torch.tensor(getattr(skimage.data, name)()).permute(2,0,1)[None]
        assert label in head(enc(x)).topk(5).indices

def test_memory_does_not_grow_with_the_batch():
    seen = []
    class Watches(torch.nn.Module):
        def forward(self, x): seen.append(len(x)); return x.mean((2,3))
    enc = FrozenEncoder(Watches(), 224, [.5]*3, [.5]*3)
    enc(torch.rand(40,3,8,8))
    assert max(seen) == 16 and sum(seen) == 41

# the command

def call(*args): return cli.pathlearn_embed([str(a) for a in args])

def arrays(file, n=12, side=24, grey=False):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (n,side,side) if grey else (n,side,side,3), dtype=np.uint8)
    np.savez(file, train_images=images, train_labels=np.arange(n)[:,None] % 2)
    return file

@pytest.mark.parametrize('grey', [False, True])
def test_lite0_embeds_and_the_report_names_it(grey, tmp_path):
    assert call('--encoder', 'lite0', '--data', arrays(tmp_path/'x.npz', grey=grey), '--out', tmp_path/'e', '--device', 'cpu') == 0
    with np.load(tmp_path/'e'/'features.npz') as f: assert f['features'].shape == (12,1280)
    text = (tmp_path/'e'/'report.html').read_text(encoding='utf-8')
    assert all(w in text for w in ('lite0 (ImageNet)', 'encoder lite0', 'at 224 px, mean [0.5, 0.5, 0.5]'))
    assert json.loads((tmp_path/'e'/'encoder.json').read_text())['weights'] == 'ImageNet'

def test_a_file_goes_with_a_name(small, tmp_path):
    net = timm.create_model('vit_tiny_patch16_224').state_dict()
    torch.save(net, tmp_path/'mine.pth')
    assert call('--encoder', 'vit_tiny_patch16_224', '--weights', tmp_path/'mine.pth', '--data', arrays(tmp_path/'x.npz', 4), '--out', tmp_path/'e.csv') == 0
    facts = json.loads((tmp_path/'e'/'encoder.json').read_text())
    assert facts['features'] == 192 and facts['weights'].endswith('mine.pth')
    assert 'mine.pth' in (tmp_path/'e'/'report.html').read_text(encoding='utf-8')

@pytest.mark.parametrize('line, words', [
    ('--encoder resnet18', "resnet18 has no weights here: give --weights FILE"), ('--encoder vit_tiny_patch16_224', 'give --weights FILE'),
    ('--encoder UNI', 'huggingface.co/MahmoodLab/UNI'), ('--encoder resnet1', 'did you mean resnet10'), ('--encoder lite1', 'did you mean lite0'),
    ('--encoder vit_tiny_patch16_224 --weights {small}', '132 of 150 tensors are missing (blocks.1.'), ('--encoder lite0 --weights {p}/none.pt', 'there is no file of weights at'),
    ('--encoder lite0 --weights {p}/x.npz', 'cannot be read as safetensors'), ('w.safetensors --encoder lite0', 'not allowed with'), ('', 'WEIGHTS'),
    ('w.safetensors --weights {small}', '--weights FILE is for an encoder that --encoder names')])
def test_what_cannot_work_is_refused_before_it_begins(line, words, small, tmp_path, capsys):
    data = arrays(tmp_path/'x.npz')
    assert call(*line.format(p=tmp_path, small=small).split(), '--data', data, '--out', tmp_path/'e') == 2
    err = capsys.readouterr().err
    assert words in err and 'Traceback' not in err and len(err.strip().splitlines()) == 1 and not (tmp_path/'e').exists(), err

def test_without_timm_the_extra_is_named(tmp_path, capsys):
    with mock.patch.dict(sys.modules, timm=None):
        assert call('--encoder', 'lite0', '--data', arrays(tmp_path/'x.npz'), '--out', tmp_path/'e') == 2
    assert "pip install 'pathlearn[encoders]'" in capsys.readouterr().err

def test_the_house_imports_without_timm():
    import subprocess
    code = "import sys; sys.modules['timm'] = None; import pathlearn.networks as n; print(n.encoder('tiny').n_out, n.frozen_encoder('resnet18', 64, weights=False).n_out)"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split() == ['256', '512']

def test_our_own_encoder_is_taken_as_it_is(tissue):
    own = encoder('tiny', size=32, mean=[.7]*3, std=[.2]*3)
    torch.testing.assert_close(embed(frozen_encoder(own), tissue.test).features, embed(own, tissue.test).features)
