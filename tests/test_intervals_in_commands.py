"Intervals where a command shows a score: in the page, in the table, over the groups of a file; and what a bad file of groups is told"
import re
import numpy as np, pandas as pd, pytest, torch
from pathlearn import cli
from pathlearn.commands import embed as room, scores
from pathlearn.commands.report import write_report
from pathlearn.commands.scores import cautions, score_table
from pathlearn.data import PatchData, Splits
from pathlearn.evaluate import compare
from pathlearn.learning import save_encoder
from pathlearn.siamese import simsiam_learner

ROWS = ['majority class', 'mean RGB', 'colour histogram', 'colour histogram, cosine', 'untrained encoder', 'SimSiam']
SCORES = [f'{j} {s}' for j in ('k-NN','linear') for s in ('accuracy','balanced accuracy','macro F1','AUC')]
ENDS = re.compile('0\\.\\d{3}\u00a0\\[0\\.\\d{3},\u00a0[01]\\.\\d{3}\\]|1\\.000\u00a0\\[[01]\\.\\d{3},\u00a01\\.000\\]') # in one line

def call(*args, capsys=None):
    code = cli.pathlearn_embed([str(a) for a in args])
    told = capsys.readouterr() if capsys else None
    return (code, told.out, told.err) if told else code

def drawn(n, seed):
    "Labels by rows of three, images whose colour half tells the class"
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return (rng.integers(0, 200, (n,16,16,3)) + 18*np.eye(3)[labels][:,None,None]).astype(np.uint8), labels

