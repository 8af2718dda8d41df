"""Two standard views of a batch against the same recipe image by image: python tests/bench/bench_views.py

The rival is what most training scripts do: PIL images, torchvision's transforms, a DataLoader with two workers.
Rounds of both are interleaved and medians compared, so that whatever else the machine does hits both alike.
Wall times mean little on a busy machine (torch's threads wait for one another): compare the CPU times there."""
import os, statistics, time
os.environ.setdefault('OMP_WAIT_POLICY', 'passive') # or a busy neighbour leaves torch's threads spinning
import torch
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision import transforms as T
from pathlearn.views import standard_view

SIZE, N, BS, ROUNDS = 64, 512, 256, 7

def gaussian(sigma):
    "PIL's blur with a width drawn from `sigma`, as in SimSiam's and CluSiam's code"
    return T.Lambda(lambda im: im.filter(ImageFilter.GaussianBlur(float(torch.empty(1).uniform_(*sigma)))))

RECIPE = T.Compose([T.RandomResizedCrop(SIZE, scale=(.2, 1.)), T.RandomApply([T.ColorJitter(.4, .4, .4, .1)], p=.8),
                    T.RandomGrayscale(p=.2), T.RandomApply([gaussian((.1, 2.))], p=.5), T.RandomHorizontalFlip(), T.ToTensor()])

class TwoViews(Dataset):
    "Two views of each image, made when it is asked for"
    def __init__(self, images): self.images = [Image.fromarray(im.permute(1, 2, 0).numpy()) for im in images]
    def __len__(self): return len(self.images)
    def __getitem__(self, i): return RECIPE(self.images[i]), RECIPE(self.images[i])

def seconds(f):
    "Wall time, and CPU time of this process and its threads"
    wall, cpu = time.perf_counter(), time.process_time()
    f()
    return time.perf_counter()-wall, time.process_time()-cpu

def main():
    torch.set_num_threads(2)
    images = torch.nn.functional.interpolate(torch.rand(N, 3, 12, 12), SIZE, mode='bicubic').clamp(0, 1).mul(255).to(torch.uint8)
    pairs = TwoViews(images)
    loader = DataLoader(pairs, batch_size=BS, num_workers=2, persistent_workers=True,
                        multiprocessing_context='fork', worker_init_fn=lambda _: torch.set_num_threads(1))
    def pil():
        for _ in loader: pass
    def pil_here(): default_collate([pairs[i] for i in range(N)]) # what the workers compute, without sending it over
    def ours(**kwargs):
        view = standard_view(SIZE, **kwargs)
        def run():
            for xb in images.split(BS): view(xb), view(xb)
        return run
    rows = {'PIL, two workers': pil, 'PIL, this process': pil_here, 'standard_view': ours(), 'blur_at=None': ours(blur_at=None),
            'exact=True': ours(exact=True), 'exact=True, blur_at=None': ours(exact=True, blur_at=None)}
    for f in rows.values(): f()
    times = {k: [] for k in rows}
    for _ in range(ROUNDS):
        for k, f in rows.items(): times[k].append(seconds(f))
    wall, cpu = [{k: statistics.median(t[i] for t in ts) for k, ts in times.items()} for i in (0, 1)]
    print(f'two views of {SIZE} px, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}')
    print(f'{"":26}{"images/s":>10}{"ratio":>8}  must reach{"CPU us/view":>14}{"ratio":>8}')
    for k, must in zip(rows, ('', '', 6, '', 2, '')):
        print(f'{k:26}{N/wall[k]:10.0f}{wall["PIL, two workers"]/wall[k]:8.1f}  {must:10}', end='')
        print('' if k == 'PIL, two workers' else f'{cpu[k]/N/2*1e6:14.1f}{cpu["PIL, this process"]/cpu[k]:8.1f}')

if __name__ == '__main__': main()
