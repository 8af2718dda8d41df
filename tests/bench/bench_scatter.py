"""The explorer's own canvas against jupyter-scatter and plotly, in JupyterLab under headless Chromium without a graphics card

    python tests/bench/bench_scatter.py [--n 20000 100000]

What is not installed is left out: pip install jupyter-scatter plotly."""
import argparse, contextlib, importlib.util, sys, tempfile
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parents[1]))
import browsing as t

parser = argparse.ArgumentParser()
parser.add_argument('--n', type=int, nargs='+', default=[20_000, 100_000])
args = parser.parse_args()

WAYS = { # module, the cell that shows the map, what to drag over, whether Shift is held
    'pathlearn': ('pathlearn', 'ex = Explorer(emb, images, how="pca")\nex', '.plmap canvas', []),
    'jupyter-scatter': ('jscatter', '''import pandas as pd
s = jscatter.Scatter(data=pd.DataFrame(dict(x=xy[:,0], y=xy[:,1], g=pd.Categorical(label.astype(str)))), x='x', y='y', color_by='g', height=460, width=700)
def told(change): said.value = f"{len(change['new'])} told"
s.widget.observe(told, 'selection')
s.show()''', '.jp-OutputArea-output canvas', ['Shift']),
    'plotly': ('plotly', '''f = go.FigureWidget(go.Scattergl(x=xy[:,0], y=xy[:,1], mode='markers', marker=dict(color=label, size=4)), layout=dict(width=700, height=460, dragmode='lasso', margin=dict(l=0, r=0, t=0, b=0)))
def told(trace, points, selector): said.value = f'{len(points.point_inds)} told'
f._config = dict(scrollZoom=True)
f.data[0].on_selection(told)
f''', '.nsewdrag', [])}
START = '''
import ipywidgets as W, warnings
from pathlearn.explore.maps import reduce
for name in ('jscatter', 'plotly.graph_objects'):
    try: exec(f'import {name}' + (' as go' if 'plotly' in name else ''))
    except ImportError: pass
xy = reduce(emb, 'pca')
said = W.HTML('nothing told')
said'''

def run(browser, lab, name, n):
    module, cell, selector, keys = WAYS[name]
    nb = t.Notebook(browser, lab, f'bench_{module}_{n}', [t.POINTS.format(n=n) + START])
    page = nb.page
    page.evaluate("""([source, selector]) => { const nb = jupyterapp.shell.currentWidget; jupyterapp.commands.execute('notebook:insert-cell-below').then(() => {
        nb.content.activeCell.model.sharedModel.setSource(source); window.began = performance.now(); jupyterapp.commands.execute('notebook:run-cell') })
        const look = () => { if (document.querySelector(selector)) window.first = performance.now(); else requestAnimationFrame(look) }; look() }""", [cell, selector])
    page.wait_for_function('window.first')
    first = page.evaluate('window.first - window.began')/1000
    target = page.locator(selector).first
    target.scroll_into_view_if_needed(); page.wait_for_timeout(4000)
    answer = '.plmap .said' if name == 'pathlearn' else '.widget-html-content'
    page.evaluate("""answer => { const e = name => [...document.querySelectorAll(name)].find(e => e.textContent.match(/told|^$|Nothing/))
        document.addEventListener('pointerup', () => { window.up = performance.now() }, true); document.addEventListener('mouseup', () => { window.up = performance.now() }, true)
        new MutationObserver(() => { window.told ??= window.up ? performance.now() : undefined }).observe(e('.widget-html-content'), {childList: true, subtree: true, characterData: true}) }""", answer)
    if name == 'pathlearn': # its answer is the panel of counts, which the kernel writes
        page.evaluate("""() => new MutationObserver(() => { window.told ??= window.up ? performance.now() : undefined }).observe(
            [...document.querySelectorAll('.widget-html-content')].find(e => e.textContent.includes('Nothing is selected')), {childList: true, subtree: true})""")
    with contextlib.ExitStack() as held:
        for k in keys: page.keyboard.down(k); held.callback(page.keyboard.up, k)
        page.wait_for_timeout(200)
        t.drag(page, target, *t.LASSO)
    try:
        page.wait_for_function('window.told', timeout=15_000)
        lasso = f"{page.evaluate('window.told - window.up')/1000:.2f} s"
    except Exception: lasso = 'no answer'
    frames = page.evaluate("""async selector => { const c = document.querySelector(selector), r = c.getBoundingClientRect(); c.focus?.(); let n = 0; const t0 = performance.now()
        while (performance.now() - t0 < 3000) { c.dispatchEvent(new WheelEvent('wheel', {deltaY: n++ % 40 < 20 ? -10 : 10, clientX: r.x + r.width/2, clientY: r.y + r.height/2, bubbles: true, cancelable: true}))
            await new Promise(requestAnimationFrame) } return n/3 }""", selector)
    print(f'{name:16} {n:7} points: first picture {first:.2f} s, lasso answered in {lasso}, {frames:.0f} frames/s while zooming', flush=True)
    nb.shot('map'); nb.close()

class Factory: # what pytest's fixture wants
    def mktemp(self, name): return Path(tempfile.mkdtemp())

t.QUIET = [q for q in t.QUIET if q != '--disable-gpu'] + ['--enable-unsafe-swiftshader'] # WebGL in software, for the others
with contextlib.ExitStack() as stack:
    browser, lab = (stack.enter_context(contextlib.contextmanager(f.__wrapped__)(*a)) for f, a in ((t.chromium, []), (t.lab, [Factory()])))
    for n in args.n:
        for name, (module, *_) in WAYS.items():
            if importlib.util.find_spec(module): run(browser, lab, name, n)
            else: print(f'{name}: not installed')
