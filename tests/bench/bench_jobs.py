"""What a job folder costs: a call on 400 slides that are done already.

OMP_NUM_THREADS=1 python tests/bench/bench_jobs.py
Seconds are the processor's, so that others on the machine count little, and beside them those of the clock. Medians of ROUNDS."""
import statistics, sys, tempfile, time
from pathlib import Path
import h5py, numpy as np
from pathlearn.commands.runs import code_version, hardware
from pathlearn.slides import embed_slides, tile_slides
from pathlearn.slides import jobs
from pathlearn.slides.records import Task, attempt

ROUNDS, N = 5, 400
TILING = dict(px=224, mpp=.5, overlap=0, min_tissue=.25, slide_mpp=.25)
KNOWN = dict(encoder='none', sha256='0')

def timed(work): # -> median processor's seconds, median of the clock
    found = []
    for _ in range(ROUNDS):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        found.append((time.process_time()-cpu, time.perf_counter()-wall))
    return [statistics.median(c) for c in zip(*found)]

def job(root): # 400 slides with 2,000 tiles of 512 features each, done
    xy, x = np.zeros((2000,2), np.int64), np.zeros((2000,512), np.float16)
    (root/'slides').mkdir()
    for part in ('tiles','features_none'): (root/'job'/part).mkdir(parents=True)
    for i in range(N):
        file = root/'slides'/f'slide_{i:03}.png'
        file.touch()
        task = Task(str(file), file.stem, str(root/'job'), TILING, KNOWN)
        for stage in task.stages:
            with attempt(task, stage) as facts, h5py.File(task.file(stage), 'w') as f:
                f['coords'] = xy
                if stage != 'tiles': f['features'] = x
                facts['n'] = len(xy)
    return root/'slides', root/'job'

def main():
    print(f"{hardware('cpu')}, code {code_version()}; medians of {ROUNDS} rounds: seconds of the processor, of the clock")
    with tempfile.TemporaryDirectory() as d:
        slides, out = job(Path(d))
        jobs._encoder = lambda *_: (None, KNOWN) # no network is needed to find that nothing is to do
        def opened(*_): sys.exit('a slide was opened')
        jobs.open_slide = opened
        for name,work in {f'tile_slides, {N} done': lambda: tile_slides(slides, out, **TILING), f'embed_slides, {N} done': lambda: embed_slides(None, slides, out, **TILING),
                          f'embed_slides on the job folder, {N} done': lambda: embed_slides(None, out, out), 'job_report': lambda: jobs.job_report(out)}.items():
            print(f"{name}: {timed(work)[0]:.2f} {timed(work)[1]:.2f}", flush=True)

if __name__ == '__main__': main()
