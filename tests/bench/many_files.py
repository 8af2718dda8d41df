"How long a folder takes to start, by the number of its files, and how much memory: 3,000 files and 30,000"
import argparse, subprocess, sys, tempfile
from pathlib import Path
import numpy as np
from PIL import Image

CHILD = '''
import resource, sys, time
from pathlearn.data import folder_data, folder_dls
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024
way, path = sys.argv[1:]
before, began = peak(), time.perf_counter()
if way == 'stream': folder_dls(path, 32, bs=64, workers=0).one_batch()
else: folder_data(path)
print(time.perf_counter() - began, peak() - before)
'''

def make(folder, n, classes=3): # small grey noise: what is measured is the folder
    rng = np.random.default_rng(0)
    for c in range(classes): (folder/f'class{c}').mkdir(parents=True)
    for i in range(n):
        Image.fromarray(rng.integers(0, 256, (32,32,3), dtype=np.uint8)).save(folder/f'class{i%classes}'/f'p{i:06d}.png', compress_level=0)

def measure(way, path): # -> seconds, MB
    return [*map(float, subprocess.run([sys.executable, '-c', CHILD, way, path], capture_output=True, text=True, check=True).stdout.split())]

if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--n', type=int, nargs='+', default=[3000,30000])
    p.add_argument('--rounds', type=int, default=3)
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as top:
        for n in args.n: make(Path(top)/str(n), n)
        for way in ('stream','memory'):
            per_file = {}
            for n in args.n:
                runs = [measure(way, Path(top)/str(n)) for _ in range(args.rounds)]
                seconds, mb = np.median(runs, 0)
                per_file[n] = seconds/n
                print(f'{way}: {n} files start in {seconds:.2f} s, {1e6*seconds/n:.0f} us a file, {mb:.0f} MB more')
            print(f'{way}: time per file of {max(per_file)} against {min(per_file)}: {per_file[max(per_file)]/per_file[min(per_file)]:.2f}')
