"Knobs stand apart: exported from their components' notebooks they work, and training does without any widget"
import ast, collections, os, re, shutil, subprocess, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
OWN = {'gumbel_knobs', 'mixing_knobs', 'mixup_knobs', 'adversarial_knobs'}

def python(source, path=ROOT): # -> its output, with the package in `path`; an error fails the test and is shown
    env = os.environ | dict(PYTHONPATH=str(path), OMP_NUM_THREADS='1', MPLBACKEND='Agg')
    done = subprocess.run([sys.executable, '-c', source], cwd=path, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert not done.returncode, done.stderr[-3000:]
    return done.stdout

@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    "A folder with what is written by hand, and the modules that nbdev makes of it"
    root = tmp_path_factory.mktemp('house')
    for name in ('settings.ini', 'pyproject.toml'): shutil.copy(ROOT/name, root)
    shutil.copytree(ROOT/'nbs', root/'nbs', symlinks=True, ignore=shutil.ignore_patterns('_proc', 'images', 'results', '.ipynb_checkpoints'))
    shutil.copytree(ROOT/'pathlearn', root/'pathlearn', ignore=shutil.ignore_patterns('*.py', '__pycache__'))
    python('from nbdev.doclinks import nbdev_export; nbdev_export()', root)
    return root

def test_the_module_is_what_the_notebooks_say(exported):
    assert (exported/'pathlearn'/'knobs.py').read_text() == (ROOT/'pathlearn'/'knobs.py').read_text()

def test_no_knob_overwrites_what_another_one_needs(exported):
    "All notebooks write into one module: a name that two of them define would mean the later one in both"
    tree = ast.parse((exported/'pathlearn'/'knobs.py').read_text())
    names = collections.Counter(node.name for node in tree.body if isinstance(node, (ast.FunctionDef,ast.ClassDef)))
    names.update(t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets)
    assert OWN <= set(names) and not {n for n,count in names.items() if count > 1}
    origin = collections.defaultdict(set) # and a name that is imported means the same in each cell
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for a in node.names: origin[a.asname or a.name].add((re.sub(r'^pathlearn\.?', '', node.module or ''), a.name))
    assert not {n: found for n,found in origin.items() if len(found) > 1 or n in names}

CALLS = '''
import torch
from pathlearn import knobs
from pathlearn.networks import encoder
from pathlearn.siamese import SimCLR
from pathlearn.synthetic import synthetic_nuclei, synthetic_tissue

torch.manual_seed(0)
tissue,nuclei = synthetic_tissue(n=45, size=32).train, synthetic_nuclei(n=2, size=64)
def drawer():
    from pathlearn.autoencoder import autoencoder_learner, fit_two_phases
    learn = autoencoder_learner(tissue.dls(bs=45), latent=8, opt='adamw')
    with learn.no_logging(): fit_two_phases(learn, warmup=1, total=2, k=3)
    return learn.model
calls = dict(
    stain_knobs=lambda f: f(tissue), gumbel_knobs=lambda f: f(torch.randn(24,8)), mixing_knobs=lambda f: f(tissue), mixup_knobs=lambda f: f(tissue),
    adversarial_knobs=lambda f: f(SimCLR(encoder('tiny'), dim=16), *torch.rand(2,4,3,32,32)),
    prototype_knobs=lambda f: f(torch.randn(45,8), tissue), decoder_knobs=lambda f: f(drawer()),
    patch_knobs=lambda f: f(nuclei.images[0], nuclei.masks[0]), ramp_knobs=lambda f: f())
for name in knobs.__all__:
    knob = calls[name](getattr(knobs, name))
    assert not knob.error and knob.still().startswith(b'\\x89PNG') and knob.alt, name
    print(name)
print(knobs.__file__)
'''

def test_each_knob_is_called_and_gives_a_still_picture(exported):
    *called,file = python(CALLS, exported).split()
    assert OWN <= set(called) and Path(file).is_relative_to(exported)

NO_WIDGETS = '''
import sys
class Missing:
    "As on a machine where neither is installed"
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('ipywidgets','anywidget'): raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Missing())
'''

TRAIN = NO_WIDGETS + '''
import torch
from pathlearn import autoencoder, ca2cl, cdcl, clusiam, clustered, decorrelated, moco, supervised, swav # as the command line imports a method: its own module
from pathlearn.data import semi_dls
from pathlearn.learning import METHODS, find_method, set_seed
from pathlearn.synthetic import synthetic_nuclei, synthetic_tissue

set_seed(0)
tissue,nuclei = synthetic_tissue(n=30, size=32).train, synthetic_nuclei(n=4, size=64)
for name in METHODS:
    method = find_method(name)
    own = dict(k=3) if method.k else {}
    if method.data == 'nuclei': learn = method.learner(semi_dls(nuclei[:2], nuclei[2:], bs=2), 'tiny', start=0, grid=4)
    elif name == 'autoencoder': learn = method.learner(tissue.dls(bs=30), latent=8, opt='adamw')
    else: learn = method.learner(tissue.dls(bs=30), 'tiny', **own)
    before = [p.detach().clone() for p in learn.model.parameters()]
    with learn.no_logging(): learn.fit(1)
    assert torch.isfinite(learn.recorder.losses[-1]) and any(not torch.equal(a, b) for a,b in zip(before, learn.model.parameters())), name
    print(name)
assert not {'ipywidgets','anywidget','pathlearn.knobs','pathlearn.explore.widgets'} & set(sys.modules)
'''

def test_every_method_trains_without_widgets():
    "In a process in which ipywidgets and anywidget cannot be imported"
    trained = set(python(TRAIN).split())
    assert {'simclr','simsiam','byol','clusiam','clubyol','ca2cl','autoencoder','cdcl','barlow','vicreg','moco','swav','pcl','supervised'} <= trained

def test_the_map_to_touch_comes_along_where_widgets_are():
    "The same star import, with widgets and without"
    names = set(python('import pathlearn.clusiam as m; print(*m.__all__)').split())
    without = set(python(NO_WIDGETS + 'import pathlearn.clusiam as m; print(*m.__all__)').split())
    assert {'Explorer','EpochExplorer'} <= names and not {'Explorer','EpochExplorer'} & without
    assert {'plot_map','reduce','clusiam_learner','embed'} <= without <= names
