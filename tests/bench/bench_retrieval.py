"""Retrieval over many patches: seconds, memory beyond the features, and scikit-learn's beside them.

Writes nbs/results/retrieval_cost.csv: OMP_NUM_THREADS=1 python tests/bench/bench_retrieval.py [patches ...]
One run per figure, in a process of its own. Seconds are the processor's, so that others on the machine count little.
Memory is the peak less what the process held before the call, features included; Linux alone."""
import multiprocessing, os, resource, sys, time
from pathlib import Path
import pandas as pd, torch
from sklearn.neighbors import NearestNeighbors
from pathlearn.commands.runs import code_version, hardware
from pathlearn.evaluate import Embeddings
from pathlearn.evaluate.few import retrieval_score

FILE = Path(__file__).resolve().parents[2]/'nbs/results/retrieval_cost.csv'
FEATURES = 512

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024 # MiB on Linux
def held(): return int(Path('/proc/self/statm').read_text().split()[1])*os.sysconf('SC_PAGE_SIZE')/2**20

def features(n): # -> Embeddings
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(0)
    return Embeddings(torch.randn(n, FEATURES, generator=rng), torch.randint(9, (n,), generator=rng))

def cost(work): # -> processor's seconds, MiB above what the process held before
    before, made, start = held(), peak(), time.process_time()
    work()
    seconds, most = time.process_time() - start, peak()
    if most <= made: raise RuntimeError(f"making the features took {made:.0f} MiB, the work no more: its peak is not known")
    return seconds, most - before

def ours(n):
    emb = features(n)
    def work(): assert abs(retrieval_score(emb).value['precision@10'] - 1/9) < .02 # defaults: 1,000 draws of single patches
    return cost(work)

def theirs(n): # the neighbours alone, without scores and intervals
    x = features(n).features.numpy()
    return cost(lambda: NearestNeighbors(n_neighbors=11, algorithm='brute', metric='cosine', n_jobs=1).fit(x).kneighbors(x))

if __name__ == '__main__':
    if os.environ.get('OMP_NUM_THREADS') != '1': sys.exit('expected OMP_NUM_THREADS=1: the rows are of one core')
    rows, code = [], code_version()
    for n in map(int, sys.argv[1:] or (20_000, 100_000)):
        with multiprocessing.get_context('spawn').Pool(1, maxtasksperchild=1) as pool: # a process of its own for each figure
            (s,m),(s2,m2) = pool.apply(ours, (n,)), pool.apply(theirs, (n,))
        rows.append({'what':'retrieval_score', 'n':n, 'features':FEATURES, 'seconds':s, 'extra MiB':m, 'scikit-learn, seconds':s2,
                     'scikit-learn, extra MiB':m2, 'hardware':f'one of {hardware()}', 'commit':code})
        pd.DataFrame(rows).round(1).to_csv(FILE, index=False)
        print(rows[-1], flush=True)
