"Every knob and every tutorial: JupyterLab opens the notebooks, runs them, and each slider moves by keyboard"
import json, re
import pytest
from browsing import LASSO, OUT, ROOT, Notebook, drag, named, needs_browser

pytestmark = needs_browser

def evaluated(name): # path in nbs/ -> sources of the cells that the tests evaluate
    cells = json.loads((ROOT/'nbs'/name).read_text(encoding='utf-8'))['cells']
    sources = [''.join(c['source']) for c in cells if c['cell_type'] == 'code']
    return [s for s in sources if not re.search(r'^#\|\s*eval:\s*false', s, re.M)]

# every knob

COMPONENTS = ['02b_colour','06f_widgets','11_gumbel','20_mixing','21_adversarial','30_prototypes','32_autoencoder','40_crosspatch','41_cdcl']

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
    assert nb.page.get_by_role('alert').filter(has_text=re.compile('.')).count() == 0 # nothing went wrong in the background
    for i in range(boxes.count()):
        boxes.nth(i).scroll_into_view_if_needed(); boxes.nth(i).screenshot(path=OUT/f'{name}_{i}.png')
    nb.close()

# every tutorial, its long runs cut short

LONG = re.compile(r'compare\(|floor_rows\(|by_kind\(|read_csv\(|save_encoder\(|os\.remove\(|\b(?:runs|ours)\b|hist\(')

def shortened(name): # -> the tutorial's cells with one epoch each, without those that score or write
    cells = [''.join(c['source']) for c in json.loads((ROOT/'nbs'/'tutorials'/f'{name}.ipynb').read_text(encoding='utf-8'))['cells']
             if c['cell_type'] == 'code']
    kept = [c for c in cells if not LONG.search(re.sub(r'^#\|.*', '', c, flags=re.M))]
    return [re.sub(r'\.fit\(\d+\)', '.fit(1)', c) for c in kept]

@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize('name', ['first_look','clusiam_lung','hard_pairs','fifteen_nuclei','autoencoder_digits'])
def test_each_tutorial_shows_its_widgets(chromium, lab, shared, name):
    cells = evaluated(f'tutorials/{name}.ipynb') if name == 'autoencoder_digits' else shortened(name)
    nb = Notebook(chromium, lab, name, cells)
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
