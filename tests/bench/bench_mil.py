"""An epoch on slides against its bare loop, and a bag of features from .h5 against DSMIL's csv.

Writes nbs/results/mil_speed.csv: OMP_NUM_THREADS=1 python tests/bench/bench_mil.py [patches]
Seconds are the processor's, so that others on the machine count little; medians of interleaved rounds. Bags lie in memory."""
import os, statistics, sys, tempfile, time, warnings
from pathlib import Path
import numpy as np, pandas as pd, torch
from pathlearn.commands.runs import code_version, hardware
from pathlearn.mil import Bag, Bags, mil_learner, mil_target, mil_loss, read_bag, save_bag

FILE = Path(__file__).resolve().parents[2]/'nbs/results/mil_speed.csv'
FEATURES, SLIDES, ROUNDS = 512, 6, 5

def cost(work): # -> processor's seconds
    start = time.process_time(); work()
    return time.process_time() - start

def slides(patches): # -> Bags
    rng = torch.Generator().manual_seed(0)
    return Bags([Bag(torch.randn(patches, FEATURES, generator=rng), name=str(i)) for i in range(SLIDES)], [i%2 for i in range(SLIDES)])

def bare_epoch(learn, pairs, share): # forward, loss, backward, step
    for x,y in pairs:
        mil_loss(learn.model(x), y, share).backward()
        learn.opt.step(); learn.opt.zero_grad()

def epoch(model, patches): # -> row
    bags = slides(patches)
    learn = mil_learner(bags, model=model, device='cpu')
    pairs = [(b.features[None], mil_target(torch.tensor([b.label]), 1, 2)) for b in bags]
    full,bare = [],[]
    with learn.no_logging():
        learn.fit(1)
        bare_epoch(learn, pairs, learn.model.share)
        for _ in range(ROUNDS):
            full.append(cost(lambda: learn.fit(1)))
            bare.append(cost(lambda: bare_epoch(learn, pairs, learn.model.share)))
    a,b = statistics.median(full)/SLIDES, statistics.median(bare)/SLIDES
    return dict(what=f'step of {model}', patches=patches, features=FEATURES, ms=1000*a, reference='bare step', reference_ms=1000*b, ratio=a/b)

def reading(patches): # -> row
    bag = slides(patches)[0]
    with tempfile.TemporaryDirectory() as folder:
        h5,csv = Path(folder)/'a.h5', Path(folder)/'a.csv'
        save_bag(bag, h5)
        np.savetxt(csv, bag.features.numpy(), '%.4f', ',', header=','.join(map(str, range(FEATURES))), comments='')
        pairs = [(statistics.median(cost(lambda: read_bag(h5)) for _ in range(9)), cost(lambda: pd.read_csv(csv))) for _ in range(4)]
        ours,theirs = map(statistics.median, zip(*pairs[1:])) # the first warms up
        assert torch.allclose(read_bag(h5).features.float(), read_bag(csv).features, atol=4e-3)
    return dict(what='read_bag of .h5', patches=patches, features=FEATURES, ms=1000*ours, reference='pandas.read_csv', reference_ms=1000*theirs, ratio=theirs/ours)

if __name__ == '__main__':
    if os.environ.get('OMP_NUM_THREADS') != '1': sys.exit('expected OMP_NUM_THREADS=1: the rows are of one core')
    warnings.simplefilter('ignore'); torch.set_num_threads(1)
    rows,code = [],code_version()
    for n in map(int, sys.argv[1:] or (2_000, 10_000)):
        for row in [*(lambda m=m: epoch(m, n) for m in ('max','dsmil','abmil')), lambda: reading(n)]:
            rows.append(row() | dict(hardware=f'one of {hardware("cpu")}', commit=code))
            print(rows[-1], flush=True)
    pd.DataFrame(rows).round({'ms': 1, 'reference_ms': 1, 'ratio': 2}).to_csv(FILE, index=False)
