"""Two standard views of a batch against the same recipe image by image: python tests/bench/bench_views.py

The rival is what most training scripts do: PIL images, torchvision's transforms, a DataLoader with two workers.
Rounds of both are interleaved and medians compared, so that whatever else the machine does hits both alike."""
import statistics, time
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T
from pathlearn.views import standard_view

SIZE, N, BS, ROUNDS = 64, 1024, 256, 9

def gaussian(sigma):
    "PIL's blur with a width drawn from `sigma`, as in SimSiam's and CluSiam's code"
    from PIL import ImageFilter
    return T.Lambda(lambda im: im.filter(ImageFilter.GaussianBlur(float(torch.empty(1).uniform_(*sigma)))))

RECIPE = T.Compose([T.RandomResizedCrop(SIZE, scale=(.2, 1.)), T.RandomApply([T.ColorJitter(.4, .4, .4, .1)], p=.8),
                    T.RandomGrayscale(p=.2), T.RandomApply([gaussian((.1, 2.))], p=.5), T.RandomHorizontalFlip(), T.ToTensor()])

class TwoViews(Dataset):
    "Two views of each image, made when it is asked for"
    def __init__(self, images): self.images = [Image.fromarray(im.permute(1, 2, 0).numpy()) for im in images]
    def __len__(self): return len(self.images)
    def __getitem__(self, i): return RECIPE(self.images[i]), RECIPE(self.images[i])

def seconds(f):
    start = time.perf_counter(); f(); return time.perf_counter()-start

def main():
    torch.set_num_threads(2)
    images = torch.nn.functional.interpolate(torch.rand(N, 3, 12, 12), SIZE, mode='bicubic').clamp(0, 1).mul(255).to(torch.uint8)
    loader = DataLoader(TwoViews(images), batch_size=BS, num_workers=2, persistent_workers=True,
                        multiprocessing_context='fork', worker_init_fn=lambda _: torch.set_num_threads(1))
    def pil():
        for first, second in loader: pass
    def ours(view):
        def run():
            for xb in images.split(BS): view(xb), view(xb)
        return run
    rows = {'PIL, two workers': pil, 'standard_view': ours(standard_view(SIZE)),
            'standard_view, blur_at=None': ours(standard_view(SIZE, blur_at=None)),
            'standard_view, exact=True': ours(standard_view(SIZE, exact=True)),
            'standard_view, exact=True, blur_at=None': ours(standard_view(SIZE, exact=True, blur_at=None))}
    for f in rows.values(): f()
    times = {k: [] for k in rows}
    for _ in range(ROUNDS):
        for k, f in rows.items(): times[k].append(seconds(f))
    base = statistics.median(times['PIL, two workers'])
    print(f'{"two views of %d px" % SIZE:42}{"images/s":>10}{"us/view":>9}{"ratio":>8}  must reach')
    for (k, t), must in zip(times.items(), ('', '6', '6', '2', '2')):
        m = statistics.median(t)
        print(f'{k:42}{N/m:10.0f}{m/N/2*1e6:9.1f}{base/m:8.1f}  {must}')

if __name__ == '__main__': main()
