"""What lightly says of the same projections, for tests/test_decorrelated.py: prints the table of numbers that stands there.

lightly (MIT) is no requirement of pathlearn. In a virtual environment of its own, beside torch:
    pip install --no-deps lightly lightly_utils && python tests/bench/lightly_values.py"""
import torch

CASES = [(8,6), (32,48), (64,16)] # images in the batch N, width D of the projections

def projections(n, d): # -> two [N,D] in float64, without a random number
    b, i = torch.arange(n).double()[:,None], torch.arange(d).double()
    z1 = .9*torch.sin(1.3*b*(i+1) + i)
    return z1, z1 + .4*torch.cos(.7*b + 2.1*i*i)

if __name__ == '__main__':
    import lightly
    from lightly.loss import BarlowTwinsLoss, VICRegLoss
    print(f'# lightly {lightly.__version__}: (N, D) -> Barlow Twins at lambda .0051 and .5, VICReg at 25, 25, 1 and at 10, 5, 3')
    for n,d in CASES:
        z = projections(n, d)
        losses = BarlowTwinsLoss(.0051), BarlowTwinsLoss(.5), VICRegLoss(), VICRegLoss(10., 5., 3.)
        print(f"    ({n},{d}): ({', '.join(f'{f(*z).item():.12g}' for f in losses)}),")
