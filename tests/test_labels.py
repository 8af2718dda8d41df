"Labels of every kind that people have: read, or refused with what was found; rare classes; published sets with parts missing"
import shutil, warnings
import numpy as np, pytest, torch
from PIL import Image
from pathlearn.data import *
from pathlearn.evaluate import Embeddings, compare, fine_tune, floor_rows, kmeans_clusters, knn_score, label_subset, linear_score, untrained_encoder

rng = np.random.default_rng(0)
x,y = rng.integers(0, 256, (60,16,16,3), dtype=np.uint8), np.arange(60)%3

def said(f, *args, **kw): # -> what `f` returns, its warnings
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        return f(*args, **kw), [str(w.message) for w in seen]

@pytest.fixture
def npz(tmp_path):
    def write(**arrays):
        np.savez(tmp_path/'made.npz', **dict(train_images=x) | arrays)
        return tmp_path/'made.npz'
    return write

# what is read

@pytest.mark.parametrize('labels', [y, y[:,None], y.reshape(-1,1,1), y.astype(float), y[:,None].astype(np.float32), y.astype(np.uint64), y.astype('>i4'), np.eye(3)[y], np.eye(3, dtype=bool)[y]])
def test_one_meaning_many_shapes(npz, labels):
    for read in (lambda: npz_data(npz(train_labels=labels)).train, lambda: PatchData(torch.from_numpy(x).permute(0,3,1,2), labels)):
        data,words = said(read)
        assert data.labels.tolist() == y.tolist() and data.labels.dtype == torch.int64 and data.classes == ['0','1','2']
        assert len(words) == (labels.shape == (60,3)) and all('read as 3 classes' in w and 'findings=True' in w for w in words)

def test_true_and_false_are_two_classes(npz):
    assert npz_data(npz(train_labels=y > 0)).train.labels.unique().tolist() == [0,1]

def test_rows_of_one_are_findings_if_one_wants(npz):
    data,words = said(npz_data, npz(train_labels=np.eye(3)[y]), findings=True)
    assert data.train.labels.shape == (60,3) and not words

def test_all_parts_decide(npz):
    "val has one finding a row by chance; train has not"
    many = np.stack([y > 0, y > 1, y < 9], 1)
    splits,words = said(npz_data, npz(train_labels=many, val_images=x[:3], val_labels=np.eye(3)))
    assert splits.train.labels.shape == (60,3) and splits.val.labels.shape == (3,3)
    assert len(words) == 1 and '3 findings per patch' in words[0] and 'scores' in words[0]
    with pytest.raises(ValueError, match='several ones, or none'): npz_data(npz(train_labels=many), findings=False)

def test_a_batch_of_findings_stays_findings():
    data = PatchData(torch.from_numpy(x).permute(0,3,1,2), np.eye(3)[y], findings=True)
    data.dls(bs=8).show_batch()
    assert data[:4].labels.shape == (4,3) and data.split().train.labels.ndim == 2

