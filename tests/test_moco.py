"MoCo v2 and PCL: losses beside float64 by hand, the queue, shuffled keys, and runs that are killed"
import os
from types import SimpleNamespace
import numpy as np, pytest, torch, torch.nn.functional as F
from fastai.callback.core import Callback
from forking import killed_twice
from pathlearn.moco import *
from pathlearn.clustered import *
from pathlearn.clustered import PCLLoss, PatchFinder, concentration, fingerprint, nearest_centre, plain_keys, proto_nce, spherical_kmeans
from pathlearn.moco import MoCoLoss, MoCoOut

def rows(n, d=6, shift=0.): # -> [n,d] in float64, without a random number
    b,i = np.arange(1,n+1.)[:,None], np.arange(1,d+1.)
    return np.sin(1.3*b*i + i + shift) + .3

def by_numpy(q, k, queue, temp):
    "In the logarithm, with NumPy alone"
    q,k,queue = (v/np.linalg.norm(v, axis=1, keepdims=True) for v in (q,k,queue))
    s = np.concatenate([(q*k).sum(1, keepdims=True), q @ queue.T], 1)/temp
    top = s.max(1, keepdims=True)
    return (np.log(np.exp(s - top).sum(1)) + top[:,0] - s[:,0]).mean()

def by_loops(q, k, queue, temp):
    total = 0.
    for i in range(len(q)):
        own = F.cosine_similarity(q[i], k[i], dim=0)/temp
        total = total + torch.log1p(sum((F.cosine_similarity(q[i], r, dim=0)/temp - own).exp() for r in queue))
    return total/len(q)

@pytest.mark.parametrize('n, length', [(1,1), (5,11), (32,300)])
@pytest.mark.parametrize('temp', [.07, .2, 1.])
def test_the_loss_is_that_of_an_independent_computation(n, length, temp):
    parts = rows(n), rows(n, shift=.4), rows(length, shift=2.)
    q,k,queue = map(torch.from_numpy, parts)
    q.requires_grad_()
    loss = moco_loss(q, k, queue, temp)
    assert loss.dtype == torch.float64 and loss.item() == pytest.approx(by_numpy(*parts, temp), rel=1e-10)
    slow = by_loops(q, k, queue, temp)
    assert loss.item() == pytest.approx(slow.item(), rel=1e-10)
    a,b = (torch.autograd.grad(v, q)[0] for v in (loss,slow))
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
    assert torch.equal(MoCoLoss(SimpleNamespace(queue=queue), temp)(MoCoOut(q, k)), loss)

def test_mixed_precision_changes_nothing():
    q,k,queue = (torch.from_numpy(rows(n)).float() for n in (8,8,30))
    plain = moco_loss(q, k, queue)
    with torch.autocast('cpu', torch.bfloat16): assert torch.equal(moco_loss(q, k, queue), plain)
    assert moco_loss(q.half(), k.half(), queue).dtype == torch.float32

@pytest.mark.parametrize('spoil, words', [
    (lambda q,k,o: (q, k[:3], o), r'found \[4, 6\] and \[3, 6\]'), (lambda q,k,o: (q, k, o[:,:5]), r'found \[9, 5\]'),
    (lambda q,k,o: (q, k, o[:0]), r'found \[0, 6\]'), (lambda q,k,o: (q[0], k[0], o), 'two tables'),
    (lambda q,k,o: (q, k, o, -1), 'found -1'), (lambda q,k,o: (q, k, o, float('nan')), 'found nan')])
def test_what_cannot_be_compared_gets_a_sentence(spoil, words):
    with pytest.raises(ValueError, match=words): moco_loss(*spoil(*(torch.from_numpy(rows(n)) for n in (4,4,9))))

@pytest.mark.parametrize('sizes', [(3,3,3), (1,4,2), (5,), (12,), (7,7), (2,5,9,1)])
def test_the_queue_keeps_the_latest_in_their_order(sizes):
    model,length = MoCo(encoder('tiny'), dim=2, queue=5), 5
    seen = [*model.queue[:,0].tolist()] # the random start, oldest first
    for n in sizes:
        new = torch.arange(len(seen), len(seen)+n).float()
        model.remember(new[:,None].expand(n,2))
        seen += new.tolist()
        assert model.queue[:,0].roll(-model.pointer.item()).tolist() == pytest.approx(seen[-length:])

