"Large images, pixels to be ignored, archives from strangers, and files that must not meet"
import bz2, io, lzma, os, shutil, tarfile, zipfile
import numpy as np, pandas as pd, pytest, tifffile, torch
from PIL import Image
from pathlearn.cdcl import *
from pathlearn.cli import pathlearn_train
from pathlearn.commands import archives, nuclei as room
from pathlearn.commands.archives import unpacked
from pathlearn.commands.nuclei import native_scores
from pathlearn.commands.nuclei_inputs import Nuclei

def write(folder, data, masks=None, n=None, ext='.png', **kw):
    "images/ and masks/ of drawn nuclei"
    for kind in ('images','masks'): (folder/kind).mkdir(parents=True, exist_ok=True)
    for i,(x,m) in enumerate(zip(data.images[:n], data.masks if masks is None else masks)):
        tifffile.imwrite(folder/'images'/f'{i:02}{ext}', x.permute(1,2,0).numpy(), photometric='rgb', **kw) if ext == '.tif' else \
            Image.fromarray(x.permute(1,2,0).numpy()).save(folder/'images'/f'{i:02}{ext}')
        Image.fromarray(m.numpy().astype(np.uint16)).save(folder/'masks'/f'{i:02}.png')
    return folder

def beside(data, k): # PatchData -> images k times as wide and high, every nucleus with an id of its own
    masks = data.masks.tile(1, k, k)
    n = data.size
    for i in range(k*k):
        part = masks[:, i//k*n:(i//k+1)*n, i%k*n:(i%k+1)*n]
        part += (part > 0)*200*i
    return PatchData(data.images.tile(1, 1, k, k), masks=masks)

@pytest.fixture(scope='module')
def drawn(): return synthetic_nuclei(n=10, size=128, seed=3)

@pytest.fixture
def cells(tmp_path, drawn): return write(tmp_path/'cells', drawn)

def cdcl(*args, capsys=None):
    small = '--arch', 'tiny', '--epochs', 1, '--start', 0, '--bs', 2, '--device', 'cpu', '--grid', 4
    code = pathlearn_train(['cdcl', *map(str, args), *map(str, small)])
    return (code, capsys.readouterr()) if capsys else code

# ignored pixels

def counted(pred, true): # Dice of the pixels that remain, written out
    keep = true.numpy() != -1
    p,t = pred.numpy()[keep] != 0, true.numpy()[keep] > 0
    return 2*(p & t).sum()/(p.sum()+t.sum())

def naive_pq(pred, true): # matches among the pixels that remain, one pair after another
    keep = (true != -1).numpy(); p,t = pred.numpy()[keep], true.numpy()[keep]
    ps,ts = [i for i in np.unique(p) if i > 0],[i for i in np.unique(t) if i > 0]
    ious = [((p == i) & (t == j)).sum()/((p == i) | (t == j)).sum() for i in ps for j in ts]
    return sum(v for v in ious if v > .5)/((len(ps)+len(ts))/2)

def test_scores_are_those_of_the_pixels_that_remain(drawn):
    gen = torch.Generator().manual_seed(0)
    true = drawn.masks.clone(); true[torch.rand(true.shape, generator=gen) < .2] = -1; true[:,:20] = -1
    pred = [m.roll(2, 0) for m in drawn.masks]
    for p,t in zip(pred[:4], true):
        assert segmentation_scores(p, t)['dice'] == pytest.approx(counted(p, t), abs=1e-12)
        assert panoptic_quality(p, t) == pytest.approx(naive_pq(p, t), abs=1e-12)
    masks = [(p > 0).byte() for p in pred]
    scores = native_scores(masks, true)
    assert scores['dice'] == pytest.approx(np.mean([counted(p, t) for p,t in zip(masks, true)]), abs=1e-9)
    assert scores['pooled dice'] == pytest.approx(counted(torch.cat(masks), torch.cat([*true])), abs=1e-12)
    scribbled = [torch.where(t < 0, torch.randint(2, m.shape, generator=gen, dtype=torch.uint8), m) for m,t in zip(masks, true)]
    assert {n: v for n,v in native_scores(scribbled, true).items() if n != 'panoptic quality'} == {n: v for n,v in scores.items() if n != 'panoptic quality'}
    none = torch.full_like(true[:1], -1)
    assert native_scores([*masks, masks[0]], [*true, none[0]]) == scores
    floor = [counted(otsu_mask(x), t) for x,t in zip(drawn.images, true)]
    assert segmentation_floor(PatchData(drawn.images, masks=true))['dice'] == pytest.approx(np.mean(floor), abs=1e-9)

def test_no_gradient_comes_from_ignored_pixels():
    logits, y = torch.randn(2,2,16,16, requires_grad=True), torch.randint(2, (2,16,16))
    from fastai.losses import CrossEntropyLossFlat
    from pathlearn.transfer import MaskLoss
    for loss,before in ((CDCLLoss(0, 0, 0), torch.nn.functional.cross_entropy), (MaskLoss(), CrossEntropyLossFlat(axis=1))):
        half = y.clone(); half[:,:,8:] = 255
        grad, = torch.autograd.grad(loss(logits, half), logits)
        left, = torch.autograd.grad(torch.nn.functional.cross_entropy(logits[...,:8], y[...,:8]), logits)
        assert (grad[...,8:] == 0).all() and torch.allclose(grad, left, atol=1e-7)
        assert loss(logits, torch.full_like(y, 255)) == 0 # and not NaN
        assert torch.equal(loss(logits, y), before(logits, y)) # to the last bit where nothing is ignored

def test_a_network_learns_the_same_whatever_is_ignored(drawn):
    "Two trainings whose masks differ in ignored pixels alone: one says -1 there, the other's ids were erased to -1, too"
    def train(masks, learner, dls):
        torch.manual_seed(0); set_seed(0)
        learn = learner(dls(PatchData(drawn.images[:6], masks=masks)))
        with learn.no_logging(): learn.fit(1)
        return torch.cat([p.detach().flatten() for p in learn.model.parameters()]), learn.recorder.values
    masks = drawn.masks[:6].clone(); masks[:,:,64:] = -1
    for learner,dls in ((lambda d: mask_learner(d, encoder('tiny', small_stem=False)), lambda p: mask_dls(p[:4], p[4:], bs=4)),
                        (lambda d: cdcl_learner(d, 'tiny', grid=4, start=0), lambda p: semi_dls(p[:4], p, p[4:], bs=4, device='cpu'))):
        weights,values = train(masks, learner, dls)
        assert torch.isfinite(weights).all() and np.isfinite(values[-1]).all()
        whole,_ = train(drawn.masks[:6], learner, dls)
        assert not torch.equal(weights, whole)

def test_void_in_a_folder(tmp_path, drawn, capsys):
    "Value 255 beside ids: neither trained on nor scored, and grey in the pictures"
    masks = drawn.masks.clone(); masks[masks > 200] = 200; masks[:,:,:30] = 255
    folder = write(tmp_path/'void', drawn, masks)
    nuclei = Nuclei(folder, 64, ignore=255)
    assert ((nuclei.train.masks == -1).float().mean() - 30/128).abs() < .01 and all((t[:,:30] == -1).all() for _,t in nuclei.test)
    code, told = cdcl('--data', folder, '--ignore', 255, '--size', 64, '--out', tmp_path/'run', capsys=capsys)
    assert code == 0 and 'of the test pixels are ignored' in told.out
    assert pd.read_csv(tmp_path/'run'/'scores.csv', index_col=0).dice['perfect mask at 64 px'] == 1

# scale

def test_a_large_image_that_is_shrunk_is_told_and_tiles_keep_its_scale(tmp_path, drawn, capsys):
    big = beside(drawn, 2)
    folder = write(tmp_path/'big', big)
    few = PatchData(big.images, masks=big.masks)
    shrunk, tiled = Nuclei(folder, 32), Nuclei(folder, 128, tile=128)
    assert 'too small to be outlined well' in shrunk.notes[0] and '--tile' in shrunk.notes[0] and 'small' not in ' '.join(tiled.notes)
    assert len(tiled.train) == 7*4 and tiled.sides == [256]*2 and tiled.train.groups[0] == tiled.train.groups[3]
    ids = {n.partition('.')[0][-2:]: i for i,n in enumerate(sorted(os.listdir(folder/'images')))}
    first = few.images[ids[tiled.train.groups[0].partition('.')[0][-2:]]]
    assert torch.equal(tiled.train.images[3], first[:,128:,128:]) # pixels as they were
    code, told = cdcl('--data', folder, '--size', 32, '--out', tmp_path/'run', capsys=capsys)
    assert code == 0 and told.out.index('too small to be outlined well') < told.out.index('epoch   1')

def test_microns_bring_all_images_to_one_scale(tmp_path, drawn, capsys):
    where = dict(ext='.tif', resolutionunit='CENTIMETER')
    fine, coarse = (write(tmp_path/n, drawn, resolution=(r,r), **where) for n,r in (('fine', 40000), ('coarse', 20000)))
    a, b = Nuclei(fine, 64, mpp=.5), Nuclei(coarse, 64, mpp=.5)
    assert (len(a.train), len(b.train)) == (7, 28) and (a.sides, b.sides) == ([64]*2, [128]*2)
    more = Nuclei(fine, 64, mpp=.5, unlabelled=coarse/'images')
    assert len(more.without) == 7 + 8*4 # each cut like the others, none of the two test images
    plain = write(tmp_path/'plain', drawn)
    code, told = cdcl('--data', plain, '--mpp', .5, '--size', 64, '--out', tmp_path/'run', capsys=capsys)
    assert code == 2 and '10 of 10 images do not say how many microns a pixel is wide' in told.err and not (tmp_path/'run').exists()
    assert cdcl('--data', plain, '--mpp', .5, '--image-mpp', .25, '--size', 64, '--out', tmp_path/'run') == 0
    page = (tmp_path/'run'/'report.html').read_text()
    assert 'round(min(x.shape[1:])*MICRONS/0.5*64/64)' in page

def test_images_without_masks_come_at_the_scale_of_those_with(tmp_path, drawn):
    "Outlined images are cut into 250 px, so the others are: nuclei were twice as wide in them"
    large = beside(drawn, 4)[:3]
    more = tmp_path/'more'; more.mkdir()
    for i,x in enumerate(large.images): Image.fromarray(x.permute(1,2,0).numpy()).save(more/f'{i}.png')
    cells = write(tmp_path/'cells', beside(synthetic_nuclei(n=10, size=128, seed=5), 2))
    nuclei = Nuclei(cells, 128, tile=250, unlabelled=more)
    ours = nuclei.without[len(nuclei.train):]
    assert ours.shape == (12,3,128,128)
    tile = Image.fromarray(large.images[0,:,:250,:250].permute(1,2,0).numpy()).resize((128,128), Image.BILINEAR)
    assert np.array_equal(np.asarray(tile), ours[0].permute(1,2,0).numpy())

def test_tiles_give_the_whole_image_away_from_edges():
    from test_cdcl import Wide
    x = torch.nn.functional.avg_pool2d(torch.rand(1,3,300,420), 7, 1, 3)[0]
    with torch.no_grad(): whole = Wide().eval()(x[None]).argmax(1)[0]
    for tile in (None, 64, 96):
        mask, = segment(Wide().eval(), [x], tile=tile, overlap=32)
        assert (mask[8:-8,8:-8] != whole[8:-8,8:-8]).float().mean() < .01

# files that must not meet

def test_two_images_never_share_a_file_of_ids(cells, tmp_path, drawn):
    more = tmp_path/'more'
    for i,name in enumerate(('a/x.png', 'b/x.png', 'x.bmp', 'x.png')):
        (more/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.images[i].permute(1,2,0).numpy()[:64+16*i]).save(more/name)
    with pytest.raises(ValueError, match='beside its class folders'): list_of(more)
    shutil.move(more/'x.bmp', more/'a'); shutil.move(more/'x.png', more/'c.png'); shutil.move(more/'c.png', more/'b')
    before = {p for p in more.rglob('*')}
    assert cdcl('--data', cells, '--unlabelled', more, '--size', 64, '--out', tmp_path/'run') == 0
    found = {p.relative_to(tmp_path/'run'/'masks').as_posix(): Image.open(p).size[1] for p in (tmp_path/'run'/'masks').rglob('*.png')}
    assert found == {'a/x.png.png':64, 'b/x.png.png':80, 'a/x.bmp.png':96, 'b/c.png.png':112} and {p for p in more.rglob('*')} == before

def list_of(folder):
    from pathlearn.data import list_folder
    return list_folder(folder)

def test_nothing_is_written_among_the_images(cells, tmp_path, capsys):
    for args in (('--out', cells), ('--unlabelled', tmp_path/'run'/'masks', '--out', tmp_path/'run')):
        if 'run' in str(args): shutil.copytree(cells/'images', tmp_path/'run'/'masks')
        before = sorted(tmp_path.rglob('*'))
        code, told = cdcl('--data', cells, '--size', 64, *args, capsys=capsys)
        assert code == 2 and 'would write among the images of' in told.err and sorted(tmp_path.rglob('*')) == before

# what goes wrong, and when

def test_a_start_that_is_refused_leaves_no_folder(cells, tmp_path, monkeypatch, capsys):
    out = tmp_path/'run'
    for args,words in ((('--size', 100), '100 px per side, which do not divide'), (('--tile', 100), '100 px per side, which do not divide'),
                       (('--image-mpp', .25), 'give both')):
        code, told = cdcl('--data', cells, *args, '--out', out, capsys=capsys)
        assert code == 2 and words in told.err and 'Traceback' not in told.err and not out.exists(), told.err
    monkeypatch.setattr(room, 'from_worst', lambda *a: 1/0)
    code, told = cdcl('--data', cells, '--size', 64, '--out', out, capsys=capsys)
    assert code == 2 and 'nothing was trained, because the report' in told.err and 'epoch' not in told.out and not out.exists()

def test_few_masks_without_a_nucleus_are_refused(tmp_path, drawn, capsys):
    masks = torch.zeros_like(drawn.masks); masks[int(room_names(write(tmp_path/'cells', drawn))[0][-2:])] = 1 # of the test part
    code, told = cdcl('--data', write(tmp_path/'cells', drawn, masks), '--share', '1/8', '--size', 64, '--out', tmp_path/'run', capsys=capsys)
    assert code == 2 and 'keeps the masks of 1 images, and none of them holds a nucleus: take a larger share' in told.err and not (tmp_path/'run').exists()

def test_what_fails_late_leaves_weights_and_masks(cells, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(room, '_trial', lambda *a: None)
    monkeypatch.setattr(room, 'from_worst', lambda *a: 1/0)
    args = '--data', cells, '--unlabelled', cells/'images', '--size', 64, '--out', tmp_path/'run'
    code, told = cdcl(*args, capsys=capsys)
    assert code == 1 and 'the report could not be written' in told.err and (tmp_path/'run'/'cdcl.safetensors').exists()
    assert len([*(tmp_path/'run'/'masks').iterdir()]) == 10
    monkeypatch.undo()
    code, told = cdcl(*args, capsys=capsys)
    last = told.out.strip().splitlines()[-1]
    assert code == 0 and 'epoch  ' not in told.out and 'images have changed' not in told.out
    assert all(word in last for word in ('complete: weights in', 'masks of 10 images in', 'report in'))

def test_an_older_folder_goes_on(cells, tmp_path):
    "Settings of a run that knew no tiles and no values of masks"
    import json
    assert cdcl('--data', cells, '--size', 64, '--out', tmp_path/'run') == 0
    file = tmp_path/'run'/'settings.json'
    old = {n: v for n,v in json.loads(file.read_text()).items() if n not in ('tile','mpp','image_mpp','background','ignore','threshold')}
    file.write_text(json.dumps(old))
    assert cdcl('--data', cells, '--size', 64, '--out', tmp_path/'run') == 0
    assert cdcl('--data', cells, '--size', 64, '--tile', 64, '--out', tmp_path/'run') == 2

def test_test_images_without_a_nucleus_are_told(tmp_path, drawn):
    masks = drawn.masks.clone()
    held = [int(n[-2:]) for n in room_names(write(tmp_path/'cells', drawn))]
    masks[held] = 0
    nuclei = Nuclei(write(tmp_path/'cells', drawn, masks), 64)
    assert any('2 of 2 test images hold no nucleus' in n for n in nuclei.notes)
    scores = native_scores([torch.zeros_like(t).byte() for _,t in nuclei.test], [t for _,t in nuclei.test])
    assert scores['dice'] == 1 and all(np.isfinite(v) for v in scores.values())

def room_names(folder): # names of the images that are held out, without suffix
    images = {f.stem: torch.tensor(np.asarray(Image.open(f))).permute(2,0,1) for f in (folder/'images').iterdir()}
    return [n for x,_ in Nuclei(folder, 64).test for n,y in images.items() if torch.equal(x, y)]

# archives

def tar(path, *members, opener=tarfile.open, mode='w:gz'): # (name, bytes or dict)
    with opener(path, mode) as t:
        for name,what in members:
            info = tarfile.TarInfo(name)
            data = what if isinstance(what, bytes) else b''
            info.size = len(data)
            for k,v in (what.items() if isinstance(what, dict) else ()): setattr(info, k, v)
            t.addfile(info, io.BytesIO(data) if info.size == len(data) else None)
    return path

def zipped(path, *members):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as z:
        for name,what in members: z.writestr(name, what)
    return path

SYM, HARD, DEV = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.BLKTYPE
TARS = {'up': (('../out.png', b'x'),'leads out'), 'deep': (('a/../../out.png', b'x'),'leads out'), 'root': (('/etc/out.png', b'x'),'leads out'),
        'symbolic': (('a', dict(type=SYM, linkname='../..')),'leads out'), 'absolute link': (('a', dict(type=SYM, linkname='/etc/passwd')),'leads out'),
        'hard link': (('a', dict(type=HARD, linkname='../../etc/passwd')),'leads out'), 'no target': (('a', dict(type=HARD, linkname='b')),'points to no file'),
        'device': (('a', dict(type=DEV, devmajor=8)),'neither a file nor'), 'pipe': (('a', dict(type=tarfile.FIFOTYPE)),'neither a file nor'),
        'bomb': (('a', dict(size=2**45)),'holds more than')}

def refused(path):
    with pytest.raises((ValueError,OSError)) as e, unpacked(path): pass
    assert path.name in str(e.value), e.value
    return str(e.value)

@pytest.mark.parametrize('kind', TARS)
def test_hostile_tars(kind, tmp_path):
    member, words = TARS[kind]
    (tmp_path/'in').mkdir()
    assert words in refused(tar(tmp_path/'in'/'x.tar.gz', ('good.png', b'x'), member))
    assert sorted(p.name for p in tmp_path.rglob('*')) == ['in','x.tar.gz']

def test_a_link_swapped_under_a_file_writes_nowhere_else(tmp_path):
    "A link to a folder outside, then a file 'in' it"
    target = tmp_path/'target'; target.mkdir()
    refused(tar(tmp_path/'x.tar', ('a', dict(type=SYM, linkname=str(target))), ('a/evil.png', b'x'), mode='w'))
    assert not [*target.iterdir()]

def test_hostile_zips(tmp_path, monkeypatch):
    for i,name in enumerate(('../out.png', '/out.png', 'C:\\out.png', '..\\out.png', 'a/../../b')):
        assert 'leads out' in refused(zipped(tmp_path/f'{i}.zip', ('ok.png', b'x'), (name, b'x')))
    link = zipfile.ZipInfo('a'); link.external_attr = 0o120777 << 16
    assert 'leads out' in refused(zipped(tmp_path/'link.zip', (link, '/etc/passwd')))
    bomb = zipped(tmp_path/'bomb.zip', *((f'{i}', bytes(10**6)) for i in range(20)))
    monkeypatch.setattr(archives, '_MOST_BYTES', 10**7)
    assert bomb.stat().st_size < 10**5 and 'holds more than 0.0 GB, the most that is unpacked' in refused(bomb)
    monkeypatch.setattr(archives, '_MOST_FILES', 5)
    assert 'holds more than 5 files' in refused(bomb)
    monkeypatch.undo()
    full = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(archives.shutil, 'disk_usage', lambda _: full)
    assert 'has left' in refused(bomb)

def test_a_header_as_large_as_memory_is_not_read(tmp_path):
    with tarfile.open(tmp_path/'x.tar.xz', 'w:xz') as t:
        info = tarfile.TarInfo('a'*50); info.type = tarfile.XHDTYPE; info.size = 2**34
        t.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))
    assert 'header of 17,179,869,184 bytes' in refused(tmp_path/'x.tar.xz')

