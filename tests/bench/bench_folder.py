"""Does streaming a folder keep memory flat? python tests/bench/bench_folder.py

Writes 500 and 5,000 photographs of 224 px, streams one epoch of each in a fresh process with two workers, and follows
the memory of that process and its workers (proportional set size, so that shared pages count once)."""
import os, subprocess, sys, tempfile, threading, time
from pathlib import Path
import numpy as np
from PIL import Image, ImageFilter

COUNTS, DISTINCT, SIZE, BS, WORKERS = (500, 5000), 100, 64, 64, 2

def write_folder(root, n):
    "`n` jpeg files in two classes; only the first hundred differ, the rest are hard links to them"
    rng = np.random.default_rng(0)
    for i in range(n):
        file = root/'ab'[i%2]/f'{i:05}.jpg'
        file.parent.mkdir(parents=True, exist_ok=True)
        if i < DISTINCT:
            noise = Image.fromarray(rng.integers(0, 256, (224,224,3), dtype=np.uint8))
            noise.filter(ImageFilter.GaussianBlur(2)).save(file, quality=90)
        else: os.link(root/'ab'[i%2]/f'{i%DISTINCT:05}.jpg', file)

def stream(root):
    "One epoch; prints images, seconds, peak MiB of all processes"
    import psutil
    from pathlearn.data import folder_dls
    me, peak, done = psutil.Process(), [0], threading.Event()
    def pss(p):
        try: return p.memory_full_info().pss
        except psutil.Error: return 0
    def follow():
        while not done.wait(.1): peak[0] = max(peak[0], sum(map(pss, [me, *me.children(recursive=True)])))
    dls = folder_dls(root, size=SIZE, bs=BS, workers=WORKERS, device='cpu')
    threading.Thread(target=follow).start()
    start = time.perf_counter()
    n = sum(len(x) for x,_ in dls.train)
    seconds = time.perf_counter() - start
    done.set()
    print(n, seconds, peak[0]/2**20)

def main():
    print(f'{"files":>6} {"images/s":>9} {"peak MiB":>9} {"as bytes MiB":>13}')
    peaks = []
    for n in COUNTS:
        with tempfile.TemporaryDirectory() as tmp:
            write_folder(Path(tmp), n)
            out = subprocess.run([sys.executable, __file__, tmp], capture_output=True, text=True, check=True).stdout
        count, seconds, peak = map(float, out.split())
        peaks.append(peak)
        print(f'{n:6} {count/seconds:9.0f} {peak:9.0f} {n*3*SIZE*SIZE/2**20:13.1f}')
    print(f'memory at {COUNTS[1]:,} files is {peaks[1]/peaks[0]:.2f} x that at {COUNTS[0]:,}: must not grow')

if __name__ == '__main__': stream(sys.argv[1]) if len(sys.argv) > 1 else main()
