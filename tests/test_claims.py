"Measured figures in index, README and tutorials name their row in nbs/results, and say what it says"
import json, re
from pathlib import Path
import nbformat, pandas as pd, pytest
from nbclient import NotebookClient
from scipy.stats import t

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT/'nbs'
PAGES = [NBS/'index.ipynb', *sorted((NBS/'tutorials').glob('*.ipynb'))]
CITED = re.compile(r'\[([^\[\]]+)\]\([^()\s]+\s+"row: ([^"]+)"\)')
FIGURE = re.compile(r'(?<![\w.,/-])[+−-]?0?\.\d{2,3}(?!\d|\.\d)')
QUIET = re.compile(r'```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$|<!--.*?-->', re.S)
SAID = re.compile(r'([+−-]?)0?(\.\d+|\d+\.\d+|\d+)(?:\s*±\s*0?(\.\d+))?$')

def chosen(table, wanted): # 'column=value, column=value' -> rows
    for item in filter(None, (w.strip() for w in wanted.split(','))):
        column,_,value = (p.strip() for p in item.partition('='))
        assert column in table, f"there is no column {column!r}; there are {', '.join(table)}"
        same = table[column] == value
        try: same |= pd.to_numeric(table[column], errors='coerce') == float(value)
        except ValueError: pass
        table = table[same]
    return table

def values(reference): # 'FILE | column=value, ... | column [| minus column=value, ...]' -> Series by seed
    file,wanted,column,*minus = (p.strip() for p in reference.split('|'))
    table = pd.read_csv(NBS/'results'/file, dtype=str, keep_default_na=False)
    rows = chosen(table, wanted)
    assert len(rows), f"no row of {file} has {wanted}"
    found = rows.set_index('seed')[column].astype(float) if 'seed' in rows else rows[column].astype(float)
    if not minus: return found
    other = chosen(table, minus[0].removeprefix('minus ')).set_index('seed')[column].astype(float)
    assert found.index.is_unique and other.index.is_unique, "a paired difference wants one row per seed on both sides"
    return (found - other).dropna()

def fault(said, reference): # -> sentence, or None
    "Does a figure say what its rows say, rounded as it is written?"
    if not (m := SAID.match(said.strip())): return f"{said!r} is no figure"
    v = values(reference)
    sign,digits,half = m.groups()
    places = len(digits.partition('.')[2])
    mean = float(f"{'-' if sign in '−-' and sign else ''}{digits}")
    if abs(v.mean() - mean) > .5001*10**-places: return f"{said} stands where the rows have {v.mean():.{places+1}f}"
    if not half: return None
    if len(v) < 3: return f"{said} has an interval, and rests on {len(v)} rows: an interval wants three seeds"
    places, width = len(half) - 1, t.ppf(.975, len(v)-1)*v.sem()
    if abs(width - float(half)) > .5001*10**-places: return f"{said} stands where half the 95 % interval is {width:.{places+1}f}"

def prose(path):
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    return '\n\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown')

def faults(text):
    for said,reference in CITED.findall(text):
        try: found = fault(said, reference)
        except (AssertionError, KeyError, OSError) as e: found = str(e)
        if found: yield f"[{said}] {reference}: {found}"
    bare = QUIET.sub(' ', CITED.sub(' ', text))
    for m in FIGURE.finditer(bare): yield f"{m[0]} names no row: ...{bare[max(0, m.start()-60):m.end()+20]!r}"

@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.stem)
def test_each_figure_names_its_row(page):
    assert not (found := [*faults(prose(page))]), '\n'.join(found)

def test_the_readme_says_what_the_index_says():
    assert not (found := [*faults((ROOT/'README.md').read_text(encoding='utf-8'))]), '\n'.join(found)

SHOWN = 'clusiam_lc25000_lung_64.csv | method=colour histogram | 5-NN'
@pytest.mark.parametrize('text,word', [
    (f'The histogram has [.923](70.ipynb "row: {SHOWN}").', None),
    (f'The histogram has [.924](70.ipynb "row: {SHOWN}").', 'stands where the rows have'),
    (f'The histogram has [.923 ± .010](70.ipynb "row: {SHOWN}").', 'wants three seeds'),
    ('The histogram has [.923](70.ipynb "row: clusiam_lc25000_lung_64.csv | method=histogram | 5-NN").', 'no row of'),
    ('The histogram has [.923](70.ipynb "row: clusiam_lc25000_lung_64.csv | name=x | 5-NN").', 'no column'),
    ('The histogram has .923.', 'names no row'),
    ('A rate of `.1`, $.25$ and version 0.1.0 are no results.', None)])
def test_the_test_can_fail(text, word):
    found = [*faults(text)]
    assert (word in found[0]) if word else not found

def said(nb): # text that the cells of a notebook print as Markdown or HTML
    kinds = 'text/markdown','text/html'
    return [''.join(o['data'][k]) for c in nb.cells if c.cell_type == 'code' for o in c.outputs for k in kinds if k in o.get('data', {})]

def test_the_results_page_is_that_of_its_files():
    "Its sentences and tables are made of the files; what is saved must be what they make today"
    nb = nbformat.read(NBS/'70_results.ipynb', as_version=4)
    saved = said(nb)
    NotebookClient(nb, timeout=120, kernel_name='python3', resources={'metadata': {'path': str(NBS)}}).execute()
    assert len(saved) > 5 and said(nb) == saved
