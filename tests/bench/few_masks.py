"""Few labels on images with masks, from each encoder: the transfer of CA2CL's table on glands in small, on nuclei.

    python tests/bench/few_masks.py BOWL [METHOD ...]

BOWL is the unpacked folder of the 2018 Data Science Bowl; its stained images are cut into tiles of 128 px. Encoders learn from lung
patches as in one_table.py (tiny, 64 px, four epochs, no labels);
ImageNet's EfficientNet-Lite0 stays as it is, the rest of its U-Net learns. A U-Net on a copy of each then learns from the masks of a few images,
its epoch chosen on other images. A seed draws encoder, labelled images and the order; the test images stay.
Writes nbs/results/few_masks.csv; rows that the file holds are left out."""
import sys, time
from pathlib import Path
import numpy as np, pandas as pd, torch
from fastai.torch_core import no_random
from one_table import learned
from pathlearn.commands.runs import code_version, hardware
from pathlearn.data import npz_data, nuclei_data, prepared
from pathlearn.evaluate import segmentation_floor, segmentation_scores, untrained_encoder
from pathlearn.networks.frozen import frozen_encoder
from pathlearn.transfer import mask_dls, mask_learner, predict_masks

FILE = Path(__file__).resolve().parents[2]/'nbs/results/few_masks.csv'
TILE, LABELLED, SEEDS, TEST, VAL = 128, (2,8), range(3), 60, 8 # TILE in px, the others in images
STEPS, EPOCHS, BS = 96, 6, 8 # steps in all; after each epoch the choice on VAL
NAMES = ['untrained encoder','ImageNet, frozen','simclr','simsiam','clusiam','ca2cl']

def stained(bowl): # -> PatchData: tiles of the images with colour, groups are the images
    data = nuclei_data(bowl, tile=TILE)
    coloured = np.ptp(data.images.float().mean((2,3)).numpy(), axis=1) > 10
    return data[np.flatnonzero(coloured)]

def parts(data, n, seed): # -> PatchData of n images, of VAL, of TEST
    images = np.unique(data.groups)
    images = np.random.default_rng(0).permutation(images)
    test, rest = images[:TEST], np.random.default_rng(seed).permutation(images[TEST:])
    return [data[np.flatnonzero(np.isin(data.groups, chosen))] for chosen in (rest[VAL:VAL+n], rest[:VAL], test)]

def encoder_of(name, patches, seed):
    if name == 'untrained encoder': return untrained_encoder(patches, 'tiny', seed)
    if name == 'ImageNet, frozen': return frozen_encoder('lite0', size=TILE)
    learn, _ = learned(name, patches, seed)
    return learn.model.encoder

def dice(net, few, val, test, seed):
    with no_random(seed):
        again = few[np.resize(np.arange(len(few)), BS*STEPS//EPOCHS)] # an epoch shows each several times
        learn = mask_learner(mask_dls(again, val, bs=BS), net)
        with learn.no_logging(), learn.no_bar(): learn.fit_one_cycle(EPOCHS, 1e-3)
    return segmentation_scores(predict_masks(learn, test), test.masks)['dice']

if __name__ == '__main__':
    torch.set_num_threads(1)
    bowl, *names = sys.argv[1:]
    data, patches = stained(bowl), npz_data(prepared('lc25000_lung_64.npz')).train
    rows = pd.read_csv(FILE, dtype={'commit':str}).to_dict('records') if FILE.exists() else []
    made = dict(commit=code_version(), hardware=f'one of {hardware()}')
    floor = segmentation_floor(parts(data, 2, 0)[-1])['dice']
    for seed in SEEDS:
        for name in names or NAMES:
            if any(r['method'] == name and r['seed'] == seed for r in rows): continue
            net, found = encoder_of(name, patches, seed), []
            for n in LABELLED:
                few, val, test = parts(data, n, seed)
                start = time.process_time()
                score = dice(net, few, val, test, seed)
                found.append({'method': name, 'labelled images': n, 'seed': seed, 'labelled tiles': len(few), 'test images': TEST,
                              'test tiles': len(test), 'steps': STEPS, 'Dice': score, 'Dice of Otsu': floor,
                              'CPU minutes': (time.process_time() - start)/60} | made)
                print(found[-1], flush=True)
            rows += found
            pd.DataFrame(rows).round(4).to_csv(FILE, index=False)
