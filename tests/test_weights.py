"Weights from anywhere: nothing is unpickled or imported, no memory is taken for what is not there, and each fault is one sentence"
import sys, json, pickle, random, struct, zipfile
import pytest, torch
from safetensors.torch import load_file, save_file
from pathlearn import __version__
from pathlearn.all import Configured, encoder, load_encoder, save_encoder
from pathlearn.learning import weights as room

@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    "A good file, its metadata and its tensors"
    class Model(torch.nn.Module):
        def __init__(self): super().__init__(); self.encoder = encoder('tiny', size=32)
    file = tmp_path_factory.mktemp('w')/'good.safetensors'
    save_encoder(Model(), file, size=32, seed=0)
    with room.safe_open(file, 'pt') as f: text = f.metadata()
    return file, text, load_file(file)

@pytest.fixture
def written(plain, tmp_path):
    "-> function that writes the good file with changes and tells what its loading says"
    _, text, tensors = plain
    def write(spec=None, meta=None, drop=(), tensors=tensors, **more):
        new = dict(text) | {n: v if isinstance(v, str) else json.dumps(v) for n,v in (dict(spec=spec, meta=meta) | more).items() if v is not None}
        save_file(tensors, file := tmp_path/'changed.safetensors', metadata={n: v for n,v in new.items() if n not in drop})
        return said(file)
    return write

def said(file):
    with pytest.raises((ValueError, OSError)) as e: load_encoder(file)
    assert '\n' not in str(e.value) and str(file) in str(e.value)
    return str(e.value)

def spec_of(plain): return json.loads(plain[1]['spec'])['encoder']

def test_the_version_is_kept(plain): assert plain[1]['version'] == __version__ and load_encoder(plain[0]).meta == dict(method='Model', size=32, seed=0)

def test_all_that_is_configured_is_found_by_its_name():
    def below(cls): return {cls}.union(*map(below, cls.__subclasses__()))
    ours = [c for c in below(Configured) - {Configured} if c.__module__.startswith('pathlearn.')
            and getattr(sys.modules[c.__module__], c.__name__, None) is c] # other tests make classes too
    assert len(ours) > 5 and all(room._class_at(room._public_path(c)) is c for c in ours)

@pytest.mark.parametrize('name', ['os.system', 'builtins.eval', 'pathlearn.data.folder_data', 'pathlearn.all.Encoder', 'pathlearn.learning.weights.sys', '../../evil', '', None, 3, ['x']])
def test_no_other_class_is_built(name, plain, written, monkeypatch):
    monkeypatch.setattr(room.importlib, 'import_module', lambda n: pytest.fail(f'{n} was imported'))
    assert 'is not a module of pathlearn' in written(spec=dict(encoder=dict(cls=name, command='touch hacked')))

@pytest.mark.parametrize('change, words', [
    (dict(newer_option=3), "newer_option"), (dict(n_in=10**9), 'its n_in is 1000000000'), (dict(latent=2**16), 'is missing'), (dict(mean=[.5]*100), 'its mean'),
    (dict(weights='DEFAULT'), 'its weights are DEFAULT'), (dict(arch='resnet999'), "no network named 'resnet999'"), (dict(arch=['tiny']), 'its arch'), (dict(size=1e400), 'its size'),
    (dict(arch='vit_h_14', size=224), 'in all'), (dict(mean=dict(cls='pathlearn.networks.Encoder', mean=dict(a=1))), 'its mean'), (dict(n_in=1), 'expected')])
def test_arguments_of_another_version_or_without_sense(change, words, plain, written):
    text = written(spec=dict(encoder=spec_of(plain) | change))
    assert words in text and 'was written by pathlearn' in text

def test_no_memory_is_taken_for_layers_that_are_not_there(plain, written):
    import resource
    wide = dict(cls='pathlearn.prototypes.Prototypes', k=2**16, n=2**16) # 16 GiB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert 'is missing' in written(spec=dict(encoder=spec_of(plain), cluster_head=wide))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19 # kB

