"Image files and folders as people have them: what is read is right, what is not read is said"
import os, struct, warnings, zlib
import numpy as np, pytest, tifffile
from PIL import Image, ImageOps
from pathlearn.commands.inputs import read_data
from pathlearn.data import *
from pathlearn.data.pixels import look_at
from pathlearn.data.walk import images_in

rng = np.random.default_rng(0)
C8 = rng.integers(0, 256, (12,16,3), dtype=np.uint8)
C16 = rng.integers(0, 2**16, (12,16,3), dtype=np.uint16)
C12 = C16 >> 4

def first(a): return np.moveaxis(a, -1, 0)
def scaled(a, bits=16): return first((255*(a/(2**bits-1))).round().astype(np.uint8))
def refused(file, *words):
    for read in (read_image, look_at): # a header says so before anything is decoded
        with pytest.raises(UnreadableImage) as e: read(file)
        for w in (file.name, *words): assert w in str(e.value)

def warned(f, *args, **kw): # -> result, text of all warnings
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        return f(*args, **kw), '\n'.join(str(o.message) for o in seen)

def folder(root, **files): # name without suffix -> array
    for name,x in files.items():
        file = root/f"{name.replace('__', '/')}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x).save(file)
    return root

def deep_png(file, a, orientation=None): # uint16 [H,W,C]; no writer at hand makes these
    h,w,c = a.shape
    def chunk(kind, data): return struct.pack('>I', len(data))+kind+data+struct.pack('>I', zlib.crc32(kind+data))
    exif = b''
    if orientation:
        e = Image.Exif(); e[274] = orientation
        exif = chunk(b'eXIf', e.tobytes()[6:])
    rows = b''.join(b'\0'+r.astype('>u2').tobytes() for r in a)
    file.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 16, {1:0, 2:4, 3:2, 4:6}[c], 0, 0, 0))
                     + exif + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))
    return file

