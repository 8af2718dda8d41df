"""Retrieval over many patches: seconds, memory beyond the features, and scikit-learn's time beside it.

Writes nbs/results/retrieval_cost.csv: python tests/bench/bench_retrieval.py [patches ...]"""
import resource, sys, time
from pathlib import Path
import numpy as np, pandas as pd, torch
from sklearn.neighbors import NearestNeighbors
from pathlearn.commands.runs import code_version, hardware
from pathlearn.evaluate import Embeddings
from pathlearn.evaluate.few import retrieval_score

FILE = Path(__file__).resolve().parents[2]/'nbs/results/retrieval_cost.csv'
FEATURES, KS = 512, (1,5,10)

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024 # MiB on Linux

def measure(n):
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(0)
    emb = Embeddings(torch.randn(n, FEATURES, generator=rng), torch.randint(9, (n,), generator=rng))
    emb.normed # once, so that its own memory is not counted as a surprise
    before, start = peak(), time.process_time()
    table = retrieval_score(emb, KS, groups=np.arange(n)//4, n=200)
    found = {'what': 'retrieval_score', 'n': n, 'features': FEATURES, 'seconds': time.process_time() - start, 'extra MiB': peak() - before}
    assert abs(table.value['precision@10'] - 1/9) < .02
    if n <= 20_000:
        start = time.process_time()
        NearestNeighbors(n_neighbors=11, algorithm='brute', metric='cosine', n_jobs=1).fit(emb.features).kneighbors(emb.features)
        found['scikit-learn, seconds'] = time.process_time() - start
    return found | {'hardware': f'one of {hardware()}', 'commit': code_version()}

if __name__ == '__main__':
    rows = [measure(n) for n in map(int, sys.argv[1:] or (20_000, 100_000))]
    pd.DataFrame(rows).round(1).to_csv(FILE, index=False); print(pd.DataFrame(rows).T)
