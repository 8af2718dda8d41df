"Files as they come: whole, cut short, wrong; and the real ones where they are at hand"
import os, shutil, subprocess, sys, tarfile, urllib.error, warnings
from pathlib import Path
import numpy as np, pytest, torch
from PIL import Image
from pathlearn.data import *
from pathlearn.data import arrays, published

rng = np.random.default_rng(0)
def pixels(n, *shape): return rng.integers(0, 256, (n, *shape), dtype=np.uint8)

@pytest.fixture
def npz(tmp_path):
    "Writes arrays that are right, unless an argument says otherwise; an argument of None leaves the key out"
    def write(**changes):
        arrays = {f'{s}_{k}': v for s in ('train','val','test')
                  for k,v in dict(images=pixels(6, 8, 8, 3), labels=np.arange(6, dtype=np.uint8)[:,None]%3).items()} | changes
        np.savez(tmp_path/'made.npz', **{k: v for k,v in arrays.items() if v is not None})
        return tmp_path/'made.npz'
    return write

@pytest.fixture
def folder(tmp_path):
    "Two classes of three images of 12 x 10 px"
    for i,x in enumerate(pixels(6, 10, 12, 3)):
        file = tmp_path/'images'/('a','b')[i%2]/f'{i}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x).save(file)
    return tmp_path/'images'

def cut_short(file, keep=.6):
    file.write_bytes(file.read_bytes()[:int(keep*file.stat().st_size)])
    return file

def test_import_is_silent():
    run = subprocess.run([sys.executable, '-c', 'import pathlearn.data'], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, '', '')

# arrays

def test_npz_whole(npz):
    splits = npz_data(npz(classes=np.array(['x','y','z']), train_groups=np.arange(6)))
    assert [len(p) for p in splits] == [6,6,6] and splits.train.classes == ['x','y','z']
    assert splits.train.images.shape == (6,3,8,8) and splits.test.groups is None

@pytest.mark.parametrize('changes,message', [
    (dict(train_images=None), 'expected train_images, train_labels'),
    (dict(train_images=pixels(6, 8, 8, 8)), r'train part: images have shape \[6, 8, 8, 8\], expected \[N,H,W\]'),
    (dict(val_images=pixels(6, 8, 8, 3).astype(float)), 'val part: images are torch.float64, expected uint8'),
    (dict(test_images=np.full((6,8,8,3), np.nan)), 'test part: images hold 1152 NaN'),
    (dict(train_images=pixels(0, 8, 8, 3)), 'train part: images hold no image'),
    (dict(val_labels=np.arange(5)), 'val part: labels number 5, images 6'),
    (dict(val_labels=np.arange(6)/2), 'val part: labels are torch.float64'),
    (dict(train_labels=np.array(list('aabbcc'))), 'train part: .*names belong in classes'),
    (dict(test_images=pixels(6, 8, 9, 3)), 'expected one shape'),
    (dict(classes=np.array(['x','y'])), 'labels run from 0 to 2, expected 0 to 1'),
    (dict(train_labels=np.array([None]*6)), 'Python objects, which are never loaded'),
    (dict(train_groups=np.arange(4)), r'train part: groups have shape \[4\], expected \[6\]'),
])
def test_npz_wrong(npz, changes, message):
    file = npz(**changes)
    with pytest.raises(ValueError, match=message) as e: npz_data(file)
    assert 'made.npz' in str(e.value)

@pytest.mark.parametrize('keep', [0, .3, .7, .999])
def test_npz_cut_short(npz, keep):
    with pytest.raises(ValueError, match='made.npz cannot be read as an npz file: it is damaged, cut short'):
        npz_data(cut_short(npz(), keep))

def test_npz_flipped_bits(npz):
    file = npz()
    raw = bytearray(file.read_bytes()); raw[400:420] = bytes(20); file.write_bytes(raw)
    with pytest.raises(ValueError, match='cannot be read as an npz file'): npz_data(file)

def test_npz_that_is_a_single_array(tmp_path):
    np.save(tmp_path/'one.npy', pixels(3, 8, 8))
    with pytest.raises(ValueError, match='one.npy cannot be read as an npz file'): npz_data(tmp_path/'one.npy')

