"""Slides beside bare OpenSlide: tiles a second, half resolution, tissue and grid of a large pyramid, orders of reading,
and embedding beside the slower of its two halves.

Writes nbs/results/slides_speed.csv: OMP_NUM_THREADS=1 PATHLEARN_DATA=FOLDER python tests/bench/bench_slides.py
With `orders` or `embed` as argument these rows alone are measured, and take the place of the old ones.
FOLDER holds slides/cmu_small_region.svs and slides/tcga_cr_7395_region.svs. Seconds are the processor's, so that others on the
machine count little; ours and theirs take turns on the same tiles, medians of ROUNDS. Memory is the peak less what the process held before."""
import multiprocessing, os, random, resource, statistics, sys, tempfile, time, zlib
from pathlib import Path
import numpy as np, openslide, pandas as pd, tifffile, torch
from PIL import Image
from pathlearn.commands.runs import code_version, hardware
from pathlearn.networks import encoder
from pathlearn.slides import embed_slide, embed_slides, find_tissue, open_slide, tile_slide
from pathlearn.slides.streams import SlideTiles

FILE = Path(__file__).resolve().parents[2]/'nbs/results/slides_speed.csv'
PX, ROUNDS, LARGE = 224, 7, 100_000

def seconds(work):
    start = time.process_time()
    work()
    return time.process_time() - start

def ratio(ours, theirs): # -> median seconds of ours, of theirs, median of their ratios theirs/ours
    for work in (ours,theirs): work()
    pairs = [(seconds(ours),seconds(theirs)) for _ in range(ROUNDS)]
    return statistics.median(a for a,_ in pairs), statistics.median(b for _,b in pairs), statistics.median(b/a for a,b in pairs)

def corners(size, side): return [(x,y) for y in range(0, size[1]-side+1, side) for x in range(0, size[0]-side+1, side)]

def plain(path, mpp): # all tiles as they were scanned, each side with a fresh handle, so that no cache helps
    at = corners(open_slide(path, mpp).size, PX)
    def ours():
        with open_slide(path, mpp) as s:
            for xy in at: s.read(xy, PX)
    def theirs():
        with openslide.OpenSlide(path) as s:
            for xy in at: np.array(s.read_region(xy, 0, (PX,PX)))
    return len(at), *ratio(ours, theirs)

def half(path, mpp): # the pyramid against the full image and a resize
    at = corners(open_slide(path, mpp).size, 2*PX)
    def ours():
        with open_slide(path, mpp) as s:
            assert s.plan(PX, 2*mpp) == (1,PX)
            for xy in at: s.read(xy, PX, 2*mpp)
    def theirs():
        with openslide.OpenSlide(path) as s:
            for xy in at: np.array(s.read_region(xy, 0, (2*PX,2*PX)).convert('RGB').resize((PX,PX), Image.Resampling.BOX))
    return len(at), *ratio(ours, theirs)

