"The report: rehearsed before training, written as far as it can be, with names as people have them"
import html, json, os, re, subprocess, sys
import numpy as np, pandas as pd, pytest, torch
import matplotlib.pyplot as plt
from browsing import needs_browser
from pathlearn.commands import report
from pathlearn.commands.report import PartsMissing, rehearse, write_report
from pathlearn.data import PatchData, Splits
from pathlearn.evaluate import Embeddings
from pathlearn.explore import Explorer, cluster_montage, map_page, plot_map
from pathlearn.explore.plots import in_figure, readable
from pathlearn.synthetic import synthetic_tissue

HOSTILE = ['$', '_hidden', '^', '\\', '50 %', '{}', '{{ 7*7 }}', 'two\nlines', 'long '*80, '', 'שלום', '😀', '日本語', 'K\udcf6rper', '\ud800', r'$\frac$',
           'a$b$c', '</script><script>window.ran=1</script>', '<!--<script>', '"><img src=x onerror=window.ran=1>', "'&amp;\u2028", 'javascript:1']

def patches(n, c=3, **kw):
    images = torch.randint(0, 255, (n,3,16,16), generator=torch.Generator().manual_seed(n)).byte()
    return PatchData(images, torch.arange(n)%c if c else None, **kw)

def hostile(n):
    return patches(n, len(HOSTILE), classes=HOSTILE, names=[f'{HOSTILE[i%len(HOSTILE)]}{i}.png' for i in range(n)])

@pytest.fixture(autouse=True)
def no_cache(monkeypatch): monkeypatch.setenv('PATHLEARN_CACHE', '')

def same_dice(): return torch.get_rng_state(), np.random.get_state()[1].tolist()

@pytest.mark.parametrize('splits', [
    Splits(patches(1, 0)), Splits(patches(2, 0)), Splits(patches(3, 0)), Splits(patches(3), None, patches(2)), Splits(patches(40, 1), None, patches(40, 1)),
    Splits(patches(60), None, patches(30)), Splits(patches(60, 0)), Splits(patches(60, 3, classes=list('abcd')), None, patches(4, 4)),
    Splits(patches(240, 200), None, patches(210, 200))])
def test_a_rehearsal_stops_nothing_that_can_work(splits):
    before, figures = same_dice(), plt.get_fignums()
    rehearse(splits, 'train.html')
    assert all(str(a) == str(b) for a,b in zip(before, same_dice()))
    assert plt.get_fignums() == figures

def test_a_rehearsal_takes_names_as_they_are(recwarn):
    rehearse(Splits(hostile(100), None, hostile(100)), 'train.html', 'CluSiam', title='K\udcf6rper $ </title>')
    assert not [w for w in recwarn if 'Glyph' in str(w.message)]

@pytest.mark.parametrize('seed', [0, 2**31, 2**32-1])
def test_seeds_that_fit(seed): rehearse(Splits(patches(60), None, patches(100)), seed=seed)

def test_a_seed_that_does_not_fit_is_told_before_training():
    with pytest.raises(ValueError, match='nothing was trained.*random_state'): rehearse(Splits(patches(100)), seed=2**32)

ODD = dict(threads=dict(OMP_NUM_THREADS='4,2'), empty=dict(OMP_NUM_THREADS=''), words=dict(OMP_NUM_THREADS='abc'), none=dict(OMP_NUM_THREADS='0'),
           homeless=dict(HOME=None, MPLCONFIGDIR='/proc/nowhere', PATHLEARN_CACHE='/proc/nowhere'))

def test_odd_surroundings(tmp_path):
    "A list of threads, no home, caches that cannot be written, LaTeX asked for and not there"
    code = f'''import os, sys, torch, matplotlib.pyplot as plt
from pathlearn.data import PatchData, Splits
from pathlearn.commands.report import rehearse
plt.rcParams['text.usetex'] = True
data = PatchData(torch.randint(0, 255, (100,3,16,16)).byte())
for change in {[*ODD.values()]!r}:
    kept = dict(os.environ)
    for k,v in change.items(): os.environ.pop(k, None) if v is None else os.environ.update({{k: v}})
    rehearse(Splits(data))
    os.environ.clear(); os.environ.update(kept)
'''
    env = {k: v for k,v in os.environ.items() if k not in ('HOME','PATHLEARN_CACHE')} | {'MPLCONFIGDIR': '/proc/nowhere', 'OMP_NUM_THREADS': '4,2'}
    done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

