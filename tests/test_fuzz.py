"""More than 200 mutated files of seven kinds: each is read right, or refused in a sentence that names the file. No traceback, no hang.

What is mutated is what goes wrong between people and programs: kind, data type, shape, set of values, names, header, length. Bytes are flipped
only where the format has a checksum: a flipped byte in a file without one is another valid file."""
import json, random, re, signal
from contextlib import contextmanager
import numpy as np, pytest, tifffile, torch
from PIL import Image
from safetensors.torch import load_file, save_file
from pathlearn.all import *
from pathlearn.data import folder_data, npz_data, nuclei_data

SEED = 0
PYTHONESE = re.compile(r"object has no attribute|not subscriptable|unexpected keyword|out of range|invalid literal|NoneType|not iterable|unhashable"
                       r"|positional argument|KeyError|must be str|unsupported operand|takes \d|broadcast|Expecting value")

@contextmanager
def within(seconds): # a file that hangs is a fault
    def late(*_): raise AssertionError(f'no answer within {seconds} s')
    was = signal.signal(signal.SIGALRM, late); signal.alarm(seconds)
    try: yield
    finally: signal.alarm(0); signal.signal(signal.SIGALRM, was)

def settled(read, file, right, must=None): # must: 'read' or 'refused', where only one is right
    "Read right, or refused in words"
    try:
        with within(20): got = read()
    except (ValueError, OSError) as e:
        said = str(e)
        assert must != 'read', f'refused: {said}'
        assert file.name in said and len(said) < 700 and not PYTHONESE.search(said), f'{type(e).__name__}: {said}'
        return 'refused'
    assert must != 'refused', f'was read: {got}'
    assert right(got), f'was read wrong: {got}'
    return 'read'

def mutated(name, variants): # dict: what was done -> ...; as parameters of a test
    return pytest.mark.parametrize('what', list(variants), ids=[f'{name}: {w}' for w in variants])

