"The slide viewer in JupyterLab: squares come as the view asks for them, tiles say what they are, the map follows its sliders"
import re
from browsing import Notebook, drag, measured, named, needs_browser

pytestmark = needs_browser

DRAWN = '''import numpy as np
from pathlearn.slides import *
from pathlearn.synthetic import synthetic_slide
slide = open_slide(synthetic_slide(2048, seed=3)[0], mpp=1.75)
tiles = tile_slide(slide, px=64, mpp=1.75)
column = (tiles.xy[:,0]//64).astype(int)
epochs = np.stack([column*0, column % 2, column % 3])
names = ['none', 'two', 'three']'''
MAP = 'viewer = SlideViewer(slide, tiles, epochs, names=names, classes=["even", "odd", "third"])\nviewer'
HELD = 'print([*viewer.canvas.squares.held])'

def opened(chromium, lab, name, cells, theme='light'): # -> notebook, its page, the canvas, what it is called
    nb = Notebook(chromium, lab, name, cells, theme=theme)
    canvas = nb.page.locator('.plslide canvas').first
    canvas.wait_for(); canvas.scroll_into_view_if_needed()
    settled(nb)
    return nb, nb.page, canvas

def held(nb): return eval(nb.python(HELD))
def settled(nb): # the squares that were asked for have come
    seen = None
    while (now := held(nb)) != seen: seen = now; nb.page.wait_for_timeout(400)

def pixel(canvas, u, v): # shares of its width and height -> [r,g,b,a]
    return canvas.evaluate("(c, [u, v]) => [...c.getContext('2d').getImageData(c.width*u, c.height*v, 1, 1).data]", [u, v])

def test_it_is_drawn_and_zooming_fetches_finer_squares(chromium, lab):
    nb, page, canvas = opened(chromium, lab, 'slide_viewer', [DRAWN, MAP])
    assert named(page) == []
    first = held(nb)
    assert {z for z,_,_ in first} <= {1,2} and len(first) <= 24
    assert 'µm' not in page.locator('.plslide .said').inner_text()
    shown = canvas.screenshot()
    nb.shot('whole')
    page.get_by_role('button', name='zoom in').click(click_count=3)
    canvas.focus()
    for _ in range(2): page.keyboard.press('+')
    settled(nb)
    assert any(z == 0 for z,_,_ in held(nb)) and canvas.screenshot() != shown
    assert len(held(nb)) < 64, 'only what was looked at, of 64 squares as scanned'
    nb.shot('near')
    n = len(held(nb)) # moving on brings new squares, coming back none
    for _ in range(12): page.keyboard.press('ArrowRight')
    settled(nb); more = len(held(nb))
    for _ in range(12): page.keyboard.press('ArrowLeft')
    settled(nb)
    assert more > n and len(held(nb)) == more
    page.keyboard.press('0'); page.wait_for_timeout(300)
    measured('slide viewer', squares_at_first=len(first), after_zoom=n)
    nb.close()

def test_a_tile_says_what_it_is_and_is_selected(chromium, lab):
    nb, page, canvas = opened(chromium, lab, 'slide_tile', [DRAWN, MAP])
    said, tip, box = page.locator('.plslide .said'), page.locator('.plslide .tip'), canvas.bounding_box()
    page.mouse.move(box['x'] + box['width']/2, box['y'] + box['height']/2)
    tip.wait_for()
    i, x, y, name = re.fullmatch(r'tile (\d+) at ([\d.]+), ([\d.]+) mm: (\w+)', tip.inner_text()).groups()
    want = nb.python(f'i = {i}; print(*((tiles.xy[i] + 32)*1.75/1000).round(2), ["even","odd","third"][epochs[2][i]])').split()
    assert [float(x), float(y), name] == [float(want[0]), float(want[1]), want[2]]
    page.mouse.down(); page.mouse.up(); page.wait_for_timeout(300)
    assert nb.python('print(viewer.selected)') == i and said.inner_text() == tip.inner_text()
    # beside the slide there is no tile
    page.mouse.move(box['x'] + 4, box['y'] + 100); page.wait_for_timeout(100)
    assert re.fullmatch(r'-?[\d.]+, -?[\d.]+ mm', tip.inner_text())
    # by keyboard: the middle moves, Enter takes what is there
    canvas.focus(); page.keyboard.press('ArrowDown'); page.wait_for_timeout(200)
    word = said.inner_text()
    page.keyboard.press('Enter'); page.wait_for_timeout(300)
    assert word.startswith(f"tile {nb.python('print(viewer.selected)')} at ") and said.inner_text() == word
    # a drag moves the view and selects nothing
    before, was = canvas.screenshot(), nb.python('print(viewer.selected)')
    drag(page, canvas, (.5,.5), (.3,.4)); page.wait_for_timeout(300)
    assert canvas.screenshot() != before and nb.python('print(viewer.selected)') == was
    # by Python, out of view: it is brought into view
    for _ in range(6): page.keyboard.press('+')
    before = canvas.screenshot(); nb.python('viewer.selected = 0'); page.wait_for_timeout(500)
    assert canvas.screenshot() != before
    nb.shot('selected')
    nb.close()