def pyramid(path, cut, by): # each level smaller `by` times; 100,000 px at .25 um in tiles of 512: deflate, of `cut` and of glass in fields of their own; finer levels, which nobody reads here, are glass
    glass,tissue = (zlib.compress(np.ascontiguousarray(t).tobytes()) for t in (np.full((512,512,3), 243, np.uint8), cut))
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for i,k in enumerate(by**j for j in range(10) if by**j <= 64):
            n = -(-LARGE//(k*512))
            grid = ((np.indices((n,n))*8//n).sum(0) % 3 == 0).ravel()
            tif.write((tissue if t and k > 8 else glass for t in grid), shape=(LARGE//k,LARGE//k,3), dtype=np.uint8, tile=(512,512), photometric='rgb',
                      compression='zlib', subfiletype=int(i > 0), resolution=(1e4/(.25*k),)*2, resolutionunit='CENTIMETER')

def large(path): # -> seconds, MiB, tiles
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open_slide(path) as s:
        before = time.process_time()
        n = len(tile_slide(s, PX, .5, tissue=find_tissue(s)))
        spent = time.process_time() - before
    return spent, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)/1024, n

def orders(path, mpp, px): # all tiles in the windows of an epoch, row by row, and shuffled; each with a fresh handle -> tiles, two of `ratio`
    with open_slide(path, mpp) as s: tiles = tile_slide(s, px, mpp, min_tissue=0, tissue=np.ones((256, round(256*s.size[0]/s.size[1])), bool))
    data,dice = SlideTiles([(path,tiles)]), random.Random(0)
    rows = np.lexsort(data.xy.T) # by y, then by x
    def read(order):
        for i in order: data.read(i)
        data.shelf.close()
    shuffled = np.array(dice.sample(range(len(data)), len(data)))
    return len(data), ratio(lambda: read(data.plan(dice)), lambda: read(rows)), ratio(lambda: read(rows), lambda: read(shuffled))

def order_rows(folder): # -> list of (what, tiles, seconds, beside, its seconds, ratio, wanted)
    rows = []
    for name,path,mpp in (('JPEG',folder/'cmu_small_region.svs',.499),('JPEG 2000',folder/'tcga_cr_7395_region.svs',.25)):
        n,(a,b,r),(c,d,q) = orders(path, mpp, PX)
        rows.append((f'windows of an epoch, {name}', n, a, 'row by row', round(b, 2), round(r, 2), '>= 0.8'*(name != 'JPEG')))
        rows.append((f'row by row, {name}', n, c, 'shuffled', round(d, 2), round(q, 2), '>= 1.7'*(name != 'JPEG')))
    return rows

def embedding(path, arch): # -> tiles, seconds of embed_slide, of its slower half, ratio: median over ROUNDS of turns
    with open_slide(path) as slide:
        tiles, net = tile_slide(slide, PX, .5), encoder(arch, 3, size=PX).eval()
        shown = torch.stack([slide.read(xy, PX, .5) for xy in tiles.xy])
        def read():
            for xy in tiles.xy: slide.read(xy, PX, .5)
        def encode():
            with torch.no_grad():
                for x in shown.split(64): net(x.float()/255)
        halves = read, encode
        slower = halves[seconds(encode) > seconds(read)]
        ours,theirs,r = ratio(lambda: embed_slide(net, slide, tiles, bs=64), slower)
    return len(tiles), ours, f'{slower.__name__} alone', theirs, 1/r

def kept_memory(path, n=50): # -> MiB of the process after 5 slides, after n
    seen = []
    def tell(row, k, of):
        if row is not None: seen.append(int(Path('/proc/self/statm').read_text().split()[1])*resource.getpagesize()/2**20)
    with tempfile.TemporaryDirectory() as place:
        (slides := Path(place)/'slides').mkdir()
        for i in range(n): (slides/f's{i:02d}.svs').symlink_to(path)
        embed_slides(encoder('tiny', 3, size=PX), slides, Path(place)/'job', px=PX, mpp=.5, encoder='tiny', tell=tell)
    return seen[-n:][4], seen[-1]

def embed_rows(folder): # -> list of (what, tiles, seconds, beside, its seconds, ratio, wanted)
    path,rows = folder/'cmu_small_region.svs', []
    for arch in ('resnet18','tiny'):
        n,a,beside,b,r = embedding(path, arch)
        rows.append((f'embed_slide, {arch}', n, a, beside, round(b, 2), round(r, 2), '<= 1.1'))
    early,late = kept_memory(path)
    rows.append(('embed_slides, memory after 50 slides', 50*n, '', f'{late:.0f} MiB; after 5 slides {early:.0f} MiB', '', round(late/early, 2), '0.9 to 1.1'))
    return rows

def only(found): # of `order_rows` or `embed_rows`; the other rows of the file stay
    columns = ['what','tiles','seconds','beside','its seconds','ratio','wanted','hardware','commit']
    new = pd.DataFrame([(w, n, a if a == '' else round(a, 2), *rest, f'one of {hardware()}', code_version()) for w,n,a,*rest in found], columns=columns).astype(str)
    old = pd.read_csv(FILE, dtype=str, keep_default_na=False)
    table = pd.concat([old[~old.what.isin(new.what)], new])
    table.to_csv(FILE, index=False)
    print(table.to_string())

def main():
    folder = Path(os.environ['PATHLEARN_DATA'])/'slides'
    cmu,tcga = folder/'cmu_small_region.svs', folder/'tcga_cr_7395_region.svs'
    rows = []
    def row(what, n, ours, other, theirs, got, wanted): rows.append({'what':what, 'tiles':n, 'seconds':round(ours, 2), 'beside':other, 'its seconds':theirs, 'ratio':got, 'wanted':wanted})
    for name,path,mpp in (('JPEG',cmu,.499),('JPEG 2000',tcga,.25)):
        n,a,b,r = plain(path, mpp)
        row(f'read, {name}', n, a, 'bare read_region', round(b, 2), round(r, 2), '>= 0.95')
    n,a,b,r = half(tcga, .25)
    row('half resolution, JPEG 2000', n, a, 'full image, then resized', round(b, 2), round(r, 2), '>= 3.5')
    with tempfile.TemporaryDirectory() as place:
        whole = openslide.OpenSlide(cmu).read_region((0,0), 0, (2220,2967)).convert('RGB')
        with tifffile.TiffWriter(path := Path(place)/'copy.tif') as tif:
            for k in (1,2): tif.write(np.asarray(whole.reduce(k)), tile=(256,256), photometric='rgb', compression='zlib', subfiletype=int(k > 1))
        n,a,b,r = half(path, .499)
        row('half resolution, deflate', n, a, 'full image, then resized', round(b, 2), round(r, 2), '>= 3.5')
    cut = open_slide(cmu).read((1000,1200), 512).permute(1,2,0).numpy()
    for by in (2,4):
        with tempfile.TemporaryDirectory() as place, multiprocessing.get_context('spawn').Pool(1) as pool:
            pyramid(path := Path(place)/'large.tif', cut, by)
            a,mib,n = pool.apply(large, (path,))
        row(f'tissue and grid, {LARGE:,} px a side, levels by {by}', n, a, f'{mib:.0f} MiB above the start', '', '', '<= 2 s, <= 300 MiB')
    table = pd.DataFrame(rows).assign(hardware=f'one of {hardware()}', commit=code_version())
    table.to_csv(FILE, index=False)
    for part in PARTS.values(): only(part(folder))

PARTS = dict(orders=order_rows, embed=embed_rows)

if __name__ == '__main__':
    if os.environ.get('OMP_NUM_THREADS') != '1': sys.exit('expected OMP_NUM_THREADS=1: the rows are of one core')
    if not sys.argv[1:]: main()
    for part in sys.argv[1:]: only(PARTS[part](Path(os.environ['PATHLEARN_DATA'])/'slides'))