def test_npz_groups_in_two_parts(npz):
    with pytest.warns(UserWarning, match='2 groups stand in both train and test, e.g. 4'):
        npz_data(npz(train_groups=np.arange(6), test_groups=np.arange(4,10)))

def test_npz_findings(npz):
    findings = np.eye(6, 4, dtype=np.int8)
    splits = npz_data(npz(**{f'{s}_labels': findings for s in ('train','val','test')}))
    assert splits.train.c == 4 and splits.train.dls(bs=4).one_batch()[1].dtype == torch.float32

# MedMNIST

def test_medmnist_2d_names_and_sizes():
    from medmnist.info import INFO
    names = [n for n,i in INFO.items() if not i['python_class'].endswith('3D')]
    assert len(names) == 12
    for n in names:
        for size in (28,64,128,224):
            file,url,md5,classes = arrays._medmnist_file(n, size)
            assert file in url and len(md5) == 32 and classes == list(INFO[n]['label'].values())

def test_medmnist_without_network(tmp_path, monkeypatch):
    def broken(*args): raise urllib.error.URLError('no route to host')
    monkeypatch.setattr(arrays, 'download_url', broken)
    with pytest.raises(FileNotFoundError) as e: medmnist_data('pathmnist', 64, root=tmp_path)
    for part in ('pathmnist_64.npz', str(tmp_path), 'zenodo.org', 'no route to host', 'put it there'): assert part in str(e.value)
    assert not list(tmp_path.iterdir())

def test_medmnist_broken_download_leaves_nothing(tmp_path, monkeypatch):
    def half(url, root, name, md5):
        (Path(root)/name).write_bytes(b'half')
        raise RuntimeError('File not found or corrupted.')
    monkeypatch.setattr(arrays, 'download_url', half)
    with pytest.raises(FileNotFoundError, match='the download failed'): medmnist_data('bloodmnist', root=tmp_path)
    assert not list(tmp_path.iterdir())

def test_medmnist_download(npz, tmp_path, monkeypatch):
    import hashlib, medmnist.info
    source = npz()
    monkeypatch.setitem(medmnist.info.INFO['pathmnist'], 'MD5', hashlib.md5(source.read_bytes()).hexdigest())
    monkeypatch.setattr(arrays, 'download_url', lambda url,root,name,md5: shutil.copy(source, Path(root)/name))
    splits = medmnist_data('pathmnist', root=tmp_path/'new'/'folder')
    assert splits.test.classes[0] == 'adipose' and splits.train.c == 9
    assert [f.name for f in (tmp_path/'new'/'folder').iterdir()] == ['pathmnist.npz']
    assert len(medmnist_data('pathmnist', root=tmp_path/'new'/'folder', download=False).train) == 6

def test_medmnist_other_file_is_left_alone(npz, tmp_path):
    other = npz().rename(tmp_path/'pathmnist.npz')
    before = other.read_bytes()
    with pytest.raises(ValueError, match='not the published file .* read it as it is with npz_data'):
        medmnist_data('pathmnist', root=tmp_path)
    assert other.read_bytes() == before

# folders

def test_folder_whole(folder):
    found = folder_data(folder)
    assert found.images.shape == (6,3,10,12) and found.classes == ['a','b'] and found.labels.tolist() == [0,0,0,1,1,1]
    assert folder_data(folder, size=8).images.shape == (6,3,8,8)

def test_folder_takes_other_files_in_its_stride(folder):
    (folder/'.DS_Store').write_bytes(b'x'); (folder/'a'/'notes.txt').write_text('x'); (folder/'a'/'._0.png').write_bytes(b'x')
    (folder/'.cache').mkdir()
    assert len(folder_data(folder)) == 6

@pytest.mark.parametrize('keep', [0, .2, .7])
def test_folder_bad_image(folder, keep):
    cut_short(folder/'b'/'3.png', keep)
    with pytest.raises(UnreadableImage, match='3.png cannot be read as an image.*1 of 6 images are bad.*skip_bad=True'):
        folder_data(folder)
    with pytest.warns(UserWarning, match='skipped 1 of 6 images that cannot be read: .*3.png'):
        found = folder_data(folder, skip_bad=True)
    assert found.labels.tolist() == [0,0,0,1,1]

