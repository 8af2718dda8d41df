"""Every method that learns from patches, on equal terms: lung patches, and a 95 : 5 mix of two of their classes.

Writes nbs/results/one_table.csv, one row per data set, method and seed: python tests/bench/one_table.py [lung|mix] [METHOD ...]
All see the same number of images in batches of 64. Rows that the file holds are left out, so a stopped run goes on.

lung  k, distance and C are chosen on the val part; intervals are drawn over the photographs of the test part.
      `right` holds one bit per test patch; one_table_pairs.csv has from them the paired differences of two rows: share of
      right patches, mean over seeds, the interval over the same photographs for both.
mix   adenocarcinoma, 5 % of squamous cell carcinoma (in normal tissue a colour histogram alone reaches an F1 of .99).
      Eleven rare test patches would tell nothing: all of both classes are scored, and weighed so that the rare ones are
      5 %. F1 is of the rare class, by the nearest neighbour, as in CluSiam's table 1."""
import resource, sys, time
from pathlib import Path
import numpy as np, pandas as pd, torch
from fastai.torch_core import set_seed
from pathlearn.all import METHODS, embed
from pathlearn.commands.runs import code_version, hardware, make_learner
from pathlearn.data import npz_data, prepared
from pathlearn.data.patches import PatchData
from pathlearn.evaluate import Embeddings, cluster_scores, colour_histogram, kmeans_clusters, knn_score, mean_rgb, untrained_encoder
from pathlearn.evaluate.intervals import bootstrap_interval, draw_weights, knn_probabilities, linear_probabilities, prediction_scores
from pathlearn.evaluate.labels import linear_score
from pathlearn.networks import encoder
from pathlearn.networks.frozen import frozen_encoder

FILE = Path(__file__).resolve().parents[2]/'nbs/results/one_table.csv'
SEEDS, BS, SEEN = range(3), 64, 8_268 # images that each method sees: four epochs of lung
RARE, COMMON, SHARE = 'lung_aca', 'lung_scc', .05
FLOORS = ['mean RGB','colour histogram','untrained encoder','ImageNet, frozen','ImageNet, 64 px']
FROM_IMAGENET = {f'{m}, ImageNet start': (m, {}) for m in ('clusiam','ca2cl','simsiam')} # EfficientNet-Lite0 goes on learning
FROM_IMAGENET['clusiam, ImageNet start, small steps'] = 'clusiam', dict(lr=.05*BS/256/10) # at the full rate it unlearns
SETTINGS = {'autoencoder': dict(opt='adamw')} # LARS needs large batches
OWN_VIEWS = {'ca2cl','autoencoder'} # bring views of their own

def mixture(data, seed=None): # PatchData -> of two classes, 1 = the rare one; with a seed it is thinned to SHARE
    many, few = ((data.labels == data.classes.index(c)).nonzero().flatten() for c in (COMMON,RARE))
    if seed is not None:
        drawn = torch.randperm(len(few), generator=torch.Generator().manual_seed(seed))
        few = few[drawn[:round(len(many)*SHARE/(1-SHARE))]]
    rows = torch.cat([many, few])
    return PatchData(data.images[rows], (data.labels[rows] == data.classes.index(RARE)).long(), classes=['common','rare'],
                     groups=np.asarray(data.groups)[rows.numpy()])

def encoder_of(name, train, seed): # -> PatchData -> Embeddings, and what it cost
    if name in ('mean RGB','colour histogram'):
        f = mean_rgb if name == 'mean RGB' else colour_histogram
        return (lambda p: Embeddings(f(p), p.labels)), {}
    if name == 'untrained encoder': net = untrained_encoder(train, 'tiny', seed)
    elif name == 'ImageNet, frozen': net = frozen_encoder('lite0') # enlarges to 224 px
    elif name == 'ImageNet, 64 px': net = begun(train)
    else: return trained(name, train, seed)
    return (lambda p: embed(net, p)), {}

def begun(train): return encoder('lite0', train.n_in, size=train.size).to(memory_format=torch.channels_last)

def learned(name, train, seed): # -> Learner, and what it cost
    set_seed(seed)
    arch = begun(train) if name in FROM_IMAGENET else 'tiny'
    name, own = FROM_IMAGENET.get(name, (name, SETTINGS.get(name, {})))
    view = {} if name in OWN_VIEWS else dict(view='gentle')
    learn = make_learner(name, train, arch=arch, bs=BS, **view, **own)
    epochs, method = round(SEEN/len(train)), METHODS[name]
    start = time.process_time()
    with learn.no_bar(), learn.no_logging():
        if method.fit: method.fit(learn, epochs, len(train.labels.unique()), seed)
        else: learn.fit(epochs)
    cost = {'epochs': epochs, 'CPU minutes': (time.process_time() - start)/60}
    return learn, cost | {'peak MiB': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024}

def trained(*args):
    learn, cost = learned(*args)
    return (lambda p: embed(learn, p)), cost

def bits(right): return np.packbits(np.asarray(right, dtype=bool)).tobytes().hex()

def with_ends(found, name, interval):
    found |= {name: interval.value, f'{name}, low': interval.low, f'{name}, high': interval.high}

