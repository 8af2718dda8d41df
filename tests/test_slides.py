"Whole slides: the pixels of OpenSlide, damaged and strange files, tissue, tiles and labels on real and on drawn slides"
import multiprocessing, pickle, warnings
import h5py, numpy as np, openslide, pytest, tifffile, torch
from PIL import Image
from pathlearn.slides import *
from pathlearn.slides.reading import best_level
from pathlearn.slides.tissue import otsu
from pathlearn.synthetic import synthetic_slide
from pathlearn.synthetic.tissue import TISSUES

@pytest.fixture(scope='module')
def drawn(): return synthetic_slide(512, seed=1)

@pytest.fixture
def real(shared):
    "Folder with two real slides"
    if not (folder := shared/'slides').is_dir(): pytest.skip(f'no data: there is no {folder}')
    return folder

@pytest.fixture
def cmu(real): return real/'cmu_small_region.svs'   # one level, JPEG, .499 um
@pytest.fixture
def tcga(real): return real/'tcga_cr_7395_region.svs' # two levels, JPEG 2000, no scale

def pyramid(path, image, mpp=.5, factors=(1,2,4), unit='CENTIMETER', resolution=None):
    x = image.permute(1,2,0).numpy() if isinstance(image, torch.Tensor) else image
    with tifffile.TiffWriter(path) as tif:
        for i,k in enumerate(factors):
            small = np.ascontiguousarray(x[::k,::k])
            tif.write(small, tile=(128,128), photometric='rgb' if x.ndim == 3 else 'minisblack', compression='zlib', subfiletype=int(i > 0),
                      **(dict(resolution=(resolution or 1e4/(mpp*k),)*2, resolutionunit=unit) if mpp or resolution else {}))
    return path

def test_the_full_image_is_that_of_openslide(cmu, tcga):
    for path,mpp in ((cmu,None),(tcga,.25)):
        with open_slide(path, mpp) as slide, openslide.OpenSlide(path) as bare:
            for xy in ((0,0),(1000,1234),(777,901)):
                want = np.asarray(bare.read_region(xy, 0, (224,224)).convert('RGB')).transpose(2,0,1)
                assert np.array_equal(slide.read(xy, 224), want)
            assert slide.size == bare.dimensions

def test_beside_the_edge_it_is_white(cmu):
    with open_slide(cmu) as slide:
        w,h = slide.size
        x = slide.read((w-100,h-50), 224)
        assert torch.equal(x[:,:50,:100], slide.read((w-100,h-50), 50).new_tensor(np.asarray(openslide.OpenSlide(cmu).read_region((w-100,h-50), 0, (100,50)))[...,:3].transpose(2,0,1)))
        assert (x[:,50:] == 255).all() and (x[:,:,100:] == 255).all()
        assert (slide.read((-300,0), 224, 1.)[:,:,:140] == 255).all()
        for far in ((w,0), (0,h), (-224,0), (10**7,0)):
            with pytest.raises(ValueError, match=f'lies beside cmu_small_region, which has {w} x {h} px'): slide.read(far, 224)

def test_scales_of_one_level(cmu):
    with open_slide(cmu) as slide:
        assert slide.mpp == .499 and len(slide.levels) == 1
        assert torch.equal(slide.read((900,900), 224, .5), slide.read((900,900), 224))
        half = slide.read((900,900), 100, .998).float()
        area = slide.read((900,900), 200).float().unfold(1,2,2).unfold(2,2,2).mean((3,4))
        assert (half-area).abs().max() <= .5
        near = slide.read((900,900), 224, 1.).float() # 449 px of the scan become 224
        assert (near.mean((1,2)) - slide.read((900,900), 224, .998).float().mean((1,2))).abs().max() < .5

