"""The supervised baseline on lung patches: its rows for nbs/results/supervised.csv and supervised_mix.csv

    python tests/bench/supervised_rows.py [side] [mix]

side   the protocol of tests/bench/side_by_side.py (four epochs, batches of 64), and what the classifier itself names rightly
mix    the 95 : 5 mix of tests/bench/cluster_claims.py, with weights and without"""
import sys, time
from pathlib import Path
import pandas as pd, torch
from sklearn.metrics import balanced_accuracy_score, f1_score
from cluster_claims import COMMON, RARE, SETTING, mixture
from pathlearn.all import *
from pathlearn.data import prepared
from side_by_side import BS, MADE, scores

OUT, SEEDS = Path(__file__).resolve().parents[2]/'nbs/results', range(3)

def trained(data, seed, epochs, bs, lr, view=None, **kw): # -> Learner, minutes
    set_seed(seed)
    learn, start = supervised_learner(data.dls(bs=bs), 'tiny', lr=lr, view=view, **kw), time.time()
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs)
    return learn, round((time.time() - start)/60, 2)

def named(learn, data): # -> dict: what the classifier says of the patches
    called, true = classify(learn, data), data.labels
    return {'accuracy':(called == true).float().mean().item(), 'balanced accuracy':balanced_accuracy_score(true, called)}, called

def side(splits, epochs=4):
    for seed in SEEDS:
        learn, minutes = trained(splits.train, seed, epochs, BS, .05*BS/256)
        found = scores(embed(learn, splits.train), embed(learn, splits.test), seed, 'cosine') | named(learn, splits.test)[0]
        yield dict(method='supervised', title='Supervised, re-weighted', seed=seed, epochs=epochs, bs=BS, **found, minutes=minutes)

def mix(splits, epochs=20, draws=20):
    rare, common = (splits.train.classes.index(c) for c in (RARE,COMMON))
    for balanced in (True,False):
        for seed in SEEDS:
            train = mixture(splits.train, rare, common, .05, seed)
            learn, minutes = trained(train, seed, epochs, SETTING['bs'], SETTING['lr'], gentle_view(train.size), balanced=balanced)
            rows = []
            for d in range(draws):
                test = mixture(splits.test, rare, common, .05, d)
                found, called = named(learn, test)
                rows.append(found | {'rare found':(called[test.labels == 1] == 1).float().mean().item(), 'rare F1':f1_score(test.labels, called, zero_division=0.)})
            yield dict(method='supervised', weights=balanced, seed=seed, epochs=epochs, bs=SETTING['bs'], lr=SETTING['lr'], view=SETTING['view'], share=.05, draws=draws,
                       **learn.class_watch.history[-1], **pd.DataFrame(rows).mean(), minutes=minutes)

PARTS = dict(side=(side, 'supervised'), mix=(mix, 'supervised_mix'))

if __name__ == '__main__':
    torch.set_num_threads(1)
    splits = npz_data(prepared('lc25000_lung_64.npz'))
    for part in sys.argv[1:] or PARTS:
        make, name = PARTS[part]
        rows = []
        for row in make(splits):
            print(row, flush=True)
            rows.append(row | MADE)
            pd.DataFrame(rows).round(4).to_csv(OUT/f'{name}.csv', index=False)