def written(folder, splits, **kw):
    words = dict(title='A test', lead='', about='') | kw
    return write_report(folder, 'patches.html', {'ours':report._Shrunken()}, splits, arch='tiny', **words).read_text(encoding='utf-8')

@pytest.fixture(scope='module')
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp('report')
    return folder, written(folder, Splits(hostile(110), None, hostile(70)), title=HOSTILE[17], lead=HOSTILE[19])

def test_rows_have_names(page):
    folder,text = page
    clusters,wrong = (pd.read_csv(folder/f'{n}.csv', keep_default_na=False) for n in ('clusters','misclassified'))
    assert clusters.columns.tolist() == ['name','part','label','cluster'] and clusters.part.value_counts().to_dict() == dict(train=110, test=70)
    assert clusters.name[1] == '_hidden1.png' and clusters.name[13] == 'Körper13.png' and clusters.label[12] == '日本語'
    assert wrong.columns.tolist() == ['name','label','neighbours_say'] and 0 < len(wrong) <= 70 and (wrong.label != wrong.neighbours_say).all()
    assert (folder/'misclassified.png').exists() and 'Where the neighbours are wrong' in text

def test_a_patch_without_a_name_has_a_number(tmp_path):
    written(tmp_path, Splits(patches(60), None, patches(30)))
    assert pd.read_csv(tmp_path/'clusters.csv').name[2] == 'patch 2'

def test_the_page_shows_hostile_names_and_runs_none(page):
    text = page[1]
    assert '<script' not in text and '<img src=x' not in text and html.escape(HOSTILE[17]) in text

@pytest.mark.parametrize('broken', ['_maps', '_montage', '_curve_figure', '_scores', '_drawings', '_misclassified', '_write_clusters', '_look'])
def test_a_part_that_fails_leaves_the_others(broken, tmp_path, monkeypatch, capsys):
    def fails(*_): raise RuntimeError('no <ink> left\nsecond line')
    monkeypatch.setattr(report, broken, fails)
    curves = {'ours': pd.DataFrame(dict(epoch=[1,2], loss=[2.,1.]))}
    with pytest.raises(PartsMissing) as told: written(tmp_path, Splits(patches(60), None, patches(30)), curves=curves)
    assert len(told.value.missing) == 1 and 'no <ink> left' in str(told.value) and isinstance(told.value.__cause__, RuntimeError)
    text = (tmp_path/'report.html').read_text()
    assert 'no &lt;ink&gt; left' in text and f"lacks its {[*told.value.missing][0]}" in text and 'note: the report lacks' in capsys.readouterr().out
    there = {p.name for p in tmp_path.iterdir()}
    parts = dict(_maps='map_cluster.png', _montage='montage.png', _curve_figure='curves.csv', _scores='table.csv', _misclassified='misclassified.csv', _write_clusters='clusters.csv')
    if broken != '_look': assert {f for n,f in parts.items() if n != broken} <= there
    assert not {parts.get(broken)} & there

def test_the_rehearsal_tells_what_would_fail(monkeypatch):
    def fails(*_): raise RuntimeError('no ink left')
    monkeypatch.setattr(report, '_montage', fails)
    with pytest.raises(ValueError, match='nothing was trained.*montage: no ink left'): rehearse(Splits(patches(9)))

def test_ctrl_c_is_no_missing_part(tmp_path, monkeypatch):
    def stopped(*_): raise KeyboardInterrupt
    monkeypatch.setattr(report, '_maps', stopped)
    with pytest.raises(KeyboardInterrupt): written(tmp_path, Splits(patches(60)))