@pytest.mark.parametrize('suffix,mode', [('.tar.gz','w:gz'), ('.tar.xz','w:xz'), ('.tar.bz2','w:bz2'), ('.tar','w'), ('.zip',None)])
def test_archives_that_are_cut_short_or_misnamed(suffix, mode, cells, tmp_path):
    files = [(f'top/{p.relative_to(cells).as_posix()}', p.read_bytes()) for p in sorted(cells.rglob('*.png'))]
    path = zipped(tmp_path/f'set{suffix}', *files) if suffix == '.zip' else tar(tmp_path/f'set{suffix}', *files, mode=mode)
    whole = Nuclei(path, 64)
    assert whole.name == 'set' and torch.equal(whole.train.images, Nuclei(cells, 64).train.images)
    other = tmp_path/'other.zip' if suffix != '.zip' else tmp_path/'other.tar.gz'
    shutil.copy(path, other); assert len(Nuclei(other, 64).train) == 7 # by its bytes, not by its name
    inside = tmp_path/'one'; inside.mkdir(); shutil.copy(path, inside); assert len(Nuclei(inside, 64).train) == 7
    data = path.read_bytes()
    places = [100, len(data)//2, 512*20 if suffix == '.tar' else len(data)-600] # a plain tar ends with kilobytes of zeros
    for n in places:
        (tmp_path/f'cut{suffix}').write_bytes(data[:n])
        assert 'cut short' in refused(tmp_path/f'cut{suffix}') or n == 100

def test_a_tar_that_ends_between_two_files_is_not_taken_for_whole(tmp_path):
    path = tar(tmp_path/'x.tar', *((f'{i}.png', bytes(512)) for i in range(9)), mode='w')
    for n in (3*1024, 3*1024+512): path.with_name('cut.tar').write_bytes(path.read_bytes()[:n]); assert 'cut short' in refused(path.with_name('cut.tar'))
    broken = bytearray(path.read_bytes()); broken[4*1024+10] ^= 255
    path.with_name('broken.tar').write_bytes(broken); assert 'damaged' in refused(path.with_name('broken.tar'))

def test_links_to_what_came_before_are_copies(tmp_path):
    path = tar(tmp_path/'x.tar.gz', ('a/one.png', b'1234'), ('b/two.png', dict(type=SYM, linkname='../a/one.png')), ('three.png', dict(type=HARD, linkname='a/one.png')))
    with unpacked(path) as (folder,_): assert {p.name for p in folder.rglob('*.png') if p.read_bytes() == b'1234' and not p.is_symlink()} == {'one.png','two.png','three.png'}

def test_what_is_no_archive_is_said(tmp_path):
    for name,data in (('x.zip', b'hello'), ('x.tar.gz', b''), ('x.7z', b"7z\xbc\xaf'\x1c"), ('x.gz', b'\x1f\x8b' + bytes(30)), ('x.tar.xz', lzma.compress(b'no tar'*200)), ('x.png.bz2', bz2.compress(bytes(9)))):
        (tmp_path/name).write_bytes(data); refused(tmp_path/name)
