"Speed of embed and of k-NN: python tests/bench/bench_evaluate.py"
import argparse, platform, resource, statistics, time
import torch
from sklearn.neighbors import NearestNeighbors
from pathlearn.data import PatchData
from pathlearn.evaluate import Embeddings, embed, neighbours
from pathlearn.networks import encoder

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
    rows.append(embed_ratio(1024//part, 15, 'cpu'))
    if torch.cuda.is_available(): rows.append(embed_ratio(50_000//part, 5, 'cuda'))
    print(f'{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}')
    for what, measured, must in rows: print(f'{what:75} {measured:32} {must}')