def test_parts_are_put_back_in_order_and_share_no_statistics():
    x = torch.arange(7.)[:,None].expand(7,3)
    assert torch.equal(in_parts(lambda v: v, x, 3), x)
    norm,seen = torch.nn.BatchNorm1d(3), []
    norm.register_forward_pre_hook(lambda _,xs: seen.append(xs[0]))
    for n,want in ((7,[4,3]), (4,[2,2]), (3,[3]), (2,[2])):
        seen.clear(); in_parts(norm, x[:n])
        assert [len(s) for s in seen] == want
    torch.manual_seed(0)
    assert not torch.equal(in_parts(norm, x), in_parts(norm, x)) # other companions

TISSUE = synthetic_tissue(n=90, size=16).train
def small(make=moco_learner, bs=30, drop_last=True, **kw):
    set_seed(0)
    return make(TISSUE.dls(bs=bs, drop_last=drop_last), 'tiny', **dict(dim=16, lr=.1) | kw)
def fitted(epochs, **kw):
    learn = small(**kw)
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs)
    return learn

class Seen(Callback):
    order = 80
    def before_fit(self): self.rows = []
    def after_batch(self):
        if self.training: self.rows.append(self.pred.z2.clone())

def test_after_training_the_queue_holds_the_last_keys_also_of_a_short_batch():
    n,seen = len(TISSUE), Seen()
    learn = fitted(2, bs=26, drop_last=False, queue=40, cbs=seen)
    assert {len(k) for k in seen.rows} == {26, n%26}
    ordered = learn.model.queue.roll(-learn.model.pointer.item(), 0)
    torch.testing.assert_close(ordered, torch.cat(seen.rows)[-40:])

def test_validation_neither_feeds_the_queue_nor_shuffles():
    learn = small(queue=40)
    before,dice = learn.model.queue.clone(), torch.get_rng_state()
    learn.model.eval()
    learn.model.keys(TISSUE.images[:8])
    assert torch.equal(torch.get_rng_state(), dice)
    learn.dls.valid = learn.dls.train
    with learn.no_bar(): learn.validate(1)
    assert torch.equal(learn.model.queue, before)

def test_sizes_are_checked_before_training():
    n = len(TISSUE)
    with pytest.raises(ValueError, match=f'a queue of {n+1} earlier keys for {n} patches'): small(queue=n+1)
    for bad,words in ((dict(queue=0), 'found 0'), (dict(temp=0), 'temp is positive, found 0'), (dict(m=1), 'found 1'), (dict(parts=0), 'found 0')):
        with pytest.raises(ValueError, match=words): small(**bad)
    assert len(small().model.queue) == n//2 and len(small(queue=n).model.queue) == n

def test_only_the_online_half_learns_and_the_copy_follows():
    learn = small(m=.9)
    first = {n: p.clone() for n,p in learn.model.named_parameters()}
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    for n,p in learn.model.named_parameters():
        if n.startswith('target'): assert p.grad is None and not p.requires_grad
    moved = [n for n,p in learn.model.named_parameters() if not torch.equal(p, first[n])]
    assert any(n.startswith('target') for n in moved) and any(n.startswith('encoder') for n in moved)

@pytest.mark.parametrize('make', [moco_learner, pcl_learner])
def test_predictions_of_more_patches_than_the_queue_holds(make):
    "One row for each patch; the queue is no prediction"
    set_seed(0)
    learn = make(TISSUE.dls(TISSUE[:50], bs=30), 'tiny', dim=16, queue=7, lr=.1)
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    was = learn.model.queue.clone()
    out,_ = learn.get_preds()
    assert {n: list(z.shape) for n,z in out._asdict().items()} == dict(z1=[50,16], z2=[50,16])
    assert torch.equal(learn.model.queue, was)

def unit(a): return a/np.linalg.norm(a, axis=1, keepdims=True)

