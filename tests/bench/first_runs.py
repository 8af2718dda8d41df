"""The first run of each method's page with three seeds or more: does it learn, and is that more than luck?

Takes the cell that a page labels `first-run` as it stands, changes its seed alone, and writes the `scores` that it leaves
to nbs/results/first_runs.csv: python tests/bench/first_runs.py [page ...] (the run of index.ipynb is that of 12_clusiam)"""
import contextlib, io, json, os, re, sys, time
from pathlib import Path
import matplotlib, pandas as pd
from scipy.stats import t
from pathlearn.commands.runs import code_version, hardware

NBS = Path(__file__).resolve().parents[2]/'nbs'
PAGES = {'10_siamese':'5-NN accuracy', '12_clusiam':'5-NN accuracy', '13_decorrelated':'5-NN accuracy', '14_moco':'5-NN accuracy', '14a_swav':'5-NN accuracy', '14b_clustered':'5-NN accuracy', '15_supervised':'5-NN accuracy', '22_ca2cl':'accuracy of a linear probe',
         '32_autoencoder':'adjusted Rand index of ten clusters (mean of five starts of k-means)', '41_cdcl':'Dice'}
SEEDS = {'13_decorrelated':range(5), '14_moco':range(5), '14a_swav':range(5), '14b_clustered':range(5), '15_supervised':range(5), '32_autoencoder':range(5)} # three elsewhere: untrained, the latter's clusters differ much from seed to seed
MADE = {'commit':code_version(), 'hardware':hardware()} # of the code as it was loaded: the checkout may move on meanwhile
LABEL = re.compile(r'^#\|\s*label:\s*first-run\s*$', re.M)

def first_run(page):
    "Sources of the code cells above the labelled one, and its own"
    cells = json.loads((NBS/f'{page}.ipynb').read_text(encoding='utf-8'))['cells']
    code = [''.join(c['source']) for c in cells if c['cell_type'] == 'code']
    found = [i for i,s in enumerate(code) if LABEL.search(s)]
    if len(found) != 1: raise ValueError(f"{page} has {len(found)} cells labelled first-run: expected one, `#| label: first-run`")
    return code[:found[0]], code[found[0]]

def with_seed(source, seed):
    changed, n = re.subn(r'^set_seed\(\d+\)', f'set_seed({seed})', source, flags=re.M)
    if n != 1: raise ValueError(f"a first run sets its seed in one line, `set_seed(0)`; found {n} in\n{source}")
    return changed

def measure(page, seed):
    "One row of the table; what the cell prints is kept quiet"
    above, cell = first_run(page)
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for source in above: exec(source, names)
        start = time.process_time()
        exec(with_seed(cell, seed), names)
        seconds = time.process_time() - start
    scores = names['scores']
    return {'page':page, 'seed':seed, 'score name':PAGES[page], 'untrained':round(scores['untrained'], 4), 'trained':round(scores['trained'], 4),
            'n_held_out':len(names['held_out']), 'cpu_seconds':round(seconds, 1)} | MADE

def with_gain(rows): # of one page
    "Mean gain over the seeds and half its 95 % t interval, in every row"
    gain = rows.trained - rows.untrained
    return rows.assign(mean_gain=gain.mean().round(4), interval=round(t.ppf(.975, len(gain)-1)*gain.sem(), 4))

if __name__ == '__main__':
    matplotlib.use('Agg')
    os.chdir(NBS)
    pages, file = sys.argv[1:] or [*PAGES], NBS/'results/first_runs.csv'
    if odd := set(pages) - set(PAGES): sys.exit(f"{', '.join(odd)}: no page with a first run; there are {', '.join(PAGES)}")
    for page in pages:
        new = with_gain(pd.DataFrame([measure(page, seed) for seed in SEEDS.get(page, range(3))]))
        print(new.iloc[:,:7].assign(gain=new.mean_gain, interval=new.interval).to_string(index=False), flush=True)
        old = [pd.read_csv(file, dtype={'commit':str}).query('page != @page')] if file.exists() else []
        pd.concat([*old, new]).sort_values(['page','seed']).to_csv(file, index=False)
