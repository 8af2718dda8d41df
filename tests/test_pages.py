"Pages as a reader sees them, at a desk and on a phone: how long they are, and whether anything sticks out"
import warnings
from pathlib import Path
import pytest
from preview import MEASURE, page

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
LONG = 12_000 # pixels at 1280
LOOKED_UP = {'glossary.ipynb': 16_000} # links lead to its terms; nobody reads it from top to bottom

@pytest.fixture(scope='module')
def sizes(chromium, tmp_path_factory): # -> name: {width: what was measured}
    folder, found = tmp_path_factory.mktemp('pages'), {}
    tab = chromium.new_page()
    for path in PAGES:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            (made := folder/f'{path.stem}.html').write_text(page(path))
        found[path.relative_to(ROOT/'nbs').as_posix()] = sized = {}
        for width in (1280, 390):
            tab.set_viewport_size(dict(width=width, height=900)); tab.goto(made.as_uri()); sized[width] = tab.evaluate(MEASURE)
    tab.close()
    return found

def test_no_page_is_too_long(sizes):
    assert {n: s[1280]['height'] for n, s in sizes.items() if s[1280]['height'] > LOOKED_UP.get(n, LONG)} == {}

@pytest.mark.parametrize('width', [1280, 390])
def test_no_page_moves_sideways(sizes, width):
    assert {n: s[width] for n, s in sizes.items() if s[width]['sideways'] > 0 or s[width]['wide']} == {}

def test_shown_code_does_not_wrap_at_a_desk(sizes):
    assert {n: s[1280]['wrapped'] for n, s in sizes.items() if s[1280]['wrapped']} == {}
