"""t-SNE and UMAP through `reduce` against umap-learn, openTSNE and scikit-learn called directly: 10,000 x 128 features

    python tests/bench/bench_maps.py [--n 10000] [--rounds 3] [--threads 2]"""
import argparse, os, statistics, time, warnings
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument('--n', type=int, default=10_000)
parser.add_argument('--rounds', type=int, default=3)
parser.add_argument('--threads', type=int, default=2)
args = parser.parse_args()
os.environ['OMP_NUM_THREADS'] = str(args.threads)
os.environ['PATHLEARN_CACHE'] = '' # nothing is remembered
warnings.simplefilter('ignore')

from openTSNE import TSNE
from sklearn.manifold import TSNE as SklearnTSNE
from umap import UMAP
from pathlearn.explore.jobs import MapJob
from pathlearn.explore.maps import reduce, unit_rows

rng = np.random.default_rng(0)
centres = rng.normal(size=(12,128))*1.2
x = unit_rows((centres[rng.integers(0, 12, args.n)] + rng.normal(size=(args.n,128))).astype('f4'))

ways = {
    'umap-learn': lambda: UMAP(random_state=0, n_jobs=1).fit_transform(x),
    "reduce 'umap'": lambda: reduce(x, 'umap', cache=False),
    "MapJob 'umap'": lambda: MapJob(x, 'umap').result(),
    'openTSNE': lambda: TSNE(random_state=0, n_jobs=-1).fit(x),
    "reduce 'tsne'": lambda: reduce(x, 'tsne', cache=False),
    "MapJob 'tsne'": lambda: MapJob(x, 'tsne').result(),
    'scikit-learn TSNE': lambda: SklearnTSNE(random_state=0, init='pca', n_jobs=args.threads).fit_transform(x),
}
took = {n: [] for n in ways}
for warm in (ways['umap-learn'], ways["MapJob 'umap'"], ways['openTSNE']): warm() # compiled once, in either process
for _ in range(args.rounds):
    for name, way in ways.items(): # interleaved, so that other work on the machine falls on all alike
        began = time.perf_counter(); way(); took[name].append(time.perf_counter() - began)
for name, times in took.items(): print(f'{name:20} {statistics.median(times):6.2f} s')
for ours, theirs in (("reduce 'umap'", 'umap-learn'), ("MapJob 'umap'", 'umap-learn'), ("reduce 'tsne'", 'openTSNE'),
                     ("MapJob 'tsne'", 'openTSNE'), ("reduce 'tsne'", 'scikit-learn TSNE')):
    print(f'{ours} takes {statistics.median(took[ours])/statistics.median(took[theirs]):.2f} x the time of {theirs}')
