"""ImageNet's EfficientNet-Lite0 on lung patches at 64 px, fine-tuned and under a linear layer: rows for nbs/results/ca2cl_lc25000_lung_64.csv

    python tests/bench/imagenet_tuned.py [SHARE ...]

The protocol is `pathlearn_reproduce ca2cl`'s own, ours alone: that command with --arch lite0 would train CA2CL from it as well, for hours.
Rows that the file holds are left out."""
import sys, time
from pathlib import Path
from types import SimpleNamespace
import torch
from pathlearn.commands.reproduce.ca2cl import EVALUATIONS, FRACTIONS, _write, score_ours
from pathlearn.commands.reproduce.rows import has_row
from pathlearn.commands.runs import code_version
from pathlearn.data import npz_data, prepared
from pathlearn.evaluate import embed
from pathlearn.networks import encoder

FILE, EPOCHS = Path(__file__).resolve().parents[2]/'nbs/results/ca2cl_lc25000_lung_64.csv', 15

if __name__ == '__main__':
    torch.set_num_threads(1)
    splits = npz_data(prepared('lc25000_lung_64.npz'))
    task = SimpleNamespace(file=FILE, splits=splits, name='lc25000_lung_64', args=SimpleNamespace(commit=code_version(), device='cpu'))
    net = encoder('lite0', size=64).to(memory_format=torch.channels_last)
    embs = [embed(net, p) for p in splits]
    for frac in [*map(float, sys.argv[1:])] or FRACTIONS:
        for seed in range(3):
            for evaluation in EVALUATIONS:
                key = dict(method='ImageNet', evaluation=evaluation, fraction=frac, arch='lite0', seed=seed, tune_epochs=EPOCHS)
                if has_row(FILE, **key): continue
                start = time.process_time()
                scores = score_ours(evaluation, net, splits, embs, frac, seed, EPOCHS)
                _write(task, key, scores, minutes=round((time.process_time() - start)/60, 2))
