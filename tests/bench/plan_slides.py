"""What 400 slides as large as those of Camelyon take, on paper, from rates that were measured: nbs/results/slides_plan.csv

python tests/bench/plan_slides.py    reads slides_speed.csv and mil_speed.csv beside it, and measures how fast encoders are (a minute)
A plan is no measurement: no such slide was here. Hours are those of one core of the machine that is named, so eight cores or machines
that share a job (`--shard i/8`) take an eighth, but for reading, which a slow disk may hold up."""
import time
from pathlib import Path
import pandas as pd, torch
from pathlearn.commands.runs import code_version, hardware
from pathlearn.networks import encoder

RESULTS = Path(__file__).resolve().parents[2]/'nbs/results'
SLIDES, TILES = 400, 9_500 # 3.8 million tiles of 224 px at .5 um, the paper's 2.6 million and CLAM's 7 beside it
WIDTH, EPOCHS, CELLS = 512, 50, 9 # features of ResNet-18; the paper's grid

def tiles_per_second(arch, n=16): # processor's time of one thread
    net, x = encoder(arch, 3, size=224).eval(), torch.rand(n,3,224,224)
    with torch.no_grad():
        net(x)
        start = time.process_time()
        for _ in range(3): net(x)
    return 3*n/(time.process_time() - start)

def plan(): # -> list of rows: step, of what rate, hours of one core, gigabytes
    speed, mil = (pd.read_csv(RESULTS/f'{n}_speed.csv') for n in ('slides','mil'))
    def rate(what): return speed[speed.what == what].iloc[0]
    grid, jpeg, j2k = rate('tissue and grid, 100,000 px a side, levels by 2'), rate('read, JPEG'), rate('read, JPEG 2000')
    total = SLIDES*TILES
    yield 'tissue and grid', f'{grid.seconds} s a slide', SLIDES*grid.seconds/3600, SLIDES*TILES*16/1e9
    for name,r in (('JPEG',jpeg), ('JPEG 2000',j2k)):
        per = r.tiles/r.seconds
        yield f'reading, {name}', f'{per:.0f} tiles/s', total/per/3600, 0.
    for arch in ('tiny','resnet18','lite0'):
        per = tiles_per_second(arch)
        yield f'encoding, {arch}', f'{per:.0f} tiles/s', total/per/3600, 0.
    yield 'features, 16 bits', f'{WIDTH} a tile', 0., total*WIDTH*2/1e9
    for model in ('max','dsmil','abmil'):
        ms = mil[(mil.what == f'step of {model}') & (mil.patches == 10_000)].ms.iloc[0]
        hours = .75*SLIDES*EPOCHS*CELLS*ms/1000/3600
        yield f'slide model, {model}', f'{ms} ms a slide', hours, 0.

if __name__ == '__main__':
    torch.set_num_threads(1)
    rows = pd.DataFrame(plan(), columns=['step','rate','hours of one core','GB'])
    rows = rows.round(2).assign(slides=SLIDES, tiles=SLIDES*TILES, hardware=f'one of {hardware()}', commit=code_version())
    rows.to_csv(RESULTS/'slides_plan.csv', index=False)
    print(rows.to_string(index=False))
