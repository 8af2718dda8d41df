"""A full training step (views, forward, loss, backward, step, watches, log) against the bare step on two fixed views.

ResNet-18, 64 px, SimSiam and CluSiam, interleaved medians: python tests/bench/bench_step.py [batch size]"""
import statistics, sys, time
import torch
from pathlearn.clusiam import PatchData, clusiam_learner, simsiam_learner, standard_view
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

def compare(factory, bs, rounds=8):
    data = PatchData(torch.randint(0, 256, (4*bs,3,64,64), dtype=torch.uint8))
    learn = factory(data.dls(bs=bs), 'resnet18', cbs=[Clock(), Stop()])
    view = standard_view(64)
    fixed = view(data.images[:bs]), view(data.images[:bs])
    bare = []
    with learn.no_logging():
        learn.fit(1)
        for _ in range(rounds):
            learn.model.train(); bare.append(bare_step(learn, fixed))
            learn.fit(1)
    full = learn.clock.times[4:] # the first epoch warms up
    return statistics.median(full)*1000, statistics.median(bare)*1000

if __name__ == '__main__':
    bs = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    print(f"batch {bs}, 64 px, ResNet-18, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for factory in (simsiam_learner, clusiam_learner):
        full,bare = compare(factory, bs)
        print(f"{factory.__name__:18} full step {full:7.1f} ms   bare step {bare:7.1f} ms   ratio {full/bare:.3f}   must reach <= 1.15")
