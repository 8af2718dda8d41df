"""Dense contrastive loss, forward and backward, against the patch-by-patch loop of CDCL eq. 7-12 with checkpointing.

8 images of 320 px: 40 x 40 features of width 128 a view, student and teacher, and a bank with one batch before.
Times are interleaved medians in one process, memory is the peak of a process of its own:
python tests/bench/bench_crosspatch.py [--share .024] [--rounds 5] [--chunks]"""
import argparse, re, statistics, subprocess, sys, time
from pathlib import Path
import torch, torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from pathlearn.crosspatch import FeatureBank, dense_contrastive_loss, foreground_score, patch_features

GRID, TEMP = 8, .1

def view(share, rng, b, side=320, stride=8, dim=128):
    "Projections and pseudo labels: of the 8 x 8 patches `share` foreground, 15 % mixed, the rest background"
    kind = torch.rand(b, GRID, GRID, generator=rng)
    fs = torch.where(kind < share, .85, torch.where(kind < share+.15, .5, .1))
    coarse = torch.rand(b, side//stride, side//stride, generator=rng) < F.interpolate(fs[:,None], side//stride)[:,0]
    labels = coarse.long().repeat_interleave(stride, 1).repeat_interleave(stride, 2)
    return torch.randn(b, dim, side//stride, side//stride, generator=rng), labels

def setting(share, b=8):
    "Views of student and teacher, the bank after the batch before, and the same batch cut into patches"
    rng = torch.Generator().manual_seed(0)
    student, teacher, *before = [view(share, rng, b) for _ in range(4)]
    bank = FeatureBank()
    bank.push(*[patch_features(*f) for f in before])
    return student, teacher, bank, [cut(*f) for f in before]

def fast(student, teacher, bank, _, chunk=256):
    return dense_contrastive_loss(patch_features(*student), patch_features(*teacher), bank, TEMP, chunk=chunk).loss

def patches(maps):
    "[B,D,40,40] -> [B*64,25,D]"
    b,d,h,w = maps.shape
    return maps.view(b,d,GRID,h//GRID,GRID,w//GRID).permute(0,2,4,3,5,1).reshape(b*GRID*GRID, -1, d)

def cut(z, y):
    "Patches of features [P,25,D], of labels [P,25], and their foreground scores [P]"
    return patches(F.normalize(z, dim=1)), patches(y[:,None,4::8,4::8])[...,0], foreground_score(y, GRID).flatten()

def l_patch(q, k_pos, y_q, fb, y_fb):
    "Eq. 7 to 10 for one patch"
    s_pos = ((q*k_pos).sum(1)/TEMP).exp()
    mask = (y_q[:,None] != y_fb).float()
    return -(s_pos/(s_pos + (mask*(q @ fb.T/TEMP).exp()).sum(1))).log().mean()

def loop(student, teacher, _, before):
    "Eq. 11 and 12: a loop over the dominated patches, each against the whole opposite bank, checkpointed"
    views = [cut(*student), cut(*teacher), *before]
    def bank(pick): return [torch.cat([view[i][pick(view[2])].flatten(0,1) for view in views]) for i in (0,1)]
    opposite = {True: bank(lambda fs: fs <= .3), False: bank(lambda fs: fs >= .7)}
    (z,y,score),k_pos = views[0], views[1][0]
    total,n = 0., 0
    for i,fs in enumerate(score.tolist()):
        if .3 < fs < .7: continue
        l = checkpoint(l_patch, z[i], k_pos[i], y[i], *opposite[fs >= .7], use_reentrant=False)
        total,n = total + l, n+1
    return total/n

def run(f, data):
    "Seconds of forward and backward, the loss and the gradient of the student's projections"
    z = data[0][0].clone().requires_grad_()
    start = time.perf_counter()
    loss = f((z,data[0][1]), *data[1:])
    loss.backward()
    return time.perf_counter()-start, loss.item(), z.grad

def peak(): # MiB on Linux; ru_maxrss would start from the peak of the process that started this one
    return int(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1])/1024

def alone(name, share, chunk=256):
    "MiB above the data, and seconds, in a fresh process"
    command = [sys.executable, __file__, '--alone', name, '--share', str(share), '--chunk', str(chunk)]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [float(v) for v in out.stdout.split()]

if __name__ == '__main__':
    arg = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arg.add_argument('--share', type=float, default=.024,
                     help='of foreground patches; the default is that of the 664 DSB images, .4 is the most work')
    arg.add_argument('--rounds', type=int, default=5)
    arg.add_argument('--chunks', action='store_true', help='only: time and memory of the fast loss by chunk size')
    arg.add_argument('--chunk', type=int, default=256, help=argparse.SUPPRESS)
    arg.add_argument('--alone', help=argparse.SUPPRESS)
    a = arg.parse_args()
    fs = dict(fast=lambda *data: fast(*data, chunk=a.chunk), loop=loop)
    data = setting(a.share)
    if a.alone:
        run(fs[a.alone], setting(a.share, b=1)) # what torch loads at first use is no memory of the loss
        before = peak()
        seconds = run(fs[a.alone], data)[0]
        sys.exit(print(peak()-before, seconds))
    if a.chunks:
        for chunk in (16,64,256,1024,4096): print(chunk, *alone('fast', a.share, chunk), flush=True)
        sys.exit()
    times = {name: [] for name in fs}
    for _ in range(a.rounds):
        done = {name: run(f, data) for name,f in fs.items()}
        for name,(seconds,*_) in done.items(): times[name].append(seconds)
    (_,v1,g1),(_,v2,g2) = done.values()
    assert abs(v1-v2) < 1e-5*abs(v2) and (g1-g2).abs().max() < 1e-5, (v1, v2, (g1-g2).abs().max())
    t,mem = {n: statistics.median(v) for n,v in times.items()}, {n: alone(n, a.share)[0] for n in fs}
    print(f'{torch.get_num_threads()} threads, torch {torch.__version__}, {a.share:.1%} of the patches foreground')
    print(f"time, loop / fast {t['loop']/t['fast']:6.1f} x ({t['loop']:.2f} s / {t['fast']:.2f} s)  must reach >= 6 x")
    print(f"memory above data {mem['fast']:6.0f} MiB, loop {mem['loop']:.0f} MiB   must reach: no more")