def cut(data, rng): return data[:rng.randrange(1, len(data)-1)]
def flipped(data, rng):
    data = bytearray(data); data[rng.randrange(len(data)//3, 2*len(data)//3)] ^= 1 << rng.randrange(8)
    return bytes(data)
def damage(n): # the same kinds of damage for every format, at n places
    return {f'{f.__name__} {i}': (lambda data, f=f, i=i: f(data, random.Random(1000*SEED+i))) for f in (cut,) for i in range(n)} | {
        'no byte': lambda data: b'', 'first byte only': lambda data: data[:1], 'zeros': lambda data: bytes(len(data)),
        'text': lambda data: b'this is no such file\n', 'a page of the web': lambda data: b'<!doctype html><html><body>404</body></html>',
        'header over': lambda data: b'\0'*8 + data[8:], 'two files': None}

# arrays

def arrays():
    rng = np.random.default_rng(SEED)
    return {f'{p}_{k}': v for p,n in (('train',20),('val',8),('test',8)) for k,v in (
        ('images', rng.integers(0, 256, (n,16,16,3), dtype=np.uint8)), ('labels', np.arange(n)%3))}

def with_(**changes): # key -> function of the array, or None to leave it out
    def change(a):
        for k,f in changes.items():
            if f is None: a.pop(k)
            else: a[k] = f(a.get(k))
        return a
    return change

def each(part, f): return with_(**{f'{p}_{part}': f for p in ('train','val','test')})

NPZ = dict( # what was done -> (function of the arrays, what must come of it: same, refused, or None for either)
    **{f'images as {t}': (each('images', lambda x, t=t: x.astype(t)), 'refused') for t in ('float32','int64','uint16','bool','complex64','U8')},
    **{'images in 0..1': (each('images', lambda x: x/255), 'refused'), 'images of NaN': (each('images', lambda x: x*np.nan), 'refused'),
       'images channels first': (each('images', lambda x: np.moveaxis(x, -1, 1)), None), 'images of 4 channels': (each('images', lambda x: np.concatenate([x,x[...,:1]], -1)), 'refused'),
       'images of 2 axes': (each('images', lambda x: x[:,0,:,0]), 'refused'), 'one image alone': (each('images', lambda x: x[0]), 'refused'),
       'no image': (each('images', lambda x: x[:0]), 'refused'), 'images of no pixel': (each('images', lambda x: x[:,:0]), 'refused'),
       'fewer images': (each('images', lambda x: x[:-1]), 'refused'), 'val of another size': (with_(val_images=lambda x: x[:,:8,:8]), 'refused'),
       'val grey': (with_(val_images=lambda x: x[...,0]), 'refused'), 'images as objects': (each('images', lambda x: x.astype(object)), 'refused'),
       'a list of images as objects': (with_(train_images=lambda x: np.array([o for o in x]+[None], dtype=object)), 'refused')},
    **{f'labels as {t}': (each('labels', lambda y, t=t: y.astype(t)), 'same') for t in ('uint8','int8','int16','uint64','float32')},
    **{'labels as a column': (each('labels', lambda y: y[:,None]), 'same'), 'labels one-hot': (each('labels', lambda y: np.eye(3, dtype=int)[y]), 'same'),
       'labels as words': (each('labels', lambda y: np.array(['a','b','c'])[y]), 'refused'), 'labels below zero': (each('labels', lambda y: y-1), 'refused'),
       'labels with halves': (each('labels', lambda y: y+.5), 'refused'), 'labels NaN': (each('labels', lambda y: y*np.nan), 'refused'),
       'labels infinite': (each('labels', lambda y: y + np.inf), 'refused'), 'probabilities': (each('labels', lambda y: np.eye(3)[y]*.8+.1), 'refused'),
       'fewer labels': (each('labels', lambda y: y[:-2]), 'refused'), 'labels a number': (each('labels', lambda y: np.int64(1)), 'refused'),
       'labels as objects': (each('labels', lambda y: y.astype(object)), 'refused'), 'masks for labels': (each('labels', lambda y: np.zeros((len(y),16,16), int)), 'refused'),
       'huge labels': (each('labels', lambda y: y + 2**62), 'refused'), 'a class that train lacks': (with_(val_labels=lambda y: y+3), None),
       'too few names': (with_(classes=lambda _: np.array(['a','b'])), 'refused'), 'names as objects': (with_(classes=lambda _: np.array(['a','b',None], dtype=object)), 'refused'),
       'groups too few': (with_(train_groups=lambda _: np.arange(3)), 'refused'), 'no train images': (with_(train_images=None), 'refused'),
       'no train labels': (with_(train_labels=None), None), 'no val': (with_(val_images=None, val_labels=None), 'same'),
       'labels without images': (with_(val_images=None), None), 'other keys': (lambda a: {k.replace('train_','x_'): v for k,v in a.items()}, 'refused'),
       'one more key': (with_(notes=lambda _: np.array('hello')), 'same'), 'nothing': (lambda a: {}, 'refused')})

@mutated('npz', NPZ)
@pytest.mark.filterwarnings('ignore')
def test_arrays(what, tmp_path):
    change,must = NPZ[what]
    file, base = tmp_path/'patches.npz', arrays()
    np.savez(file, **change(arrays()))
    def right(splits):
        y = splits.train.labels
        return np.array_equal(splits.train.images, np.moveaxis(base['train_images'], -1, 1)) and (
            y is None or np.array_equal(y, base['train_labels']))
    settled(lambda: npz_data(file), file, right, dict(same='read').get(must, must))

BYTES = damage(6) | {f'flipped {i}': (lambda data, i=i: flipped(data, random.Random(i))) for i in range(8)}

@mutated('npz bytes', BYTES)
@pytest.mark.filterwarnings('ignore')
def test_bytes_of_arrays(what, tmp_path):
    file, base = tmp_path/'patches.npz', arrays()
    np.savez_compressed(file, **base)
    data = file.read_bytes()
    file.write_bytes(BYTES[what](data) if BYTES[what] else data+data)
    settled(lambda: npz_data(file), file, lambda s: np.array_equal(s.train.images, np.moveaxis(base['train_images'], -1, 1)))

# images

def picture(): # a bright field with a dark corner, so that a turned or scaled picture is seen
    x = np.random.default_rng(SEED).integers(160, 255, (24,24,3), dtype=np.uint8)
    x[:8,:12] = 40, 20, 90
    return x

def saved(fmt, mode='RGB', **kw):
    def write(file): Image.fromarray(picture()).convert(mode).save(file, fmt, **kw)
    return write

def turned(file): # the camera says: turned a quarter
    img = Image.fromarray(np.rot90(picture())); exif = img.getexif(); exif[0x0112] = 6
    img.save(file, 'PNG', exif=exif)

def tiff(x, **kw): return lambda file: tifffile.imwrite(file, x, **kw)
def close(x, tol=2): return lambda got: np.abs(got.astype(int) - (x if x.ndim == 3 else x[...,None].repeat(3, -1)).astype(int)).max() <= tol

P, G = picture(), np.asarray(Image.fromarray(picture()).convert('L'))
DEEP = P.astype(np.uint16)*257
PICTURES = dict( # what was done -> (writes the file, what is right if it is read, 'read', 'refused' or None)
    **{f'png {m}': (saved('PNG', m), close(G if m in ('L','LA') else P), 'read') for m in ('RGB','RGBA','L','LA')},
    **{'png P': (saved('PNG', 'P'), close(np.asarray(Image.fromarray(P).convert('P').convert('RGB'))), 'read'), 'png 1': (saved('PNG', '1'), lambda got: True, None),
       'jpeg': (saved('JPEG', quality=95), close(P, 120), 'read'), 'jpeg CMYK': (saved('JPEG', 'CMYK'), lambda got: abs(got.mean()-P.mean()) < 12, None),
       'webp': (saved('WEBP', lossless=True), close(P), 'read'), 'gif': (saved('GIF'), close(P, 90), 'read'), 'bmp': (saved('BMP'), close(P), 'read'),
       'turned': (turned, close(P), 'read'), 'png as text': (lambda f: f.write_text('a picture'), None, 'refused'),
       'two frames': (lambda f: Image.fromarray(P).save(f, 'GIF', save_all=True, append_images=[Image.fromarray(255-P)]), None, 'refused'),
       'png of 16 bits grey': (lambda f: Image.fromarray(G.astype(np.uint16)*257).save(f, 'PNG'), close(G), None),
       'png of one pixel': (lambda f: Image.fromarray(P[:1,:1]).save(f, 'PNG'), lambda got: True, None)},
    **{'tif': (tiff(P, photometric='rgb'), close(P), 'read'), 'tif planar': (tiff(np.moveaxis(P, -1, 0), photometric='rgb', planarconfig='separate'), close(P), None),
       'tif of 16 bits': (tiff(DEEP, photometric='rgb'), close(P), 'read'), 'tif of 16 bits grey': (tiff(G.astype(np.uint16)*257, photometric='minisblack'), close(G), 'read'),
       'tif of 32 bits': (tiff(DEEP.astype(np.uint32)*65537, photometric='rgb'), close(P), None), 'tif of floats': (tiff((P/255).astype(np.float32), photometric='rgb'), close(P), None),
       'tif of floats grey': (tiff((G/255).astype(np.float32)), close(G), None), 'tif of signed': (tiff(G.astype(np.int16)-200), None, 'refused'),
       'tif of NaN': (tiff(np.full((24,24), np.nan, np.float32)), None, 'refused'), 'tif of 3 pages': (tiff(np.moveaxis(P, -1, 0), photometric='minisblack'), close(P), None),
       'tif of 5 pages': (tiff(np.stack([G]*5), photometric='minisblack'), None, 'refused'), 'tif of 4 channels': (tiff(np.concatenate([P,P[...,:1]], -1), photometric='rgb', extrasamples=['unspecified']), close(P), None),
       'tif of 7 channels': (tiff(np.concatenate([P,P,P[...,:1]], -1), photometric='minisblack', planarconfig='contig'), None, 'refused'),
       'tif white is zero': (tiff(255-G, photometric='miniswhite'), close(G), 'read'), 'tif complex': (tiff(G.astype(np.complex64)), None, 'refused'),
       'tif deflated': (tiff(P, photometric='rgb', compression='zlib'), close(P), 'read'), 'tif tiled': (tiff(P, photometric='rgb', tile=(16,16)), close(P), 'read'),
       'ome': (tiff(np.moveaxis(P, -1, 0), ome=True, photometric='minisblack', metadata=dict(axes='CYX')), close(P), None)})

def as_colour(data): return data.images[0].permute(1,2,0).expand(-1,-1,3).numpy()

@mutated('image', PICTURES)
@pytest.mark.filterwarnings('ignore')
def test_images(what, tmp_path):
    write,right,must = PICTURES[what]
    file = tmp_path/'in'/('a.tif' if what.startswith(('tif','ome')) else 'a.png'); file.parent.mkdir()
    write(file)
    settled(lambda: folder_data(file.parent), file, lambda d: right is None or right(as_colour(d)), must)

IMAGE_BYTES = {f'{fmt}, {k}': (fmt, f) for fmt in ('PNG','TIFF') for k,f in damage(8).items()} | {
    f'PNG, flipped {i}': ('PNG', lambda data, i=i: flipped(data, random.Random(i))) for i in range(8)}

@mutated('image bytes', IMAGE_BYTES)
@pytest.mark.filterwarnings('ignore')
def test_bytes_of_images(what, tmp_path):
    fmt,change = IMAGE_BYTES[what]
    file = tmp_path/'in'/('a.png' if fmt == 'PNG' else 'a.tif'); file.parent.mkdir()
    Image.fromarray(P).save(file, fmt)
    data = file.read_bytes()
    file.write_bytes(change(data) if change else data+data)
    settled(lambda: folder_data(file.parent), file, lambda d: np.array_equal(as_colour(d), P))

# outlines

def regions(*corners): return ('<Annotations><Annotation><Regions>' + ''.join('<Region><Vertices>' + ''.join(f'<Vertex X="{x}" Y="{y}"/>' for x,y in c)
    + '</Vertices></Region>' for c in corners) + '</Regions></Annotation></Annotations>')
SQUARE = [(4,4),(12,4),(12,12),(4,12)]
XML = regions(SQUARE)
DOCTYPE = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e "4">{}]>'
OUTLINES = {'as it is': (XML, 'read'), 'words for numbers': (XML.replace('X="4"', 'X="four"'), 'refused'), 'NaN': (XML.replace('X="4"', 'X="nan"'), 'refused'),
    'infinity': (XML.replace('X="4"', 'X="inf"'), 'refused'), 'empty number': (XML.replace('X="4"', 'X=""'), 'refused'), 'no X': (XML.replace('X="4" ', ''), 'refused'),
    'comma': (XML.replace('X="4"', 'X="4,0"'), 'refused'), 'blanks': (XML.replace('X="4"', 'X=" 4 "'), None), 'floats': (XML.replace('="4"', '="4.0"'), 'read'),
    'huge': (XML.replace('X="12"', 'X="1e300"'), None), 'far outside': (regions([(x+500,y) for x,y in SQUARE]), None), 'below zero': (regions([(x-100,y-100) for x,y in SQUARE]), None),
    'two corners': (regions(SQUARE[:2]), None), 'no corner': (regions([]), None), 'no region': (regions(), None), 'other root': ('<a/>', 'refused'), 'empty': ('', 'refused'),
    'boxes': ('<annotation><object><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>', 'refused'),
    'an entity': (DOCTYPE.format('') + XML.replace('X="4"', 'X="&e;"'), 'refused'), 'an outer entity': (DOCTYPE.format('<!ENTITY f SYSTEM "file:///etc/passwd">') + XML.replace('X="4"', 'X="&e;"'), 'refused'),
    'laughs': (DOCTYPE.format(''.join(f'<!ENTITY e{i} "{"&e" + (str(i-1) if i else "") + ";" }{"&e" + (str(i-1) if i else "") + ";"}">' for i in range(1))) + XML, 'refused'),
    'not closed': (XML[:-14], 'refused'), 'text after': (XML + 'and more', 'refused'), 'a plist': ('<plist><dict/></plist>', 'refused'),
    'capitals': (XML.replace('Region', 'REGION'), None), 'other case of X': (XML.replace('X=', 'x='), None), 'a namespace': (XML.replace('<Annotations>', '<Annotations xmlns="http://a.b">'), None)}
OUTLINES |= {f'cut {i}': (cut(XML, random.Random(i)), 'refused') for i in range(8)}

@mutated('outlines', OUTLINES)
@pytest.mark.filterwarnings('ignore')
def test_outlines(what, tmp_path):
    text,must = OUTLINES[what]
    for n in 'ab': Image.fromarray(P).save(tmp_path/f'{n}.png')
    (tmp_path/'b.xml').write_text(XML)
    file = tmp_path/'a.xml'; file.write_text(text)
    want = np.zeros((24,24), bool); want[4:13,4:13] = True
    def right(d): # as drawn, or nothing where nothing is drawn within the image
        m = (d.masks[0] > 0).numpy()
        return (m == want).all() or not m.any() and what in ('far outside','below zero','two corners','no corner','no region','capitals')
    settled(lambda: nuclei_data(tmp_path), file, right, must)

@pytest.mark.parametrize('kind', ['utf-16','latin-1','utf-8-sig'])
def test_outlines_in_other_encodings(kind, tmp_path):
    for n in 'ab': Image.fromarray(P).save(tmp_path/f'{n}.png'); (tmp_path/f'{n}.xml').write_text(XML)
    name = kind if kind != 'utf-8-sig' else 'utf-8'
    (tmp_path/'a.xml').write_bytes(f'<?xml version="1.0" encoding="{name}"?>{XML}'.encode(kind))
    assert (nuclei_data(tmp_path).masks[0] > 0).sum() == 81

# weights

@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp('weights')/'whole.safetensors'
    data = PatchData(torch.randint(256, (8,3,16,16), dtype=torch.uint8))
    save_encoder(simsiam_learner(data.dls(bs=4, device='cpu'), 'tiny', dim=8, hidden=8), file, size=16, seed=0)
    return file

def header(**changes): # change what the header says: name -> function of the text
    def change(tensors, text): return tensors, {k: changes[k](v) if k in changes else v for k,v in text.items() if changes.get(k, 1)}
    return change

def spec(f): # change the settings of the encoder
    def change(text):
        d = json.loads(text); r = f(d)
        return json.dumps(d if r is None else r)
    return header(spec=change)

def tensor(f): return lambda tensors, text: (f(tensors), text)
def first(f): # of the tensors with more than one row
    return tensor(lambda ts: {k: f(v) if k == next(n for n in ts if ts[n].ndim) else v for k,v in ts.items()})

WEIGHTS = {'as it is': (lambda t,h: (t,h), 'read'), 'no spec': (header(spec=None), 'refused'), 'no meta': (header(meta=None), 'refused'), 'meta no JSON': (header(meta=lambda v: v[:-3]), 'refused'),
    **{f'meta {v}': (header(meta=lambda _, v=v: v), 'refused') for v in ('[]','null','3','"x"')}, **{f'spec {v}': (header(spec=lambda _, v=v: v), 'refused') for v in ('[]','null','3','"x"','{}','{"encoder": 3}','{"encoder": {}}','')},
    'unknown class': (spec(lambda d: d['encoder'].update(cls='pathlearn.networks.Nothing')), 'refused'), 'foreign class': (spec(lambda d: d['encoder'].update(cls='os.system', command='touch bad')), 'refused'),
    'a function': (spec(lambda d: d['encoder'].update(cls='pathlearn.networks.encoder')), 'refused'), 'a module': (spec(lambda d: d['encoder'].update(cls='pathlearn.cli')), 'refused'),
    'class a number': (spec(lambda d: d['encoder'].update(cls=3)), 'refused'), 'new option': (spec(lambda d: d['encoder'].update(newer_option=3)), 'refused'),
    'another network': (spec(lambda d: d['encoder'].update(arch='resnet18')), 'refused'), 'network a list': (spec(lambda d: d['encoder'].update(arch=['tiny'])), 'refused'),
    'no such network': (spec(lambda d: d['encoder'].update(arch='resnet19')), 'refused'), 'channels': (spec(lambda d: d['encoder'].update(n_in=1)), 'refused'), 'very many channels': (spec(lambda d: d['encoder'].update(n_in=10**9)), 'refused'),
    'channels a word': (spec(lambda d: d['encoder'].update(n_in='three')), 'refused'), 'moments a word': (spec(lambda d: d['encoder'].update(mean='grey')), None),
    'another part': (spec(lambda d: d.update(painter=d['encoder'])), 'refused'), 'no encoder': (spec(lambda d: dict(cluster_head=d['encoder'])), 'refused'),
    'a tensor too few': (tensor(lambda t: dict([*t.items()][1:])), 'refused'), 'a tensor more': (tensor(lambda t: t | {'encoder.more': torch.zeros(2)}), 'refused'),
    'another shape': (first(lambda v: v[:1].clone()), 'refused'), 'another name': (tensor(lambda t: {f'x{k}': v for k,v in t.items()}), 'refused'), 'no tensor': (tensor(lambda t: {}), 'refused'),
    'half precision': (tensor(lambda t: {k: v.half() if v.is_floating_point() else v for k,v in t.items()}), None), 'integers': (tensor(lambda t: {k: v.int() for k,v in t.items()}), None),
    'NaN': (tensor(lambda t: {k: v*float('nan') if v.is_floating_point() else v for k,v in t.items()}), None)}

def same_features(file): # of what was loaded and of the whole file
    x = PatchData(torch.randint(256, (4,3,16,16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))
    return lambda model: np.allclose(embed(model, x).features, embed(load_encoder(file), x).features, atol=.02)

@mutated('weights', WEIGHTS)
@pytest.mark.filterwarnings('ignore')
def test_weights(what, weights, tmp_path):
    from safetensors import safe_open
    change,must = WEIGHTS[what]
    with safe_open(weights, 'pt') as f: text = f.metadata()
    tensors,text = change(load_file(weights), text)
    file = tmp_path/'w.safetensors'
    save_file(tensors, file, metadata=text)
    def right(model):
        if what in ('NaN','integers','moments a word'): return False # what is read must be right
        return same_features(weights)(model)
    settled(lambda: load_encoder(file), file, right, must)
    assert not (tmp_path/'bad').exists()

@mutated('weights bytes', damage(8))
def test_bytes_of_weights(what, weights, tmp_path):
    file, data, change = tmp_path/'w.safetensors', weights.read_bytes(), damage(8)[what]
    file.write_bytes(change(data) if change else data+data)
    settled(lambda: load_encoder(file), file, same_features(weights))

# checkpoints

def learner(path, epochs=2):
    torch.manual_seed(0)
    data = PatchData(torch.randint(256, (8,3,16,16), dtype=torch.uint8))
    learn = simsiam_learner(data.dls(bs=4, device='cpu'), 'tiny', dim=8, hidden=8, cbs=Resume(path))
    with learn.no_logging(): learn.fit(epochs)
    return learn

@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    file = tmp_path_factory.mktemp('run')/'training.pt'
    learn = learner(file)
    return file, {k: v.clone() for k,v in learn.model.state_dict().items()}

KEYS = 'epoch','n_epoch','model','opt','rng','threads','log','smooth','cbs','grads'
STATES = {**{f'without {k}': (lambda s, k=k: s.pop(k)) for k in KEYS}, **{f'{k} a word': (lambda s, k=k: s.update({k: 'word'})) for k in KEYS if k != 'threads'},
    'epoch below zero': lambda s: s.update(epoch=-1), 'epoch too large': lambda s: s.update(epoch=9), 'nothing inside': lambda s: s.clear()}

@mutated('checkpoint', STATES)
@pytest.mark.filterwarnings('ignore')
def test_checkpoints(what, checkpoint, tmp_path):
    whole,end = checkpoint
    state = torch.load(whole, weights_only=True); STATES[what](state)
    file = tmp_path/'training.pt'; torch.save(state, file)
    def right(learn): return all(torch.equal(v, end[k]) for k,v in learn.model.state_dict().items())
    settled(lambda: learner(file), file, right)

@mutated('checkpoint bytes', damage(6) | {'a list': None})
@pytest.mark.filterwarnings('ignore')
def test_bytes_of_checkpoints(what, checkpoint, tmp_path):
    whole,end = checkpoint
    file, data, change = tmp_path/'training.pt', whole.read_bytes(), damage(6).get(what)
    if what == 'a list': torch.save([1,2,3], file)
    else: file.write_bytes(change(data) if change else data+data)
    settled(lambda: learner(file), file, lambda learn: all(torch.equal(v, end[k]) for k,v in learn.model.state_dict().items()))

# settings of a run

RUN = dict(method='simsiam', data='patches', epochs=2, seed=0, arch='tiny', size=None)
JSONS = {'as it is': (lambda t: t, 'read'), 'empty': (lambda t: '', 'refused'), 'blanks': (lambda t: ' \n', 'refused'), 'with a mark in front': (lambda t: '\ufeff'+t, 'read'),
    **{f'{v}': (lambda t, v=v: v, 'refused') for v in ('[]','null','3','"x"','{}','{"a": 1}','NaN')}, 'deep': (lambda t: '['*100_000, 'refused'),
    **{f'without {k}': (lambda t, k=k: json.dumps({n: v for n,v in json.loads(t).items() if n != k}), None) for k in ('method','epochs','seed','data_seen','code')},
    **{f'{k} is {v!r}': (lambda t, k=k, v=v: json.dumps(json.loads(t) | {k: v}), m) for k,v,m in (('epochs','two','refused'), ('epochs',3,'refused'), ('seed',None,'refused'),
        ('method',['simsiam'],'refused'), ('data_seen',3,'refused'), ('data_seen',{},None), ('data_seen',dict(n='many'),'refused'), ('data_before','x','refused'), ('code',None,'refused'), ('notes','mine','read'))},
    **{f'cut {i}': (lambda t, i=i: cut(t, random.Random(i)), 'refused') for i in range(6)}}

@mutated('settings', JSONS)
@pytest.mark.filterwarnings('ignore')
def test_settings(what, tmp_path, capsys):
    from pathlearn.commands.fingerprint import fingerprint
    from pathlearn.commands.folders import same_run
    change,must = JSONS[what]
    seen = fingerprint(PatchData(torch.randint(256, (8,3,16,16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))))
    same_run(tmp_path, RUN, seen)
    file = tmp_path/'settings.json'
    file.write_text(change(file.read_text(encoding='utf-8')), encoding='utf-8')
    before = file.read_bytes()
    if settled(lambda: same_run(tmp_path, RUN, seen), tmp_path, lambda past: past == [], must) == 'refused': assert file.read_bytes() == before
    elif 'data_seen' in what: assert 'cannot be checked' in capsys.readouterr().out # not in silence