@pytest.mark.parametrize('n, ks', [(1,(2,)), (9,(3,5)), (40,(4,8,16))])
def test_proto_nce_is_that_of_an_independent_computation(n, ks):
    q,cs = unit(rows(n)), [unit(rows(k, shift=k)) for k in ks]
    phis,own = [.1 + .05*np.arange(k) for k in ks], np.stack([(7*np.arange(n)) % k for k in ks])
    want = 0.
    for c,p,o in zip(cs, phis, own):
        s = q @ c.T/p
        top = s.max(1, keepdims=True)
        want += (np.log(np.exp(s - top).sum(1)) + top[:,0] - s[np.arange(n),o]).mean()/len(ks)
    v,c,p = torch.from_numpy(q).requires_grad_(), [*map(torch.from_numpy, cs)], [*map(torch.from_numpy, phis)]
    loss = proto_nce(v, c, p, torch.from_numpy(own))
    assert loss.dtype == torch.float64 and loss.item() == pytest.approx(want, rel=1e-10)
    slow = sum(-(v[i] @ a[o[i]]/t[o[i]]) + sum((v[i] @ a[j]/t[j]).exp() for j in range(len(a))).log()
               for a,t,o in zip(c, p, own) for i in range(n))/n/len(ks)
    torch.testing.assert_close(*(torch.autograd.grad(l, v)[0] for l in (loss,slow)), rtol=1e-10, atol=1e-10)
    queue = torch.from_numpy(rows(20, shift=2.))
    model = SimpleNamespace(queue=queue, split=lambda: (c, p), clusters=lambda: torch.from_numpy(own))
    assert PCLLoss(model)(MoCoOut(v, v)).item() == pytest.approx(want + by_numpy(q, q, queue.numpy(), .2), rel=1e-10)

def test_phi_is_that_of_an_independent_computation():
    own = np.array([0]*12 + [1]*5 + [2] + [3]*7 + [4]*3 + [5])
    distance = np.abs(np.sin(np.arange(len(own))+1.)) + .1
    phi = np.array([distance[own==c].mean()/np.log((own==c).sum()+10) if (own==c).sum() > 1 else 0 for c in range(6)])
    phi[[2,5]] = phi.max()
    phi = phi.clip(np.percentile(phi, 10), np.percentile(phi, 90))
    got = concentration(torch.from_numpy(distance), torch.from_numpy(own), 6, .3)
    np.testing.assert_allclose(got.numpy(), .3*phi/phi.mean(), rtol=1e-10)
    assert got.mean().item() == pytest.approx(.3)

def test_kmeans_finds_what_is_there_and_leaves_no_cluster_empty():
    torch.manual_seed(0)
    centres = F.normalize(torch.randn(6, 16), dim=1)
    truth = torch.arange(6).repeat_interleave(30)
    x = centres[truth] + .05*torch.randn(180, 16)
    assert max(len(set(zip(truth.tolist(), spherical_kmeans(x, 6, seed=s)[1].tolist()))) == 6 for s in range(8))
    c,own = spherical_kmeans(x, 60)
    torch.testing.assert_close(c.norm(dim=1), torch.ones(60))
    assert torch.equal(own, (F.normalize(x, dim=1) @ c.T).argmax(1))
    for a,b in zip(spherical_kmeans(x, 9, seed=3), spherical_kmeans(x, 9, seed=3)): assert torch.equal(a, b)
    with pytest.raises(ValueError, match='181 prototypes for 180 patches'): spherical_kmeans(x, 181)

def test_blocks_change_no_cluster():
    torch.manual_seed(0)
    x,c = (F.normalize(torch.randn(n, 8).double(), dim=1) for n in (101,7))
    for mib in (1e-6,1e-3,1): assert torch.equal(nearest_centre(x, c, mib)[1], (x @ c.T).argmax(1))

def loaders():
    "The package's, one with labels, torch's own, and one that leaves out images"
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    images = TISSUE.images
    class Alone(torch.utils.data.Dataset):
        def __len__(self): return len(images)
        def __getitem__(self, i): return (images[i],)
    torchs = torch.utils.data.DataLoader(Alone(), batch_size=30, shuffle=True, drop_last=True)
    yield TISSUE.dls(bs=30)
    yield DataLoaders(DataLoader(Alone(), bs=30, shuffle=True, drop_last=True), DataLoader(Alone(), bs=30))
    yield DataLoaders(DataLoader(Alone(), bs=30, shuffle=True, num_workers=2), DataLoader(Alone(), bs=30))
    yield DataLoaders(torchs, torchs)

