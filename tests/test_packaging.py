"Wheel and sdist hold the package alone and work alone; modules import in one direction"
import ast, configparser, email, graphlib, importlib, os, shutil, subprocess, sys, tarfile, zipfile
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(f.stem for f in (ROOT/'pathlearn').glob('*.py'))
SCRIPTS = {f'pathlearn/{f.name}' for f in (ROOT/'pathlearn').glob('*.js')} # what draws in the browser

def run(*args, **kw):
    done = subprocess.run(list(map(str, args)), stdin=subprocess.DEVNULL, capture_output=True, text=True, **kw)
    assert done.returncode == 0, f'{" ".join(map(str, args))}\n{done.stdout}\n{done.stderr}'
    return done.stdout

@pytest.fixture(scope='module')
def settings():
    parser = configparser.ConfigParser(delimiters=['='])
    parser.read(ROOT/'settings.ini', encoding='utf-8')
    return parser['DEFAULT']

@pytest.fixture(scope='module')
def dist(tmp_path_factory):
    "Folder with the sdist of this tree and the wheel built from that sdist"
    tree = tmp_path_factory.mktemp('tree')/'pathlearn'
    skip = shutil.ignore_patterns('.*', 'build', 'dist', '*.egg-info', '__pycache__', '_proc', '_docs', 'demo', 'runs', 'test-output')
    shutil.copytree(ROOT, tree, symlinks=True, ignore=skip)
    out = tree.parent/'dist'
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', out, tree, cwd=tree.parent)
    return out

@pytest.fixture(scope='module')
def wheel(dist): return next(dist.glob('*.whl'))

def test_wheel_holds_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {n for n in names if '.dist-info/' not in n} == {f'pathlearn/{m}.py' for m in MODULES} | SCRIPTS
    assert any(n.endswith('/LICENSE') for n in names)

def test_wheel_metadata_is_that_of_settings_ini(wheel, settings):
    z = zipfile.ZipFile(wheel)
    meta = email.message_from_bytes(z.read(next(n for n in z.namelist() if n.endswith('.dist-info/METADATA'))))
    assert (meta['Name'], meta['Version'], meta['Requires-Python']) == (settings['lib_name'], settings['version'], '>=' + settings['min_python'])
    needed = [r for r in meta.get_all('Requires-Dist') if 'extra ==' not in r]
    assert len(needed) == len(settings['requirements'].split())
    assert not any('<' in r for r in needed), 'only the dev extra may carry upper bounds'

def test_sdist_holds_what_builds_the_package(dist):
    archive = next(dist.glob('*.tar.gz'))
    names = {m.name.partition('/')[2] for m in tarfile.open(archive).getmembers() if m.isfile()}
    build = {'settings.ini', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md', 'PKG-INFO', 'setup.cfg'}
    names = {n for n in names if not n.startswith('pathlearn.egg-info/')}
    assert names - {'README.md'} == build - {'README.md'} | SCRIPTS | {f'pathlearn/{m}.py' for m in MODULES}
    assert ('README.md' in names) == (ROOT/'README.md').exists()

def test_wheel_works_when_installed_alone(wheel, tmp_path):
    "Only the dependencies come from this environment, not the checkout"
    alone = tmp_path/'alone'
    run(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', '--target', alone, wheel, cwd=tmp_path)
    code = f'''import importlib, pathlib
for m in {MODULES!r}:
    module = importlib.import_module('pathlearn' if m == '__init__' else 'pathlearn.' + m)
    assert pathlib.Path(module.__file__).parent == pathlib.Path({str(alone)!r})/'pathlearn', module.__file__'''
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'} | {'PYTHONPATH': str(alone)}
    run(sys.executable, '-c', code, cwd=tmp_path, env=env)

def test_console_scripts_point_at_functions(settings):
    scripts = dict(line.split('=') for line in settings['console_scripts'].split('\n'))
    assert set(scripts) >= {'pathlearn_demo', 'pathlearn_train', 'pathlearn_embed', 'pathlearn_reproduce'}
    for command, where in scripts.items():
        module, function = where.split(':')
        assert callable(getattr(importlib.import_module(module), function, None)), f'{command} points at {where}, which is no function'

def test_version_is_that_of_settings_ini(settings):
    import pathlearn
    assert pathlearn.__version__ == settings['version']

# Who may import whom. Each wing sees the foundations, siamese and itself; faces see everything.
FOUNDATIONS = {'data', 'synthetic', 'views', 'networks', 'learning', 'evaluate', 'explore', 'maps', 'transfer', 'widgets'}
COMMON = {'siamese'}
WINGS = [['gumbel', 'clusiam'], ['mixing', 'adversarial', 'ca2cl'], ['prototypes', 'decoder', 'autoencoder'],
         ['crosspatch', 'cdcl'], ['slides', 'mil']]
FACES = {'cli', 'commands', 'all', '_modidx', '__init__'}
KNOWN = FOUNDATIONS | COMMON | FACES | {m for wing in WINGS for m in wing}

def allowed(module):
    "Modules that `module` may import; None where all are"
    if module in FACES: return None
    if module == 'evaluate': return {'data', 'networks'}
    if module in FOUNDATIONS: return FOUNDATIONS
    if module in COMMON: return FOUNDATIONS
    wing = next(w for w in WINGS if module in w)
    return FOUNDATIONS | COMMON | set(wing)

def imported(source, known=KNOWN):
    "Modules of pathlearn that `source` imports anywhere, also inside functions"
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or '').split('.')[0] == 'pathlearn'):
            parts = (node.module or '').split('.') if node.level else node.module.split('.')[1:]
            found |= {parts[0]} if parts and parts[0] else {a.name for a in node.names if a.name in known}
        elif isinstance(node, ast.Import):
            found |= {a.name.split('.')[1] for a in node.names if a.name.startswith('pathlearn.')}
    return found

@pytest.mark.parametrize('source, modules', [
    ('from pathlearn.data import *', {'data'}), ('from .gumbel import GumbelAssigner', {'gumbel'}), ('import pathlearn.mil', {'mil'}),
    ('from pathlearn import clusiam, __version__', {'clusiam'}), ('from . import views', {'views'}),
    ('def f():\n    from .cdcl import CDCL', {'cdcl'}), ('import torch\nfrom fastai.data import all', set())])
def test_imports_are_found(source, modules): assert imported(source) == modules

@pytest.mark.parametrize('module', MODULES)
def test_imports_run_one_way(module):
    assert module in KNOWN, f'pathlearn/{module}.py is in no wing of this test: add it'
    may, does = allowed(module), imported((ROOT/'pathlearn'/f'{module}.py').read_text(encoding='utf-8'))
    assert may is None or does <= may, f'{module} may not import {", ".join(sorted(does - may))}: move what both need into a foundation'

def test_no_module_imports_itself_by_a_detour():
    graph = {m: imported((ROOT/'pathlearn'/f'{m}.py').read_text(encoding='utf-8')) for m in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())
