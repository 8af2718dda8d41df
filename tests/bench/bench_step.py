"""A full training step (views, forward, loss, backward, step, queue or target, watches, log) against the bare step on fixed views.

    python tests/bench/bench_step.py [METHOD ...] [--bs 64] [--rounds 8]

Seconds are the processor's, on one thread, so that others on the machine count little. Both steps alternate; medians.
ResNet-18 at 64 px, and the contrastive autoencoder at 28 px with batches of 256 as on MNIST.
The bare step takes what the last full step gave to the model and to the loss: `loss_func(model(*xb), *yb)`, backward, optimiser.
CA2CL is left out: its second pass, with the adversarial pair, is the method itself. Writes nbs/results/step_ratio.csv."""
import argparse, statistics, time
from pathlib import Path
import pandas as pd, torch
from fastai.callback.core import Callback
from pathlearn.all import METHODS, PatchData
from pathlearn.commands.runs import code_version, hardware, make_learner

FILE = Path(__file__).resolve().parents[2]/'nbs/results/step_ratio.csv'
TAKEN = [m.name for m in METHODS.values() if m.data == 'patches' and m.name != 'ca2cl']

class Clock(Callback):
    "Time from before the first callback of a batch to after the last"
    order = -100
    def __init__(self): self.times = []
    def before_batch(self): self.start = time.process_time()

class Stop(Callback):
    order = 100
    def after_pred(self): self.learn.seen = self.xb, self.yb
    def after_batch(self): self.learn.clock.times.append(time.process_time() - self.learn.clock.start)

def bare_step(learn):
    xb, yb = learn.seen
    start = time.process_time()
    learn.loss_func(learn.model(*xb), *yb).backward()
    learn.opt.step(); learn.opt.zero_grad()
    return time.process_time() - start

def compare(name, bs, rounds, arch='resnet18', channels=3, size=64): # -> seconds of a full and of a bare step
    torch.manual_seed(0)
    data = PatchData(torch.randint(0, 256, (4*bs,channels,size,size), dtype=torch.uint8), torch.arange(4*bs) % 3)
    learn = make_learner(name, data, arch=arch, bs=bs)
    learn.add_cbs([Clock(), Stop()])
    bare = []
    with learn.no_logging(), learn.no_bar():
        learn.fit(1)
        for _ in range(rounds):
            learn.fit(1)
            learn.model.train(); bare += [bare_step(learn) for _ in range(2)]
    return statistics.median(learn.clock.times[4:]), statistics.median(bare) # the first epoch warms up

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('methods', nargs='*', metavar='METHOD')
    parser.add_argument('--bs', type=int, default=64)
    parser.add_argument('--rounds', type=int, default=8)
    args = parser.parse_args()
    rows = []
    for name in args.methods or TAKEN:
        small = name == 'autoencoder'
        at = dict(arch='conv3', channels=1, size=28) if small else {}
        bs = 256 if small else args.bs
        full, bare = compare(name, bs, args.rounds, **at)
        rows.append(dict(method=name, title=METHODS[name].title, arch=at.get('arch','resnet18'), size=at.get('size',64), bs=bs,
                         **{'full, ms': 1000*full, 'bare, ms': 1000*bare, 'ratio': full/bare, 'must reach': '<= 1.15'}))
        print(f"{name:14} full step {1000*full:7.1f} ms   bare step {1000*bare:7.1f} ms   ratio {full/bare:.3f}   must reach <= 1.15", flush=True)
    table = pd.DataFrame(rows).round(3).assign(threads=torch.get_num_threads(), commit=code_version(), hardware=hardware())
    if not args.methods: table.to_csv(FILE, index=False)
