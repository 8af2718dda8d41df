"Wheel and sdist hold the package alone, with every room, and work alone"
import configparser, email, re, importlib, os, shutil, subprocess, sys, tarfile, zipfile
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
FILES = {str(f.relative_to(ROOT)) for f in (ROOT/'pathlearn').rglob('*') if f.suffix in ('.py','.js','.html','.mplstyle','.json')}
MODULES = sorted(f.removesuffix('.py').removesuffix('/__init__').replace('/', '.') for f in FILES if f.endswith('.py'))

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
    assert {n for n in names if '.dist-info/' not in n} == FILES
    assert any(n.endswith('/LICENSE') for n in names)

def test_wheel_metadata_is_that_of_settings_ini(wheel, settings):
    z = zipfile.ZipFile(wheel)
    meta = email.message_from_bytes(z.read(next(n for n in z.namelist() if n.endswith('.dist-info/METADATA'))))
    assert (meta['Name'], meta['Version'], meta['Requires-Python']) == (settings['lib_name'], settings['version'], '>=' + settings['min_python'])
    needed = [r for r in meta.get_all('Requires-Dist') if 'extra ==' not in r]
    assert len(needed) == len(settings['requirements'].split())
    assert not any('<' in r for r in needed), 'only the dev extra may carry upper bounds'

def test_extras_are_those_of_settings_ini(wheel, settings):
    z = zipfile.ZipFile(wheel)
    meta = email.message_from_bytes(z.read(next(n for n in z.namelist() if n.endswith('.dist-info/METADATA'))))
    extras = {k.removesuffix('_requirements'): v.split() for k,v in settings.items() if k.endswith('_requirements')}
    assert {*meta.get_all('Provides-Extra')} == {*extras}
    for name,wanted in extras.items():
        found = [r for r in meta.get_all('Requires-Dist') if re.search(f'extra == [\'"]{name}[\'"]', r)]
        assert len(found) == len(wanted), (name, found)

def test_sdist_holds_what_builds_the_package(dist):
    archive = next(dist.glob('*.tar.gz'))
    names = {m.name.partition('/')[2] for m in tarfile.open(archive).getmembers() if m.isfile()}
    build = {'settings.ini', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md', 'PKG-INFO', 'setup.cfg'}
    names = {n for n in names if not n.startswith('pathlearn.egg-info/')}
    assert names - {'README.md'} == build - {'README.md'} | FILES
    assert ('README.md' in names) == (ROOT/'README.md').exists()

def test_wheel_works_when_installed_alone(wheel, tmp_path):
    "Only the dependencies come from this environment, not the checkout"
    alone = tmp_path/'alone'
    run(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', '--target', alone, wheel, cwd=tmp_path)
    code = f'''import importlib, pathlib
for m in {MODULES!r}:
    module = importlib.import_module(m)
    assert pathlib.Path({str(alone)!r})/'pathlearn' in pathlib.Path(module.__file__).parents, module.__file__
import matplotlib.pyplot as plt
plt.style.use('pathlearn.pathlearn')'''
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'} | {'PYTHONPATH': str(alone)}
    run(sys.executable, '-c', code, cwd=tmp_path, env=env)

def test_console_scripts_point_at_functions(settings):
    scripts = dict(line.split('=') for line in settings['console_scripts'].split('\n'))
    assert set(scripts) >= {'pathlearn_demo', 'pathlearn_train', 'pathlearn_embed', 'pathlearn_tile', 'pathlearn_mil', 'pathlearn_reproduce'}
    for command, where in scripts.items():
        module, function = where.split(':')
        assert callable(getattr(importlib.import_module(module), function, None)), f'{command} points at {where}, which is no function'

def test_version_is_that_of_settings_ini(settings):
    import pathlearn
    assert pathlearn.__version__ == settings['version']

def test_the_citation_has_the_same_version(settings):
    assert re.search(r'^version: (.*)$', (ROOT/'CITATION.cff').read_text(encoding='utf-8'), re.M)[1] == settings['version']

def test_workflows_call_make_targets_that_exist():
    "What runs elsewhere can be run here by the same word"
    targets = set(re.findall(r'^([\w-]+):', (ROOT/'Makefile').read_text(encoding='utf-8'), re.M))
    runs = [line for f in (ROOT/'.github'/'workflows').glob('*.yml') for line in re.findall(r'- run: (.*)', f.read_text(encoding='utf-8'))]
    assert runs and all(r == 'bash .ci/run' or r.removeprefix('make ') in targets for r in runs), runs
