"""What a reader can touch, touched: headless Chromium opens the notebooks in JupyterLab, runs them, moves sliders, selects
points, and looks at what changed on the page. Screenshots and the figures that were measured lie in test-output/browser."""
import json, os, re, shutil, socket, subprocess, sys, time
from pathlib import Path
from urllib.request import urlopen
import pytest

ROOT = Path(__file__).parents[1]
OUT = ROOT/'test-output'/'browser'
BROWSER = next((b for n in ('chromium','chromium-browser','google-chrome') if (b := shutil.which(n))), None)
QUIET = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
         '--disable-component-update', '--disable-sync', '--force-prefers-reduced-motion']
pytestmark = pytest.mark.skipif(not BROWSER, reason='no browser: install chromium from the system\'s packages to touch the widgets')

@pytest.fixture(scope='session')
def chromium():
    from playwright.sync_api import sync_playwright
    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield browser
        browser.close()

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

@pytest.fixture(scope='session')
def lab(tmp_path_factory):
    "Address and folder of a JupyterLab with nobody's settings"
    home, port = tmp_path_factory.mktemp('lab'), free_port()
    news = home/'settings'/'@jupyterlab'/'apputils-extension'/'notification.jupyterlab-settings'
    news.parent.mkdir(parents=True); news.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    (home/'nbs').mkdir()
    env = {k: v for k,v in os.environ.items() if not k.startswith(('JUPYTER','IN_TEST'))} | {
        'JUPYTER_CONFIG_DIR': str(home/'config'), 'JUPYTER_DATA_DIR': str(home/'data'), 'JUPYTER_RUNTIME_DIR': str(home/'runtime'),
        'JUPYTERLAB_SETTINGS_DIR': str(home/'settings'), 'JUPYTERLAB_WORKSPACES_DIR': str(home/'workspaces'),
        'PATHLEARN_CACHE': str(home/'cache'), 'MPLBACKEND': '', 'IPYTHONDIR': str(home/'ipython')}
    command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', f'--port={port}', '--IdentityProvider.token=',
               '--LabApp.expose_app_in_browser=True', f'--ServerApp.root_dir={home/"nbs"}', '--LabApp.extension_manager=readonly']
    with open(home/'log', 'w') as log: server = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=home)
    for _ in range(300):
        try: urlopen(f'http://127.0.0.1:{port}/api', timeout=1); break
        except OSError: time.sleep(.1)
        assert server.poll() is None, (home/'log').read_text()
    yield f'http://127.0.0.1:{port}', home/'nbs'
    server.terminate(); server.wait(20)

class Notebook:
    "A notebook in a browser's page, all its cells run"
    def __init__(self, browser, lab, name, cells, theme='light'):
        address, folder = lab
        self.name = name
        self.write(folder/f'{name}.ipynb', cells)
        self.page = browser.new_page(viewport=dict(width=1400, height=1300), color_scheme=theme)
        self.page.set_default_timeout(60_000)
        self.page.goto(f'{address}/lab/tree/{name}.ipynb?reset')
        self.page.wait_for_function('window.jupyterapp?.shell.currentWidget?.context?.isReady && jupyterapp.shell.currentWidget.sessionContext.session?.kernel')
        self.page.evaluate("""async dark => { if (dark) await jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})
            await jupyterapp.commands.execute('application:toggle-left-area'); await jupyterapp.shell.currentWidget.sessionContext.ready }""", theme == 'dark')
        self.page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
        failed = self.page.evaluate("""() => jupyterapp.shell.currentWidget.content.widgets.filter(c => c.model.type === 'code')
            .flatMap(c => c.model.sharedModel.outputs).filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue)""")
        assert not failed, failed

    def write(self, path, cells):
        cells = [dict(cell_type='code', id=f'c{i}', metadata={}, source=c, outputs=[], execution_count=None) for i,c in enumerate(cells)]
        spec = dict(name='python3', display_name='Python 3', language='python')
        path.write_text(json.dumps(dict(cells=cells, metadata=dict(kernelspec=spec), nbformat=4, nbformat_minor=5)))

    def python(self, code): # -> what it prints
        "Run code in the notebook's kernel"
        return self.page.evaluate("""async code => { const k = jupyterapp.shell.currentWidget.sessionContext.session.kernel; let said = ''
            const f = k.requestExecute({code, store_history: false}); f.onIOPub = m => { said += m.content.text ?? m.content.evalue ?? '' }
            await f.done; return said }""", code).strip()

    def shot(self, what): self.page.screenshot(path=OUT/f'{self.name}_{what}.png')
    def close(self):
        self.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.close()

