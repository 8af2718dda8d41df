"""Rerun notebooks in a real kernel and save their outputs: python .ci/rerun.py [--all] nbs/12_clusiam.ipynb ...

Cells marked `#| eval: false` are real runs of minutes or hours: they keep their saved outputs unless --all is given."""
import os, re, sys
from pathlib import Path
import nbformat
from nbclient import NotebookClient

LONG = re.compile(r'^#\|\s*eval:\s*false', re.M)
NOISE = re.compile(r'Warning|it/s\]|\r|\x1b\[')
BAR = re.compile(r'\d+%\|')   # of tqdm, also where it draws into a display

class Rerun(NotebookClient):
    "A client that leaves the cells of long runs alone"
    def __init__(self, *args, everything=False, **kwargs): super().__init__(*args, **kwargs); self.everything = everything
    async def async_execute_cell(self, cell, cell_index, **kwargs):
        if not self.everything and LONG.search(cell.source): return cell
        return await super().async_execute_cell(cell, cell_index, **kwargs)

def tidy(nb):
    "Drop what depends on the machine or the moment"
    nb.metadata.pop('widgets', None)
    for i, cell in enumerate(nb.cells):
        cell.metadata.pop('execution', None)
        cell.id = f'{i:03d}'
        if cell.cell_type != 'code': continue
        cell.execution_count = None
        cell.outputs = [o for o in cell.outputs if not BAR.search(str(o.get('text', '')) + str(o.get('data', {}).get('text/plain', '')))]
        for out in cell.outputs:
            out.pop('execution_count', None)
            out.get('data', {}).pop('application/vnd.jupyter.widget-view+json', None)
            text = out.get('text', '') + str(out.get('data', {}).get('text/html', ''))
            if NOISE.search(text): print(f'  noise in the output of cell {i}: {text[:90]!r}')

def rerun(path, everything):
    nb = nbformat.read(path, as_version=4)
    Rerun(nb, timeout=None, kernel_name='python3', resources={'metadata': {'path': str(path.parent)}}, coalesce_streams=True,
          everything=everything).execute()
    tidy(nb)
    nbformat.write(nb, path)
    print(f'{path}: {path.stat().st_size//1000} kB')

if __name__ == '__main__':
    os.environ.pop('MPLBACKEND', None)   # another backend would drop every picture without a word
    os.environ['PATHLEARN_SLIDERS'] = '1' # knobs are saved with pictures that move without a kernel
    everything = '--all' in sys.argv
    for name in sys.argv[1:]:
        if not name.startswith('--'): rerun(Path(name), everything)
