"""CA2CL's full training step (views, three losses, two backward passes) against SimCLR's with the same views.

ResNet-18, 64 px; interleaved medians: python tests/bench/bench_ca2cl.py [batch size]"""
import statistics, sys
import torch
from pathlearn.all import PatchData, ca2cl_learner
from bench_step import Clock, Stop

RUNS = {'SimCLR': (dict(lam=0., eps=None), None), '+ cluster-aware loss': (dict(eps=None), None), 'CA2CL': ({}, 1.95),
        'CA2CL, weak view detached': (dict(detach=True), 1.6), 'CA2CL in the pixels': (dict(where='pixel'), None),
        'CA2CL in the features': (dict(where='feature'), None)}

if __name__ == '__main__':
    bs = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    data = PatchData(torch.randint(0, 256, (2*bs,3,64,64), dtype=torch.uint8))
    learners = {n: ca2cl_learner(data.dls(bs=bs), 'resnet18', cbs=[Clock(), Stop()], **kw) for n,(kw,_) in RUNS.items()}
    for _ in range(9):
        for learn in learners.values():
            with learn.no_logging(): learn.fit(1)
    medians = {n: statistics.median(learn.clock.times[2:]) for n,learn in learners.items()} # the first epoch warms up
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, batch {bs}")
    for n,seconds in medians.items():
        bound = RUNS[n][1]
        print(f"{n:26} {seconds*1000:7.1f} ms   {seconds/medians['SimCLR']:.2f} x SimCLR" + (f"   must reach <= {bound}" if bound else ''))
