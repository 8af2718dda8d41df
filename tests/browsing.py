"""Headless Chromium and a JupyterLab with nobody's settings, for the tests that touch what a reader can touch.

Screenshots and the figures that were measured lie in test-output/browser."""
import json, os, shutil, socket, subprocess, sys, time
from pathlib import Path
from urllib.request import urlopen
import pytest

ROOT = Path(__file__).parents[1]
OUT = ROOT/'test-output'/'browser'
BROWSER = next((b for n in ('chromium','chromium-browser','google-chrome') if (b := shutil.which(n))), None)
QUIET = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
         '--disable-component-update', '--disable-sync', '--force-prefers-reduced-motion']
needs_browser = pytest.mark.skipif(not BROWSER, reason="no browser: install chromium from the system's packages to touch the widgets")

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
    shutil.copytree(ROOT/'nbs'/'results', home/'nbs'/'results') # sentences of the pages read their figures there
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

def measured(name, **figures):
    "Print figures and keep them beside the screenshots"
    line = f'{name}: ' + ', '.join(f'{k} {v}' for k,v in figures.items())
    print(line)
    with open(OUT/'measured.txt', 'a') as f: f.write(line + '\n')

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

def named(page): # -> controls in outputs that a screen reader would find without a name
    return page.evaluate("""() => [...document.querySelectorAll('.jp-OutputArea-output :is(input, select, button, [role=slider], canvas[tabindex], [role=application])')]
        .filter(e => e.offsetParent && !e.closest('details:not([open])')).filter(e => !(e.getAttribute('aria-label') || e.labels?.length || e.title || e.textContent.trim()
            || e.closest('.jupyter-widgets')?.querySelector('.widget-label')?.textContent.trim())).map(e => e.outerHTML.slice(0, 200))""")
