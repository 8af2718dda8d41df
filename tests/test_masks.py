"Masks and outlines as people have them: each is read rightly, or refused with a sentence that names file and way on"
import json, warnings
import numpy as np, pytest, tifffile, torch
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter
from pathlearn.data import PatchData, UnreadableImage, foreground_data, nuclei_data, nuclei_items, semi_dls
from pathlearn.data.outlines import read_outlines
from pathlearn.data.nuclei import cut_tiles, fit_nuclei

SPOTS = [(12,12), (12,46), (32,30), (50,12), (50,50)]

def nuclei(seed=0, n=5, size=64): # -> image uint8 [64,64,3], ids int32 [64,64]
    r,yx = np.random.default_rng(seed), np.mgrid[:size,:size]
    image,ids = np.full((size,size,3), (225,170,200), np.uint8), np.zeros((size,size), np.int32)
    for i,k in enumerate(r.permutation(5)[:n], 1):
        inside = np.hypot(*(yx - np.array(SPOTS[k])[:,None,None])) < r.uniform(4, 9)
        image[inside],ids[inside] = (90,50,130),i
    return image, ids

def save(path, x):
    path.parent.mkdir(parents=True, exist_ok=True)
    if getattr(x, 'dtype', None) == np.uint32: tifffile.imwrite(path, x)           # Pillow has no such images
    else: (x if isinstance(x, Image.Image) else Image.fromarray(x)).save(path)

def pairs(root, mask, n=4, suffix='.png'): # mask: function of the ids (and number) -> array or image
    for i in range(n):
        image,ids = nuclei(i)
        save(root/'images'/f'{i}.png', image); save(root/'masks'/f'{i}{suffix}', mask(ids, i))
    return root

def two(ids, i=0): return (ids > 0).astype(np.uint8)*255
def classes(ids, i=0): return np.where(ids > 2, 2, np.minimum(ids, 1)).astype(np.uint8)
def void(ids, i=0): return np.where(binary_dilation(ids > 0, iterations=2) & (ids == 0), 255, ids > 0).astype(np.uint8)
def shared(ids, i=0): # the first nucleus and another far from it have one id
    ids = ids.copy(); (y,x),(v,h) = ([int(o.mean()) for o in np.nonzero(ids == k)] for k in (1,2))
    ids[:] = 0; ids[2:8,2:8] = 1; ids[50:56,50:56] = 1 if i == 0 else 2; ids[30:38,30:38] = 3; ids[2:8,50:58] = 4
    return ids.astype(np.uint16)
def rgba(colour, alpha): return np.dstack([colour]*3 + [alpha])
COLOURS = np.random.default_rng(3).integers(0, 256, (9,3), dtype=np.uint8); COLOURS[0] = 0

