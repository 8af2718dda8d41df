"""A full training step (views, forward, loss, backward, step, watches, log) against the bare step on two fixed views.

ResNet-18, 64 px, SimSiam and CluSiam, and the contrastive autoencoder at 28 px with batches of 256 as on MNIST; interleaved
medians: python tests/bench/bench_step.py [batch size]"""
import statistics, sys, time
import torch
from pathlearn.all import PatchData, autoencoder_learner, autoencoder_view, clusiam_learner, simsiam_learner, standard_view
from fastai.callback.core import Callback

class Clock(Callback):
    "Time from before the first callback of a batch to after the last, for one batch at a time"
    order = -100
    def __init__(self): self.times = []
    def before_batch(self): self.start = time.perf_counter()

class Stop(Callback):
    order = 100
    def after_batch(self): self.learn.clock.times.append(time.perf_counter() - self.learn.clock.start)

def bare_step(learn, views):
    start = time.perf_counter()
    loss = learn.loss_func(learn.model(*views))
    loss.backward(); learn.opt.step(); learn.opt.zero_grad()
    return time.perf_counter() - start

def compare(factory, bs, arch='resnet18', channels=3, size=64, make_view=standard_view, rounds=8):
    data = PatchData(torch.randint(0, 256, (4*bs,channels,size,size), dtype=torch.uint8))
    learn = factory(data.dls(bs=bs), arch=arch, cbs=[Clock(), Stop()])
    view = make_view(size)
    fixed = view(data.images[:bs]), view(data.images[:bs])
    bare = []
    with learn.no_logging():
        learn.fit(1)
        for _ in range(rounds):
            learn.model.train(); bare.append(bare_step(learn, fixed))
            learn.fit(1)
    full = learn.clock.times[4:] # the first epoch warms up
    return statistics.median(full)*1000, statistics.median(bare)*1000

def line(name, full, bare):
    print(f"{name:30} full step {full:7.1f} ms   bare step {bare:7.1f} ms   ratio {full/bare:.3f}   must reach <= 1.15")

if __name__ == '__main__':
    bs = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    line('autoencoder, 28 px, batch 256', *compare(autoencoder_learner, 256, 'conv3', 1, 28, autoencoder_view, rounds=20))
    for factory in (simsiam_learner, clusiam_learner): line(f'{factory.__name__}, 64 px, batch {bs}', *compare(factory, bs))