def test_a_factor_of_two_and_a_bit_is_half_the_scale(tcga):
    with open_slide(tcga, mpp=.25) as slide, openslide.OpenSlide(tcga) as bare:
        assert bare.get_best_level_for_downsample(2.) == 0 and slide.plan(224, .5) == (1,224)
        want = np.asarray(bare.read_region((1000,800), 1, (224,224)).convert('RGB')).transpose(2,0,1)
        assert np.array_equal(slide.read((1000,800), 224, .5), want)

@pytest.mark.parametrize('mpp, level', [(.25,0),(.26,0),(.4,0),(.48,1),(.5,1),(.95,1),(1.,2),(50.,2)])
def test_levels(mpp, level): assert best_level([.25,.25*2.0005,.25*4.001], mpp) == level

def test_finer_than_scanned(cmu):
    with open_slide(cmu) as slide:
        for work in (lambda: slide.read((0,0), 224, .1), lambda: tile_slide(slide, 224, .1), lambda: slide.plan(8, .25)):
            with pytest.raises(ValueError, match='um per pixel are asked for, the slide was scanned at 0.499'): work()

def test_a_missing_scale_is_named(tcga, tmp_path, drawn):
    with pytest.raises(ValueError, match=r'tcga_cr_7395_region.svs tells no micrometres .*ResolutionUnit = inch.*mpp=.25'): open_slide(tcga)
    with pytest.raises(ValueError, match=r'can be believed \(openslide.mpp-x = 352'):
        open_slide(pyramid(tmp_path/'dpi.tif', drawn[0], resolution=72, unit='INCH'))
    with pytest.raises(ValueError, match='dots per inch'):
        Image.fromarray(drawn[0].permute(1,2,0).numpy()).save(tmp_path/'a.png', dpi=(72,72)); open_slide(tmp_path/'a.png')
    for bad in (0, -1, 'x', float('nan'), 1e3):
        with pytest.raises(ValueError, match=f'mpp={bad}'): open_slide(tcga, mpp=bad)

def test_files_that_are_no_slides(tmp_path, cmu):
    with pytest.raises(FileNotFoundError, match='there is no slide at'): open_slide(tmp_path/'gone.svs')
    with pytest.raises(FileNotFoundError, match='there is no slide at'): open_slide(tmp_path/'gone.png', 1.)
    with pytest.raises(IsADirectoryError, match='is a folder'): open_slide(tmp_path)
    (tmp_path/'text.svs').write_text('hello')
    half = tmp_path/'half.svs'
    half.write_bytes(cmu.read_bytes()[:900_000])
    for path in (tmp_path/'text.svs', half):
        with pytest.raises(ValueError, match=r'bytes\) cannot be opened as a slide'): open_slide(path)
    (tmp_path/'broken.png').write_bytes(b'no picture')
    with pytest.raises(ValueError, match='broken.png'): open_slide(tmp_path/'broken.png', 1.)

@pytest.mark.parametrize('bad, found', [(np.zeros((9,9),np.uint8), r'uint8 \[9, 9\]'), (np.zeros((1,9,9),np.uint8), r'uint8 \[1, 9, 9\]'), (np.zeros((3,9,9),np.uint16), 'uint16'),
                                        (torch.zeros(3,9,9), 'float32'), (np.zeros((3,0,9),np.uint8), r'uint8 \[3, 0, 9\]'), (np.zeros((9,9,4),np.uint8), r'uint8 \[9, 9, 4\]')])
def test_arrays_that_are_no_slides(bad, found):
    with pytest.raises(ValueError, match=f'found {found}.*three channels'): open_slide(bad, 1.)

def test_one_channel_picture(tmp_path):
    Image.fromarray(np.zeros((20,20), np.uint8)).save(tmp_path/'grey.png')
    with pytest.raises(ValueError, match='grey.png: found uint8 .*one channel'): open_slide(tmp_path/'grey.png', 1.)