def lung(see, splits, seed): # -> dict
    train, val, test = map(see, (splits.train, splits.val, splits.test))
    choices = [(k, d) for d in ('cosine','euclidean') for k in (1,5,10,20)]
    k, distance = max(choices, key=lambda c: knn_score(train, val, c[0], 'f1', c[1]))
    found = dict(k=k, distance=distance)
    probs = {'k-NN': knn_probabilities(train, test, k, distance), 'linear': linear_probabilities(train, test, 1., seed, val)}
    for n, p in probs.items():
        right = (p.argmax(1) == test.labels).numpy()
        with_ends(found, n, bootstrap_interval(right, splits.test.groups))
        found[f'{n}, right'] = bits(right)
    scores = prediction_scores(test.labels, probs['linear'], splits.test.groups)
    for n in ('balanced accuracy','macro F1','AUC'): with_ends(found, f'linear {n}', scores.loc[n])
    for frac in (.01,.1):
        found[f'linear, {frac:.0%} of the labels'] = np.mean([linear_score(train, test, frac, 10*seed + d) for d in range(5)])
    groups = kmeans_clusters(train, 3, seed, test)
    return found | {'adjusted Rand of k-means': cluster_scores(test.labels, groups)['adjusted_rand']}

def rare_f1(labels, said, groups, n=1000, seed=0): # -> value, low, high: the classes weighed to SHARE, groups drawn
    names, of = np.unique(groups, return_inverse=True)
    drawn = np.vstack([np.ones((1,len(names)), dtype=int), draw_weights(len(names), n, seed)])
    def rate(rows): # share of these patches that is called rare
        size = drawn @ np.bincount(of[rows], minlength=len(names))
        return drawn @ np.bincount(of[rows], said[rows], len(names))/np.maximum(size, 1)
    hit, false = SHARE*rate(labels == 1), (1-SHARE)*rate(labels == 0)
    f1 = 2*hit/(hit + false + SHARE)
    return f1[0], *np.quantile(f1[1:], [.025,.975])

def mix(see, splits, seed, train): # -> dict
    tests = mixture(splits.test)
    train, test = see(train), see(tests)
    near = knn_probabilities(train, test, 1).argmax(1).numpy()
    value, low, high = rare_f1(test.labels.numpy(), near.astype(float), tests.groups)
    found = {'k': 1, 'distance': 'cosine', 'F1 of the rare': value, 'F1 of the rare, low': low, 'F1 of the rare, high': high}
    with_ends(found, 'linear AUC', prediction_scores(test.labels, linear_probabilities(train, test, 1., seed), tests.groups).loc['AUC'])
    return found

def measure(data, name, seed): # -> one row
    torch.set_num_threads(1)
    splits = npz_data(prepared('lc25000_lung_64.npz'))
    train = splits.train if data == 'lung' else mixture(splits.train, seed)
    see, cost = encoder_of(name, train, seed)
    found = lung(see, splits, seed) if data == 'lung' else mix(see, splits, seed, train)
    title = METHODS[name].title if name in METHODS else name
    if name in FROM_IMAGENET: title = name.replace(FROM_IMAGENET[name][0], METHODS[FROM_IMAGENET[name][0]].title)
    return {'data': data, 'method': name, 'title': title, 'arch': 'lite0' if 'ImageNet' in name else 'tiny', 'seed': seed, 'bs': BS if cost else None, 'n train': len(train)} | cost | found

def pairs(rows): # -> DataFrame: each method less the colour histogram, and CluSiam less SimSiam
    test = npz_data(prepared('lc25000_lung_64.npz')).test
    rows, found = rows[rows.data == 'lung'], []
    def right(method, score): # [test patches], mean over seeds
        texts = rows[rows.method == method][f'{score}, right']
        return np.mean([np.unpackbits(np.frombuffer(bytes.fromhex(t), np.uint8))[:len(test)] for t in texts], 0)
    against = [(m, 'colour histogram') for m in rows.method.unique() if m != 'colour histogram']
    against += [('clusiam','simsiam'), *((m, 'ImageNet, 64 px') for m in FROM_IMAGENET if m in set(rows.method))]
    for a, b in against:
        for score in ('k-NN','linear'):
            end = bootstrap_interval(right(a, score) - right(b, score), test.groups)
            found.append(dict(method=a, minus=b, score=score, **end._asdict()))
    return pd.DataFrame(found).round(4)

if __name__ == '__main__':
    import multiprocessing
    rows = pd.read_csv(FILE, dtype={'commit': str}).to_dict('records') if FILE.exists() else []
    done = {(r['data'], r['method'], r['seed']) for r in rows}
    sets = [a for a in sys.argv[1:] if a in ('lung','mix')] or ['lung','mix']
    names = [a for a in sys.argv[1:] if a not in sets] or [*FLOORS, *(m.name for m in METHODS.values() if m.data == 'patches'), *FROM_IMAGENET]
    made = dict(commit=code_version(), hardware=f'one of {hardware()}')
    with multiprocessing.get_context('spawn').Pool(1, maxtasksperchild=1) as pool: # a process of its own: its peak memory is its own
        for job in [(data, name, seed) for data in sets for seed in SEEDS for name in names]:
            if job in done: continue
            rows.append(pool.apply(measure, job) | made)
            pd.DataFrame(rows).round(4).to_csv(FILE, index=False)
            print({n: v for n, v in rows[-1].items() if n not in made and not n.endswith('right')}, flush=True)
    pairs(pd.DataFrame(rows)).to_csv(FILE.with_name('one_table_pairs.csv'), index=False)