def evaluated(name): # path in nbs/ -> sources of the cells that the tests evaluate
    cells = json.loads((ROOT/'nbs'/name).read_text(encoding='utf-8'))['cells']
    sources = [''.join(c['source']) for c in cells if c['cell_type'] == 'code']
    return [s for s in sources if not re.search(r'^#\|\s*eval:\s*false', s, re.M)]

def measured(name, **figures):
    "Print figures and keep them beside the screenshots"
    line = f'{name}: ' + ', '.join(f'{k} {v}' for k,v in figures.items())
    print(line)
    with open(OUT/'measured.txt', 'a') as f: f.write(line + '\n')

# the explorer

POINTS = '''import numpy as np, torch
from pathlearn.explore import *
from pathlearn.evaluate import Embeddings
from pathlearn.data import PatchData
n = {n}
rng = np.random.default_rng(0)
label = rng.integers(0, 12, n)
features = (np.eye(12, 32)[label] + rng.normal(0, .25, (n,32))).astype('f4')
images = torch.from_numpy((rng.random((n,3,16,16))*60 + 15*label[:,None,None,None]).astype('u1'))
emb = Embeddings(features, label, rng.integers(0, 40, n))'''
SHOWN = 'ex = Explorer(emb, images, how="pca")\nex'

def drag(page, canvas, *shares):
    "Drag over a canvas along points that are shares of its width and height"
    box = canvas.bounding_box()
    at = [(box['x'] + u*box['width'], box['y'] + v*box['height']) for u,v in shares]
    page.mouse.move(*at[0]); page.mouse.down()
    for x,y in at[1:]: page.mouse.move(x, y, steps=6)
    page.mouse.up()

LASSO = (.3,.2), (.7,.2), (.7,.8), (.3,.8), (.3,.2)

@pytest.mark.slow
@pytest.mark.parametrize('n', [20_000, 100_000])
def test_many_points(chromium, lab, n):
    nb = Notebook(chromium, lab, f'explorer_{n}', [POINTS.format(n=n)])
    page = nb.page
    page.evaluate("""source => { const nb = jupyterapp.shell.currentWidget; jupyterapp.commands.execute('notebook:insert-cell-below')
        .then(() => { nb.content.activeCell.model.sharedModel.setSource(source); window.began = performance.now(); jupyterapp.commands.execute('notebook:run-cell') })
        const painted = CanvasRenderingContext2D.prototype.putImageData; window.first = null
        CanvasRenderingContext2D.prototype.putImageData = function (...a) { window.first ??= performance.now(); return painted.apply(this, a) } }""", SHOWN)
    canvas = page.locator('.plmap canvas').first
    canvas.wait_for(); page.wait_for_function('window.first'); canvas.scroll_into_view_if_needed(); page.wait_for_timeout(1500)
    first = page.evaluate('window.first - window.began')/1000
    nb.shot('map')
    page.evaluate("""() => { const counts = [...document.querySelectorAll('.widget-html-content')].find(e => e.textContent.includes('Nothing is selected'))
        document.querySelector('.plmap canvas').addEventListener('pointerup', () => { window.up = performance.now() })
        new MutationObserver(() => { window.told ??= performance.now() }).observe(counts, {childList: true, subtree: true, characterData: true}) }""")
    drag(page, canvas, *LASSO)
    page.wait_for_function('window.told')
    lasso = page.evaluate('window.told - window.up')/1000
    said = page.locator('.plmap .said').inner_text()
    chosen = int(said.split(' of ')[0])
    page.wait_for_timeout(300)
    assert 0 < chosen < n and int(nb.python('print(len(ex.selected))')) == chosen
    nb.shot('lasso')
    frames = page.evaluate("""async () => { const c = document.querySelector('.plmap canvas'); c.focus(); let n = 0; const t0 = performance.now()
        while (performance.now() - t0 < 2000) { c.dispatchEvent(new WheelEvent('wheel', {deltaY: n++ % 40 < 20 ? -10 : 10, cancelable: true})); await new Promise(requestAnimationFrame) } return n/2 }""")
    measured(f'{n} points', first_picture_s=round(first, 2), lasso_s=round(lasso, 3), selected=chosen, frames_per_second_while_zooming=round(frames))
    nb.close()