@pytest.mark.parametrize('change, words', [
    (dict(spec='[1,2'), "its 'spec'"), (dict(spec='3'), "its 'spec'"), (dict(spec='null'), "its 'spec'"), (dict(spec='[]'), "its 'spec'"), (dict(spec='{}'), 'expected an encoder'),
    (dict(spec=dict(encoder=None)), 'describes no module'), (dict(spec=dict(encoder=[3])), 'describes no module'), (dict(spec='['*5000), "its 'spec'"), (dict(spec='{"a":'*5000), "its 'spec'"),
    (dict(spec=dict(meta=3)), 'expected an encoder'), (dict(meta='7'), "its 'meta'"), (dict(meta=dict(method=['x'])), "'method'"), (dict(meta=dict(seed='x')), 'its seed'),
    (dict(meta=dict(size=10**9)), 'its size'), (dict(meta=dict(seed=-1)), 'its seed'), (dict(drop=['meta']), "lacks its 'meta'"), (dict(drop=['spec']), "without pathlearn's settings"),
    (dict(meta='3', drop=['version']), 'of another version'), (dict(meta='3', version='9.9'), 'pathlearn 9.9'), (dict(spec=dict(encoder=dict(cls='pathlearn.decoder.Decoder'))), 'was written by')])
def test_metadata_of_another_kind(change, words, written): assert words in written(**change)

def test_tensors_of_another_kind(plain, written):
    tensors = plain[2]
    first = next(n for n,t in tensors.items() if t.ndim == 4)
    other = dict(missing={n: t for n,t in tensors.items() if n != first}, unknown=tensors | {'../../x': torch.zeros(1)}, expected=tensors | {first: torch.zeros(2,2)},
                 holds=tensors | {first: tensors[first].long()}, diverged=tensors | {first: tensors[first]*float('nan')})
    for word,changed in other.items(): assert word in written(tensors=changed)

class Boom:
    def __reduce__(self): return pytest.fail, ('it was unpickled',)

def test_files_of_another_kind(plain, tmp_path):
    good = plain[0].read_bytes()
    zipped = tmp_path/'z'
    with zipfile.ZipFile(zipped, 'w') as z: z.writestr('archive/data.pkl', pickle.dumps(Boom()))
    files = {'empty': (b'', 'is empty'), 'pickle.safetensors': (pickle.dumps(Boom()), 'may run anything'), 'model.pt': (zipped.read_bytes(), 'may run anything'),
             'old.pth': (pickle.dumps(Boom(), 2), 'may run anything'), 'text.bin': (b'no weights at all', 'damaged'), 'header': (struct.pack('<Q', 2**60) + b'{', 'damaged'),
             'cut': (good[:300], 'damaged'), 'half': (good[:len(good)//2], 'damaged'), 'short': (b'\x00', 'damaged')}
    for name,(data,words) in files.items():
        (tmp_path/name).write_bytes(data)
        assert words in said(tmp_path/name), name
    assert 'there are no weights at' in said(tmp_path/'nowhere')

def test_a_folder(plain, tmp_path):
    assert load_encoder(plain[0].parent).n_out == load_encoder(plain[0]).n_out
    assert 'found none' in said(tmp_path)
    for n in 'ab': (tmp_path/f'{n}.safetensors').touch()
    assert 'found a.safetensors, b.safetensors' in said(tmp_path)

def test_two_hundred_changed_files(plain, tmp_path):
    "Cut, changed in the header, in a value of the metadata: a sentence or the same weights, nothing else"
    good, text, tensors = plain[0].read_bytes(), plain[1], plain[2]
    n = struct.unpack('<Q', good[:8])[0]
    dice, values, file = random.Random(0), [None, True, -1, 0, 2**40, 1e300, 'x', [], {}, [[1]], {'cls': 'os.system'}, {'cls': 'pathlearn.networks.Encoder'}], tmp_path/'f'
    told = 0
    for i in range(200):
        if i % 3 == 0: data = good[:dice.randrange(len(good))]
        elif i % 3 == 1: data = bytearray(good); data[dice.randrange(8+n)] = dice.randrange(256)
        else:
            spec, meta = json.loads(text['spec']), json.loads(text['meta'])
            place = dice.choice([spec, spec['encoder'], meta]); place[dice.choice([*place])] = dice.choice(values)
            save_file({'encoder.norm.mean': tensors['encoder.norm.mean']} if i % 2 else tensors, file, metadata=text | dict(spec=json.dumps(spec), meta=json.dumps(meta)))
            data = file.read_bytes()
        file.write_bytes(data)
        try: back = load_encoder(file)
        except ValueError as e: told += '\n' not in str(e)
        else: assert all(back.state_dict()[k].equal(v) for k,v in tensors.items()); told += 1
    assert told == 200

