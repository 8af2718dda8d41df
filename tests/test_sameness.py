"Patches that are all alike, copies, and runs that diverge are told where people look"
import warnings
import numpy as np, pytest, torch
from pathlearn.commands.report import write_report
from pathlearn.commands.runs import curves_of, in_lines, make_learner
from pathlearn.data import PatchData, Splits
from pathlearn.evaluate import Embeddings, embed, sameness, untrained_encoder
from pathlearn.explore import Explorer, map_page, plot_map, reduce
from pathlearn.learning import CollapseWarning, Resume
from pathlearn.synthetic import synthetic_tissue

@pytest.fixture(autouse=True)
def no_cache(monkeypatch): monkeypatch.setenv('PATHLEARN_CACHE', '')

rng = np.random.default_rng(0)
base = rng.normal(size=(150,8))
KINDS = dict(same=np.ones((120,8)), zeros=np.zeros((120,8)), rounding=1+rng.normal(0, 1e-6, (120,8)),
             one_direction=np.outer(rng.uniform(1, 9, 120), np.arange(1, 9)), one_feature=np.ones((120,1)),
             nearly=1+rng.normal(0, 1e-4, (120,8)))

@pytest.mark.parametrize('how', ['pca','tsne','umap'])
@pytest.mark.parametrize('kind', KINDS)
def test_what_is_alike_lies_in_one_place_and_says_so(kind, how):
    with pytest.warns(UserWarning, match='all 120 patches are alike'): xy = reduce(KINDS[kind], how)
    assert xy.shape == (120,2) and not xy.any()

def places(xy): return len(np.unique(xy.round(4), axis=0))

@pytest.mark.parametrize('how', ['pca','tsne'])
def test_copies_lie_on_one_another(how):
    twice = np.repeat(np.eye(2,8), 60, 0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert places(reduce(twice, how)) == 2
    many = np.concatenate([base, base[:1].repeat(200, 0)])
    xy = reduce(many, how)
    assert np.isfinite(xy).all() and places(xy) == 150 and places(xy[150:]) == 1
    assert (xy[:150] == reduce(base, how)).all() # they move nobody

def test_a_map_of_different_patches_is_the_map_it_was():
    "No copy, no change: the rows go to t-SNE as they are"
    from pathlearn.explore.maps import Mapper, unit_rows
    assert (reduce(base, 'tsne') == Mapper('tsne').fit_units(unit_rows(base.astype('f4'))).xy).all()

def white(n=110, c=2): return PatchData(torch.full((n,3,32,32), 255, dtype=torch.uint8), torch.arange(n)%c)

@pytest.mark.parametrize('arch', ['tiny','resnet18'])
def test_an_untrained_encoder_is_no_collapse(arch):
    "Nor are patches with a grain of two grey values, in which there is something to see"
    tissue, grain = synthetic_tissue(180, 32).test[:40], white(40)
    grain.images = grain.images - torch.randint(0, 3, grain.images.shape, generator=torch.Generator().manual_seed(0)).byte()
    for data in (tissue, grain): assert sameness(embed(untrained_encoder(data, arch), data)) is None
    assert sameness(embed(untrained_encoder(tissue, arch), white(40))).startswith('all 40 patches are alike')

def run(data, epochs=1, name='clusiam', cbs=(), **kw):
    torch.manual_seed(0)
    learn = in_lines(make_learner(name, data, arch='tiny', bs=50, device='cpu', cbs=cbs, **kw))
    with learn.no_logging(): learn.fit(epochs)
    return learn

@pytest.fixture(scope='module')
def collapsed():
    with pytest.warns(CollapseWarning, match='all 110 patches are the same picture'): return run(white(), k=5)

def test_the_report_of_white_patches_says_so(collapsed, tmp_path):
    splits = Splits(white(), None, white(100))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        page = write_report(tmp_path, 'patches.html', {'CluSiam':collapsed}, splits, arch='tiny', title='', lead='', about='',
                            curves={'CluSiam':curves_of(collapsed)})
    assert '<b>Careful:</b> all 100 patches are alike to this encoder' in page.read_text()
    assert (tmp_path/'map_cluster.png').exists()

def test_every_picture_says_so():
    emb = Embeddings(torch.ones(120,8), torch.arange(120)%3)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        ax = plot_map(emb, how='tsne')
        explorer = Explorer(emb, how='umap')
        page = map_page(emb, how='umap')
    assert 'all 120 patches are alike' in ax.texts[0].get_text().replace('\n', ' ')
    assert 'all 120 patches are alike' in explorer.controls.status.value and 'all 120 patches are alike' in page
    assert not plot_map(Embeddings(base, torch.arange(150)%3), how='pca').texts

def test_ordinary_training_does_not_cry_wolf(recwarn):
    tissue = synthetic_tissue(180, 32)
    from pathlearn.learning import KNNWatch
    run(tissue.train, 2, k=5, cbs=[KNNWatch(tissue.train, tissue.val)])
    assert not [w for w in recwarn if issubclass(w.category, CollapseWarning)]

@pytest.mark.parametrize('name, lr, found', [
    ('autoencoder', 1e3, 'it diverges'), ('simsiam', 1e6, 'not finite'), ('simclr', 1e12, 'the loss is nan')])
def test_a_rate_that_diverges_ends_in_its_epoch(name, lr, found):
    with pytest.raises(FloatingPointError) as told: run(synthetic_tissue(180, 16).train, 3, name, lr=lr)
    assert found in str(told.value) and 'at epoch 1, step' in str(told.value) and 'try a tenth of it' in str(told.value)

def test_the_last_good_epoch_stays(tmp_path):
    from fastai.callback.core import Callback
    class Jump(Callback):
        def before_epoch(self):
            if self.epoch == 1: self.opt.set_hyper('lr', 1e6)
        before_batch = before_epoch
    with pytest.raises(FloatingPointError) as told:
        run(synthetic_tissue(180, 16).train, 4, 'simsiam', cbs=[Resume(tmp_path/'run.pt'), Jump()])
    assert 'epoch 2' in str(told.value) and 'The loss of the epoch before was' in str(told.value)
    assert torch.load(tmp_path/'run.pt', weights_only=True)['epoch'] == 1