def named(page): # -> controls in outputs that a screen reader would find without a name
    return page.evaluate("""() => [...document.querySelectorAll('.jp-OutputArea-output :is(input, select, button, [role=slider], canvas[tabindex], [role=application])')]
        .filter(e => e.offsetParent && !e.closest('details:not([open])')).filter(e => !(e.getAttribute('aria-label') || e.labels?.length || e.title || e.textContent.trim()
            || e.closest('.jupyter-widgets')?.querySelector('.widget-label')?.textContent.trim())).map(e => e.outerHTML.slice(0, 200))""")

def test_the_explorer_by_mouse_and_by_keyboard(chromium, lab):
    cells = [POINTS.format(n=600), 'ex = Explorer(emb, images, how="tsne")\nex']
    nb = Notebook(chromium, lab, 'explorer', cells, theme='dark')
    page, canvas, said = nb.page, nb.page.locator('.plmap canvas').first, nb.page.locator('.plmap .said')
    canvas.wait_for()
    assert nb.python('print(ex.xy is not None)') == 'True' # PCA is there at once, t-SNE comes when it is made
    nb.python('ex.wait()')
    assert named(page) == []
    # hover: the patch appears, sent by the kernel
    box = canvas.bounding_box()
    for u in range(20, 80, 2):
        page.mouse.move(box['x'] + u/100*box['width'], box['y'] + box['height']/2)
        page.wait_for_timeout(30)
        if page.locator('.plmap .tip').is_visible(): break
    page.locator('.plmap .tip img').wait_for()
    assert 'label ' in page.locator('.plmap .tip').inner_text()
    nb.shot('hover')
    # a click: search by example; a box: a selection; the legend: a group
    page.mouse.down(); page.mouse.up()
    page.get_by_text('Nearest to patch').wait_for()
    example = int(nb.python('print(ex.example)'))
    assert nb.python('print(ex.near[0], len(ex.near))') == f'{example} 17'
    page.get_by_role('button', name='drag to select by box').click()
    drag(page, canvas, (.1,.1), (.9,.9))
    page.get_by_text(' patches selected').first.wait_for()
    assert int(nb.python('print(len(ex.selected))')) == int(said.inner_text().split(' of ')[0]) > 0
    page.locator('.plmap .legend button').nth(2).click()
    page.wait_for_function("document.querySelector('.plmap .said').textContent.includes(' selected')"); page.wait_for_timeout(300)
    assert nb.python('print(set(emb.labels[ex.selected].tolist()))') == '{2}'
    # an empty selection
    drag(page, canvas, (.001,.001), (.01,.001), (.01,.01))
    page.get_by_text('Nothing is selected').wait_for()
    assert nb.python('print(len(ex.selected))') == '0'
    # by keyboard alone: walk, take as example, select around
    canvas.focus()
    for key in ('ArrowRight','ArrowRight','ArrowUp'): page.keyboard.press(key); page.wait_for_timeout(80)
    assert said.inner_text().startswith('patch ')
    page.keyboard.press('Enter'); page.wait_for_timeout(300)
    assert nb.python('print(ex.example)') in said.inner_text()
    page.keyboard.press(']'); page.keyboard.press(' '); page.wait_for_timeout(300)
    assert int(nb.python('print(len(ex.selected))')) > 0
    nb.shot('dark')
    # another colour, another map, a parameter
    before = canvas.screenshot()
    page.get_by_role('combobox', name='colour', exact=True).select_option('confidence')
    page.locator('.plmap .bar').wait_for()
    page.get_by_role('combobox', name='map', exact=True).select_option('PCA'); page.wait_for_timeout(500)
    assert canvas.screenshot() != before
    page.get_by_role('combobox', name='map', exact=True).select_option('t-SNE'); nb.python('ex.wait()')
    handle = page.get_by_role('slider', name='perplexity'); handle.focus(); page.keyboard.press('ArrowRight')
    page.wait_for_timeout(500); nb.python('ex.wait()')
    assert nb.python("print(ex.settings['tsne']['perplexity'].value)") == '31'
    nb.close()

