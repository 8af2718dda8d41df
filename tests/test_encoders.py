"Every family of torchvision's classification networks as an encoder, at 64 px"
import inspect, re
import pytest, torch, torchvision
from pathlearn.networks import Encoder, encoder

models = torchvision.models
SIZES = dict(inception=75, maxvit=224) # the smallest side that these two take
HEAVY = {'vgg', 'wide', 'vit', 'maxvit', 'alexnet', 'convnext', 'swin', 'swin_v2', 'resnext', 'efficientnet_v2'}

def _smallest(): # -> {family: its smallest network}, with the families read off torchvision's own list
    weights = lambda name: models.get_model_weights(name).DEFAULT.meta['num_params']
    found = {}
    for name in sorted(models.list_models(models), key=weights):
        found.setdefault(re.match(r'[a-z]+?(?=_?v?\d|_|$)(_v2)?', name)[0], name)
    return found

FAMILIES = _smallest()
marked = lambda names: [pytest.param(n, marks=[pytest.mark.slow]*(n in HEAVY)) for n in names]

def features(e, n_in, px, n=2): return e(torch.rand(n, n_in, px, px))

def test_every_class_of_network_is_among_the_families():
    kind = lambda name: inspect.signature(models.get_model_builder(name)).return_annotation
    assert {kind(n) for n in FAMILIES.values()} == {kind(n) for n in models.list_models(models)}

@pytest.mark.parametrize('family', marked(sorted(FAMILIES)))
def test_a_family_gives_features_or_says_why_not(family):
    arch,px = FAMILIES[family], SIZES.get(family, 64)
    if px != 64:
        with pytest.raises(ValueError, match=f"^{arch} cannot take images of 64 px .* {px} px, or take 'resnet18'$"):
            encoder(arch, size=64)
    e = encoder(arch, size=px)
    assert e.training and all(m.training for m in e.modules())
    h = features(e, 3, px)
    assert h.shape == (2, e.n_out) and h.dtype == torch.float32
    h.square().mean().backward()
    unused = [n for n,p in e.named_parameters() if p.grad is None]
    assert not unused, f"no gradient: {unused}"
    assert features(e.eval(), 3, px).shape == (2, e.n_out)

@pytest.mark.parametrize('n_in', [1, 4])
@pytest.mark.parametrize('family', sorted(FAMILIES.keys()-SIZES.keys()-HEAVY))
def test_other_channels(family, n_in):
    e = encoder(FAMILIES[family], n_in, size=64)
    assert features(e, n_in, 64).shape == (2, e.n_out)

@pytest.mark.parametrize('arch', ['googlenet', 'squeezenet1_1', 'convnext_tiny', 'vit_b_32'])
def test_settings_build_it_again(arch):
    torch.manual_seed(0)
    e = encoder(arch, 1, size=64).eval()
    again = Encoder(**e.settings).eval()
    again.load_state_dict(e.state_dict())
    x = torch.rand(2,1,64,64)
    assert torch.equal(e(x), again(x))

@pytest.mark.parametrize('arch,px,word', [('alexnet',28,'63 px'), ('densenet121',16,'29 px'), ('vit_b_16',60,'indivisible')])
def test_the_sentence_for_other_sizes(arch, px, word):
    with pytest.raises(ValueError, match=word) as e: encoder(arch, size=px)
    assert '\n' not in str(e.value) and f'{arch} cannot take images of {px} px' in str(e.value)

# Made before the networks were tried out at construction: seeded results that are published rest on them
@pytest.mark.parametrize('arch,kw,total,after', [
    ('resnet18', {}, 222618.462, 0.05833852291107178),
    ('resnet18', {'size': 64}, 222618.462, 0.05833852291107178),
    ('resnet18', {'size': 28}, 222512.441, 0.9369165301322937),
    ('tiny', {}, 6983.759, 0.24507439136505127),
    ('tiny', {'size': 64}, 6983.759, 0.24507439136505127),
    ('conv3', {'size': 28, 'latent': 8}, 2979.355, 0.19521558284759521),
    ('densenet121', {'size': 64}, 329090.628, 0.3929230570793152),
    ('mobilenet_v3_small', {'size': 64}, 79516.326, 0.500995397567749)])
def test_seeded_weights_stay(arch, kw, total, after):
    torch.manual_seed(0)
    e = encoder(arch, **kw)
    assert (round(sum(p.double().abs().sum().item() for p in e.parameters()), 3), torch.rand(1).item()) == (total, after)

@pytest.mark.filterwarnings('ignore:The default weight init')
def test_weights_from_elsewhere(monkeypatch):
    "One channel for three: the first bias is kept, and images are not normalised a second time"
    def stored(weights, *args, **kwargs):
        net = models.get_model(type(weights).__name__.removesuffix('_Weights').lower())
        return {k:torch.full_like(v, .01) for k,v in net.state_dict().items()}
    monkeypatch.setattr(models.WeightsEnum, 'get_state_dict', stored)
    for arch in ('googlenet','inception_v3'):
        e = encoder(arch, weights='DEFAULT', size=75)
        assert not e.body.transform_input and features(e.train(), 3, 75).shape == (2, e.n_out)
        Encoder(**e.settings).load_state_dict(e.state_dict())
    first = encoder('alexnet', 1, weights='DEFAULT').body.features[0]
    assert first.weight.shape[1] == 1 and torch.equal(first.bias, torch.full_like(first.bias, .01))
    with pytest.raises(ValueError, match='vit_b_32 cannot take images of 64 px .*224'):
        encoder('vit_b_32', weights='DEFAULT', size=64)

def test_a_compiled_encoder_keeps_its_names():
    e,x = encoder('tiny', size=32).eval(), torch.rand(2,3,32,32)
    fast = torch.compile(e, backend='aot_eager')
    assert (fast.n_out, fast.settings) == (e.n_out, e.settings) and fast.norm is e.norm
    torch.testing.assert_close(fast(x), e(x))