def lzw(data): # bytes -> LZW of literals alone, 9 bits each
    codes = [o for i in range(0, len(data), 250) for o in (256, *data[i:i+250])] + [257]
    bits = ''.join(f'{o:09b}' for o in codes)
    bits += '0'*(-len(bits)%8)
    return int(bits, 2).to_bytes(len(bits)//8, 'big')

def lzw_tiff(file, a): # uint16 [H,W,3]
    h,w,c = a.shape
    strip = lzw(a.astype('<u2').tobytes())
    tags = [(256,3,1,w), (257,3,1,h), (258,3,3,0), (259,3,1,5), (262,3,1,2), (273,4,1,0), (277,3,1,c), (278,3,1,h), (279,4,1,len(strip))]
    at = 8+2+12*len(tags)+4
    tags = [(t,k,n,{258:at, 273:at+6}.get(t, v)) for t,k,n,v in tags]
    ifd = struct.pack('<H', len(tags)) + b''.join(struct.pack('<HHII', *t) for t in tags) + bytes(4)
    file.write_bytes(b'II*\0'+struct.pack('<I', 8)+ifd+struct.pack('<3H', 16, 16, 16)+strip)
    return file

# one file

@pytest.mark.parametrize('kw', [dict(), dict(compression='zlib', predictor=2), dict(byteorder='>'), dict(planarconfig='separate'), dict(bigtiff=True),
                                dict(tile=(16,16)), dict(rowsperstrip=5)])
@pytest.mark.parametrize('a', [C8, C16], ids=['8 bits','16 bits'])
def test_colour_tiff(tmp_path, a, kw):
    tifffile.imwrite(tmp_path/'x.tif', first(a) if 'planarconfig' in kw else a, photometric='rgb', **kw)
    assert (read_pixels(tmp_path/'x.tif') == a).all()
    assert (read_image(tmp_path/'x.tif') == (first(a) if a is C8 else scaled(a))).all()

def test_lzw_of_16_bit_colours(tmp_path):
    assert (read_pixels(lzw_tiff(tmp_path/'x.tif', C16)) == C16).all()
    assert (read_image(tmp_path/'x.tif') == scaled(C16)).all()

@pytest.mark.parametrize('grey', [C8[...,0], C16[...,0]], ids=['8 bits','16 bits'])
def test_white_may_be_zero(tmp_path, grey):
    tifffile.imwrite(tmp_path/'x.tif', grey, photometric='miniswhite')
    assert (read_pixels(tmp_path/'x.tif') == np.iinfo(grey.dtype).max-grey).all()

@pytest.mark.parametrize('kw', [dict(extratags=[(341,'H',3,(4095,)*3,True)]), dict(ome=True, metadata=dict(axes='YXS', SignificantBits=12))], ids=['tag','OME'])
def test_stated_depth(tmp_path, kw):
    tifffile.imwrite(tmp_path/'x.tif', C12, photometric='rgb', **kw)
    assert look_at(tmp_path/'x.tif').depth == 12 and (read_image(tmp_path/'x.tif') == scaled(C12, 12)).all()

@pytest.mark.parametrize('channels', [1, 3, 4])
def test_deep_png(tmp_path, channels):
    a = np.dstack([C16, np.full((12,16), 2**16-1, np.uint16)])[...,:channels]
    deep_png(tmp_path/'x.png', a)
    assert (read_pixels(tmp_path/'x.png') == (a if channels > 1 else a[...,0])).all()
    assert (read_image(tmp_path/'x.png') == scaled(a[...,:3])).all()

def test_transparency_of_16_bits_is_white(tmp_path):
    deep_png(tmp_path/'x.png', np.dstack([C16, np.zeros((12,16), np.uint16)]))
    assert (read_image(tmp_path/'x.png') == 255).all()
    for extra,white in (('unassalpha',True), ('unspecified',False)): # a fourth sample of no meaning hides nothing
        tifffile.imwrite(tmp_path/'x.tif', np.dstack([C16, np.zeros((12,16), np.uint16)]), photometric='rgb', extrasamples=[extra])
        assert (read_image(tmp_path/'x.tif') == (255 if white else scaled(C16))).all()

@pytest.mark.parametrize('turn', range(1, 9))
def test_orientation(tmp_path, turn):
    "Pillow's own turn is the reference, for 8 and 16 bits, for each format"
    exif = Image.Exif(); exif[274] = turn
    Image.fromarray(C8).save(tmp_path/'x.png', exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path/'x.png')))
    deep_png(tmp_path/'deep.png', C8.astype(np.uint16)*257, turn)
    Image.fromarray(C8).save(tmp_path/'x.webp', exif=exif, lossless=True)
    tag = dict(photometric='rgb', extratags=[(274,'H',1,turn,True)])
    tifffile.imwrite(tmp_path/'x.tif', C8, **tag); tifffile.imwrite(tmp_path/'deep.tif', C8.astype(np.uint16)*257, **tag)
    for file in sorted(tmp_path.iterdir()):
        assert (read_image(file) == first(upright)).all() and look_at(file).shape == upright.shape[:2], file
    Image.fromarray(C8).save(tmp_path/'x.jpg', exif=exif)
    assert read_image(tmp_path/'x.jpg').shape[1:] == look_at(tmp_path/'x.jpg').shape == upright.shape[:2]

@pytest.mark.parametrize('suffix', ['gif','png','webp','tif'])
def test_several_frames(tmp_path, suffix):
    two = [Image.fromarray(C8), Image.fromarray(C8[::-1].copy())]
    file = tmp_path/f'x.{suffix}'
    two[0].save(file, save_all=True, append_images=two[1:])
    refused(file, 'it holds 2')
    assert read_image(file, page=1, channels=3).shape == (3,12,16)
    with pytest.raises(UnreadableImage, match='there is no page 2'): read_image(file, page=2)

