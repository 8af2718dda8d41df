"""Does a folder of ten times as many files start in ten times the time? python tests/bench/many_files.py

Writes 3,000 and 30,000 patches of 32 px in nine classes (only the first thousand differ, the rest are hard links), and starts each in fresh
processes, interleaved: `folder_dls` up to its first batch, `folder_data` altogether. Prints the median time a file and the memory that the start added."""
import os, statistics, subprocess, sys, tempfile, time
from pathlib import Path
import numpy as np
from PIL import Image

COUNTS, DISTINCT, SIZE, ROUNDS = (3000, 30000), 1000, 32, 3

def write_folder(root, n):
    rng = np.random.default_rng(0)
    for i in range(n):
        file = root/f'class{i%9}'/f'{i:05}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        if i < DISTINCT: Image.fromarray(rng.integers(0, 256, (SIZE,SIZE,3), dtype=np.uint8)).save(file)
        else: os.link(root/f'class{(i%DISTINCT)%9}'/f'{i%DISTINCT:05}.png', file)

def start(what, root):
    "Prints seconds, MiB that were added at the peak"
    import resource
    from pathlearn.data import folder_data, folder_dls
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024
    warm = Path(root).parent/'warm'
    folder_dls(warm, SIZE, bs=8, workers=0, device='cpu').one_batch(); folder_data(warm)
    before, begin = peak(), time.perf_counter()
    if what == 'folder_dls': folder_dls(root, SIZE, bs=64, workers=0, device='cpu').one_batch()
    else: folder_data(root)
    print(time.perf_counter()-begin, peak()-before)

def main():
    with tempfile.TemporaryDirectory() as tmp:
        write_folder(Path(tmp)/'warm', 64)
        for n in COUNTS: write_folder(Path(tmp)/str(n), n)
        print(f'{"":12} {"files":>6} {"us a file":>9} {"MiB more":>9} {"as bytes MiB":>13}')
        for what in ('folder_dls','folder_data'):
            runs = {n: [] for n in COUNTS}
            for _ in range(ROUNDS):
                for n in COUNTS:
                    out = subprocess.run([sys.executable, __file__, what, f'{tmp}/{n}'], capture_output=True, text=True, check=True).stdout
                    runs[n].append([*map(float, out.split())])
            each = {}
            for n in COUNTS:
                seconds,mib = (statistics.median(o) for o in zip(*runs[n]))
                each[n] = seconds/n*1e6
                print(f'{what:12} {n:6} {each[n]:9.0f} {mib:9.0f} {n*3*SIZE*SIZE/2**20:13.1f}')
            print(f'{what}: {each[COUNTS[1]]/each[COUNTS[0]]:.2f} x the time a file (at most 1.5)')

if __name__ == '__main__': start(*sys.argv[1:]) if len(sys.argv) > 1 else main()