RIGHT = { # mask, suffix, arguments, printed
    '0 and 255': (two, '.png', {}, '255 is nucleus'), '0 and 1': (lambda m,i: two(m)//255, '.png', {}, '1 is nucleus'),
    'mixed 0/1 and 0/255': (lambda m,i: two(m)//(1 if i%2 else 255), '.png', {}, 'of 0, 1 and 255: 1 and 255 is nucleus'),
    'some empty': (lambda m,i: two(m*(i > 0)), '.png', {}, '1 files hold no nucleus'), 'one bit': (lambda m,i: m > 0, '.png', {}, '1 is nucleus'),
    'ids': (lambda m,i: m.astype(np.uint16), '.png', {}, 'is a nucleus, 20 in all'), 'float ids': (lambda m,i: m.astype(np.float32), '.tif', {}, 'is a nucleus'),
    'grey alpha': (lambda m,i: np.dstack([two(m), np.full_like(two(m), 255)]), '.png', {}, '255 is nucleus'),
    'RGBA': (lambda m,i: rgba(two(m), np.full_like(two(m), 255)), '.png', {}, '255 is nucleus'), 'overlay': (lambda m,i: rgba(two(m), two(m)//2), '.png', {}, '255 is'),
    'colour each': (lambda m,i: COLOURS[m], '.png', {}, 'is a nucleus'), 'ilastik': (lambda m,i: two(m)//255 + np.uint8(1), '.tif', dict(background=1), '1 is background'),
    'inverted': (lambda m,i: 255-two(m), '.png', dict(background=255), '0 is nucleus'), 'JPEG': (two, '.jpg', dict(threshold=127), 'above 127'),
    'smooth': (lambda m,i: gaussian_filter(two(m), 1.), '.png', dict(threshold=127), 'above 127'),
    'probabilities': (lambda m,i: gaussian_filter((m > 0)*np.float32(1), 1.), '.tif', dict(threshold=.5), 'above 0.5'),
    'classes': (classes, '.png', dict(threshold=0), 'above 0'), 'coloured classes': (lambda m,i: COLOURS[classes(m)], '.png', dict(threshold=0), 'above 0'),
    'void': (void, '.png', dict(ignore=255), '255 is ignored'), 'NaN': (lambda m,i: np.where(void(m) == 255, np.nan, m > 0).astype(np.float32), '.tif', dict(ignore=float('nan')), 'nan is ignored'),
    'minus one': (lambda m,i: np.where(void(m) == 255, -1, m).astype(np.int32), '.tif', dict(ignore=-1), '-1 is ignored'),
    'ids and 255': (lambda m,i: np.where(m == 5, 255, m).astype(np.uint8), '.png', dict(ignore=()), 'is a nucleus')}

@pytest.mark.parametrize('kind', RIGHT)
def test_masks_are_read(tmp_path, capsys, kind):
    mask,suffix,asked,printed = RIGHT[kind]
    pairs(tmp_path, mask, suffix=suffix)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        data = nuclei_data(tmp_path, **asked)
    assert printed in (line := capsys.readouterr().out) and line.count('\n') == 1 and line.startswith('masks: 4 files of ')
    for i,m in enumerate(data.masks.numpy()):
        ids = nuclei(i)[1]*(kind != 'some empty' or i > 0)
        assert ((m > 0) == (ids > 0)).mean() > .97 and len(np.unique(m[m > 0])) == ids.max()
        assert (m == -1).any() == ('ignore' in asked and asked['ignore'] != ())
        if asked == {}: assert ((m > 0) == (ids > 0)).all()

def wrapped(ids, i):
    "300 nuclei of 3 x 3 px, counted in 8 bits"
    m = np.zeros((80,80), int)
    for k in range(300): m[k//20*5:k//20*5+3, k%20*4:k%20*4+3] = k+1
    return m.astype(np.uint8)

REFUSED = { # mask, suffix, arguments, sentence
    'JPEG': (two, '.jpg', {}, r'masks/\d.jpg holds \d+ values from 0 to 255: two values with greys .*threshold=127'),
    'smooth': (lambda m,i: gaussian_filter(two(m), 1.), '.png', {}, 'two values with greys'),
    'one smooth nucleus': (lambda m,i: gaussian_filter(two(m == 1), 1.), '.png', {}, 'two values with greys'),
    'void': (void, '.png', {}, r'4 of 4 masks hold 255 beside lower numbers, .*0.png: 0, 1 and 255. .*ignore=255 does so, ignore=\(\)'),
    'ids and 255': (lambda m,i: np.where(m == 5, 255, m).astype(np.uint8), '.png', {}, 'masks hold 255 beside lower numbers'),
    'ilastik': (lambda m,i: two(m)//255 + np.uint8(1), '.png', {}, 'hold 1 and 2, and 0 is nowhere.*background=1'),
    'one value': (lambda m,i: two(m)*0 + np.uint8(255), '.png', {}, 'hold 255, and 0 is nowhere'),
    'one colour': (lambda m,i: Image.new('RGB', m.shape, (255,0,0)), '.png', {}, 'hold #ff0000, and 0 is nowhere'),
    'probabilities': (lambda m,i: (m > 0)*np.float32(.9), '.tif', {}, '0.tif holds values such as 0.9 that are not whole numbers.*threshold=0.45'),
    'classes': (classes, '.png', {}, r'holds 0, 1 and 2; 2 of 2 lie in several pieces or .*threshold=0'),
    'coloured classes': (lambda m,i: COLOURS[classes(m)], '.png', {}, 'is coloured and holds #000000, .*threshold=0'),
    'a photograph': (lambda m,i: np.random.default_rng(i).integers(0, 255, (64,64,3), dtype=np.uint8), '.png', {}, 'is coloured and holds #.* or are specks, so they are not ids but perhaps a photograph'),
    'NaN': (lambda m,i: np.where(m > 0, 1, np.nan).astype(np.float32), '.tif', {}, 'NaN values: ignore='),
    'negative': (lambda m,i: m.astype(np.int32)-1, '.tif', {}, 'holds -1, a negative number: ignore=-1'),
    'too large': (lambda m,i: np.where(m == 1, 2**32-1, m).astype(np.uint32), '.tif', {}, 'holds 4294967295, more than ids can be'),
    'alpha': (lambda m,i: rgba(0*two(m), two(m)), '.png', {}, 'drawn in its transparency'),
    'odd alpha': (lambda m,i: rgba(two(m), 255-two(m)), '.png', {}, 'transparent where it has values'),
    'both': (two, '.png', dict(background=1, threshold=3), 'exclude each other'),
    'threshold of another scale': (lambda m,i: two(m)//255, '.png', dict(threshold=127), 'threshold=127 leaves nothing to tell apart.*hold 0 and 1')}

@pytest.mark.parametrize('kind', REFUSED)
def test_masks_are_refused(tmp_path, kind):
    mask,suffix,asked,sentence = REFUSED[kind]
    pairs(tmp_path, mask, suffix=suffix)
    for f in (nuclei_data, nuclei_items):
        with pytest.raises(ValueError, match=sentence) as e: f(tmp_path, **asked)
        assert 'masks' in str(e.value) or asked

def test_ids_beyond_eight_bits(tmp_path):
    save(tmp_path/'images'/'x.png', np.zeros((80,80,3), np.uint8)); save(tmp_path/'masks'/'x.png', wrapped(None, 0))
    with pytest.raises(ValueError, match='x.png holds all ids that fit into 8 bits, some of them twice.*16 bits'): nuclei_data(tmp_path)
    few = np.kron(np.arange(256).reshape(16,16), np.ones((5,5))).astype(np.uint8)
    save(tmp_path/'masks'/'x.png', few)
    with pytest.warns(UserWarning, match='holds all ids that fit'): assert nuclei_data(tmp_path).masks.max() == 255

def test_an_id_in_far_pieces_is_several_nuclei(tmp_path, capsys):
    data = nuclei_data(pairs(tmp_path, shared))
    assert '1 pieces far from the rest of their id are nuclei of their own' in capsys.readouterr().out
    assert [len(m.unique()) for m in data.masks] == [5]*4

def test_what_may_be_wrong_is_warned_of(tmp_path):
    def seen(mask, **asked):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter('always'); nuclei_data(pairs(tmp_path, mask), **asked)
        return ' '.join(str(w.message) for w in found)
    assert 'in 4 of 4 masks nuclei cover more than half' in seen(lambda m,i: 255-two(m)) and not seen(two)
    assert 'none of 4 masks holds a nucleus' in seen(lambda m,i: 0*two(m))
    assert 'ignore=254 occurs in none of 4 masks' in seen(two, ignore=254)
    assert 'did you mean 127.5' in seen(lambda m,i: gaussian_filter(two(m), 1.), threshold=.5)

def test_a_stack_of_pages_is_no_mask(tmp_path):
    pages = [Image.fromarray(((nuclei()[1] == k)*255).astype(np.uint8)) for k in range(1, 6)]
    save(tmp_path/'images'/'x.png', nuclei()[0]); (tmp_path/'masks').mkdir()
    pages[0].save(tmp_path/'masks'/'x.tif', save_all=True, append_images=pages[1:])
    with pytest.raises(UnreadableImage, match='x.tif cannot be read as a mask: it holds 5 pages'): nuclei_data(tmp_path)

def bowl(root, masks, n=2): # masks: function of ids -> list of arrays
    for i in range(n):
        image,ids = nuclei(i); save(root/f'{i}'/'images'/f'{i}.png', image)
        for k,m in enumerate(masks(ids)): save(root/f'{i}'/'masks'/f'{k}.png', m)
    return root

@pytest.mark.parametrize('masks,asked,sentence', [
    (lambda m: [two(m == k) for k in range(1, 6)], {}, 'with a file per nucleus, 10 files'),
    (lambda m: [gaussian_filter(two(m == k), 1.) for k in range(1, 6)], dict(threshold=127), 'with a file per nucleus'),
    (lambda m: [two(m)], {}, '2 files of 0 and 255: 255 is nucleus'), (lambda m: [m.astype(np.uint8)], {}, 'is a nucleus, 10 in all')])
def test_a_folder_an_image(tmp_path, capsys, masks, asked, sentence):
    "Also with one mask of all nuclei in each folder"
    data = nuclei_data(bowl(tmp_path, masks), **asked)
    assert sentence in capsys.readouterr().out and [len(m.unique()) for m in data.masks] == [6,6]

@pytest.mark.parametrize('masks,sentence', [
    (lambda m: [gaussian_filter(two(m == k), 1.) for k in range(1, 6)], r'0/masks/0.png holds \d+ values .*expected one value'),
    (lambda m: [255-two(m == k) for k in range(1, 6)], 'cover more than half of their image each: they are inverted')])
def test_a_folder_an_image_refused(tmp_path, masks, sentence):
    with pytest.raises(ValueError, match=sentence): nuclei_data(bowl(tmp_path, masks))

# what is ignored

def test_ignored_pixels_stay_ignored(tmp_path):
    data = nuclei_data(pairs(tmp_path, void), ignore=255)
    labels = foreground_data(data).labels
    assert labels.dtype == torch.uint8 and torch.equal(labels == 255, data.masks == -1) and torch.equal(labels == 1, data.masks > 0)
    image,ids = data.images[0].numpy(), data.masks[0].numpy()
    assert (fit_nuclei(image, ids, 32)[1] == -1).any() and any((t == -1).any() for _,t in cut_tiles(image, ids, 30, ''))
    unknown = PatchData(data.images, masks=-torch.ones_like(data.masks))
    with pytest.raises(ValueError, match='no nucleus in the masks of 4 labelled images'): semi_dls(unknown, data)

# who belongs to whom

def drawn(*corners, attributes=''):
    return f'<Region {attributes}><Vertices>' + ''.join(f'<Vertex X="{x}" Y="{y}"/>' for x,y in corners) + '</Vertices></Region>\n'

def imagescope(*regions): return '<Annotations><Annotation><Regions>\n' + ''.join(regions) + '</Regions></Annotation></Annotations>'
def box(x, y, s): return (x,y), (x+s,y), (x+s,y+s), (x,y+s)

def write(root, **files): # name, with __ for / and _ for the dot -> text or image
    for name,x in files.items():
        path = root/name.replace('__', '/').replace('_', '.'); path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(x, str): path.write_text(x)
        else: save(path, x)
    return root

def test_one_name_in_two_folders(tmp_path):
    image = nuclei()[0]
    write(tmp_path, a__1_png=image, b__1_png=image, a__1_xml=imagescope(drawn(*box(5,5,10))), b__1_xml=imagescope(drawn(*box(35,35,10))))
    data = nuclei_data(tmp_path)
    assert [m.nonzero().min(0).values.tolist() for m in data.masks] == [[5,5],[35,35]]
    assert data.groups.tolist() == ['a/1','b/1'] and data.names.tolist() == ['a/1.png','b/1.png']
    tiles = nuclei_data(tmp_path, tile=30)
    assert tiles.names[[1,2,4]].tolist() == ['a/1.png [0,30]','a/1.png [30,0]','b/1.png [0,0]'] and len(set(tiles.groups)) == 2
    (tmp_path/'b'/'1.xml').unlink()
    with pytest.raises(ValueError, match='1 of 2 images have no mask: .*b/1.png expects .*b/1.xml'): nuclei_data(tmp_path)

def test_one_name_in_two_nested_folders_of_masks(tmp_path):
    (_,one),(_,other) = nuclei(0),nuclei(1)
    write(tmp_path, images__a__x_png=nuclei(0)[0], images__b__x_png=nuclei(1)[0], masks__a__x_png=two(one), masks__b__x_png=two(other))
    data = nuclei_data(tmp_path)
    assert (data.masks[0].numpy() > 0).tolist() == (one > 0).tolist() and (data.masks[1].numpy() > 0).tolist() == (other > 0).tolist()
    assert data.groups.tolist() == ['a/x','b/x'] and data.names.tolist() == ['images/a/x.png','images/b/x.png']

def test_two_images_never_share_a_mask(tmp_path):
    image,ids = nuclei()
    write(tmp_path/'one', images__x_png=image, images__x_tif=image, masks__x_png=two(ids))
    with pytest.raises(ValueError, match='x.png and .*x.tif are two images of one name'): nuclei_data(tmp_path/'one')
    write(tmp_path/'two', x_png=image, x_tif=image, x_xml=imagescope(drawn(*box(5,5,9))))
    with pytest.raises(ValueError, match='x.png and .*x.tif are two images, and .*x.xml holds the outlines of one'): nuclei_data(tmp_path/'two')
    write(tmp_path/'three', images__x_png=image, masks__x_png=two(ids), masks__x_tif=two(ids))
    with pytest.raises(ValueError, match='are two masks of one name'): nuclei_data(tmp_path/'three')

@pytest.mark.parametrize('image,mask', [('x.png','x_mask.png'), ('x.tif','x_label.tif'), ('image_1.png','mask_1.png'), ('x.ome.tif','x.png'),
                                        ('TCGA-38-6178-01Z-00-DX1.1.png','TCGA-38-6178-01Z-00-DX1.1.tif')])
def test_usual_names_of_masks(tmp_path, image, mask):
    save(tmp_path/'images'/image, nuclei()[0]); save(tmp_path/'masks'/mask, two(nuclei()[1]))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always'); assert len(nuclei_data(tmp_path)) == 1
    assert [str(w.message).endswith(f'{image} with {mask}') for w in seen] == [True]*('TCGA' not in image)

def test_what_belongs_to_nothing_is_named(tmp_path):
    image,ids = nuclei()
    write(tmp_path/'a', images__x_png=image, masks__x_png=two(ids), masks__y_png=two(ids))
    with pytest.warns(UserWarning, match='1 masks have no image of their name and are not read, e.g. .*y.png'): nuclei_data(tmp_path/'a')
    write(tmp_path/'b', x_png=image, x_xml=imagescope(drawn(*box(5,5,9))), x_json='{"theme": 1}', settings_json='{}')
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always'); nuclei_data(tmp_path/'b')
    said = ' '.join(str(w.message) for w in seen)
    assert 'x.xml is read, x.json beside it is not' in said and 'settings.json' in said
    write(tmp_path/'c', x_png=image, coco_json='{}')
    with pytest.raises(ValueError, match='holds no nuclei.*coco.json has the name of no image'): nuclei_data(tmp_path/'c')

# outlines

def geojson(*features): return json.dumps(dict(type='FeatureCollection', features=[*features]))
def feature(*rings, kind='Polygon', **more): return dict(type='Feature', geometry=dict(type=kind, coordinates=[*rings]), properties=None) | more
def labelme(*shapes, **more): return json.dumps(dict(shapes=[*shapes]) | more)
def shape(points, kind='polygon', **more): return dict(label='n', points=points, shape_type=kind) | more
SQUARE = box(10.5,10.5,20)

@pytest.mark.parametrize('name,text,pixels', [
    ('x.xml', imagescope(drawn(*SQUARE), drawn(*box(15.5,15.5,5), attributes='NegativeROA="1"')), 400-25),
    ('x.xml', imagescope(drawn(*box(15.5,15.5,5), attributes='NegativeROA="1"'), drawn(*SQUARE)), 400-25),
    ('x.xml', imagescope(drawn((10.5,10.5), (30.5,30.5), attributes='Type="1"')), 400),
    ('x.xml', imagescope(drawn((10.5,10.5), (30.5,30.5), attributes='Type="2"')), 316),
    ('x.xml', imagescope(drawn(*SQUARE)).replace('Vertex', 'V').replace('<Region ', '<Region Type="Polygon" '), 400),
    ('x.geojson', geojson(feature(SQUARE, box(15.5,15.5,5))), 400-25), ('x.json', json.dumps([feature(SQUARE)]), 400),
    ('x.geojson', geojson(feature([SQUARE], [box(40.5,40.5,5)], kind='MultiPolygon')), 425),
    ('x.geojson', geojson(feature(box(1,1,60), properties=dict(objectType='cell'), nucleusGeometry=dict(type='Polygon', coordinates=[SQUARE]))), 400),
    ('x.json', labelme(shape(SQUARE)), 400), ('x.json', labelme(shape([[10.5,10.5],[30.5,30.5]], 'rectangle')), 400),
    ('x.json', labelme(shape([[20,20],[20,30]], 'circle'), imageHeight=64, imageWidth=64), 316)])
def test_outlines_are_filled(tmp_path, name, text, pixels):
    (tmp_path/name).write_text(text)
    ids = read_outlines(tmp_path/name).fill((64,64))
    assert len(np.unique(ids)) == 2 and abs((ids > 0).sum() - pixels) <= 8*(pixels == 316)

def test_pieces_of_one_group_are_one_nucleus(tmp_path):
    (tmp_path/'x.json').write_text(labelme(shape(SQUARE, group_id=1), shape(box(40,40,5), group_id=1), shape(box(50,50,5), group_id=None)))
    assert len(read_outlines(tmp_path/'x.json')) == 2

def test_a_nucleus_in_a_hole_stays(tmp_path):
    (tmp_path/'x.xml').write_text(imagescope(drawn(*box(5.5,5.5,40)), drawn(*box(20.5,20.5,6)), drawn(*box(15.5,15.5,20), attributes='NegativeROA="1"')))
    assert np.unique(read_outlines(tmp_path/'x.xml').fill((64,64)), return_counts=True)[1].tolist() == [64*64-1600+400-36, 1600-400, 36]

@pytest.mark.parametrize('name,text,sentence', [
    ('x.xml', '\n<annotation><object/></annotation>', 'x.xml, line 2: <annotation> holds boxes of Pascal VOC'),
    ('x.xml', '<annotations><image/></annotations>', "<annotations> holds CVAT's outlines of many images"),
    ('x.xml', '<project version="4"/>', '<project> holds settings of an editor'), ('x.xml', '<Annotations><Shape/></Annotations>', 'holds something else'),
    ('x.xml', '', 'x.xml cannot be read as outlines'), ('x.xml', imagescope(drawn(*SQUARE))[:90], 'cannot be read as outlines: .*line'),
    ('x.xml', imagescope(drawn((5,5), ('a',9), (9,9))), "x.xml, line 2: corner 2 is \\('a', '9'\\)"), ('x.xml', imagescope(drawn((5,5), ('nan',9), (9,9))), 'line 2: corner 2'),
    ('x.xml', imagescope(drawn((5,5), (9,9), ('1e400',3))), 'corner 3'), ('x.xml', imagescope(drawn(*SQUARE)).replace('X=', 'x='), 'corner 1'),
    ('x.xml', imagescope(drawn((5,5), (9,900), (9,9))), 'corner .* lies far outside of the image of 64x64'), ('x.xml', imagescope(drawn(*box(70,70,20))), '1 of 1 outlines lie outside'),
    ('x.xml', imagescope(drawn(*box(.1,.1,.2))), 'none of 1 outlines holds a pixel'),
    ('x.json', '{"images": [], "annotations": [], "categories": []}', 'COCO: all images in one file'), ('x.json', '[1, 2]', 'x.json holds a list'),
    ('x.json', '{"shapes": [', 'x.json cannot be read as outlines: .*line 1'), ('x.json', '['*100000, 'cannot be read as outlines'), ('x.json', '\ufeff', 'cannot be read'),
    ('x.json', labelme(dict(label='n')), 'damaged LabelMe file'), ('x.json', labelme(shape([[1,2],[True,3],[4,5]])), 'shape 1: corner 2'),
    ('x.json', labelme(shape(SQUARE), imageHeight=640, imageWidth=640), 'drawn on an image of 640x640, its image is 64x64'),
    ('x.json', labelme(shape(SQUARE, 'mask')), 'painted mask is no outline'), ('x.geojson', geojson(feature([[1,2],[3,None],[4,5]])), 'feature 1: corner 2'),
    ('x.geojson', geojson(feature(5)), 'damaged GeoJSON'), ('x.geojson', geojson(dict(type='Feature', geometry=3)), 'damaged GeoJSON'),
    ('x.geojson', geojson(feature([[0,0],[10**400,0],[4,5]])), 'corner 2|cannot be read')])
def test_outlines_are_refused(tmp_path, name, text, sentence):
    (tmp_path/name).write_text(text, encoding='utf-8')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        with pytest.raises(ValueError, match=sentence) as e: read_outlines(tmp_path/name).fill((64,64))
    assert name in str(e.value)

@pytest.mark.parametrize('text', [
    '<!DOCTYPE x [<!ENTITY a "ha">' + ''.join(f'<!ENTITY {b} "{f"&{a};"*10}">' for a,b in zip('abcdefghi','bcdefghij')) + ']><Annotations>&j;</Annotations>',
    '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><Annotations><Annotation>&a;</Annotation></Annotations>',
    '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><Annotations/>', '<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///etc/passwd">%a;]><Annotations/>'])
def test_nothing_is_expanded_or_fetched(tmp_path, text):
    write(tmp_path, x_png=nuclei()[0], x_xml=text)
    with pytest.raises(ValueError, match='x.xml declares a document type') as e: nuclei_data(tmp_path)
    assert 'root:' not in str(e.value)

@pytest.mark.parametrize('text,sentence', [
    (imagescope(drawn(*SQUARE), drawn((1,1), (9,9), attributes='Type="3"'), drawn((1,1), (9,9))), r'x.xml: left out, .*: type 3 \(1: line 3\); fewer than three corners \(1: line 4\)'),
    (imagescope(drawn(*SQUARE), drawn(*box(50,50,9), attributes='NegativeROA="1"')), r'a hole in no outline \(1: line 3\)'),
    (imagescope(*[drawn(*SQUARE)]*12, drawn(*box(70,70,20))), '1 of 13 outlines lie outside of the image .*: they are left out')])
def test_what_is_left_out_is_said(tmp_path, text, sentence):
    (tmp_path/'x.xml').write_text(text)
    with pytest.warns(UserWarning, match=sentence): read_outlines(tmp_path/'x.xml').fill((64,64))

def test_annotations_around_cells_are_no_nuclei(tmp_path):
    cells = [feature(SQUARE, properties=dict(objectType='detection')), feature(box(1,1,60), properties=dict(objectType='annotation'))]
    (tmp_path/'x.geojson').write_text(geojson(*cells))
    with pytest.warns(UserWarning, match='annotation around cells .1: feature 2'): assert len(read_outlines(tmp_path/'x.geojson')) == 1

def test_files_without_outlines(tmp_path):
    "One may be an image without a nucleus; if all are empty, something is wrong"
    write(tmp_path, x_png=nuclei()[0], x_xml=imagescope(), y_png=nuclei(1)[0], y_xml=imagescope(drawn(*SQUARE)))
    with pytest.warns(UserWarning, match='x.xml holds no outline'): assert nuclei_data(tmp_path).masks.flatten(1).any(1).tolist() == [False,True]
    (tmp_path/'y.xml').write_text(imagescope())
    with pytest.raises(ValueError, match='none of 2 files such as .*x.xml holds an outline'): nuclei_data(tmp_path)

def test_damaged_text_gives_right_results_or_sentences(tmp_path):
    "Two hundred mutations of the four formats"
    asap = '<ASAP_Annotations><Annotation Type="Polygon"><Coordinates><Coordinate Order="0" X="5" Y="5"/><Coordinate Order="1" X="25" Y="5"/>' \
           '<Coordinate Order="2" X="25" Y="25"/></Coordinates></Annotation></ASAP_Annotations>'
    whole = {'a.xml': imagescope(drawn(*SQUARE)), 'b.xml': asap, 'c.json': labelme(shape(SQUARE)), 'd.geojson': geojson(feature(SQUARE))}
    r = np.random.default_rng(0)
    odd = ['', '"', '<', '>', '{', ']', 'null', '-', 'e9', '\0', 'é', '"x"', '&lt;', '99999', '[[]]', 'NaN']
    for i in range(200):
        name = [*whole][i%4]; text = whole[name]; at,n = r.integers(len(text)), r.integers(0, 9)
        (tmp_path/name).write_text(text[:at] + odd[r.integers(len(odd))] + text[at+n:], encoding='utf-8')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            try: ids = read_outlines(tmp_path/name).fill((64,64))
            except ValueError as e: assert name in str(e) and str(e).count('\n') < 2
            else: assert ids.shape == (64,64) and ids.dtype == np.int32
