"""The map on the site's first page, nbs/images/map.html: lung patches of the test part, as a CluSiam encoder sees them

    pathlearn_reproduce clusiam --help                                 # trains it: 40 epochs, gentle views, K = 100, seed 0
    python tests/bench/index_map.py WEIGHTS.safetensors [--side 44]    # prints the 5-NN accuracy, which names the row"""
import argparse
from pathlib import Path
from pathlearn.data import npz_data, prepared
from pathlearn.evaluate import embed, knn_score
from pathlearn.explore import map_page
from pathlearn.learning import load_encoder

CLASSES = dict(lung_aca='adenocarcinoma', lung_n='benign', lung_scc='squamous cell carcinoma')
OUT = Path(__file__).resolve().parents[2]/'nbs'/'images'/'map.html'

parser = argparse.ArgumentParser()
parser.add_argument('weights')
parser.add_argument('--side', type=int, default=44) # of the small pictures in pixels
args = parser.parse_args()

lung = npz_data(prepared('lc25000_lung_64.npz'))
model = load_encoder(args.weights)
emb, known = embed(model, lung.test), embed(model, lung.train)
emb.classes = [CLASSES[c] for c in emb.classes]
page = map_page(emb, lung.test, 'tsne', train=known, side=args.side, title='Lung patches, as CluSiam sees them')
OUT.write_text(page, encoding='utf-8')
print(f"5-NN accuracy {knn_score(known, emb):.5f}; {len(emb)} patches, {OUT.stat().st_size//1000} kB")
