"The explorer and the page without Python, by mouse and by keyboard: what changed on the page, and what the kernel knows of it"
import shutil, threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import pytest
from browsing import LASSO, OUT, POINTS, ROOT, SHOWN, Notebook, drag, measured, named, needs_browser

pytestmark = needs_browser

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
    page.get_by_text('Nothing is selected: drag').wait_for()
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
    assert nb.python('print(6*7, ex.job.is_alive())') == '42 True' # answered while the map is made
    stop.click(); nb.page.get_by_text('stopped: this is the map before').wait_for()
    assert nb.python('print(ex.job.stopped, ex.job.join(30), ex.job.is_alive())') == 'True None False'
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

def test_the_pictures_after_the_first_are_shown(chromium, lab):
    "Our style is put on and off while the notebook's backend is being loaded"
    nb = Notebook(chromium, lab, 'pictures', [POINTS.format(n=100), 'plot_map(emb, how="pca");', 'import matplotlib.pyplot as plt\nplt.plot([1,2]);'])
    nb.page.locator('.jp-OutputArea-output img').nth(1).wait_for()
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
    canvas.wait_for(); page.get_by_text('Nothing is selected: drag').wait_for()
    assert page.get_by_text('and 11 more').is_visible()
    box = canvas.bounding_box(); page.mouse.move(box['x'] + box['width']/2, box['y'] + box['height']/2)
    page.locator('.plmap .tip img').wait_for()
    drag(page, canvas, *LASSO)
    page.get_by_text(' patches selected').first.wait_for()
    assert page.locator('#patches canvas').count() == 96
    page.get_by_role('combobox', name='colour', exact=True).select_option('confidence'); page.locator('.plmap .bar').wait_for()
    canvas.focus(); page.keyboard.press('ArrowLeft'); page.keyboard.press('Enter')
    page.locator('#example > canvas').wait_for()
    assert page.locator('#example .row canvas').count() == 5
    page.screenshot(path=OUT/'page.png')
    assert asked == []
    page.close()

# the same file inside the site's first page

HOST = """<!doctype html><meta name="viewport" content="width=device-width"><style>.quarto-dark { background: #222 }</style><body class="quarto-light"><main style="max-width: 720px; margin: auto">
<iframe src="map.html" title="map" style="width: 100%; height: 640px; border: 0"></iframe></main></body>"""

@pytest.fixture
def site(tmp_path):
    "Address of a page that frames the map of the first page"
    shutil.copy(ROOT/'nbs'/'images'/'map.html', tmp_path)
    (tmp_path/'index.html').write_text(HOST)
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(SimpleHTTPRequestHandler, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/index.html'
    server.shutdown()

def opened(chromium, site, **kw): # -> page, frame, canvas of the map
    page = chromium.new_context(**kw).new_page()
    page.on('pageerror', lambda e: pytest.fail(str(e)))
    page.goto(site)
    frame = page.frame_locator('iframe')
    canvas = frame.locator('.plmap canvas').first
    canvas.wait_for(); page.wait_for_timeout(500)
    assert page.evaluate('document.documentElement.scrollWidth <= innerWidth')
    return page, frame, canvas

def test_the_map_of_the_first_page_by_mouse(chromium, site):
    page, frame, canvas = opened(chromium, site, viewport=dict(width=1280, height=1000))
    end = frame.locator('#example .row').bounding_box()   # one example from the start, and no empty strip below it
    tall = page.locator('iframe').bounding_box()
    assert 0 < tall['y'] + tall['height'] - end['y'] - end['height'] < 20
    box = canvas.bounding_box()
    page.mouse.move(box['x'] + .46*box['width'], box['y'] + .5*box['height'])
    frame.locator('.plmap .tip img').wait_for()
    page.mouse.down(); page.mouse.up()
    frame.get_by_text('the 5 nearest by features').wait_for()
    assert frame.locator('#example .row canvas').count() == 5
    drag(page, canvas, *LASSO)
    frame.get_by_text(' patches selected').first.wait_for()
    page.screenshot(path=OUT/'first_page_1280.png', full_page=True)
    page.context.close()

def test_the_map_of_the_first_page_on_a_phone_in_the_dark(chromium, site):
    page, frame, canvas = opened(chromium, site, viewport=dict(width=390, height=844), has_touch=True, is_mobile=True)
    dress = lambda: frame.locator('html').evaluate('e => getComputedStyle(e).colorScheme')
    assert dress() == 'light'
    page.evaluate("document.body.className = 'quarto-dark'"); page.wait_for_timeout(200)
    assert dress() == 'dark'                              # as the page around it
    touch = lambda: canvas.evaluate('c => c.style.touchAction')
    assert touch() == 'pan-y'                             # a finger scrolls the page ...
    canvas.scroll_into_view_if_needed(); box = canvas.bounding_box()
    page.touchscreen.tap(box['x'] + .5*box['width'], box['y'] + .45*box['height'])
    frame.locator('.plmap .tip img').wait_for()
    assert frame.locator('#example .row canvas').count() == 5
    lasso = frame.get_by_role('button', name='drag to select by lasso')
    lasso.tap(); assert touch() == 'none'                 # ... until it may draw
    lasso.tap(); assert touch() == 'pan-y'
    assert page.evaluate("document.querySelector('iframe').offsetHeight") < 1000
    page.screenshot(path=OUT/'first_page_390_dark.png', full_page=True)
    page.context.close()
