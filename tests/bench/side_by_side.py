"""All methods that learn from patches alone, on the same patches, for the page `side_by_side`: what each costs and gives.

Writes nbs/results/side_by_side.csv, one row per method and seed: python tests/bench/side_by_side.py [epochs]
Every run is a process of its own, so that its peak memory is its own; runs that the file already holds are left out."""
import multiprocessing, resource, sys, time
from pathlib import Path
import pandas as pd, torch
from pathlearn.all import METHODS, embed, knn_score, linear_score
from fastai.torch_core import set_seed
from pathlearn.data import npz_data, prepared
from pathlearn.commands.runs import code_version, hardware, make_learner
from pathlearn.evaluate import Embeddings, cluster_scores, colour_histogram, kmeans_clusters, mean_rgb, untrained_encoder

FILE = Path(__file__).resolve().parents[2]/'nbs/results/side_by_side.csv'
SEEDS, BS = range(3), 64
FLOORS = ['mean RGB','colour histogram','untrained encoder']
OWN = {'autoencoder': dict(opt='adamw')} # LARS needs large batches
MADE = {'commit':code_version(), 'hardware':f'one of {hardware()}'}

def scores(train, test, seed, distance): # Embeddings -> dict
    found = kmeans_clusters(train, len(train.labels.unique()), seed, test)
    return {'5-NN':knn_score(train, test, 5, distance=distance), 'linear':linear_score(train, test, 1., seed),
            'adjusted Rand':cluster_scores(test.labels, found)['adjusted_rand']}

def floor(name, splits, seed): # -> scores, of what nobody trained
    parts = splits.train, splits.test
    if name == 'untrained encoder':
        net = untrained_encoder(splits.train, 'tiny', seed)
        return scores(*(embed(net, p) for p in parts), seed, 'cosine')
    f = {'mean RGB':mean_rgb, 'colour histogram':colour_histogram}[name]
    return scores(*(Embeddings(f(p), p.labels) for p in parts), seed, 'euclidean')

def trained(method, splits, epochs, seed): # -> scores and costs
    set_seed(seed)
    learn = make_learner(method.name, splits.train, arch='tiny', bs=BS, **OWN.get(method.name, {}))
    start = time.perf_counter(), time.process_time()
    with learn.no_bar(), learn.no_logging():
        if method.fit: method.fit(learn, epochs, len(splits.train.labels.unique()), seed)
        else: learn.fit(epochs)
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024 # kB on Linux
    found = scores(embed(learn, splits.train), embed(learn, splits.test), seed, 'cosine')
    return found | {'seconds per epoch':cpu/epochs, 'images per second':len(splits.train)*epochs/cpu,
                    'peak MiB':memory, 'minutes':wall/60}

def measure(name, epochs, seed): # -> one row
    torch.set_num_threads(1)
    splits = npz_data(prepared('lc25000_lung_64.npz'))
    method = METHODS.get(name)
    title, found = (method.title, trained(method, splits, epochs, seed)) if method else (name, floor(name, splits, seed))
    about = {'method':name, 'title':title, 'seed':seed, 'epochs':epochs if method else 0, 'bs':BS if method else None}
    return about | found | {'n train':len(splits.train), 'n test':len(splits.test)} | MADE

if __name__ == '__main__':
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    rows = pd.read_csv(FILE, dtype={'commit':str}).to_dict('records') if FILE.exists() else []
    done = {(r['method'], r['seed']) for r in rows}
    wanted = [(name, epochs, seed) for seed in SEEDS for name in [*FLOORS, *(m.name for m in METHODS.values() if m.data == 'patches' and not m.labels)]]
    with multiprocessing.get_context('fork').Pool(1, maxtasksperchild=1) as pool:
        for w in wanted:
            if (w[0], w[2]) in done: continue
            rows.append(pool.apply(measure, w))
            pd.DataFrame(rows).round(4).to_csv(FILE, index=False)
            print({n:v for n,v in rows[-1].items() if n not in MADE}, flush=True)
