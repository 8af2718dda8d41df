"One way down: who imports whom, read from the source, and how large the rooms and cells are"
import ast, graphlib, hashlib, re
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT/'pathlearn'

# From the ground up: a room imports only what stands before it. Rooms and modules are named alike.
FOUNDATIONS = ['data', 'synthetic', 'views', 'networks', 'evaluate', 'learning', 'transfer', 'tiles', 'explore', 'basics', 'siamese']
WINGS = [['gumbel', 'clusiam'], ['decorrelated'], ['moco', 'swav', 'clustered'], ['supervised'], ['operations', 'mixing', 'adversarial', 'ca2cl'], ['prototypes', 'decoder', 'lars', 'phases', 'autoencoder'], ['crosspatch', 'cdcl'], ['mil', 'slides']]
ROOF = ['knobs', 'all', 'docs', 'commands', 'cli', 'cli_slides']
ORDER = FOUNDATIONS + [m for wing in WINGS for m in wing] + ROOF

def name_of(file, root=PACKAGE):
    "data/files.py -> data.files, data/__init__.py -> data"
    parts = list(file.relative_to(root).with_suffix('').parts)
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)

def sources(root=PACKAGE): # -> dict: name of the module -> its text
    found = {name_of(f, root): f for f in sorted(root.rglob('*.py')) if f.name != '_modidx.py'}
    return {n: f.read_text(encoding='utf-8') for n,f in found.items() if n}

def prefix(node):
    "The text a string or an f-string begins with"
    if isinstance(node, ast.JoinedStr): node = node.values[0] if node.values else None
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ''

def imports(source, module, is_room=False):
    "Full names under pathlearn that `source` imports anywhere: at its top, in functions, by `import_module`"
    here = module.split('.') if is_room else module.split('.')[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name[10:] for a in node.names if a.name.startswith('pathlearn.'))
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or '').split('.') if node.module else []
            if node.level: parts = [*here[:len(here)-node.level+1], *parts]
            elif parts[:1] == ['pathlearn']: parts = parts[1:]
            else: continue
            yield from ('.'.join([*parts, a.name]) for a in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, 'attr', getattr(node.func, 'id', '')) in ('import_module','__import__'):
            if node.args and (text := prefix(node.args[0])).startswith('pathlearn.'): yield text[10:].strip('.')

def edges(texts): # dict of sources -> dict: module -> modules it imports
    graph = {}
    for m,text in texts.items():
        is_room = any(n.startswith(m+'.') for n in texts)
        graph[m] = set()
        for name in imports(text, m, is_room):
            while name and name not in texts: name = name.rpartition('.')[0] # a name in a module
            if name and name != m: graph[m].add(name)
    return graph

def room(module): return module.partition('.')[0]
def upward(graph, order=ORDER):
    "Edges that lead from a room to itself by a detour or to a later one, as sentences"
    for m,others in graph.items():
        for o in sorted(others):
            if room(m) != room(o) and order.index(room(o)) > order.index(room(m)):
                yield f'{m} imports {o}, which stands above it: move what both need down'

@pytest.fixture(scope='module')
def graph(): return edges(sources())

@pytest.mark.parametrize('source, found', [
    ('from pathlearn.data import *', {'data'}), ('from .gumbel import GumbelAssigner', {'gumbel'}),
    ('import pathlearn.clusiam', {'clusiam'}), ('from pathlearn import clusiam, __version__', {'clusiam'}),
    ('def f():\n    from .clusiam import CluSiam', {'clusiam'}), ('import torch\nfrom fastai.data import all', set()),
    ('import importlib\ndef f(): return importlib.import_module("pathlearn.clusiam")', {'clusiam'}),
    ('from importlib import import_module\ndef f(n): return import_module(f"pathlearn.commands.{n}")', {'commands'})])
def test_imports_are_found_wherever_they_stand(source, found):
    texts = dict(here=source, data='', gumbel='', clusiam='', commands='')
    assert edges(texts)['here'] == found

def test_relative_imports_of_nested_modules_are_found():
    texts = {'data':'from .files import x', 'data.files':'from ..views import y\nfrom .patches import z', 'data.patches':'', 'views':''}
    assert edges(texts) == {'data':{'data.files'}, 'data.files':{'views','data.patches'}, 'data.patches':set(), 'views':set()}

def test_an_upward_edge_is_named():
    "Also one that hides in a function"
    graph = edges({'data':'def f():\n    from .views import g', 'views':'from .data import h'})
    assert [*upward(graph)] == ['data imports views, which stands above it: move what both need down']

def test_every_module_has_its_place(graph):
    assert {room(m) for m in graph} <= set(ORDER), 'name new modules in ORDER, where they belong'

def test_imports_run_one_way(graph): assert not [*upward(graph)]

def test_no_module_imports_itself_by_a_detour(graph): list(graphlib.TopologicalSorter(graph).static_order())

def test_methods_are_held_apart(graph):
    "A wing knows the foundations and itself"
    of = {m: i for i,wing in enumerate(WINGS) for m in wing}
    crossed = [f'{m} imports {o}' for m in of for o in graph[m] if room(o) in of and of[room(o)] != of[m]]
    assert not crossed, 'what two wings need moves down into a foundation'

def test_only_cli_calls_commands(graph):
    assert not [m for m,others in graph.items() if room(m) not in ('commands','cli','cli_slides') and any(room(o) in ('commands','cli','cli_slides') for o in others)]
    assert not [m for m,others in graph.items() if {'cli','cli_slides'} & {*others}]

def test_no_module_is_larger_than_a_reader_can_hold():
    "`knobs` is no module to read: it gathers the cells of nine notebooks"
    large = {m: n for m,text in sources().items() if m != 'knobs' and (n := len(text.splitlines())) > 360}
    assert not large

def test_no_component_loads_widgets(graph):
    "Knobs stand apart: a component that is imported must not need ipywidgets"
    shows = 'slides.viewer', # a widget itself, as those of explore, which the room of slides loads already
    lower = [m for m in graph if room(m) in ORDER[:ORDER.index('knobs')] and room(m) not in ('explore','basics') and m not in shows]
    texts = sources()
    assert all('(Still)' in texts[m] for m in shows), 'only what is a widget may load one'
    assert not [m for m in lower if re.search(r'^\s*(import|from) .*\b(ipywidgets|anywidget)\b', texts[m], re.M) or 'explore.widgets' in graph[m]]

def windows(text, n=6):
    "Each run of n lines of code, without blanks, comments, imports and lists of names"
    tree = ast.parse(text)
    skip = {i for node in tree.body if isinstance(node, (ast.Import,ast.ImportFrom,ast.Assign)) for i in range(node.lineno, node.end_lineno+1)}
    lines = [(i,l.strip()) for i,l in enumerate(text.splitlines(), 1) if i not in skip and l.strip() and l.strip()[0] != '#']
    for at in range(len(lines)-n+1):
        block = '\n'.join(l for _,l in lines[at:at+n])
        if len(block) > 100: yield lines[at][0], hashlib.md5(block.encode()).hexdigest()

def test_no_block_of_six_lines_stands_twice():
    seen,twice = {},[]
    for m,text in sources().items():
        for line,key in windows(text):
            if key in seen and seen[key] != (m,line): twice.append(f'{m} line {line} repeats {seen[key][0]} line {seen[key][1]}')
            seen.setdefault(key, (m,line))
    assert not twice