@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "Weights; files: undivided, divided, divided with groups"
    folder = tmp_path_factory.mktemp('intervals')
    parts = {n: drawn(size, i) for i,(n,size) in enumerate(dict(train=90, val=30, test=60).items())}
    arrays = {f'{n}_{k}': v for n,(x,y) in parts.items() for k,v in (('images',x),('labels',y))}
    np.savez(folder/'divided.npz', **arrays)
    np.savez(folder/'grouped.npz', **arrays, **{f'{n}_groups': 1000*i + np.arange(len(y))//4 for i,(n,(_,y)) in enumerate(parts.items())})
    np.savez(folder/'flat.npz', **{k: v for k,v in arrays.items() if k.startswith('train')})
    torch.manual_seed(0)
    learn = simsiam_learner(PatchData(torch.from_numpy(parts['train'][0]).permute(0,3,1,2)).dls(bs=30, device='cpu'), 'tiny', dim=16)
    save_encoder(learn, folder/'net.safetensors', size=16, seed=0)
    return folder

def write(file, rows, head='name,part,group'):
    file.write_text('\n'.join([head, *rows]), encoding='utf-8')
    return file

SIZES = dict(train=90, val=30, test=60)
def rows_of(group, sizes=SIZES): return [f'{i},{n},{group(n, i)}' for n,size in sizes.items() for i in range(size)]

def page_of(out): return (out/'report.html').read_text(encoding='utf-8')

@pytest.fixture(scope='module')
def embedded(place, tmp_path_factory):
    out = tmp_path_factory.mktemp('divided')
    assert call(place/'net.safetensors', '--data', place/'divided.npz', '--out', out) == 0
    return out

def test_no_score_stands_alone(embedded):
    "Every cell of a judge's table is a score with its ends"
    text = page_of(embedded)
    found = re.findall(r'<h3>(.*?)</h3>\s*<div class="wide"><table>(.*?)</table>', text, re.S)
    assert [h for h,_ in found] == ['The nearest neighbours vote (k-NN)', 'Logistic regression (linear)', 'Clusters']
    clusters = re.findall(r'<tr.*?>(<td>.*?)</tr>', found[2][1])
    assert len(clusters) == 5 and all(len(re.findall(r'\d\.\d{3}\s\[-?\d\.\d{3},\s-?\d\.\d{3}\]', line)) == 2 for line in clusters), clusters
    for _,table in found[:2]:
        head = re.findall('<th>(.*?)</th>', table)
        for line in re.findall(r'<tr.*?>(<td>.*?)</tr>', table):
            cells = dict(zip(head, re.findall('<td>(.*?)</td>', line)))
            assert all(ENDS.fullmatch(cells[s]) for s in ('accuracy','balanced accuracy','macro F1','AUC')), cells
            minus = cells['accuracy minus SimSiam']
            assert re.fullmatch(r'[+-]\d\.\d{3}\s\[[+-]\d\.\d{3},\s[+-]\d\.\d{3}\]', minus) or (cells[''] == 'SimSiam' and not minus)
    assert [re.findall('<tr.*?><td>(.*?)</td>', t) for _,t in found[:2]] == [ROWS, ROWS]

def test_the_page_says_over_what_and_how_k_was_chosen(embedded):
    text = ' '.join(page_of(embedded).split())
    assert 'over 60 patches' in text and 'the true intervals are wider' in text and 'chosen on 30 validation patches' in text
    assert re.search(r'in \d+\.\d \[\d+\.\d, \d+\.\d\] % of cases', text) and 'points against the untrained encoder' in text

def test_the_files_hold_the_same(embedded):
    table = pd.read_csv(embedded/'table.csv', index_col=0, dtype=dict(k=str))
    assert [*table.index] == ROWS and {'5-NN','1-NN F1','linear','k-means Rand','distance','n train','frac','seed'} <= {*table} # the old columns
    for s in SCORES: assert (table[f'{s} low'] <= table[s]).all() and (table[s] <= table[f'{s} high']).all(), s
    for s in ('k-means Rand','k-means adjusted Rand'):
        known = table[table[s].notna()]
        assert len(known) == 5 and (known[f'{s} low'] <= known[s]).all() and (known[s] <= known[f'{s} high']).all(), s
    assert (table.over == '60 patches').all() and table.k.notna().sum() == 5
    v = table.loc['SimSiam']
    text = (embedded/'table.txt').read_text()
    assert f"{v['k-NN AUC']:.3f} [{v['k-NN AUC low']:.3f}, {v['k-NN AUC high']:.3f}]" in text and text.endswith('[95 % intervals over 60 patches]\n')

def test_the_groups_of_the_data_are_used(place, tmp_path):
    assert call(place/'net.safetensors', '--data', place/'grouped.npz', '--out', tmp_path) == 0
    assert 'over 15 groups' in page_of(tmp_path) and 'as if it stood alone' not in page_of(tmp_path)

def test_groups_of_a_file_equal_those_of_the_data(place, tmp_path):
    number = dict(train=0, val=1, test=2)
    file = write(tmp_path/'slides.csv', rows_of(lambda n,i: 1000*number[n] + i//4))
    for data,more in (('divided', ['--groups', file]), ('grouped', [])):
        assert call(place/'net.safetensors', '--data', place/f'{data}.npz', '--out', tmp_path/data, *more) == 0
    named,own = (pd.read_csv(tmp_path/d/'table.csv', index_col=0) for d in ('divided','grouped'))
    ends = [f'{s} {e}' for s in SCORES for e in ('low','high')]
    assert (named.over == '15 groups').all() and np.allclose(named[[*SCORES, *ends]], own[[*SCORES, *ends]], atol=.08) # names sort otherwise than numbers
    assert np.allclose(named[SCORES], own[SCORES])

def test_an_undivided_set_is_divided_by_the_groups(place, tmp_path, capsys):
    file = write(tmp_path/'slides.csv', rows_of(lambda n,i: f'slide {i%3} {i//9}', dict(train=90)))
    code, out, _ = call(place/'net.safetensors', '--data', place/'flat.npz', '--out', tmp_path/'o', '--groups', file, capsys=capsys)
    assert code == 0 and 'divided by groups, and not as the training' in out
    assert 'divided by groups' in page_of(tmp_path/'o') and re.search(r'over \d+ groups', page_of(tmp_path/'o'))

def test_a_table_that_embed_wrote_names_patches(place, embedded, tmp_path):
    "name and part of features.csv, and a group beside them"
    with np.load(embedded/'features.npz') as f: table = pd.DataFrame(dict(name=f['names'], part=f['part']))
    table.assign(slide=np.arange(len(table))//4).to_csv(tmp_path/'slides.csv', index=False)
    assert call(place/'net.safetensors', '--data', place/'divided.npz', '--out', tmp_path/'o', '--groups', tmp_path/'slides.csv') == 0

GOOD = rows_of(lambda n,i: f'{n} {i//4}')
@pytest.mark.parametrize('data, text, words', [
    ('divided', None, 'there is no file'), ('divided', '', 'cannot be read as CSV'), ('divided', b'\xff\xfe\x00a', 'cannot be read as CSV in UTF-8'),
    ('divided', ['name,part,site', *GOOD], 'no column among group, slide, patient, photograph'), ('divided', ['patch,part,group', *GOOD], 'no column among name, file, index'),
    ('divided', ['name,part,group'], 'no rows below'), ('divided', ['name,part,group', *GOOD[:-3]], 'names no group for 3 of 180 patches, e.g. 57 of test'),
    ('divided', ['name,part,group', 'a.png,test,1'], 'patches such as a.png'), ('divided', ['name,part,group', *GOOD, '0,train,other'], 'two groups'),
    ('divided', ['name,group', '0,a', '1,b'], 'needs a column part'), ('divided', ['name,part,group', *GOOD[:-1], '59,test,'], 'of 59 empty'),
    ('divided', ['name,part,group', *rows_of(lambda n,i: 'one')], 'puts all 180 patches into the group one'),
    ('divided', ['name,part,group', *rows_of(lambda n,i: n)], 'all 60 test patches are of the group test'),
    ('grouped', ['name,part,group', *GOOD], 'bring groups of their own'),
    ('flat', ['name,group', *(f'{i},class {i%3}' for i in range(90))], 'at least three groups per class')])
def test_a_bad_file_is_told_before_the_work(data, text, words, place, tmp_path, capsys, monkeypatch):
    def worked(*_, **__): raise AssertionError('the work began')
    monkeypatch.setattr(room, '_embedded', worked)
    file = tmp_path/'slides.csv'
    if isinstance(text, bytes): file.write_bytes(text)
    elif text is not None: file.write_text('\n'.join(text), encoding='utf-8')
    code, _, err = call(place/'net.safetensors', '--data', place/f'{data}.npz', '--out', tmp_path/'o', '--groups', file, capsys=capsys)
    assert code == 2 and 'Traceback' not in err and len(err.strip().splitlines()) == 1 and words in err, err
    assert not (tmp_path/'o').exists()

def test_a_folder_is_no_table(place, tmp_path, capsys):
    code, _, err = call(place/'net.safetensors', '--data', place/'flat.npz', '--out', tmp_path/'o', '--groups', tmp_path, capsys=capsys)
    assert code == 2 and 'is a folder' in err

def test_groups_that_straddle_are_said(place, tmp_path, capsys):
    file = write(tmp_path/'slides.csv', rows_of(lambda n,i: i//4))
    code, out, _ = call(place/'net.safetensors', '--data', place/'divided.npz', '--out', tmp_path/'o', '--groups', file, capsys=capsys)
    assert code == 0 and out.index('note: 15 groups stand in both train and test') < out.index('complete:')
    assert '15 groups stand in both train and test, e.g. 0' in page_of(tmp_path/'o')

def test_rows_of_other_patches_are_counted(place, tmp_path, capsys):
    file = write(tmp_path/'slides.csv', [*GOOD, '500,test,x', '501,test,y'])
    code, out, _ = call(place/'net.safetensors', '--data', place/'divided.npz', '--out', tmp_path/'o', '--groups', file, capsys=capsys)
    assert code == 0 and 'note: 2 rows of' in out

def patches(n, c=3, groups=None, seed=0):
    x,y = drawn(n, seed)
    return PatchData(torch.from_numpy(x).permute(0,3,1,2), y % c, classes=['0','1','2'], groups=groups)

def test_groups_that_leave_a_class_out_of_train():
    splits = Splits(patches(60, 2), None, patches(60, 3, np.arange(60)//4, seed=1))
    assert cautions(splits) == ['no training patch is of class 2: no judge can name it']
    table = score_table({'net': scores_net()}, splits, arch='tiny')
    assert table['linear accuracy'].max() <= 40/60 and table[SCORES].notna().all().all() and (table.over == '15 groups').all()

def scores_net(): return torch.nn.Sequential(Bytes(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
class Bytes(torch.nn.Module):
    def forward(self, x): return x.float()/255

def test_one_group_in_the_test_part_gives_intervals_over_patches(tmp_path):
    splits = Splits(patches(60), None, patches(30, 3, np.zeros(30, dtype=int), seed=1))
    text = ' '.join(write_report(tmp_path, 'patches.html', {'net': scores_net()}, splits, arch='tiny', title='', lead='', about='').read_text().split())
    assert 'over 30 patches' in text and 'all test patches are of the group 0' in text and 'k is fixed at 5, for lack of a validation part' in text
    assert splits.test.groups is not None

def test_k_is_that_of_val_and_the_floors_have_theirs():
    splits = Splits(patches(90), patches(30, seed=2), patches(60, seed=1))
    table = score_table({'net': scores_net()}, splits, arch=None)
    from pathlearn.evaluate import Embeddings, best_k, colour_histogram
    train,val = (Embeddings(colour_histogram(p), p.labels) for p in (splits.train, splits.val))
    assert table.k['colour histogram'] == str(best_k(train, val, distance='euclidean'))

def test_fewer_draws_of_very_many_patches(): assert [scores._n_draws(n) for n in (60, 20_000, 50_000, 10**7)] == [1000, 1000, 400, 200]

def test_compare_as_it_was(place):
    "Without seeds the table of old, column by column"
    splits = Splits(patches(90), patches(30, seed=2), patches(60, 3, np.arange(60)//4, seed=1))
    table = compare({'net': scores_net()}, splits, arch='tiny')
    assert [*table] == ['5-NN','1-NN F1','linear','k-means Rand','k-means adjusted Rand','k-means K','distance','n train','frac','seed']
    more = compare({'net': scores_net()}, splits, arch='tiny', seeds=[0])
    assert np.allclose(table.drop(columns='distance').fillna(-1).astype(float), more[table.columns].drop(columns='distance').fillna(-1).astype(float))
    assert (more['5-NN'] == more['k-NN accuracy']).all() and (more.over == '15 groups').all()