@pytest.mark.parametrize('arrays,message', [
    (dict(train_labels=y+1), 'labels run from 1 to 3: class 0 is empty'),
    (dict(train_labels=y*2), '2 of 5 classes are empty: no patch has label 1, 3'),
    (dict(train_labels=y, classes=[*'abcd']), '1 of 4 classes are empty: no patch has label d'),
    (dict(train_labels=y%2, val_images=x[:3], val_labels=[0,1,2]), 'val holds classes that train lacks, 2'),
    (dict(train_labels=y, train_masks=x[...,0]), 'also holds train_masks, which is not read'),
    (dict(train_images=x//128), 'images hold 0 and 1 alone, which is black')])
def test_said(npz, arrays, message):
    _,words = said(npz_data, npz(**arrays))
    assert len(words) == 1 and message in words[0]

# what is refused

@pytest.mark.parametrize('arrays,message', [
    (dict(train_labels=np.full((60,3), 1/3)), r'train part: labels are torch.float64 with values that are not whole, such as 0.333.*argmax'),
    (dict(train_labels=np.where(y>0, y, np.nan)), '20 NaN values: leave'), (dict(train_labels=np.where(y>0, y, np.inf)), '20 infinite'),
    (dict(train_labels=np.array([*'abc'])[y]), 'names belong in classes=.*return_inverse'), (dict(train_labels=y-1), '-1 often marks'),
    (dict(train_labels=(y-1).astype(np.uint8)), 'labels hold 255, the largest number of uint8'), (dict(train_labels=y, classes=['a','b']), 'from 0 to 2, expected 0 to 1'),
    (dict(train_labels=np.eye(3)[y], classes=['a','b']), 'labels are 3 findings per patch, classes names 2'), (dict(train_labels=y+1j), 'not numbers'),
    (dict(train_labels=x[...,0]), r'shape \[60, 16, 16\].*masks='), (dict(train_labels=y[:9]), 'labels number 9, images 60'), (dict(train_labels=np.int64(1)), 'labels number one'),
    (dict(train_images=x/255), r'expected uint8 in 0..255: found 0 to 1, so \(images\*255\)'), (dict(train_images=x/127.5-1), 'undo their normalisation'),
    (dict(train_images=x.astype(np.int16)), 'found 0 to 255, so round and convert'), (dict(train_images=x.astype(np.uint16)*16), '255/4095'),
    (dict(train_images=np.moveaxis(x, -1, 1)), 'channels last'), (dict(train_images=np.concatenate([x, x[...,:1]], -1)), 'leaves out the transparency'),
    (dict(train_images=x.astype(str)), 'expected uint8'), (dict(train_images=x[0,0,0]), r'images have shape \[3\]')])
def test_refused_with_file_and_part(npz, arrays, message):
    with pytest.raises(ValueError, match=f'made.npz, train part: .*{message}' if 'train part' not in message else message): said(npz_data, npz(**arrays))

@pytest.mark.parametrize('keys', [('x_train','y_train'), ('X','y'), ('images','labels'), ('data','target')])
def test_other_keys_are_named(tmp_path, keys):
    np.savez(tmp_path/'k.npz', **dict(zip(keys, (x, y))))
    with pytest.raises(ValueError, match=rf"k.npz holds {keys[0]} \[60, 16, 16, 3\].*train_images=f\['{keys[0]}'\]"): npz_data(tmp_path/'k.npz')

# a class of one or two

def patches(*counts): # patches of each class
    labels = np.repeat(range(len(counts)), counts)
    return PatchData(torch.from_numpy(rng.integers(0, 256, (len(labels),3,16,16), dtype=np.uint8)), labels, classes=[f'c{i}' for i in range(len(counts))], name='few')

@pytest.mark.parametrize('counts', [(20,20,2), (20,20,1), (3,3,3), (4,3), (30,1,1,2), (2,2), (1,9), (50,3,3)])
@pytest.mark.parametrize('shares', [(.15,.15), (.4,.4), (.2,0), (.05,.6)])
def test_rare_classes_stay_in_train(counts, shares):
    data = patches(*counts)
    n_parts = 1 + sum(s > 0 for s in shares)
    splits,words = said(data.split, *shares)
    parts = [p.labels.bincount(minlength=len(counts)) for p in splits if p is not None]
    assert sum(parts).tolist() == list(counts)
    for i,n in enumerate(counts):
        if n < n_parts: assert parts[0][i] == n and f'c{i} ({n})' in words[0]
    assert len(words) == any(n < n_parts for n in counts)

def test_rare_groups_stay_in_train():
    data = patches(20,20,20); data.groups = np.r_[range(40), [90]*10, [91]*10]
    splits,words = said(data.split)
    assert splits.train.labels.bincount()[2] == 20 and 'too few groups for 3 parts in 1 of 3 classes, c2 (2)' in words[0]

def test_what_has_no_classes_and_is_too_small_is_refused():
    with pytest.raises(ValueError, match='2 images cannot be divided into 3 parts'): PatchData(patches(2).images).split()

def test_scores_with_a_rare_class():
    splits,_ = said(patches(20,20,2).split)
    table,words = said(compare, {'net': untrained_encoder(splits.train, 'tiny')}, splits, arch=None)
    assert table.notna()['5-NN'].all() and 'too few in train for a majority of 5 neighbours: c2' in ' '.join(words)
    net,_ = said(fine_tune, untrained_encoder(splits.train, 'tiny'), splits, frac=.3, epochs=1, bs=8)
    assert net.head.out_features == 3
    emb = Embeddings(torch.randn(23,4), [0]*11 + [1]*11 + [2])
    score,words = said(linear_score, emb, emb, frac=.2)
    assert 0 <= score <= 1 and 'class 2 (1 patches)' in words[0]
    assert 2 not in emb.labels[said(label_subset, emb.labels, .2)[0]] and knn_score(emb, emb) >= 0 and len(kmeans_clusters(emb, 3)) == 23

def test_a_test_part_without_or_with_one_class():
    splits = Splits(patches(10,10,10), None, patches(10,0,5))
    _,words = said(floor_rows, splits, arch=None)
    assert 'in train but not in test, where no score sees them: c1' in ' '.join(words)
    _,words = said(floor_rows, Splits(splits.train, None, splits.test[splits.test.labels==2]), arch=None)
    assert 'test holds one class only, c2' in ' '.join(words)
    _,words = said(floor_rows, Splits(splits.train[splits.train.labels<2], None, splits.test), arch=None)
    assert 'never shown in train, so never found in test: c2' in ' '.join(words)

def test_a_train_part_that_names_fewer_classes_than_test():
    "The names of the fuller list are said"
    splits = Splits(patches(10,10), None, patches(10,5,5))
    assert len(splits.train.classes) == 2 and len(splits.test.classes) == 3
    _,words = said(floor_rows, splits, arch=None)
    assert 'never shown in train, so never found in test: c2' in ' '.join(words)

def test_many_patches_divide_in_time_that_grows_with_their_number():
    "A loop over groups or classes would take minutes here"
    n = 100_000
    data = PatchData(torch.zeros(n,1,1,1, dtype=torch.uint8), np.arange(n)%9, groups=np.arange(n)//2)
    data.labels = torch.arange(n)//2%9
    assert [len(p) for p in data.split()] == [70_000,15_000,15_000]

# published sets

TISSUES = 'ADI DEB LYM MUC MUS NORM STR TUM'.split()

def tissues(root, part, names, n=4):
    for k,t in enumerate(names):
        (root/part/t).mkdir(parents=True)
        for i in range(n): Image.new('RGB', (16,16), (25*k,10,10)).save(root/part/t/f'{i}.tif')

@pytest.mark.parametrize('inside', ['', 'archive'])
@pytest.mark.parametrize('small', [False, True])
def test_eight_tissues(tmp_path, inside, small):
    for part in ('NCT-CRC-HE-100K','CRC-VAL-HE-7K'): tissues(tmp_path/inside, part.lower() if small else part, [t.lower() if small else t for t in TISSUES])
    splits,words = said(published_splits, tmp_path)
    assert splits.test.classes == TISSUES and [len(p) for p in splits] == [24,8,32]
    assert len(words) == 1 and 'eight tissues, without the background BACK' in words[0]
    only = next(d for d in (tmp_path/inside).iterdir() if d.name.upper().startswith('NCT'))
    splits,words = said(published_splits, only) # a folder of the two by itself
    assert None not in (splits.val, splits.test) and 'CRC-VAL-HE-7K is missing' in ' '.join(words)

def test_tissues_of_one_folder_must_be_those_of_the_other(tmp_path):
    tissues(tmp_path, 'NCT-CRC-HE-100K', [*TISSUES,'BACK']); tissues(tmp_path, 'CRC-VAL-HE-7K', TISSUES)
    with pytest.raises(ValueError, match='CRC-VAL-HE-7K lacks the folder BACK'): published_splits(tmp_path)
    shutil.rmtree(tmp_path/'NCT-CRC-HE-100K'/'TUM')
    with pytest.raises(ValueError, match='expected the nine class folders .* or the eight without BACK'): published_splits(tmp_path)

@pytest.mark.parametrize('inside', ['pcam', '.'])
def test_pcam_in_parts(tmp_path, inside):
    h5py = pytest.importorskip('h5py')
    def write(part):
        (tmp_path/inside).mkdir(exist_ok=True)
        for k,v in (('x', np.zeros((9,96,96,3), np.uint8)), ('y', np.arange(9).reshape(9,1,1,1)%2)):
            with h5py.File(tmp_path/inside/f'camelyonpatch_level_2_split_{part}_{k}.h5', 'w') as f: f[k] = v
    write('valid')
    with pytest.raises(FileNotFoundError, match='split_train_x.h5 is not in'): published_splits(tmp_path, 16)
    write('train')
    splits,words = said(published_splits, tmp_path, 16)
    assert len(splits.train) == len(splits.val) == 9 and splits.test is None and 'PCam without its test part' in words[0]

def test_glas_as_people_have_it(tmp_path):
    top = tmp_path/'Warwick_QU_Dataset'/'Warwick QU Dataset (Released 2016_07_08)'
    top.mkdir(parents=True)
    names = [*(f'train_{i}' for i in range(8)), 'testA_1']
    for i,n in enumerate(names):
        Image.fromarray(x[i]).save(top/f'{n}.bmp'); Image.fromarray((x[i,...,0]>99).astype(np.uint8)).save(top/f'{n}_anno.bmp')
    splits,words = said(published_splits, top.parent)
    assert len(splits.test) == 1 and splits.train.labels is None
    assert 'no images of testB' in ' '.join(words) and 'has no Grade.csv' in ' '.join(words)
    (top/'grade.csv').write_text('name,patient ID, grade (GlaS)\n' + '\n'.join(f'{n},{i}, {("benign","malignant")[i%2]}' for i,n in enumerate(names)))
    assert said(published_splits, top)[0].train.classes == ['benign','malignant']
