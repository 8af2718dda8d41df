"""Does the decoder of the contrastive autoencoder gain by being told the cluster?

    python tests/bench/conditional_decoder.py DATA.npz --out FILE.csv --k 10 --epochs 40 --seeds 0 1 2

Both phases are trained twice from one seed: with K prototypes, and with a single one. The single one tells every image the
same, so its decoder has the extra layers and the extra epochs, but learns nothing about the cluster. The warm-up is the same
to the bit (the script checks it). Errors are those of held-out images, decoded with their own assignment and with another
image's. A row that stands in FILE is left alone."""
import argparse, time
from pathlib import Path
import pandas as pd
from pathlearn.all import *
from pathlearn.autoencoder import ReconstructionWatch, reconstruction_errors
from pathlearn.commands.inputs import read_data
from pathlearn.commands.reproduce.rows import append_rows, has_row, made_by

def trained(splits, seed, k, args):
    "-> a learner after both phases, whose watch saw val after each epoch"
    set_seed(seed)
    flip = 0 if splits.train.labels.max() > 1 else .5 # a mirrored digit is another sign
    view, watch = autoencoder_view(splits.train.size, flip=flip), ReconstructionWatch(splits.val)
    learn = autoencoder_learner(splits.train.dls(bs=args.bs), opt=args.opt, view=view, cbs=[watch])
    with learn.no_logging(): fit_two_phases(learn, args.epochs//2, args.epochs, k, seed=seed)
    return learn

def row(splits, seed, k, args):
    start, learn = time.time(), trained(splits, seed, k, args)
    seen, end = learn.reconstruction_watch.history, reconstruction_errors(learn, splits.test)
    return {'k': k, 'val, after warm-up': seen[args.epochs//2 - 1]['error'], 'val, end': seen[-1]['error'],
            'test, end': end['own'], 'test, permuted': end['permuted'], 'minutes': (time.time()-start)/60}

def first(data, n): # as many, evenly spaced
    return data if not n or n >= len(data) else data[[i*len(data)//n for i in range(n)]]

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('data'); p.add_argument('--out', type=Path, required=True); p.add_argument('--n', type=int)
    p.add_argument('--k', type=int, default=10); p.add_argument('--epochs', type=int, default=40)
    p.add_argument('--seeds', type=int, nargs='+', default=[0,1,2]); p.add_argument('--bs', type=int, default=256)
    p.add_argument('--opt', default='adamw'); p.set_defaults(device='cpu', commit=None)
    args = p.parse_args()
    splits = Splits(*(first(part, args.n) for part in read_data(args.data)))
    for seed in args.seeds:
        key = dict(data=Path(args.data).stem, seed=seed, epochs=args.epochs, opt=args.opt, bs=args.bs, n_train=len(splits.train))
        if has_row(args.out, **key): continue
        told, untold = [row(splits, seed, k, args) for k in (args.k, 1)]
        assert told['val, after warm-up'] == untold['val, after warm-up'], 'the two warm-ups differ'
        append_rows(args.out, pd.DataFrame([key | r | made_by(args) for r in (told, untold)]).round(6))
        print(key, told, untold, sep='\n', flush=True)

if __name__ == '__main__': main()
