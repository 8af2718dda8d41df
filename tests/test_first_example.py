"The first example of each page runs from nothing but the code that the page shows before it"
import ast, json, os, re, subprocess, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
UNSEEN = re.compile(r'^#\|\s*(hide|export|exporti|echo:\s*false|default_exp .*)\s*$', re.M)
LONG = re.compile(r'^#\|\s*eval:\s*false', re.M) # minutes: only its names are looked up
INTERNAL = '60','61','65' # pages of the commands: their examples call what only the commands use

def only_imports(source): return all(isinstance(o, (ast.Import,ast.ImportFrom)) for o in ast.parse(source).body)

def first_example(nb): # -> (cells to run, a cell to look at or '')
    "The cells that a reader copies: imports, and the first one that does more"
    shown = [''.join(c['source']) for c in nb['cells'] if c['cell_type'] == 'code']
    shown = [s for s in shown if not UNSEEN.search(s)]
    end = next((i for i,s in enumerate(shown) if not only_imports(s)), len(shown))
    *imports,example = [*shown, ''][:end+1]
    return (imports, example) if LONG.search(example) else ([*imports, example], '')

def pages(): # -> name of the notebook and its first example
    for path in sorted((ROOT/'nbs').glob('*.ipynb')):
        nb = json.loads(path.read_text(encoding='utf-8'))
        if not any('#| default_exp' in ''.join(c['source']) for c in nb['cells']): continue
        if not path.name.startswith(INTERNAL): yield path.stem, first_example(nb)

PAGES = dict(pages())

# All is loaded once; each example then runs in a child, in a scope that holds nothing but its own names.
SCRIPT = '''
import ast, builtins, json, os, sys, warnings
warnings.simplefilter('ignore')
import fastai.vision.all, matplotlib.pyplot, pandas, sklearn.cluster, torch, torchvision, pathlearn.all
from IPython.display import display
torch.set_num_threads(1)
def run(cells, unrun):
    scope = dict(__name__='__main__', display=display)
    for cell in cells: exec(cell, scope)
    nodes = [*ast.walk(ast.parse(unrun))]
    exec('\\n'.join(ast.unparse(n) for n in nodes if isinstance(n, (ast.Import,ast.ImportFrom))), scope)
    names = [n for n in nodes if isinstance(n, ast.Name)]
    bound = {n.id for n in names if not isinstance(n.ctx, ast.Load)} | {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound |= {n.name for n in nodes if isinstance(n, (ast.FunctionDef,ast.ClassDef))} | {*scope, *dir(builtins)}
    if lost := sorted({n.id for n in names} - bound): raise NameError(f'not defined: {lost}')
def child(name, example, answer):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    error = None
    try: run(*example)
    except BaseException as e: error = f'{type(e).__name__}: {e}'
    os.write(answer, (json.dumps({name: error}) + '\\n').encode())
    os._exit(0)
answer,free = os.dup(1), 2 # two children at a time
for name,example in json.load(sys.stdin).items():
    if not free: os.wait(); free += 1
    if not os.fork(): child(name, example, answer)
    free -= 1
while free < 2: os.wait(); free += 1
'''

@pytest.fixture(scope='module')
def errors():
    env = {**os.environ, 'MPLBACKEND': 'Agg', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([sys.executable, '-c', SCRIPT], input=json.dumps(PAGES), env=env, cwd=ROOT/'nbs', capture_output=True, text=True)
    lines = map(json.loads, done.stdout.splitlines())
    return {n: e for line in lines for n,e in line.items()}

@pytest.mark.parametrize('name', PAGES)
def test_it_runs_from_what_the_page_shows(errors, name):
    assert errors.get(name, 'no answer') is None, 'a visible cell of imports before it is missing'