def test_the_sliders_change_the_map(chromium, lab):
    nb, page, canvas = opened(chromium, lab, 'slide_rows', [DRAWN, MAP])
    epoch, told, legend = page.get_by_role('slider', name='epoch'), page.locator('.plslide output'), page.locator('.plslide [role=group]')
    assert told.inner_text() == 'three' and legend.inner_text().split() == ['even','odd','third'], 'the last row comes first'
    before = canvas.screenshot()
    epoch.focus(); page.keyboard.press('ArrowLeft'); page.wait_for_timeout(500)
    assert nb.python('print(viewer.row)') == '1' and told.inner_text() == 'two' == epoch.get_attribute('aria-valuetext')
    assert legend.inner_text().split() == ['even','odd'] and canvas.screenshot() != before
    nb.python('viewer.row = 0'); page.wait_for_timeout(500)
    assert told.inner_text() == 'none' and epoch.input_value() == '0'
    page.get_by_role('slider', name='opacity').focus()
    blue = pixel(canvas, .5, .45)
    for _ in range(20): page.keyboard.press('ArrowRight')
    page.wait_for_timeout(300)
    assert pixel(canvas, .5, .45)[:3] == [0,114,178] != blue[:3], 'all colour'
    for _ in range(20): page.keyboard.press('ArrowLeft')
    page.wait_for_timeout(300)
    assert nb.python('print(viewer.canvas.opacity)') in ('0','0.0')
    bare = canvas.screenshot(); nb.python('viewer.row = 2'); page.wait_for_timeout(500)
    assert canvas.screenshot() == bare, 'no colour'
    nb.close()

def test_it_can_be_read_in_the_dark_and_where_it_is_narrow(chromium, lab):
    scale = 'scale = SlideViewer(slide, tiles, np.linspace(0, 1, len(tiles)))\nscale'
    nb, page, canvas = opened(chromium, lab, 'slide_dark', [DRAWN, MAP, scale, 'bare = SlideViewer(slide)\nbare'], theme='dark')
    look = page.locator('.plslide').first.evaluate("""e => { const of = n => getComputedStyle(n).color.match(/[\\d.]+/g).slice(0, 3).map(Number)
        return [e, ...e.querySelectorAll('button, label, output, .said, .bar span')].map(of) }""")
    assert len(look) > 6 and all(min(c) > 150 for c in look), look
    legends = page.locator('.plslide [role=group]').all_inner_texts()
    assert '0 … 1' in legends[1] and not legends[2].strip()
    assert page.get_by_role('slider', name='opacity').count() == 2, 'nothing lies over a slide without tiles'
    nb.shot('dark')
    page.set_viewport_size(dict(width=480, height=900)); page.wait_for_timeout(500)
    assert canvas.evaluate('c => c.getBoundingClientRect().right <= innerWidth')
    nb.shot('narrow')
    nb.close()

def test_a_kernel_that_was_restarted_and_a_damaged_place_are_told(chromium, lab):
    broken = '''def fails(z, i, j): raise OSError('the file is damaged there')
viewer.canvas.squares = fails'''
    nb, page, canvas = opened(chromium, lab, 'slide_broken', [DRAWN, MAP])
    nb.python(broken); canvas.focus()
    for _ in range(6): page.keyboard.press('+')
    page.get_by_text('the file is damaged there').wait_for()
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"); page.wait_for_timeout(2000)
    canvas.focus()
    for key in ['0', *['ArrowLeft']*9, *['ArrowUp']*9, *'++++++']: page.keyboard.press(key) # where nobody has been
    page.wait_for_timeout(4000); nb.shot('told')
    page.get_by_text('No answer from the kernel').wait_for(timeout=5000)
    nb.close()
