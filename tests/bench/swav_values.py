"""What lightly says of the same scores, for tests/test_swav.py: prints the table of numbers that stands there.

lightly (MIT) is no requirement of pathlearn. In a virtual environment of its own, beside torch:
    pip install --no-deps lightly lightly_utils && python tests/bench/swav_values.py"""
import torch

CASES = [(8,5), (32,30), (16,48)] # views in the batch N, prototypes K

def cosines(n, k, d=6): # -> three [N,K] in float64, without a random number: two views, and a queue for the first
    b, i = torch.arange(1,n+1).double()[:,None], torch.arange(1,d+1).double()
    unit = lambda x: x/x.norm(dim=1, keepdim=True)
    c = unit(torch.cos(2.3*torch.arange(1,k+1).double()[:,None]*i + i*i))
    z1 = torch.sin(1.3*b*i + i) + .8
    return [unit(z) @ c.T for z in (z1, z1 + .4*torch.cos(.7*b + 2.1*i*i), torch.sin(.9*b*i) + .8)]

def figures(codes, loss): # -> three numbers
    w = torch.arange(1,codes.numel()+1).double().sin().view_as(codes) # a sum that sees each entry
    return [(codes*w).sum().item(), codes.square().sum().item(), loss.item()]

if __name__ == '__main__':
    import lightly
    from lightly.loss import SwaVLoss
    from lightly.loss.swav_loss import sinkhorn
    print(f'# lightly {lightly.__version__}: (N, K) -> weighted sum and sum of squares of the codes at eps .05, the loss; the same with a queue; the loss with two small crops')
    for n,k in CASES:
        s1,s2,older = cosines(n, k)
        plain = figures(sinkhorn(s1), SwaVLoss()([s1,s2], []))
        queued = figures(sinkhorn(torch.cat([s1,older]))[:n], SwaVLoss()([s1,s2], [], [older,older.flip(0)]))
        crops = SwaVLoss()([s1,s2], [older,s2.flip(0)]).item()
        print(f"    ({n},{k}): ({', '.join(f'{v:.12g}' for v in [*plain,*queued,crops])}),")