def test_a_damaged_place_costs_the_tiles_that_touch_it(cmu, tmp_path):
    data = bytearray(cmu.read_bytes())
    data[1_000_000:1_060_000] = bytes(60_000)
    (path := tmp_path/'zeroed.svs').write_bytes(data)
    with open_slide(path) as slide, open_slide(cmu) as sound:
        at = [(x,y) for y in range(0, 2967, 224) for x in range(0, 2220, 224)]
        lost = []
        for xy in at:
            try: x = slide.read(xy, 224)
            except OSError as e:
                assert 'zeroed.svs' in str(e) and f'at {xy} of level 0' in str(e) and 'damaged there' in str(e)
                lost.append(xy)
            else:
                if not torch.equal(x, sound.read(xy, 224)): lost.append(xy) # decoded, but wrong
        assert 0 < len(lost) < 12, lost
        assert torch.equal(slide.read(at[0], 224), sound.read(at[0], 224))
        with pytest.raises(OSError, match='damaged there'): slide.thumbnail(8)

def _sums(slide): return [int(slide.read((x,300), 96, 1.).sum()) for x in range(0, 2000, 400)]

@pytest.mark.parametrize('way', ['spawn','fork'])
def test_workers_read_the_same(cmu, way):
    if way not in multiprocessing.get_all_start_methods(): pytest.skip(f'no {way} here')
    slide = open_slide(cmu)
    here = _sums(slide) # the handle is open when the worker starts
    with multiprocessing.get_context(way).Pool(1) as pool: assert pool.apply(_sums, (slide,)) == here

def test_a_pickled_slide_is_small(cmu, drawn):
    slide = open_slide(cmu); slide.read((0,0), 64)
    assert len(pickle.dumps(slide)) < 1000
    held = pickle.loads(pickle.dumps(open_slide(drawn[0], 1.)))
    assert torch.equal(held.read((5,6), 64), drawn[0][:,6:70,5:69])

def test_pictures_and_arrays_are_slides(drawn, tmp_path):
    image = drawn[0]
    hwc = image.permute(1,2,0).numpy()
    Image.fromarray(hwc).save(tmp_path/'a.png')
    file = pyramid(tmp_path/'a.tif', image)
    for slide in (open_slide(image, .5), open_slide(hwc, .5), open_slide(tmp_path/'a.png', .5), open_slide(str(file))):
        assert slide.size == (512,512) and slide.mpp == pytest.approx(.5)
        assert torch.equal(slide.read((-3,500), 32)[:,:12,3:], image[:,500:,:29])
        assert slide.thumbnail(4).shape == (3,64,64)
        slide.close(); assert torch.equal(slide.read((1,2), 8), image[:,2:10,1:9]) # opens again

def test_tissue_of_the_real_slides(cmu, tcga):
    for path,mpp,low,high in ((cmu,None,.33,.42),(tcga,.25,.61,.68)):
        tissue = find_tissue(open_slide(path, mpp))
        assert low < tissue.share < high and 'half of what splits' in tissue.rule

def test_otsu_is_scikit_images():
    from skimage.filters import threshold_otsu
    rng = np.random.default_rng(0)
    for n in range(5):
        x = np.concatenate([rng.normal(40, 10, 500), rng.normal(100+20*n, 15, 300)]).clip(0, 255).astype(np.uint8)
        assert otsu(x)[0] == threshold_otsu(x)

def glass(colour=(243,243,243), noise=2., n=600): return np.random.default_rng(0).normal(colour, noise, (n,n,3)).clip(0, 255).astype(np.uint8)

@pytest.mark.parametrize('colour, noise', [((243,243,243),0), ((243,243,243),2), ((243,243,243),5), ((250,240,205),2), ((205,205,210),3)])
def test_empty_glass_has_no_tissue(colour, noise):
    slide = open_slide(glass(colour, noise), 1.75)
    assert not find_tissue(slide).mask.any()
    with pytest.raises(ValueError, match=r'image: 0 of 361 tiles have 25% of tissue, the best has 0.0% \(saturation above 8, fixed'): tile_slide(slide, 32, 1.75)

