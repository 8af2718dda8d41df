"""What the perfect mask scores: python tests/bench/splitting.py FOLDER, with the images of the 2018 Data Science Bowl

Cuts the true foreground into nuclei by several rules and writes the panoptic quality, mean over images, to
nbs/results/nuclei_ceiling.csv. Nothing is trained; five minutes on one core."""
import sys
from pathlib import Path
import numpy as np, pandas as pd, torch
from PIL import Image, ImageOps
from scipy.ndimage import distance_transform_edt, label
from skimage.feature import peak_local_max
from skimage.segmentation import watershed
from pathlearn.commands.runs import code_version, hardware
from pathlearn.cdcl import panoptic_quality, split_touching
from pathlearn.commands.nuclei import Nuclei, ceiling_scores

OUT = Path(__file__).resolve().parents[2]/'nbs'/'results'/'nuclei_ceiling.csv'

def plain_peaks(mask): # the rule that stands in many tutorials
    depth, seeds = distance_transform_edt(mask), np.zeros(mask.shape, int)
    peaks = peak_local_max(depth, min_distance=5, labels=label(mask)[0], exclude_border=False)
    seeds[tuple(peaks.T)] = range(1, len(peaks)+1)
    ids = watershed(-depth, seeds, mask=mask)
    return torch.from_numpy(ids*(np.bincount(ids.ravel()) >= 10)[ids])

RULES = {'peaks of the distance, 5 px apart, pieces of 10 px or more': lambda ids: plain_peaks((ids > 0).numpy()),
         'blobs as they are': lambda ids: torch.from_numpy(label((ids > 0).numpy())[0]),
         '`split_touching`, pieces of 10 px or more': lambda ids: split_touching(ids > 0, least=10),
         '`split_touching`': lambda ids: split_touching(ids > 0),
         '`split_touching` from one true seed in each nucleus': lambda ids: split_touching(ids > 0, seeds=ids)}

def square(mask, size): # [H,W] ids -> [size,size], cut to a square
    return torch.tensor(np.array(ImageOps.fit(Image.fromarray(mask.numpy()), (size,size), Image.NEAREST)))

def squares(masks, part, size): # masks [size,size]
    for rule,cut in RULES.items():
        pq = np.mean([panoptic_quality(cut(t), t) for t in masks])
        yield dict(where='square', part=part, size=size, rule=rule, dice=1., pq=pq, n=len(masks))

def through(nuclei): # the rows of `pathlearn_train cdcl`
    for name,row in ceiling_scores(nuclei).items():
        yield dict(where='there' if ' px' in name else 'there and back', part='test', size=nuclei.size,
                   rule=[*RULES][-1 if 'true seeds' in name else -2], dice=row['dice'], pq=row['panoptic quality'], n=len(nuclei.test))

def measure(folder):
    for size in (128, 256):
        nuclei = Nuclei(folder, size)
        yield from squares([square(t, size) for _,t in nuclei.test], 'test', size)
        yield from squares(nuclei.train.masks[::3], 'train, every third', size)
        yield from through(nuclei)

if __name__ == '__main__':
    if len(sys.argv) != 2: sys.exit(__doc__)
    rows = pd.DataFrame(measure(sys.argv[1])).round(4).assign(commit=code_version(), hardware=hardware())
    rows.to_csv(OUT, index=False)
    print(rows.drop(columns=['commit','hardware']).to_string(index=False))
