"""Speed of embed, of a frozen encoder, of k-NN and of the bootstrap: python tests/bench/bench_evaluate.py

Writes nbs/results/speed_evaluate.csv."""
import argparse, platform, resource, statistics, time
from pathlib import Path
import numpy as np, pandas as pd, torch, torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from pathlearn.data import PatchData
from pathlearn.evaluate import Embeddings, embed, neighbours
from pathlearn.commands.runs import code_version, hardware
from pathlearn.evaluate.intervals import prediction_scores
from pathlearn.networks import encoder
from pathlearn.networks.frozen import frozen_encoder

def timed(*fs, n):
    "Median seconds of each function, called in turn so that a busy machine slows all alike"
    times = [[] for _ in fs]
    for _ in range(n):
        for f, t in zip(fs, times): start = time.perf_counter(); f(); t.append(time.perf_counter()-start)
    return [statistics.median(t) for t in times]

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20 # GiB on Linux
def resident(): return int(open('/proc/self/statm').read().split()[1])*resource.getpagesize()/2**30

def embed_ratio(n, rounds, device):
    data = PatchData(torch.randint(256, (n,3,64,64), dtype=torch.uint8))
    net = encoder('resnet18', size=64).to(device).eval()
    def bare():
        with torch.no_grad():
            for xb in data.images.split(512): net(xb.to(device))
        if device == 'cuda': torch.cuda.synchronize()
    bare(), embed(net, data)
    plain, ours = timed(bare, lambda: embed(net, data), n=rounds)
    return f'embed / bare encoder, {n} patches of 64 px, ResNet-18, {device}', f'{ours/plain:.2f} x', '<= 1.10 x'

def frozen_ratio(n, rounds): # resize and normalisation in both
    data = PatchData(torch.randint(256, (n,3,64,64), dtype=torch.uint8))
    net = frozen_encoder('lite0')
    def bare():
        with torch.no_grad():
            for xb in data.images.split(16): # larger batches leave the cache of a CPU: slower, so not a fair rival
                x = F.interpolate(xb.float()/255, (net.size,net.size), mode='bicubic', antialias=True).clamp(0, 1)
                net.body.forward_head(net.body.forward_features(net.norm(x)), pre_logits=True)
    plain, ours = timed(bare, lambda: embed(net, data), n=rounds)
    return f'embed / bare encoder, {n} patches of 64 px, EfficientNet-Lite0 at {net.size} px', f'{ours/plain:.2f} x', '<= 1.10 x'

def bootstrap_rows(n=10_000, n_groups=740):
    dice = np.random.default_rng(0)
    labels, of = dice.integers(3, size=n), dice.integers(n_groups, size=n)
    probs = dice.random((n,3)) + np.eye(3)[labels]*.5
    probs /= probs.sum(1, keepdims=True)
    prediction_scores(labels, probs, of)
    took, = timed(lambda: prediction_scores(labels, probs, of), n=3)
    return [(f'bootstrap, 1,000 draws of {n_groups} groups, {n} patches: all four scores, AUC among them', f'{took:.2f} s', '< 1 s')]

def knn_rows(n_train, n_test, rounds):
    rng = torch.Generator().manual_seed(0)
    train, test = [Embeddings(torch.randn(n, 512, generator=rng)) for n in (n_train, n_test)]
    before = resident()
    neighbours(train, test)
    extra = peak() - before # at most: the peak may be older than this call
    found = neighbours(train, test[:500])[0]
    brute = NearestNeighbors(n_neighbors=5, algorithm='brute').fit(train.normed.numpy())
    assert (torch.from_numpy(brute.kneighbors(test[:500].normed.numpy())[1]) == found).float().mean() > .999
    queries = test.normed.numpy() # scikit-learn gets its normalised rows for nothing
    ours, theirs = timed(lambda: neighbours(train, test), lambda: brute.kneighbors(queries), n=rounds)
    what = f'k-NN, {n_test} queries on {n_train} x 512'
    return [(f'{what}: scikit-learn brute force / ours', f'{theirs/ours:.2f} x ({theirs:.1f} s / {ours:.1f} s)', '>= 1 x'),
            (f'{what}: extra memory', f'{extra:.2f} GiB', '< 1 GiB')]

if __name__ == '__main__':
    arg = argparse.ArgumentParser(description=__doc__)
    arg.add_argument('--small', action='store_true', help='a tenth of the size: a quick look')
    part = 10 if arg.parse_args().small else 1
    rows = knn_rows(100_000//part, 10_000//part, 3)
    rows += [embed_ratio(1024//part, 15, 'cpu'), frozen_ratio(256//part, 7), *bootstrap_rows()]
    if torch.cuda.is_available(): rows.append(embed_ratio(50_000//part, 5, 'cuda'))
    print(f'{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}')
    for what, measured, must in rows: print(f'{what:75} {measured:32} {must}')
    table = pd.DataFrame(rows, columns=['what','measured','must reach']).assign(threads=torch.get_num_threads(), commit=code_version(), hardware=hardware())
    if part == 1: table.to_csv(Path(__file__).resolve().parents[2]/'nbs/results/speed_evaluate.csv', index=False)
