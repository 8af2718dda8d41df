"How large exported cells and modules are; `make test` prints it, tests/test_cells.py holds the bounds"
import json, statistics, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXPORTED = '#| export', '#| exports', '#| exporti', '#| exec_doc'

def exported(nb): # path of a notebook -> list of (number of the cell, its lines without directives)
    "The cells of a notebook that end in a module"
    cells = json.loads(nb.read_text(encoding='utf-8'))['cells']
    for i,c in enumerate(cells):
        lines = ''.join(c['source']).splitlines()
        if c['cell_type'] == 'code' and any(l.split(' ')[:2] in [e.split(' ') for e in EXPORTED] for l in lines):
            yield i, [l for l in lines if not l.startswith('#|')]

def all_cells(root=ROOT): # -> list of (notebook, number, lines)
    return [(nb.relative_to(root), i, lines) for nb in sorted((root/'nbs').rglob('*.ipynb')) if '.ipynb_checkpoints' not in nb.parts
            for i,lines in exported(nb)]

def figures(cells): # -> dict
    "What describes the size of cells"
    sizes = [len(lines) for *_,lines in cells]
    return {'exported cells': len(sizes), 'median': statistics.median(sizes), 'longest': max(sizes),
            'share of lines in cells above 15': round(sum(n for n in sizes if n > 15)/sum(sizes), 3),
            'lines above 100 characters': sum(len(l) > 100 for *_,lines in cells for l in lines)}

if __name__ == '__main__':
    cells = all_cells()
    print(', '.join(f'{n}: {v}' for n,v in figures(cells).items()))
    for nb,i,lines in sorted(cells, key=lambda c: -len(c[2]))[:int((sys.argv+['0'])[1])]: print(f'{len(lines):>4} lines  {nb} cell {i}')