def test_names_in_figures(tmp_path, recwarn):
    "Each name of the legend and the montage is there, letter by letter"
    data = hostile(110)
    emb = Embeddings(data.images.flatten(1).float(), data.labels, data.labels, HOSTILE)
    ax = plot_map(emb, how='pca')
    ax.figure.savefig(tmp_path/'map.png')
    fig = cluster_montage(data, emb, rows=30)
    fig.savefig(tmp_path/'montage.png')
    shown = [t.get_text() for t in ax.get_legend().texts]
    assert len(shown) == len(HOSTILE) and all(t.endswith(' (5)') for t in shown)
    assert not [w for w in recwarn if 'Glyph' in str(w.message) or 'underscore' in str(w.message)]
    ticks = '\n'.join(t.get_text() for t in fig.axes[0].get_yticklabels())
    assert r'100% \$\frac\$' in ticks and 'Körper' in ticks
    plt.close('all')

@pytest.mark.parametrize('name', HOSTILE)
def test_a_name_in_a_figure_is_what_it_is(name):
    "matplotlib takes the backslash before a dollar away again"
    from matplotlib.text import Text
    text, math = Text()._preprocess_math(in_figure(name))
    assert not math and text and '\n' not in text and len(text) <= 41
    if name.isascii() and name.isprintable() and 0 < len(name) <= 40: assert text.strip('\N{THIN SPACE}') == name
    readable(name).encode()

def data_of(page): return json.loads(page.split('const DATA = ')[1].split('\n')[0])

@pytest.fixture(scope='module')
def map_html():
    data = hostile(110)
    emb = Embeddings(data.images.flatten(1).float(), data.labels, data.labels, data.classes, data.names)
    return emb, map_page(emb, data, 'pca', title=HOSTILE[17])

def test_the_map_page_holds_names_as_data(map_html):
    emb,text = map_html
    assert text.count('</script>') == 1 and '<!--' not in text and '<img' not in text and '\u2028' not in text
    assert data_of(text)['names'][17] == HOSTILE[17]+'17.png' and data_of(text)['looks']['label']['names'][20] == HOSTILE[20]

def test_the_explorer_names_patches(map_html):
    explorer = Explorer(map_html[0], how='pca')
    explorer.select([17,18]); explorer.search(19)
    for shown in (explorer.panel.counts.value, explorer.panel.near_text.value):
        assert '<script' not in shown and '<img' not in shown and '<!--' not in shown
    assert html.escape(HOSTILE[19]+'19.png') in explorer.panel.near_text.value
    assert explorer.map.words(1) == '_hidden1.png, label _hidden, cluster 1' and explorer.still()

@needs_browser
def test_in_a_browser_no_name_runs(chromium, map_html, page, tmp_path):
    (tmp_path/'map.html').write_text(map_html[1], encoding='utf-8')
    tab = chromium.new_page(viewport=dict(width=1300, height=1000))
    errors = []
    tab.on('pageerror', lambda e: errors.append(str(e)))
    tab.goto((tmp_path/'map.html').as_uri())
    tab.wait_for_selector('.plmap .legend button')
    assert tab.inner_text('h1') == HOSTILE[17]
    legend = tab.eval_on_selector_all('.plmap .legend button', 'all => all.map(b => b.textContent)')
    assert legend == [f' {readable(n)} (5)' for n in HOSTILE]
    tab.locator('.plmap .legend button').nth(17).click()
    assert HOSTILE[17] in tab.inner_text('#counts')
    tab.locator('#patches canvas').first.click()
    assert tab.inner_text('#example').startswith(HOSTILE[17]+'17.png')
    tab.focus('.plmap canvas'); tab.keyboard.press('ArrowRight')
    assert tab.inner_text('.plmap .tip')
    assert tab.evaluate('window.ran') is None and not errors
    tab.goto((page[0]/'report.html').as_uri())
    assert tab.inner_text('h1') == HOSTILE[17] and tab.inner_text('.lead') == HOSTILE[19]
    assert tab.evaluate('window.ran') is None and not errors
    tab.close()

