"""Spherical k-means of the page on PCL: seconds, and memory beyond that of the features: python tests/bench/bench_kmeans.py [N D K rounds]"""
import resource, sys, time
import torch
from pathlearn.clustered import spherical_kmeans

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024 # MiB

if __name__ == '__main__':
    n,d,k,rounds = map(int, sys.argv[1:] or (100_000,512,1000,20))
    torch.manual_seed(0)
    x = torch.randn(n, d)
    spherical_kmeans(x[:2000], 10, 2) # libraries are loaded by now
    before,start = peak(), time.perf_counter()
    c,own = spherical_kmeans(x, k, rounds)
    seconds,extra = time.perf_counter()-start, peak()-before
    print(f'{n} x {d}, K {k}, {rounds} rounds: {seconds:.0f} s with {torch.get_num_threads()} threads, {extra:.0f} MiB beyond the {x.nbytes/2**20:.0f} MiB of the features')
    assert extra < 1024 and len(own.unique()) == k