@pytest.mark.parametrize('kw', [dict(), dict(imagej=True)], ids=['shaped','ImageJ'])
def test_stack_behind_one_header(tmp_path, kw):
    stack = rng.integers(0, 256, (5,12,16), dtype=np.uint8)
    tifffile.imwrite(tmp_path/'x.tif', stack, **kw)
    refused(tmp_path/'x.tif', 'it holds 5 pages')
    assert (read_pixels(tmp_path/'x.tif', page=3) == stack[3]).all()

@pytest.mark.parametrize('channels,right', [(dict(Name=['Red','Green','Blue']),True), (dict(Color=[-16776961,16711935,65535]),True),
                                            (dict(Name=['DAPI','FITC','Cy5']),False), ({},False)])
@pytest.mark.parametrize('a', [C8, C16], ids=['8 bits','16 bits'])
def test_ome_planes(tmp_path, channels, right, a):
    metadata = dict(axes='CYX') | (dict(Channel=channels) if channels else {})
    tifffile.imwrite(tmp_path/'x.ome.tif', first(a), photometric='minisblack', metadata=metadata)
    if right: assert (read_image(tmp_path/'x.ome.tif') == (first(a) if a is C8 else scaled(a))).all()
    else: refused(tmp_path/'x.ome.tif', 'it holds 3 pages (OME channels', 'dapi' if channels else 'without names')

def test_pyramid_is_one_image(tmp_path):
    with tifffile.TiffWriter(tmp_path/'x.tif') as f:
        for step in (1,2,4): f.write(C8[::step,::step], photometric='rgb', metadata=None, subfiletype=step > 1)
    assert (read_image(tmp_path/'x.tif') == first(C8)).all()

def test_whole_slide(tmp_path):
    with tifffile.TiffWriter(tmp_path/'x.tif') as f:
        for step in (1,2): f.write(C8[::step,::step], photometric='rgb', tile=(16,16), metadata=None, description='Aperio Image Library v11')
    refused(tmp_path/'x.tif', 'whole slide (svs)', 'cut it into patches first')

def test_what_is_refused(tmp_path):
    tifffile.imwrite(tmp_path/'f.tif', np.linspace(-.5, 3, 48, dtype=np.float32).reshape(6,8))
    refused(tmp_path/'f.tif', 'fractions (float32) from -0.5 to 3')
    tifffile.imwrite(tmp_path/'five.tif', np.zeros((6,8,5), np.uint8), photometric='minisblack', planarconfig='contig')
    refused(tmp_path/'five.tif', 'it has 5 channels')
    tifffile.imwrite(tmp_path/'bomb.tif', np.zeros((14000,14000), bool), compression='zlib')
    Image.new('1', (14000,14000)).save(tmp_path/'bomb.png')
    for file in (tmp_path/'bomb.tif', tmp_path/'bomb.png'): refused(file, 'decompression bomb')
    for name,data in {'empty.png':b'', 'text.png':b'a note', 'text.tif':b'II*\0 a note', 'script.png':b'%!PS-Adobe-3.0 EPSF-3.0\n'}.items():
        (tmp_path/name).write_bytes(data)
        refused(tmp_path/name)
    tifffile.imwrite(tmp_path/'negative.tif', C12[...,0].astype(np.int16)-99)
    with pytest.raises(UnreadableImage, match='negative.tif.*run from -'): read_image(tmp_path/'negative.tif')

@pytest.mark.parametrize('a', [C8, C16], ids=['8 bits','16 bits'])
@pytest.mark.parametrize('keep', [.01, .1, .5, .95])
def test_cut_short_tiff(tmp_path, a, keep):
    for kw in (dict(), dict(compression='zlib')):
        tifffile.imwrite(tmp_path/'x.tif', np.tile(a, (4,4,1)), photometric='rgb', rowsperstrip=8, **kw)
        whole = (tmp_path/'x.tif').read_bytes()
        (tmp_path/'x.tif').write_bytes(whole[:int(keep*len(whole))])
        with pytest.raises(UnreadableImage, match='x.tif'): read_image(tmp_path/'x.tif')