def test_a_run_ends_with_its_weights_when_the_report_fails(tmp_path, monkeypatch):
    "As the command does it: the rehearsal passes, and the map fails later"
    from pathlearn import cli
    calls, maps = [], report._maps
    def later(*args):
        calls.append(args)
        if len(calls) > 1: raise RuntimeError('the disk is full')
        return maps(*args)
    monkeypatch.setattr(report, '_maps', later)
    np.savez(tmp_path/'d.npz', train_images=patches(60).images.permute(0,2,3,1).numpy(), train_labels=np.arange(60)%3)
    args = ['simsiam', '--data', tmp_path/'d.npz', '--epochs', 1, '--arch', 'tiny', '--bs', 16, '--device', 'cpu', '--out', tmp_path/'o']
    assert cli.pathlearn_train([*map(str, args)]) == 1
    assert {'simsiam.safetensors', 'report.html', 'table.csv', 'montage.png', 'clusters.csv'} <= {p.name for p in (tmp_path/'o').iterdir()}
    assert 'lacks its map' in (tmp_path/'o'/'report.html').read_text() and len(calls) == 2

def test_the_rehearsal_changes_no_bit_of_training(tmp_path, monkeypatch):
    from pathlearn.commands import train
    from pathlearn import cli
    from safetensors.torch import load_file
    np.savez(tmp_path/'d.npz', train_images=patches(60).images.permute(0,2,3,1).numpy(), train_labels=np.arange(60)%3)
    args = ['clusiam', '--data', tmp_path/'d.npz', '--epochs', 1, '--arch', 'tiny', '--bs', 16, '--k', 4, '--device', 'cpu']
    def weights(out):
        assert cli.pathlearn_train([*map(str, [*args, '--out', tmp_path/out])]) == 0
        return load_file(tmp_path/out/'clusiam.safetensors')
    one = weights('a')
    monkeypatch.setattr(train, 'rehearse', lambda *_, **__: None)
    two = weights('b')
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)

def test_a_collapse_is_told_in_the_words_of_the_method():
    "The report says what the warning said while the run went on"
    from pathlearn.clusiam import clusiam_learner
    from pathlearn.learning import CollapseWarning
    learn = clusiam_learner(patches(64).dls(bs=16), 'tiny', k=4)
    with learn.no_logging(), learn.no_bar(): learn.fit(1)
    watch = learn.collapse_watch
    assert report._collapses(learn) is None
    sure = dict(watch.history[-1], spread=1., live=1, live_with_noise=1, entropy_each=.01, k=4)
    watch.history = [dict(sure, epoch=e) for e in range(watch.patience)]
    with pytest.warns(CollapseWarning, match='Lower alpha') as seen: watch.warn(watch.history)
    assert str(seen[0].message).endswith(report._collapses(learn)) and 'Lower alpha' in report._collapses(learn)

def test_synthetic_tissue_still_scores(tmp_path):
    "Nothing is missing where nothing fails"
    written(tmp_path, synthetic_tissue(180, 16))
    assert {'clusters.csv', 'map_cluster.png', 'map_label.png', 'misclassified.csv', 'misclassified.png', 'montage.png', 'report.html', 'table.csv',
            'table.txt'} == {p.name for p in tmp_path.iterdir()}
    assert re.search(r'\d of the \d+ test patches', (tmp_path/'report.html').read_text())

def test_a_patch_without_a_name_keeps_its_number(tmp_path):
    "Of the whole part, also where a few rows of it are listed"
    rng = torch.Generator().manual_seed(0)
    train,test = (PatchData(torch.randint(256, (n,3,16,16), dtype=torch.uint8, generator=rng), torch.arange(n)%2) for n in (60,40))
    written(tmp_path, Splits(train, None, test))
    clusters,wrong = (pd.read_csv(tmp_path/f'{n}.csv') for n in ('clusters','misclassified'))
    assert {*clusters.name} >= {f'patch {i}' for i in range(40)}
    rows = [int(n.split()[1]) for n in wrong.name]
    assert 0 < len(rows) < 40 and rows != list(range(len(rows))) and (wrong.label.astype(int) == test.labels[rows].numpy()).all()