@pytest.mark.parametrize('which', range(4))
def test_any_loader_serves_and_each_row_is_known(which):
    dls,seen = [*loaders()][which], []
    class Look(Callback):
        order = 4.5 # after the rows are known, before views are drawn
        def before_batch(self):
            if self.training and self.model.brought is not None: seen.append((self.xb[0].clone(), self.model.brought.clone()))
    set_seed(0)
    learn = pcl_learner(dls, 'tiny', dim=16, lr=.1, alone=.5, cbs=Look())
    with learn.no_bar(), learn.no_logging(): learn.fit(2)
    assert len(seen) == len(dls.train)
    for x,at in seen: assert torch.equal(TISSUE.images[at], x)
    assert ['proto' in h for h in learn.loss_parts.history] == [False,True] and learn.model.brought is None

def test_loaders_that_cannot_serve_get_a_sentence():
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self): return ((x,) for x in TISSUE.images)
    stream = DataLoaders(DataLoader(Stream(), bs=30), DataLoader(Stream(), bs=30))
    with pytest.raises(ValueError, match='found a stream without'): pcl_learner(stream, 'tiny')
    assert len(moco_learner(stream, 'tiny', dim=4).model.queue) == 4096
    noise = TISSUE.dls(bs=30, after_batch=lambda b: (b[0] ^ torch.randint(2, b[0].shape, dtype=torch.uint8), *b[1:]))
    learn = pcl_learner(noise, 'tiny', dim=16, alone=0)
    with learn.no_bar(), learn.no_logging(), pytest.raises(ValueError, match='take random transforms out'): learn.fit(1)

def test_more_prototypes_than_patches_get_a_sentence():
    n = len(TISSUE)
    for bad,words in ((dict(ks=(4,n+1)), f'{n+1} prototypes for {n} patches'), (dict(ks=(1,)), 'found 1'), (dict(alone=-.1), 'found -0.1')):
        with pytest.raises(ValueError, match=words): small(pcl_learner, **bad)
    assert small(pcl_learner).model.ks == (n//20, n//10, n//5)

def test_clusters_are_those_of_the_slow_copy_on_plain_images():
    learn = small(pcl_learner, alone=0)
    model = learn.model
    z,prints = plain_keys(model, learn.dls.train)
    assert model.training and torch.equal(prints, fingerprint(TISSUE.images))
    model.eval()
    torch.testing.assert_close(z, model.keys(TISSUE.images))
    model.cluster(z, seed=0)
    for k,c,phi,own in zip(model.ks, *model.split(), model.assigned):
        want,mine = spherical_kmeans(z, k, seed=0)
        assert torch.equal(c, want) and torch.equal(own, mine) and phi.mean().item() == pytest.approx(.2, rel=1e-5)

def test_one_changed_bit_is_another_fingerprint():
    x = TISSUE.images[:1].repeat(8*16, 1, 1, 1)
    for i in range(len(x)): x[i,i%3,i//8,(5*i)%16] ^= 1 << i%8
    assert len(fingerprint(x).unique()) == len(x.unique(dim=0))
    assert torch.equal(PatchFinder(fingerprint(TISSUE.images))(TISSUE.images[5:9]), torch.arange(5,9))

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
@pytest.mark.parametrize('method, module', [('moco','moco'), ('pcl','clustered')])
def test_a_killed_command_goes_on_to_the_same_bits_and_embeds(tmp_path, method, module):
    r = killed_twice(method, module, '--queue 40', (3,15), tmp_path) # PCL clusters from the fifth epoch on
    assert r['shapes']['queue'] == [40,128] and r['shapes']['pointer'] == []
    if method == 'pcl': assert r['shapes']['prototypes'] == [3+6+12,128] and r['shapes']['assigned'] == [3,64] and r['clustered'], r