def test_folder_only_bad_images(folder):
    for f in folder.rglob('*.png'): f.write_bytes(b'not an image')
    with pytest.raises(UnreadableImage, match='6 of 6 images are bad'): folder_data(folder, skip_bad=True)
    with pytest.raises(UnreadableImage, match='none of the 6 images'): folder_dls(folder, 8, skip_bad=True)

def test_folder_layout(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no folder'): folder_data(tmp_path/'nowhere')
    with pytest.raises(ValueError, match='is a file, expected a folder'): folder_data(folder/'a'/'0.png')
    (folder/'c').mkdir()
    with pytest.raises(ValueError, match='c holds no image: add some, or remove the folder'): folder_data(folder)
    (folder/'c').rmdir()
    shutil.copy(folder/'a'/'0.png', folder/'loose.png')
    with pytest.raises(ValueError, match='1 images beside its class folders'): folder_data(folder)

def test_folder_16_bit(folder):
    Image.fromarray(np.zeros((10,12), np.uint16)).save(folder/'a'/'deep.png')
    with pytest.raises(ValueError, match='1 of 7 images are grey.*deep.png'): folder_data(folder)
    with pytest.warns(UserWarning, match='1 of 7 images have more than 8 bits per channel.*deep.png'): folder_data(folder, channels=3)

@pytest.mark.parametrize('mode,n_in', [('1',1), ('L',1), ('LA',1), ('P',3), ('RGBA',3), ('CMYK',3), ('RGB',3)])
def test_folder_modes(tmp_path, mode, n_in):
    Image.fromarray(pixels(1, 8, 8, 3)[0]).convert(mode).save(tmp_path/('x.tif' if mode == 'CMYK' else 'x.png'))
    assert folder_data(tmp_path).n_in == n_in

def test_folder_splits_share_classes(folder, tmp_path):
    root = tmp_path/'divided'
    shutil.copytree(folder, root/'train'); shutil.copytree(folder/'b', root/'valid'/'b')
    splits = folder_splits(root)
    assert splits.val.labels.tolist() == [1,1,1] and splits.val.classes == ['a','b'] and splits.test is None
    shutil.copytree(folder/'b', root/'test'/'c')
    with pytest.raises(ValueError, match='c is a class that train does not have'): folder_splits(root)
    with pytest.raises(FileNotFoundError, match='folder_data reads a folder without parts'): folder_splits(folder)

def test_folder_splits_one_shape(folder, tmp_path):
    root = tmp_path/'divided'
    shutil.copytree(folder, root/'train'); (root/'test'/'a').mkdir(parents=True)
    Image.new('RGB', (9,9)).save(root/'test'/'a'/'x.png')
    with pytest.raises(ValueError, match=r'images of test are \[3, 9, 9\], of train \[3, 10, 12\]'): folder_splits(root)
    assert folder_splits(root, size=8).test.size == 8

@pytest.mark.parametrize('workers', [0, 2])
def test_stream_bad_image(folder, workers):
    cut_short(folder/'b'/'3.png')
    with pytest.raises(UnreadableImage, match='3.png cannot be read'): list(folder_dls(folder, 8, bs=2, workers=workers).train)
    dls = folder_dls(folder, 8, bs=2, workers=workers, skip_bad=True, drop_last=False, device='cpu')
    with pytest.warns(UserWarning, match='skipped 1 of 6 images that cannot be read: .*3.png'):
        assert sum(len(x) for x,_ in dls.train) == 5

def test_stream_order_resumes(folder):
    dls = folder_dls(folder, 8, bs=2, workers=2, device='cpu')
    state = dls.train.rng.getstate()
    first = torch.cat([x for x,_ in dls.train])
    dls.train.rng.setstate(state)
    assert torch.equal(first, torch.cat([x for x,_ in dls.train]))

# nuclei

def test_nuclei_folders(tmp_path):
    def make(*parts, shape=(8,8), value=0):
        file = tmp_path.joinpath(*parts); file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(shape, value, np.uint8)).save(file)
    make('one', 'images', 'one.png', shape=(8,8,4))
    with pytest.raises(ValueError, match='masks holds no mask'): nuclei_data(tmp_path)
    make('one', 'masks', '0.png', value=255)
    assert nuclei_data(tmp_path).masks.unique().tolist() == [1]
    make('one', 'masks', '1.png', shape=(8,9))
    with pytest.raises(ValueError, match=r'1.png is 8x9, its image .*one.png is 8x8'): nuclei_data(tmp_path, size=4)
    with pytest.raises(ValueError, match='1.png is 8x9'): list(nuclei_items(tmp_path))
    cut_short(tmp_path/'one'/'masks'/'1.png', .2)
    with pytest.raises(UnreadableImage, match='1.png cannot be read as a mask'): nuclei_data(tmp_path)
    make('one', 'images', 'two.png', shape=(8,8,3))
    with pytest.raises(ValueError, match='holds 2 images, expected one'): nuclei_data(tmp_path)

