"The slider that a saved knob keeps moves in a browser without any kernel"
import numpy as np, matplotlib.pyplot as plt, pytest
from browsing import OUT, Notebook, needs_browser
from pathlearn.explore.widgets import Knobs, check, choice, slider

def wave(frequency, damped):
    fig, ax = plt.subplots(figsize=(4,1.6), dpi=80)
    ax.plot(np.sin(np.linspace(0, frequency, 200)))
    return fig

def knob(): return Knobs(wave, 'A wave', damped=check('damped'), frequency=slider('frequency', 3., .5, 8.))

def test_it_is_made_only_where_outputs_are_saved(monkeypatch):
    monkeypatch.delenv('PATHLEARN_SLIDERS', raising=False)
    assert 'text/html' not in knob()._repr_mimebundle_()
    monkeypatch.setenv('PATHLEARN_SLIDERS', '1')
    bundle = knob()._repr_mimebundle_()
    assert bundle['text/html'].count('<img') == 1 and len(bundle['text/html']) < 150_000
    assert 'application/vnd.jupyter.widget-view+json' in bundle # and that is what JupyterLab takes

@pytest.mark.parametrize('side,frames', [(60,7),(190,3),(500,0)])
def test_heavy_pictures_become_fewer_and_refused_values_are_left_out(side, frames):
    rng = np.random.default_rng(0)
    def noisy(n):
        if n > 12: raise ValueError('n is at most 12')
        fig, ax = plt.subplots(figsize=(side/100,side/100), dpi=100)
        fig.figimage(rng.random((side,side,3)))
        return fig
    page = Knobs(noisy, 'Noise', n=slider('n', 5, 1, 13)).moving()
    assert len(page) < 150_000
    assert bool(page) == bool(frames) and ('<output>5</output>' in page) == bool(frames)
    if page: assert page.count('data:image') == (7 if frames == 7 else 4)

def test_the_control_that_moves_can_be_named():
    knobs = knob()
    knobs.ahead = 'damped'
    assert 'aria-label="damped"' in knobs.moving()

def test_a_choice_says_the_names_of_its_options():
    page = Knobs(lambda f: wave(f, 0), 'A wave', f=choice('how fast', {'slow & steady': 1, 'fast': 9})).moving()
    assert 'slow &amp; steady' in page and 'aria-label="how fast"' in page

@needs_browser
@pytest.mark.parametrize('theme', ['light','dark'])
@pytest.mark.parametrize('width', [390,1280])
def test_it_turns_without_a_kernel(chromium, tmp_path, theme, width):
    file = tmp_path/'knob.html'
    file.write_text('<!doctype html><meta name="viewport" content="width=device-width"><style>:root{color-scheme:light dark}</style>' + knob().moving())
    page = chromium.new_page(viewport=dict(width=width, height=500), color_scheme=theme)
    page.goto(file.as_uri())
    picture, ranged = page.locator('img'), page.get_by_label('frequency')
    first, said = picture.get_attribute('src'), page.locator('output').inner_text()
    assert said == '3' and page.evaluate('document.images[0].naturalWidth') > 100
    ranged.focus()
    page.keyboard.press('ArrowRight')
    assert picture.get_attribute('src') != first and page.locator('output').inner_text() != said
    assert ranged.get_attribute('aria-valuetext') == page.locator('output').inner_text() in picture.get_attribute('alt')
    page.keyboard.press('ArrowLeft')
    assert picture.get_attribute('src') == first
    assert page.evaluate('document.documentElement.scrollWidth <= innerWidth')
    page.screenshot(path=OUT/f'ahead_{theme}_{width}.png')
    page.close()

@needs_browser
def test_jupyterlab_with_a_kernel_takes_the_live_widget(chromium, lab):
    nb = Notebook(chromium, lab, 'ahead', ["""import os, matplotlib.pyplot as plt
os.environ['PATHLEARN_SLIDERS'] = '1'
from pathlearn.explore.widgets import Knobs, slider
def draw(n): return plt.subplots(figsize=(n,1))[0]
knobs = Knobs(draw, 'A figure', n=slider('n', 2, 1, 4))
knobs"""])
    nb.page.locator('.jp-OutputArea .widget-slider').wait_for()
    assert nb.page.evaluate("""jupyterapp.shell.currentWidget.content.widgets[0].model.sharedModel.outputs.some(o => 'text/html' in (o.data ?? {}))""")
    assert not nb.page.locator('.pathlearn-ahead').count()
    nb.close()