def test_a_piece_of_tissue_is_found_whatever_the_lamp(cmu):
    with open_slide(cmu) as slide: piece = slide.read((700,1500), 300, 1.75).permute(1,2,0).numpy()
    masks = []
    for lamp in ((1,1,1),(1,.97,.84),(.85,.86,.88)):
        x = glass(); x[150:450,150:450] = piece
        masks.append(find_tissue(open_slide((x*np.array(lamp)).astype(np.uint8), 1.75)).mask)
    assert masks[0].mean() > .1
    for m in masks[1:]: assert (m & masks[0]).sum()/(m | masks[0]).sum() > .95

def test_all_tissue_is_all_tissue(tcga):
    with open_slide(tcga, .25) as slide: inner = slide.read((1000,1500), 1000)
    assert find_tissue(open_slide(inner, .25), mpp=2.).share > .9

def test_dark_fields_are_named():
    dark = np.zeros((400,400,3), np.uint8); dark[100:200,100:200,2] = 220
    with pytest.raises(ValueError, match='fluorescence or dark field'): find_tissue(open_slide(dark, 1.))
    with pytest.raises(ValueError, match='fluorescence or dark field'): find_tissue(open_slide(np.zeros_like(dark), 1.))

def test_tiles_of_a_real_slide_cover_its_tissue(cmu):
    with open_slide(cmu) as slide:
        tissue = find_tissue(slide)
        tiles = tile_slide(slide, 64, .5, min_tissue=.01, tissue=tissue)
        again = tile_slide(slide, 64, .5, min_tissue=.01)
        assert np.array_equal(tiles.xy, again.xy) and np.array_equal(tiles.tissue, again.tissue)
        h,w = tissue.mask.shape
        x,y = ((np.arange(n)+.5)*N/n for n,N in ((w,slide.size[0]),(h,slide.size[1])))
        covered = np.zeros((h,w), int)
        for a,b in tiles.xy: covered += ((y >= b) & (y < b+tiles.side0))[:,None] & ((x >= a) & (x < a+tiles.side0))
        assert (covered[tissue.mask] > 0).mean() > .99 and (covered <= 1).mean() > .999
        assert slide.read(tiles.xy[-1], tiles.px, tiles.mpp).shape == (3,64,64)

@pytest.mark.parametrize('kw, words', [(dict(overlap=64), 'share 0 to 63'), (dict(overlap=-1), 'overlap=-1'), (dict(overlap=.5), 'overlap=0.5'), (dict(px=7), '8 pixels a side'),
    (dict(px=600), 'spans 600 px of the scan, image has 512 x 512'), (dict(mpp=.1), 'scanned at 0.5'), (dict(mpp=-1.), 'mpp=-1'), (dict(min_tissue=25), 'min_tissue=25'),
    (dict(tissue=np.ones((40,60), bool)), 'other proportions'), (dict(tissue=np.ones((40,40))), 'found float64')])
def test_grids_that_cannot_be(drawn, kw, words):
    with pytest.raises(ValueError, match=words): tile_slide(open_slide(drawn[0], .5), **dict(px=64, mpp=.5) | kw)

def test_steps_do_not_drift():
    slide = open_slide(np.full((3000,3000,3), 200, np.uint8), .243)
    tiles = tile_slide(slide, 24, .5, tissue=np.ones((10,10), bool))
    side = 24*.5/.243
    assert tiles.side0 == side and abs(tiles.xy[:,0].max() - (len(set(tiles.xy[:,0].tolist()))-1)*side) <= .5
    assert len(tiles) == int(np.ceil(3000/side))**2 and (tiles.cells() == np.stack(np.divmod(np.arange(len(tiles)), int(np.ceil(3000/side))), 1)).all()