@pytest.mark.parametrize('save', [lambda i,f: i.save(f, 'JPEG2000'), lambda i,f: i.save(f, 'WEBP', lossless=True), lambda i,f: i.save(f, 'BMP'), lambda i,f: i.save(f, 'TIFF', compression='tiff_lzw')])
def test_the_suffix_may_err(tmp_path, save):
    save(Image.fromarray(C8), tmp_path/'x.jpg')
    assert (read_image(tmp_path/'x.jpg') == first(C8)).all()

# folders

def test_depth_is_that_of_the_folder(tmp_path):
    "Two patches keep their difference; one warning says how many bits were meant"
    for name,x in dict(bright=C12, dim=C12//8).items(): tifffile.imwrite(tmp_path/f'{name}.tif', x, photometric='rgb')
    data,said = warned(folder_data, tmp_path)
    assert (data.images.numpy() == [scaled(C12, 12), scaled(C12//8, 12)]).all()
    assert said.count('2 of 2 images have more than 8 bits') == 1 and '12 bits' in said and 'bright.tif' in said
    same,said = warned(folder_data, tmp_path, depth=12)
    assert (same.images == data.images).all() and not said
    dls,said = warned(folder_dls, tmp_path, 12, bs=2, workers=0, shuffle=False, device='cpu')
    assert (dls.train.dataset.depth, said.count('12 bits')) == (12,1)
    assert (dls.one_batch()[0] == warned(folder_data, tmp_path, 12)[0].images).all()

def test_parts_share_one_depth(tmp_path):
    for part,x in dict(train=C12//8, test=C12).items():
        (tmp_path/part).mkdir(); tifffile.imwrite(tmp_path/part/'x.tif', x, photometric='rgb')
    splits,said = warned(folder_splits, tmp_path)
    assert (splits.train.images[0].numpy() == scaled(C12//8, 12)).all() and said.count('more than 8 bits') == 1

def test_one_dim_file_is_said(tmp_path):
    tifffile.imwrite(tmp_path/'x.tif', C12, photometric='rgb')
    assert 'x.tif has room for 16 bits, but no value above' in warned(read_image, tmp_path/'x.tif')[1]
    assert not warned(read_image, tmp_path/'x.tif', depth=12)[1]

def test_black_is_said(tmp_path):
    _,said = warned(folder_data, folder(tmp_path, a=C8, b=C8//64))
    assert '1 of 2 images are black or nearly so, e.g. b.png' in said
    _,said = warned(lambda: folder_dls(tmp_path, 12, bs=2, workers=0, device='cpu').mean)
    assert 'b.png' in said

def test_formats_beside(tmp_path):
    Image.fromarray(C8).save(tmp_path/'a.WEBP', lossless=True); Image.fromarray(C8).save(tmp_path/'b.jp2'); Image.fromarray(C8).save(tmp_path/'c.gif')
    for name in ('x.dcm','y.svs','z.SVS','notes.txt','table.csv','Thumbs.db','._a.png','.DS_Store','outline.xml'): (tmp_path/name).write_bytes(b'x')
    for d in ('__MACOSX','.ipynb_checkpoints'): folder(tmp_path/d, a=C8)
    data,said = warned(folder_data, tmp_path, channels=3)
    assert data.names.tolist() == ['a.WEBP','b.jp2','c.gif'] and (data.images[:2].numpy() == first(C8)).all()
    assert said.count('\n') == 0 and '3 files of kinds that are not read (2 .svs, 1 .dcm)' in said and 'notes' not in said

def test_links(tmp_path):
    top = folder(tmp_path/'top', a__1=C8, b__1=C8)
    elsewhere = folder(tmp_path/'elsewhere', deep__2=C8)
    os.symlink(top, top/'loop'); os.symlink(tmp_path, top/'a'/'up'); os.symlink('..', top/'b'/'back')
    os.symlink(elsewhere, top/'c'); os.symlink(tmp_path/'gone.png', top/'a'/'gone.png')
    data,said = warned(folder_data, top)
    assert data.names.tolist() == ['a/1.png','b/1.png','c/deep/2.png'] and data.classes == ['a','b','c']
    assert '1 links that lead nowhere: a/gone.png' in said

@pytest.mark.parametrize('made', [('settings.json','report.html','training.pt'), ('settings.json','log.txt'), ('features.npz','report.html')])
def test_results_are_no_data(tmp_path, made):
    top = folder(tmp_path, a__1=C8, b__1=C8, out__montage=C8)
    for name in made: (top/'out'/name).write_text('{}')
    data,said = warned(folder_data, top)
    assert data.classes == ['a','b'] and len(data) == 2 and 'results of a run' in said and 'out' in said
    with pytest.raises(ValueError, match='out holds the results of a run'): folder_data(top/'out')

def test_an_unreadable_folder(tmp_path):
    folder(tmp_path, a__1=C8); (tmp_path/'a').chmod(0)
    try:
        if os.access(tmp_path/'a', os.R_OK): pytest.skip('this user may read everything')
        with pytest.raises(ValueError, match='may not be read'): folder_data(tmp_path)
    finally: (tmp_path/'a').chmod(0o700)

@pytest.mark.parametrize('train,val,test', [('Train','Val','Test'), ('TRAIN','VALIDATION','TESTING'), ('training','dev','testing'), ('train','valid','test')])
def test_names_of_parts(tmp_path, train, val, test):
    folder(tmp_path, **{f'{p}__{c}__{i}': C8 for p in (train,val,test) for c in 'ab' for i in range(2)})
    splits = read_data(str(tmp_path), 12)
    assert [len(p) for p in splits] == [4,4,4] and splits.test.classes == ['a','b']
    assert splits.train.names[0] == f'{train}/a/0.png' and splits.test.names[3] == f'{test}/b/1.png'
    assert len(folder_dls(tmp_path, 12, bs=2, workers=0).valid.dataset) == 4
    with pytest.raises(ValueError, match='divided into train and other parts'): folder_data(tmp_path)

def test_parts_that_do_not_fit(tmp_path):
    folder(tmp_path, test__a__1=C8)
    with pytest.raises(ValueError, match='holds a folder test but none to train on'): read_data(str(tmp_path))
    folder(tmp_path, train__a__1=C8, Train__a__1=C8)
    with pytest.raises(ValueError, match='two folders for one part, Train and train'): read_data(str(tmp_path))

def test_a_class_in_other_letters(tmp_path):
    folder(tmp_path, train__tumor__1=C8, train__stroma__1=C8, test__Tumor__1=C8)
    with pytest.raises(ValueError, match='Tumor is a class that train does not have.*tumor is written otherwise'): folder_splits(tmp_path)

def test_what_lies_beside_parts_is_said(tmp_path):
    folder(tmp_path, train__a__1=C8, test__a__1=C8, unlabelled__1=C8, loose=C8)
    _,said = warned(folder_splits, tmp_path)
    assert 'not read: unlabelled, 1 images' in said

def test_one_grey(tmp_path):
    folder(tmp_path, a=C8, b=C8, grey=C8[...,0])
    for read in (folder_data, lambda p: folder_dls(p, 12), lambda p: read_data(str(p))):
        with pytest.raises(ValueError, match='1 of 3 images are grey.*grey.png: give channels=3 .--channels 3.'): read(tmp_path)
    for read in (folder_data, lambda p,channels: read_data(str(p), 12, channels=channels).train):
        assert [read(tmp_path, channels=n).n_in for n in (1,3)] == [1,3]
    for n in (1,3): assert folder_dls(tmp_path, 12, bs=3, workers=0, channels=n, device='cpu').one_batch()[0].shape == (3,n,12,12)
    assert folder_data(tmp_path, n_in=3).n_in == folder_dls(tmp_path, 12, bs=3, workers=0, n_in=3).n_in == 3 # the old name

def test_channels_of_arrays(tmp_path):
    "A folder and an npz of the same images become the same grey"
    folder(tmp_path/'in', a=C8)
    np.savez(tmp_path/'x.npz', train_images=C8[None])
    for n in (1,3):
        pair = [read_data(str(tmp_path/o), channels=n, size=12).train for o in ('in','x.npz')]
        assert [o.n_in for o in pair] == [n,n]
    grey = read_data(str(tmp_path/'in'), size=12, channels=1).train.images
    np.savez(tmp_path/'y.npz', train_images=read_data(str(tmp_path/'in'), size=12).train.images.permute(0,2,3,1).numpy())
    assert (read_data(str(tmp_path/'y.npz'), channels=1).train.images.int()-grey.int()).abs().max() <= 1

def test_enlarged_is_said(tmp_path):
    for data in (folder(tmp_path/'in', a=C8, b=C8), tmp_path/'x.npz'):
        if data.suffix: np.savez(data, train_images=np.stack([C8[:12,:12]]*2))
        _,said = warned(read_data, str(data), 32)
        assert said.count('enlarged') == 1 and '2 ' in said and '12 px' in said

def test_names_of_a_sample(tmp_path):
    folder(tmp_path, a__x=C8, b__x=C8)
    Image.fromarray(C8).save(tmp_path/'a'/'x.jpg')
    assert ImageFiles(tmp_path, 12).sample().names.tolist() == folder_data(tmp_path).names.tolist() == ['a/x.jpg','a/x.png','b/x.png']

@pytest.mark.parametrize('name,words', [
    ('patmnist', 'did you mean pathmnist'), ('Synthetic', 'did you mean synthetic'), ('nowhere', 'expected a folder of images, an .npz file, or one of'),
    ('no/where', 'no file or folder'), ('x.npy', 'np.savez'), ('x.zip', 'unpack it first'), ('x.tar.gz', 'unpack it first'), ('x.csv', 'folder it lies in'),
    ('x.svs', 'cut it into patches first'), ('x.png', 'folder it lies in'), ('dir.npz', 'folder of arrays'), ('lost.npz', 'a link to')])
def test_data_that_is_none(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'dir.npz').mkdir(); np.save(tmp_path/'dir.npz'/'train_images.npy', C8)
    os.symlink('gone.npz', 'lost.npz')
    if name[:2] == 'x.': (tmp_path/name).write_bytes(b'x')
    with pytest.raises((ValueError,FileNotFoundError), match=words) as e: read_data(name)
    assert name in str(e.value)

def test_images_right_in_a_folder(tmp_path):
    folder(tmp_path, a=C8, b__c=C8)
    assert [f.name for f in images_in(tmp_path)] == ['a.png'] and images_in(tmp_path/'none') == []

@pytest.mark.filterwarnings('ignore')
def test_mutated_files(tmp_path):
    "Truncated, or with headers that lie: an image or a sentence, and soon"
    r = np.random.default_rng(1)
    tifffile.imwrite(tmp_path/'a.tif', C16, photometric='rgb'); tifffile.imwrite(tmp_path/'b.tif', C8, photometric='rgb', compression='zlib')
    tifffile.imwrite(tmp_path/'c.tif', C8[...,0], imagej=True); Image.fromarray(C8).save(tmp_path/'d.tif', compression='tiff_lzw')
    Image.fromarray(C8).save(tmp_path/'e.png'); Image.fromarray(C8).save(tmp_path/'f.jp2'); Image.fromarray(C8).save(tmp_path/'g.gif')
    deep_png(tmp_path/'h.png', C16)
    sentences = 0
    for file in sorted(tmp_path.iterdir()):
        whole = np.frombuffer(file.read_bytes(), np.uint8)
        for _ in range(25):
            bad = whole[:r.integers(1, len(whole))] if r.random() < .3 else whole
            bad = bad.copy()
            at = r.integers(0, min(len(bad), 300), 4)
            bad[at] = r.choice([0, 1, 2, 3, 127, 255, *r.integers(0, 256, 4)], 4)
            (tmp_path/file.name).write_bytes(bad.tobytes())
            try: assert read_image(file).dtype == np.uint8
            except UnreadableImage as e:
                sentences += 1
                assert file.name in str(e)
    assert sentences > 50