def test_the_notebook_goes_on_while_a_map_is_made_and_it_can_be_stopped(chromium, lab):
    nb = Notebook(chromium, lab, 'stopped', [POINTS.format(n=20_000), 'ex = Explorer(emb, images, how="tsne")\nex'])
    stop = nb.page.get_by_role('button', name='stop')
    nb.page.wait_for_function("""() => [...document.querySelectorAll('.widget-html-content')].some(e => e.textContent.includes('t-SNE'))""")
    began = time.time()
    assert nb.python('print(6*7)') == '42' and time.time()-began < 5
    stop.click(); nb.page.get_by_text('stopped: this is the map before').wait_for()
    assert nb.python('print(ex.job.is_alive())') == 'False'
    nb.close()

def test_a_kernel_that_was_restarted_is_told(chromium, lab):
    nb = Notebook(chromium, lab, 'restarted', [POINTS.format(n=300), 'ex = Explorer(emb, images, how="pca")\nex'])
    page, canvas = nb.page, nb.page.locator('.plmap canvas').first
    canvas.wait_for(); page.wait_for_timeout(500)
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_timeout(2000)
    canvas.focus(); page.keyboard.press('ArrowRight') # the points are still there, and can be walked
    page.get_by_text('No answer from the kernel').wait_for()
    nb.shot('told')
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_timeout(500); page.locator('.plmap canvas').first.wait_for()
    assert nb.python('print(len(ex.emb))') == '300'
    nb.close()

# every knob

COMPONENTS = ['02_views','08_widgets','11_gumbel','20_mixing','21_adversarial','30_prototypes','32_autoencoder','40_crosspatch','41_cdcl']

def turn_all(nb):
    "Move every slider that is shown by keyboard; returns how many pictures or maps followed"
    page, moved = nb.page, 0
    page.locator('.pathlearn .noUi-handle:visible').first.wait_for()
    page.wait_for_timeout(300)
    assert named(page) == []
    for box in page.locator('.jp-OutputArea-output .pathlearn').all():
        def seen(): return box.evaluate("""box => [...box.querySelectorAll('img')].map(i => i.src).join()
            + [...box.querySelectorAll('.stage canvas')].map(c => c.toDataURL()).join()""")
        for handle in box.locator('.noUi-handle:visible').all():
            before = seen()
            handle.focus()
            full = handle.get_attribute('aria-valuenow') == handle.get_attribute('aria-valuemax')
            page.keyboard.press('ArrowLeft' if full else 'ArrowRight')
            for _ in range(30):
                page.wait_for_timeout(100)
                if seen() != before: moved += 1; break
    return moved

@pytest.mark.slow
@pytest.mark.parametrize('name', COMPONENTS)
def test_each_component_has_its_knob(chromium, lab, name):
    cells = evaluated(f'{name}.ipynb')
    assert any('knobs(' in c.lower() for c in cells), f'{name} has no knob'
    nb = Notebook(chromium, lab, name, cells)
    boxes = nb.page.locator('.pathlearn')
    boxes.first.wait_for()
    assert turn_all(nb) >= 1
    for i in range(boxes.count()):
        boxes.nth(i).scroll_into_view_if_needed(); boxes.nth(i).screenshot(path=OUT/f'{name}_{i}.png')
    nb.close()