def test_the_file_has_tridents_names(drawn, tmp_path):
    tiles = tile_slide(open_slide(drawn[0], .25), 32, .5, overlap=8, tissue=np.ones((64,64), bool))
    path = tiles.save(tmp_path/'deep'/'a_patches.h5')
    with h5py.File(path) as f:
        assert f['coords'].dtype == np.int64 and f['coords'].shape == (len(tiles),2)
        a = dict(f['coords'].attrs)
        assert {k: a[k] for k in ('patch_size','patch_size_level0','overlap','level0_magnification','target_magnification','name','level0_width','level0_height')} == dict(
            patch_size=32, patch_size_level0=64, overlap=8, level0_magnification=40., target_magnification=20., name='image', level0_width=512, level0_height=512)
    back = load_tiles(path)
    assert repr(back) == repr(tiles) and back.side0 == tiles.side0 and np.array_equal(back.cells(), tiles.cells()) and back.step == tiles.step

def test_a_file_of_trident_needs_a_scale(tmp_path):
    with h5py.File(path := tmp_path/'t.h5', 'w') as f:
        f.create_dataset('coords', data=np.array([[0,0],[512,0]])).attrs.update(dict(patch_size=256, patch_size_level0=512, level0_magnification=40, target_magnification=20, overlap=0, name='t', savetodir='x', level0_width=2048, level0_height=1024))
    with pytest.raises(ValueError, match='no micrometres per pixel'): load_tiles(path)
    tiles = load_tiles(path, mpp=.5)
    assert (tiles.px,tiles.side0,tiles.mpp0) == (256,512.,.25) and np.isnan(tiles.tissue).all() and tiles.as_grid([1,2], 0).tolist() == [[1,2,0,0],[0,0,0,0]]

@pytest.mark.parametrize('content, words', [(dict(x=np.zeros(3)), 'holds x'), (dict(coords=np.zeros((3,5))), 'lack the attributes')])
def test_files_of_something_else(content, words, tmp_path):
    with h5py.File(path := tmp_path/'t.h5', 'w') as f:
        for k,v in content.items(): f.create_dataset(k, data=v)
    with pytest.raises(ValueError, match=words): load_tiles(path)
    (tmp_path/'text.h5').write_text('x')
    with pytest.raises(OSError, match='cannot be read as HDF5'): load_tiles(tmp_path/'text.h5')

def test_labels_are_those_of_the_regions(drawn):
    image,regions = drawn
    slide,r = open_slide(image, 1.75), regions.numpy()
    tiles = tile_slide(slide, 16, 1.75, tissue=np.ones((32,32), bool))
    counts = np.stack([np.bincount(r[y:y+16,x:x+16].ravel(), minlength=len(TISSUES)) for x,y in tiles.xy])
    want = np.where(counts.max(1) >= 128, counts.argmax(1), -1)
    assert np.array_equal(tile_labels(tiles, regions), want)
    assert np.array_equal(tile_labels(tiles, r[::2,::2], .9) >= 0, np.stack([np.bincount(r[y:y+16:2,x:x+16:2].ravel(), minlength=9) for x,y in tiles.xy]).max(1) >= 57.6)

@pytest.mark.parametrize('text, words', [('<ASAP_Annotations><Annotations></Annotations></ASAP_Annotations>', 'holds no outlines|is expected|expected'), ('<!DOCTYPE x [<!ENTITY a "b">]><ASAP_Annotations/>', 'document type'), ('<x', 'cannot be read')])
def test_annotations_that_cannot_be_read(text, words, drawn, tmp_path):
    tiles = tile_slide(open_slide(drawn[0], 1.75), 16, 1.75)
    (tmp_path/'a.xml').write_text(text)
    with pytest.raises(ValueError, match=words): tile_labels(tiles, tmp_path/'a.xml')
    with pytest.raises(FileNotFoundError): tile_labels(tiles, tmp_path/'gone.xml')

def test_no_warning_on_the_way(cmu):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        with open_slide(cmu) as slide: tile_slide(slide, 224, .5)