def test_nuclei_one_file_is_one_nucleus(tmp_path):
    "A nucleus cut in two by an overlap keeps one id, but a two-valued mask of a whole image is counted"
    apart = np.zeros((8,8), np.uint8); apart[:2] = apart[6:] = 255
    for layout in ('x', '.'):
        for kind,x in (('images', np.zeros((8,8,3), np.uint8)), ('masks', apart)):
            (tmp_path/layout/kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(x).save(tmp_path/layout/kind/'x.png')
        assert nuclei_data(tmp_path).masks.unique().tolist() == ([0,1] if layout == 'x' else [0,1,2])

def test_nuclei_coloured_and_deep_masks(tmp_path):
    (tmp_path/'images').mkdir(); (tmp_path/'masks').mkdir()
    Image.new('RGB', (8,8)).save(tmp_path/'images'/'x.png')
    Image.fromarray((np.arange(64)//32*np.arange(64)*1000).astype(np.uint16).reshape(8,8)).save(tmp_path/'masks'/'x.png')
    assert nuclei_data(tmp_path).masks.max() == 63000
    Image.new('RGB', (8,8), (255,0,0)).save(tmp_path/'masks'/'x.png')
    with pytest.raises(ValueError, match='hold #ff0000, and 0 is nowhere'): nuclei_data(tmp_path)

def test_nuclei_archive(tmp_path):
    (tmp_path/'bowl.zip').write_bytes(b'PK')
    with pytest.raises(ValueError, match='unpack it first'): nuclei_data(tmp_path/'bowl.zip')

# real files

def test_real_arrays(shared):
    with warnings.catch_warnings():
        warnings.simplefilter('error')                     # its groups are kept apart: no warning of leaks
        lung = npz_data(shared/'lc25000_lung_64.npz')
    assert [len(p) for p in lung] == [2067,296,596] and lung.train.classes == ['lung_aca','lung_n','lung_scc']
    assert lung.train.images.shape[1:] == (3,64,64) and len(np.unique(lung.train.groups)) > 500
    xray = npz_data(shared/'pneumoniamnist.npz')
    assert [len(p) for p in xray] == [3882,524,624] and xray.train.n_in == 1 and xray.train.c == 2

def test_reduced_medmnist_is_refused(shared, tmp_path):
    shutil.copy(shared/'pneumoniamnist.npz', tmp_path)
    with pytest.raises(ValueError, match='not the published file'): medmnist_data('pneumoniamnist', root=tmp_path)

def test_real_folders(shared):
    splits = folder_splits(shared/'lc25000_lung_224', size=32)
    assert sum(map(len, splits)) == 740 and splits.train.c == 3
    dls = folder_dls(shared/'lc25000_lung_224', size=32, bs=64, workers=0, device='cpu')
    assert len(dls.train.dataset) == len(splits.train) and len(dls.valid.dataset) == len(splits.val)
    assert dls.mean == pytest.approx(splits.train.mean, abs=.02)

def test_real_nuclei(shared, tmp_path):
    "The first files of the archive, unpacked"
    with tarfile.open(shared/'dsb2018_stage1_train.tar.xz') as archive:
        ids = set()
        for member in archive:
            parts = member.name.split('/')
            if len(parts) > 1 and parts[1]: ids.add(parts[1])
            if len(ids) > 4: break
            archive.extract(member, tmp_path, **(dict(filter='data') if hasattr(tarfile, 'data_filter') else {})) # older Pythons have none
    items = list(nuclei_items(tmp_path))
    assert len(items) == 4
    for image,mask,_ in items: assert image.shape == (3, *mask.shape) and image.dtype == np.uint8 and mask.max() > 1
    assert nuclei_data(tmp_path, size=64).images.shape == (4,3,64,64)


def test_streaming_over_a_bad_image_trains(tmp_path):
    "The empty second loader of a folder with a bad file must not trip over it"
    from pathlearn.siamese import simsiam_learner
    for i in range(9): Image.fromarray(np.random.default_rng(i).integers(0, 256, (32,32,3), dtype=np.uint8)).save(tmp_path/f'{i}.png')
    (tmp_path/'bad.png').write_bytes(b'no image')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        learn = simsiam_learner(folder_dls(tmp_path, 32, bs=3, workers=0, skip_bad=True), 'tiny', dim=32)
        with learn.no_logging(): learn.fit(1)
    assert len(learn.recorder.losses) == 3


def test_a_class_too_small_to_divide_is_named():
    few = PatchData(torch.zeros(9, 1, 16, 16, dtype=torch.uint8), [0]*8 + [1])
    with pytest.warns(UserWarning, match=r'too few images for 3 parts in 1 of 2 classes, 1 \(1\)'): few.split()
    with pytest.raises(ValueError, match='leave nothing to train on'): few.split(.6, .6)

# published layouts

TISSUES = 'ADI BACK DEB LYM MUC MUS NORM STR TUM'.split()

@pytest.fixture
def nct(tmp_path):
    "Ten images a class to train on, one to test"
    for part,n in (('NCT-CRC-HE-100K',10), ('CRC-VAL-HE-7K',1)):
        for k,tissue in enumerate(TISSUES):
            (tmp_path/part/tissue).mkdir(parents=True)
            for i in range(n): Image.new('RGB', (16,16), (25*k,10,10)).save(tmp_path/part/tissue/f'{i}.tif')
    return tmp_path

def test_nct_crc(nct):
    splits = nct_crc_data(nct)
    assert [len(p) for p in splits] == [81,9,9] and splits.test.labels.tolist() == list(range(9))
    assert splits.val.images[:,0,0,0].tolist() == [25*y for y in splits.val.labels.tolist()]
    assert torch.equal(nct_crc_data(nct, size=8, seed=1).train.labels, nct_crc_data(nct, size=8, seed=1).train.labels)
    assert published_splits(nct, 8).test.size == 8
    (nct/'NCT-CRC-HE-100K').rename(nct/'NCT-CRC-HE-100K-NONORM')
    assert nct_crc_data(nct).train.name == 'NCT-CRC-HE-100K-NONORM'

def test_nct_crc_class_in_one_folder_only(nct):
    shutil.rmtree(nct/'NCT-CRC-HE-100K'/'MUS')
    with pytest.raises(ValueError, match='100K holds ADI, BACK, DEB, LYM, MUC, NORM, STR, TUM: expected the nine'): nct_crc_data(nct)
    (nct/'NCT-CRC-HE-100K'/'MUS').mkdir()
    with pytest.raises(ValueError, match='MUS holds no image'): nct_crc_data(nct)
    shutil.rmtree(nct/'CRC-VAL-HE-7K')
    shutil.rmtree(nct/'NCT-CRC-HE-100K')
    with pytest.raises(ValueError, match='NCT-CRC-HE-100K does not exist'): nct_crc_data(nct)
    assert published_splits(nct) is None

def test_nct_crc_of_other_size(nct):
    Image.new('RGB', (9,9)).save(nct/'NCT-CRC-HE-100K'/'ADI'/'0.tif')
    with pytest.raises(ValueError, match=r'90 images have 2 sizes, 16x16 \(89\), 9x9 \(1\)'): nct_crc_data(nct)
    (nct/'NCT-CRC-HE-100K'/'ADI'/'0.tif').unlink()
    for f in (nct/'CRC-VAL-HE-7K').rglob('*.tif'): Image.new('RGB', (9,9)).save(f)
    with pytest.raises(ValueError, match=r'images of CRC-VAL-HE-7K are \[3, 9, 9\]'): nct_crc_data(nct)

def test_nct_crc_larger_than_memory(nct, monkeypatch):
    monkeypatch.setattr(os, 'sysconf', lambda name: {'SC_PHYS_PAGES': 1000, 'SC_PAGE_SIZE': 4096}[name])
    with pytest.raises(ValueError, match="224 px per side takes 0.0271 GB of memory, .* has 0.0041 GB: give"):
        nct_crc_data(nct)
    assert nct_crc_data(nct, size=16).train.size == 16

@pytest.fixture
def pcam(tmp_path):
    "The six files, small: the first pixel of a patch is its number, its label whether that is odd"
    h5py = pytest.importorskip('h5py')
    (tmp_path/'pcam').mkdir()
    for part,n in (('train',200), ('valid',9), ('test',9)):
        x = pixels(n, 96, 96, 3)
        x[:,0,0,0] = np.arange(n)
        for k,v in (('x', x), ('y', np.arange(n, dtype=np.uint8).reshape(n,1,1,1)%2)):
            with h5py.File(tmp_path/'pcam'/f'camelyonpatch_level_2_split_{part}_{k}.h5', 'w') as f: f[k] = v
    return tmp_path

@pytest.mark.parametrize('n', [None, 1, 13, 100, 200, 1000])
def test_pcam(pcam, n):
    "Rows far apart are read singly, others in blocks: either gives the right patches, none twice"
    splits = pcam_data(pcam, n=n, download=False)
    number = splits.train.images[:,0,0,0].long()
    assert [len(p) for p in splits] == [min(n or 200, 200), min(n or 9, 9), min(n or 9, 9)]
    assert torch.equal(number % 2, splits.train.labels) and len(number.unique()) == len(number)
    assert splits.train.classes == ['normal','metastasis']

def test_pcam_size(pcam):
    assert published_splits(pcam, 32).train.images.shape == (200,3,32,32)

def test_pcam_compressed(pcam):
    "Files put there by hand come as .h5.gz"
    import gzip
    before = pcam_data(pcam, download=False).val
    for f in list((pcam/'pcam').glob('*valid*')):
        f.with_name(f.name+'.gz').write_bytes(gzip.compress(f.read_bytes())); f.unlink()
    assert torch.equal(pcam_data(pcam, download=False).val.images, before.images)
    assert len(list((pcam/'pcam').iterdir())) == 8                        # nothing half done left behind
    damaged = pcam/'pcam'/'camelyonpatch_level_2_split_valid_x.h5'
    damaged.unlink(); cut_short(damaged.with_name(damaged.name+'.gz'))
    with pytest.raises(FileNotFoundError, match='valid_x.h5 is not in .*fetching or unpacking failed: .*zenodo'):
        pcam_data(pcam, download=False)
    assert not damaged.exists()

def test_pcam_download(pcam, tmp_path, monkeypatch):
    "torchvision fetches archives into the folder that is read"
    import gzip
    def fetch(file_id, root, filename, md5):
        source = pcam/'pcam'/filename.removesuffix('.gz')
        Path(root).mkdir(parents=True, exist_ok=True)
        (Path(root)/filename).write_bytes(gzip.compress(source.read_bytes()))
    monkeypatch.setattr('torchvision.datasets.pcam.download_file_from_google_drive', fetch)
    assert [len(p) for p in pcam_data(tmp_path/'new')] == [200,9,9]

def test_pcam_without_network(tmp_path, monkeypatch):
    pytest.importorskip('h5py')
    def broken(*args, **kw): raise RuntimeError('too many users have viewed this file')
    monkeypatch.setattr(published, 'PCAM', broken)
    with pytest.raises(FileNotFoundError) as e: pcam_data(tmp_path)
    for part in ('split_train_x.h5.gz', str(tmp_path/'pcam'), 'too many users', 'zenodo.org', 'put it there'): assert part in str(e.value)

def test_pcam_without_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(ImportError, match='pip install h5py'): pcam_data(tmp_path)

def test_pcam_damaged(pcam):
    cut_short(pcam/'pcam'/'camelyonpatch_level_2_split_test_x.h5')
    with pytest.raises(ValueError, match='test_x.h5 and its labels cannot be read'): pcam_data(pcam, download=False)

def gland_files(root, name, shape=(40,50), mask_shape=None, ids=(1,2)):
    "An image and its mask in the layout of GlaS, or of CRAG if the name holds a folder"
    mask = np.zeros(mask_shape or shape, np.uint8); mask[:10] = ids[0]; mask[20:] = ids[1]
    part,_,stem = name.rpartition('/')
    files = ((root/part/'Images'/f'{stem}.png', root/part/'Annotation'/f'{stem}.png') if part else
             (root/f'{stem}.bmp', root/f'{stem}_anno.bmp'))
    for f,x in zip(files, (pixels(1, *shape, 3)[0], mask)):
        f.parent.mkdir(parents=True, exist_ok=True); Image.fromarray(x).save(f)
    return files

@pytest.mark.parametrize('names', [['train_1','train_2','train_10','testA_1','testB_1'],
                                   ['train/train_1','train/train_2','train/train_10','valid/test_1','valid/test_2']])
def test_glands(tmp_path, names):
    for name in names: gland_files(tmp_path, name)
    splits = gland_data(tmp_path)
    assert [len(p) for p in splits] == [2,1,2] and splits.test.images.shape == (2,3,40,50) and splits.train.labels is None
    assert splits.train.masks.unique().tolist() == [0,1,2]
    tiles = gland_data(tmp_path, tiles=20)
    assert [len(p) for p in tiles] == [8,4,8] and len(set(tiles.val.groups)) == 1
    image,ids,_,_ = next(gland_items(tmp_path))
    assert (image.shape, ids.shape, ids.dtype) == ((3,40,50), (40,50), np.int32)
    assert published_splits(tmp_path, 16).test.masks.shape == (2,16,16)

def test_glands_keep_published_ids(tmp_path):
    "One gland in two pieces stays one gland, where a nuclei mask of two values would be counted"
    for name in ('train_1','train_2','testA_1'): gland_files(tmp_path, name, ids=(7,7))
    assert gland_data(tmp_path).train.masks.unique().tolist() == [0,7]

def test_glands_tiles_fit_together(tmp_path):
    for name in ('train_1','train_2','testA_1'): gland_files(tmp_path, name)
    tiles = gland_data(tmp_path, tiles=20).test
    image,ids,*_ = next(o for o in gland_items(tmp_path) if o[3] == 'testA')
    rows = [torch.cat(list(tiles.images[i:i+2]), -1) for i in (0,2)]
    assert np.array_equal(torch.cat(rows, 1).numpy(), image[:,:,:40])
    assert np.array_equal(tiles.masks[2].numpy(), ids[20:,:20])

def test_glands_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no folder'): gland_data(tmp_path/'nowhere', 8)
    with pytest.raises(ValueError, match='holds no images of glands: expected train_1.bmp'): gland_data(tmp_path, 8)
    gland_files(tmp_path, 'train_1'); gland_files(tmp_path, 'train_2')
    with pytest.raises(ValueError, match='holds 2 images of train: expected'): gland_data(tmp_path, 8)
    _,mask = gland_files(tmp_path, 'testA_1', mask_shape=(40,49))
    with pytest.raises(ValueError, match='testA_1_anno.bmp is 40x49, its image .*testA_1.bmp is 40x50'): gland_data(tmp_path, 8)
    cut_short(mask, .2)
    with pytest.raises(UnreadableImage, match='testA_1_anno.bmp cannot be read as a mask'): gland_data(tmp_path, 8)
    mask.unlink()
    with pytest.raises(ValueError, match='1 of 3 images have no mask: .*testA_1.bmp expects .*testA_1_anno.bmp'): gland_data(tmp_path, 8)

def test_glands_grades(tmp_path):
    names = [*(f'train_{i}' for i in range(8)), 'testA_0']
    for name in names: gland_files(tmp_path, name)
    table = [f'{name},{i//2}, {("benign","malignant")[i//2%2]}, adenomatous' for i,name in enumerate(names)]
    def write(head, rows): (tmp_path/'Grade.csv').write_text('\r\n'.join([head, *rows]))
    head = 'name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)'
    write(head, table)
    splits = gland_data(tmp_path, size=8)
    assert splits.test.classes == ['benign','malignant'] and splits.val.labels.bincount().tolist() == [2,2]
    assert not set(splits.train.groups) & set(splits.val.groups)
    write(head, [*table[:-1], 'testA_0,0, benign, healthy'])              # a patient of train
    with pytest.warns(UserWarning, match='1 groups stand in both'): gland_data(tmp_path, size=8)
    write(head, table[:-1])
    with pytest.raises(ValueError, match="Grade.csv lacks 'testA_0': expected the columns"): gland_data(tmp_path, size=8)
    write('name,patient,grade', table)
    with pytest.raises(ValueError, match="Grade.csv lacks 'patient ID'"): gland_data(tmp_path, size=8)
