"""Seconds and memory of codes for many images: 100,000 of them and 512 prototypes, in single precision.

Memory is the peak of this process above what it held with the scores: python tests/bench/bench_sinkhorn.py [--n 100000] [--k 512]"""
import argparse, resource, time
import torch
from torch.nn import functional as F
from pathlearn.swav import sinkhorn

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024 # MiB

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    p.add_argument('--n', type=int, default=100_000); p.add_argument('--k', type=int, default=512); p.add_argument('--dim', type=int, default=128)
    args = p.parse_args()
    torch.manual_seed(0)
    scores = F.normalize(torch.randn(args.n, args.dim)) @ F.normalize(torch.randn(args.k, args.dim)).T
    before, start = peak(), time.perf_counter()
    codes = sinkhorn(scores)
    seconds, extra = time.perf_counter()-start, peak()-before
    share = codes.sum(0)*args.k/args.n
    print(f'{args.n} x {args.k}: {seconds:.1f} s, {extra:.0f} MiB beyond {scores.nbytes/2**20:.0f} MiB of scores; '
          f'shares of the prototypes {share.min():.3f} to {share.max():.3f} of the mean')
