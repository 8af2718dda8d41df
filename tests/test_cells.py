"Cells that a reader can hold: the bounds of what `make test-lint` prints"
import ast, importlib.util, json
from pathlib import Path

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location('cells', ROOT/'.ci'/'cells.py')
cells = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cells)

def most(lines): # of an exported cell
    "A class may have forty lines, anything else thirty"
    body = ast.parse('\n'.join(lines)).body
    return 40 if len([o for o in body if not isinstance(o, (ast.Import,ast.ImportFrom))]) == 1 and isinstance(body[-1], ast.ClassDef) else 30

def test_exported_cells_are_short():
    long = [f'{nb} cell {i}: {len(lines)} lines' for nb,i,lines in cells.all_cells() if len(lines) > most(lines)]
    assert not long, 'split it by idea, with the sentence that each idea deserves'

def test_half_of_them_are_very_short():
    found = cells.figures(cells.all_cells())
    assert found['median'] <= 8 and found['share of lines in cells above 15'] < .4, found

def test_exported_lines_fit_a_page():
    long = [f'{nb} cell {i}: {len(l)} characters' for nb,i,lines in cells.all_cells() for l in lines if len(l) > 100]
    assert not long

def shown(): # -> (notebook, number, line) of each line of code that the site shows
    for nb in sorted((ROOT/'nbs').rglob('*.ipynb')):
        if '.ipynb_checkpoints' in nb.parts: continue
        for i,c in enumerate(json.loads(nb.read_text(encoding='utf-8'))['cells']):
            lines = ''.join(c['source']).splitlines()
            marks = {l.split(':')[0].strip() for l in lines if l.startswith('#|')}
            quiet = any(m.startswith(('#| hide','#| export')) and not m.startswith('#| exports') or m == '#| echo' for m in marks)
            if c['cell_type'] == 'code' and not quiet: yield from ((nb.relative_to(ROOT), i, l) for l in lines if not l.startswith('#|'))

def test_shown_lines_fit_the_site():
    long = [f'{nb} cell {i}: {len(l)} characters' for nb,i,l in shown() if len(l) > 90]
    assert not long

SHOWN = 'Markdown', 'HTML', 'Image', 'folded' # what a cell ends with to be seen

def unseen(source): # of a cell -> names of those that stand before its last statement, where nothing shows them
    lines = [l for l in source.splitlines() if not l.lstrip().startswith(('%','!'))]
    calls = [o.value for o in ast.parse('\n'.join(lines)).body[:-1] if isinstance(o, ast.Expr) and isinstance(o.value, ast.Call)]
    return [c.func.id for c in calls if isinstance(c.func, ast.Name) and c.func.id in SHOWN]

def test_what_a_cell_shows_is_its_last_statement():
    assert unseen("Markdown('lost')\nassert True") == ['Markdown'] and not unseen("assert True\nMarkdown('seen')")
    found = {}
    for nb in sorted((ROOT/'nbs').rglob('*.ipynb')):
        if '.ipynb_checkpoints' in nb.parts: continue
        for i,c in enumerate(json.loads(nb.read_text(encoding='utf-8'))['cells']):
            if c['cell_type'] == 'code' and (lost := unseen(''.join(c['source']))): found[f'{nb.name} cell {i}'] = lost
    assert not found