# every tutorial, its long runs cut short

SHARED = ROOT.parent/'shared'/'data'
LONG = re.compile(r'compare\(|floor_rows\(|by_kind\(|read_csv\(|save_encoder\(|os\.remove\(|\bboth\b|hist\(')

def shortened(name): # -> the tutorial's cells with one epoch each, without those that score or write
    cells = [''.join(c['source']) for c in json.loads((ROOT/'nbs'/'tutorials'/f'{name}.ipynb').read_text(encoding='utf-8'))['cells']
             if c['cell_type'] == 'code']
    kept = [c for c in cells if not LONG.search(c)]
    return [re.sub(r'\.fit\(\d+\)', '.fit(1)', c).replace('../../../shared/data', str(SHARED)) for c in kept]

@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize('name', ['first_look','clusiam_lung','hard_pairs','fifteen_nuclei','autoencoder_digits'])
def test_each_tutorial_shows_its_widgets(chromium, lab, shared, name):
    nb = Notebook(chromium, lab, name, shortened(name))
    boxes = nb.page.locator('.jp-OutputArea-output .pathlearn')
    boxes.first.wait_for()
    assert turn_all(nb) >= 1
    maps = nb.page.locator('.plmap .stage canvas')
    for i in range(maps.count()): # select on every map
        maps.nth(i).scroll_into_view_if_needed()
        drag(nb.page, maps.nth(i), *LASSO)
        nb.page.wait_for_timeout(300)
        assert ' selected' in nb.page.locator('.plmap .said').nth(i).inner_text()
    for i in range(boxes.count()):
        boxes.nth(i).scroll_into_view_if_needed(); boxes.nth(i).screenshot(path=OUT/f'{name}_{i}.png')
    nb.close()

# the page that needs no Python

def test_the_page_without_python(chromium, tmp_path):
    import numpy as np, torch
    from pathlearn.evaluate import Embeddings
    from pathlearn.explore import map_page
    rng = np.random.default_rng(0)
    label = rng.integers(0, 40, 3000) # more than thirty: the legend folds
    emb = Embeddings(np.eye(40, 48)[label] + rng.normal(0, .2, (3000,48)), label, rng.integers(0, 5, 3000), [f'<tissue {i}>' for i in range(40)])
    images = torch.from_numpy((rng.random((3000,3,16,16))*60 + 4*label[:,None,None,None]).astype('u1'))
    (tmp_path/'map.html').write_text(map_page(emb, images, 'pca', title='Three thousand patches'), encoding='utf-8')
    page, asked = chromium.new_page(viewport=dict(width=1200, height=900)), []
    page.on('request', lambda r: asked.append(r.url) if not r.url.startswith(('file:','data:','blob:')) else None)
    page.on('pageerror', lambda e: pytest.fail(str(e)))
    page.goto((tmp_path/'map.html').as_uri())
    canvas = page.locator('.plmap canvas').first
    canvas.wait_for(); page.get_by_text('Nothing is selected').wait_for()
    assert page.get_by_text('and 11 more').is_visible()
    box = canvas.bounding_box(); page.mouse.move(box['x'] + box['width']/2, box['y'] + box['height']/2)
    page.locator('.plmap .tip img').wait_for()
    drag(page, canvas, *LASSO)
    page.get_by_text(' patches selected').first.wait_for()
    assert page.locator('#patches canvas').count() == 96
    page.get_by_role('combobox', name='colour', exact=True).select_option('confidence'); page.locator('.plmap .bar').wait_for()
    canvas.focus(); page.keyboard.press('ArrowLeft'); page.keyboard.press('Enter')
    page.locator('#example canvas').wait_for()
    page.screenshot(path=OUT/'page.png')
    assert asked == []
    page.close()
