"Multiple-instance learning: models beside loops, properties, files, splits, training that learns and that does not, scores"
import pickle, sys, warnings
import h5py, numpy as np, pandas as pd, pytest, torch
from sklearn.metrics import roc_auc_score
from pathlearn.mil import *
from pathlearn.mil.training import AttentionWatch

F = 16
def features(n, seed=0, f=F): return torch.randn(n, f, generator=torch.Generator().manual_seed(seed))
def made(name, n_out=1, **kw):
    torch.manual_seed(0)
    model = MIL_MODELS[name](F, n_out, **kw).double().eval()
    model.norm.mean.copy_(features(1, 5)[0]); model.norm.std.copy_(features(1, 6)[0].abs() + .5)
    return model
each = pytest.mark.parametrize('name', ['max','dsmil','abmil'])

# --- models

def linear(layer, h): return [sum(w*v for w,v in zip(row,h)) + b for row,b in zip(layer.weight.tolist(), layer.bias.tolist())]
def softmax(s):
    e = np.exp(np.array(s) - max(s))
    return e/e.sum()

@pytest.mark.parametrize('n, c', [(1,1), (7,1), (5,3)])
def test_dsmil_is_that_of_loops_without_torch(n, c):
    model,x = made('dsmil', c), features(n, 1).double()
    out = model(x[None])
    h = ((x - model.norm.mean)/model.norm.std).tolist()
    scores = [linear(model.instance, hi) for hi in h]
    q = [np.tanh(linear(model.query[2], np.maximum(linear(model.query[0], hi), 0))) for hi in h]
    slides = []
    for k in range(c):
        m = max(range(n), key=lambda i: scores[i][k])
        u = softmax([float(q[i] @ q[m])/128**.5 for i in range(n)])
        np.testing.assert_allclose(out.attention[0,:,k].detach(), u, rtol=1e-9)
        slides.append(sum(ui*np.array(hi) for ui,hi in zip(u,h)))
    top = model.top.detach().numpy()
    bag = [sum(float(top[o,k] @ slides[k]) for k in range(c)) + model.bias[o].item() for o in range(c)]
    np.testing.assert_allclose(out.bag[0].detach(), bag, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(out.instances[0].detach(), scores, rtol=1e-8, atol=1e-10)

@each
@pytest.mark.parametrize('c', [1,3])
def test_the_order_of_the_patches_does_not_matter(name, c):
    model,x = made(name, c), features(50, 2).double()[None]
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    a,b = model(x),model(x[:,order])
    torch.testing.assert_close(a.bag, b.bag)
    torch.testing.assert_close(a.attention[:,order], b.attention)

@each
def test_one_patch_is_the_slide(name):
    model,x = made(name, 2), features(1, 3).double()[None]
    out = model(x)
    assert out.bag.shape == (1,2) and out.instances.shape == out.attention.shape == (1,1,2)
    torch.testing.assert_close(out.attention, torch.ones_like(out.attention))
    if name != 'dsmil': torch.testing.assert_close(out.bag, out.instances[:,0])

def test_a_duplicate_of_the_critical_patch():
    "It gets the weight of the original, in the maximum nothing changes"
    x = features(30, 4).double()[None]
    model = made('dsmil')
    m = model(x).instances[0,:,0].argmax().item()
    twice = torch.cat([x, x[:,m:m+1]], 1)
    out = model(twice)
    assert out.attention[0,m].item() == out.attention[0,-1].item()
    torch.testing.assert_close(made('max')(twice).bag, made('max')(x).bag)

def test_max_pooling_is_the_patch_half_of_dsmil():
    pool,dual,x = made('max', 3),made('dsmil', 3),features(40, 5).double()[None]
    pool.instance.load_state_dict(dual.instance.state_dict())
    a,b = pool(x),dual(x)
    assert torch.equal(a.instances, b.instances) and torch.equal(a.bag, b.instances.amax(1))
    assert torch.equal(a.attention.argmax(1), b.instances.argmax(1))

def test_the_query_learns_through_attention_alone():
    model,x = made('dsmil'),features(20, 6).double()[None]
    def gradient(x, out=lambda o: o.bag):
        model.zero_grad(); out(model(x)).sum().backward()
        return sum(float(p.grad.abs().sum()) for p in model.query.parameters() if p.grad is not None)
    assert gradient(x) > 1e-6
    assert gradient(x[:,:1]) < 1e-12                              # attention is 1 whatever the query
    assert gradient(x[:,:1].expand(-1, 9, -1)) < 1e-12            # all values are equal
    assert gradient(x, lambda o: o.instances) == 0

@each
def test_what_is_no_bag_gets_a_sentence(name):
    for bad in (features(5).double(), features(5, f=F+1).double()[None], features(0).double()[None]):
        with pytest.raises(ValueError, match='expects \\[1, patches, 16\\]'): made(name)(bad)

def test_mean_and_deviation_are_buffers_and_count_each_patch_once():
    parts = [features(n, n)*3+1 for n in (4,50,9)]
    norm,rows = Standardise(F).fit(parts),torch.cat(parts)
    torch.testing.assert_close(norm(rows[None])[0].mean(0), torch.zeros(F), atol=1e-5, rtol=0)
    torch.testing.assert_close(norm(rows[None])[0].std(0, correction=0), torch.ones(F))
    assert {*norm.state_dict()} == {'mean','std'} and not [*norm.parameters()]
    assert torch.isfinite(Standardise(F).fit([torch.ones(3,F)])(torch.ones(1,3,F))).all() # a constant feature

# --- files

X,AT = features(5).numpy(), np.arange(10).reshape(5,2)
def h5(path, **arrays):
    with h5py.File(path, 'w') as f:
        for k,v in arrays.items(): f[k] = v
    return path

def test_layouts_of_others(tmp_path):
    torch.save(torch.tensor(X), tmp_path/'clam.pt')
    pd.DataFrame(X).to_csv(tmp_path/'dsmil.csv', index=False)
    np.savez(tmp_path/'own.npz', features=X, coords=AT)
    files = [h5(tmp_path/'clam.h5', features=X, coords=AT), h5(tmp_path/'trident.h5', features=X[None], coords=AT),
             h5(tmp_path/'atlas.h5', **{'features/uni': X, 'coords': np.c_[AT,AT,AT[:,0]]}), tmp_path/'own.npz']
    for f in files: assert np.array_equal(read_bag(f).coords, AT)
    for f in [*files, tmp_path/'clam.pt', tmp_path/'dsmil.csv']: np.testing.assert_allclose(read_bag(f).features, X, rtol=1e-5)

class Evil:
    def __reduce__(self): return (pytest.fail, ('a pickle was run',))

BAD = {
    'and no features': lambda p: h5(p/'a.h5', coords=AT),
    r'shape \[2, 5, 16\], expected': lambda p: h5(p/'a.h5', features=np.stack([X,X])),
    r'coords have shape \[4, 2\] for 5 rows': lambda p: h5(p/'a.h5', features=X, coords=AT[:4]),
    'first is row 2': lambda p: h5(p/'a.h5', features=np.where(np.arange(5)[:,None] == 2, np.nan, X)),
    'one patch at least': lambda p: h5(p/'a.h5', features=X[:0]),
    'features of a, b': lambda p: h5(p/'a.h5', **{'features/a': X, 'features/b': X}),
    'tensors alone': lambda p: torch.save(Evil(), p/'a.pt') or p/'a.pt',
    'expected a tensor': lambda p: torch.save([1], p/'a.pt') or p/'a.pt',
    'plain arrays': lambda p: np.save(p/'a.npy', np.array([Evil()]), allow_pickle=True) or p/'a.npy',
    'no table of numbers': lambda p: (p/'a.csv').write_text('0,1\nx,2\n') and p/'a.csv',
    'which would be lost': lambda p: (p/'a.csv').write_text('0.5,1.5\n1,2\n') and p/'a.csv',
    'is damaged': lambda p: (p/'a.h5').write_text('no features') and p/'a.h5',
    'is empty': lambda p: (p/'a.h5').touch() or p/'a.h5',
    'ends in .pkl': lambda p: (p/'a.pkl').write_bytes(pickle.dumps(1)) and p/'a.pkl',
    'there is no file': lambda p: p/'gone.h5',
    'is a folder': lambda p: p}

@pytest.mark.parametrize('words', BAD)
def test_files_that_are_no_bag_get_a_sentence(words, tmp_path):
    with pytest.raises((ValueError,FileNotFoundError), match=words) as e: read_bag(BAD[words](tmp_path))
    assert '\n' not in str(e.value) and str(tmp_path) in str(e.value)

def test_a_truncated_file_is_refused(tmp_path):
    save_bag(Bag(features(500)), tmp_path/'a.h5')
    whole = (tmp_path/'a.h5').read_bytes()
    (tmp_path/'a.h5').write_bytes(whole[:len(whole)//2])
    with pytest.raises(ValueError, match='is damaged'): read_bag(tmp_path/'a.h5')

def test_a_saved_bag_comes_back(tmp_path):
    bag = Bag(X, AT, 1, 's.7', [0,0,1,1,2])
    save_bag(bag, tmp_path/'x.h5', half=False, mpp=.5, encoder='lite0')
    back = read_bag(tmp_path/'x.h5')
    assert torch.equal(back.features, bag.features) and torch.equal(back.coords, bag.coords)
    assert (back.label,back.name,back.assignments.tolist()) == (1,'s.7',[0,0,1,1,2])
    with h5py.File(tmp_path/'x.h5') as f: assert f.attrs['mpp'] == .5 and f.attrs['encoder'] == 'lite0'

# --- cohorts and splits

@pytest.fixture
def folder(tmp_path):
    for i in range(6): save_bag(Bag(features(5+i, i), name=f's{i}'), tmp_path/f's{i}.h5')
    return tmp_path
LABELS = {f's{i}': i%2 for i in range(6)}

def test_a_folder_is_read_when_needed_and_kept_within_bounds(folder):
    bags = bag_folder(folder, LABELS)
    assert not bags.shelf.kept and len(bags) == 6
    assert bags[3].label == 1 and {*bags.shelf.kept} == {3} and bags[3].features is bags[3].features
    few = bag_folder(folder, LABELS, memory=0)
    few[3]; assert not few.shelf.kept

def test_tables_of_others(folder):
    pd.DataFrame(dict(case_id=[f'p{i//2}' for i in range(6)], slide_id=[f's{i}' for i in range(6)], label=['tumor','normal']*3)).to_csv(folder/'labels.csv', index=False)
    bags = bag_folder(folder, folder/'labels.csv', classes=['normal','tumor'])
    assert bags.labels.tolist() == [1,0]*3 and bags.groups.tolist() == ['p0','p0','p1','p1','p2','p2']
    with pytest.raises(ValueError, match='the negative class first'): bag_folder(folder, folder/'labels.csv')

@pytest.mark.parametrize('labels, words', [
    (LABELS | {'s9': 1}, r'1 slides have a label and no file \(s9\)'),
    ({'s0': 0, 's1': 1}, r'4 slides have a file and no label \(s2, s3, s4, ...\)'),
    ({'x': 0}, 'look for other spellings')])
def test_labels_and_files_that_disagree_get_a_sentence(folder, labels, words):
    with pytest.raises(ValueError, match=words): bag_folder(folder, labels)

def test_features_of_two_encoders_get_a_sentence(folder):
    save_bag(Bag(features(5, f=8), name='s5'), folder/'s5.h5')
    with pytest.raises(ValueError, match='s5 has 8 features a patch and s0 has 16'): [*bag_folder(folder, LABELS)]

def test_split_keeps_shares_and_patients():
    bags = drawn_bags(n=40, patches=5, n_in=4)
    for seed in range(5):
        a,b = bags.split(.25, seed)
        assert b.labels.bincount().tolist() == [5,5] and not {*a.names} & {*b.names} and len(a)+len(b) == 40
        who = [i//5 for i in range(40)]
        a,b = bags.split(.25, seed, groups=who)
        assert not {who[bags.names.index(n)] for n in a.names} & {who[bags.names.index(n)] for n in b.names}
    assert bags.split(.25, 3)[1].names == bags.split(.25, 3)[1].names != bags.split(.25, 4)[1].names

def test_parts_that_cannot_be_used_get_a_sentence():
    bags = drawn_bags(n=12, patches=5, n_in=4)
    with pytest.raises(ValueError, match='positive has 1 slides'): bags[[0,1,2]].split()
    with pytest.raises(ValueError, match='negative has 1 patients'): bags[[0,1,3,5]].split(groups=['a','a','b','c'])
    with pytest.raises(ValueError, match='validation part has 3 slides and none is positive'): mil_learner(bags[[1,3,8,10]], bags[[0,2,4]])
    with pytest.raises(ValueError, match='1 slides stand in both .* such as drawn_0_002'): mil_learner(bags[:4], bags[2:6][[0,3]])
    one,two = (Bags([b for b in part], part.labels, groups=g) for part,g in ((bags[:4],'aabb'), (bags[4:8],'bbcc')) for g in [list(g)])
    with pytest.raises(ValueError, match='1 patients stand in both'): mil_learner(one, two)
    with pytest.raises(ValueError, match='no model is named'): mil_learner(bags[:4], model='mean')
    with pytest.raises(ValueError, match='expected Bags'): mil_learner([1,2])

# --- training

COHORT,TEST = drawn_bags(n=60, patches=60, n_in=F, share=.1, seed=0), drawn_bags(n=60, patches=60, n_in=F, share=.1, seed=1)
def trained(bags, model='max', epochs=8, lr=1e-2, **kw):
    learn = mil_learner(*bags.split(.25), model, lr=lr, device='cpu', **kw)
    with learn.no_logging(): learn.fit(epochs)
    return learn
def auc(learn, bags): return class_aucs(bags.labels, class_probabilities(predict_bags(learn, bags), 2))[1]
@pytest.fixture(scope='module')
def maxed(): return trained(COHORT)

@each
def test_a_short_training_separates_drawn_bags(name): assert auc(trained(COHORT, name), TEST) > .95

def test_a_training_on_nothing_finds_nothing_and_the_interval_says_so():
    null = [drawn_bags(n=60, patches=60, n_in=F, shift=0, seed=s) for s in (0,1)]
    row = mil_scores(trained(null[0]), null[1]).loc['AUC positive']
    assert row.low < .5 < row.high and row.high - row.low > .2

def test_equal_seeds_make_equal_weights():
    a,b = (trained(COHORT, 'dsmil', 2).model.state_dict() for _ in range(2))
    assert all(torch.equal(a[n], b[n]) for n in a)

def test_uniform_attention_is_told_once():
    flat = Bags([Bag(.4 + .01*b.features, name=b.name) for b in COHORT], COHORT.labels)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        learn = trained(flat, 'dsmil', 5, lr=1e-5, standardise=False, cbs=AttentionWatch(patience=2))
    assert sum('attention is uniform' in str(w.message) for w in told) == 1
    assert 'attention' in learn.recorder.metric_names

def test_rates_rise_and_fall():
    learn = mil_learner(COHORT, model='max', lr=.01, device='cpu')
    with learn.no_logging(): learn.fit(10)
    rates = np.array(learn.recorder.lrs)
    assert rates.argmax() in range(len(COHORT)*2-1, len(COHORT)*2+2) and rates[0] < .001 and rates[-1] < 1e-4 and rates.max() <= .01

def test_the_loss_is_that_of_an_independent_computation():
    out = MILOut(features(4, 1, 3).double(), features(36, 2, 3).view(4,9,3).double(), None)
    y = (features(4, 3, 3) > 0).double()
    def bce(z, w=1.): return np.mean(w*y.numpy()*np.log1p(np.exp(-z)) + (1-y.numpy())*np.log1p(np.exp(z)))
    bag,best = out.bag.numpy(), out.instances.numpy().max(1)
    for share in (0,.5,.2,1): assert mil_loss(out, y, share).item() == pytest.approx((1-share)*bce(bag) + share*bce(best))
    w = np.array([1.,3.,.5])
    assert mil_loss(out, y, 0, torch.tensor(w)).item() == pytest.approx(bce(bag, w))

def test_a_weight_makes_both_kinds_count_alike():
    w = positive_weight(torch.tensor([0,0,0,1]), 1, 2)
    assert w.tolist() == [3]
    rare = mil_learner(COHORT[[0,2,4,6,1,3]], model='max', balanced=True)
    assert rare.loss_func.weight.tolist() == [2]

@pytest.mark.parametrize('n_out', [2,3])
def test_three_classes(n_out):
    bags = drawn_bags(n=45, patches=30, n_in=F, share=.2)
    bags = Bags([b for b in bags], [i%3 for i in range(45)], classes=['negative','a','b'])
    learn = trained(bags, 'dsmil', 2, n_out=n_out)
    table = mil_scores(learn, bags)
    assert [*table.index] == ['majority class','accuracy','AUC negative','AUC a','AUC b'] and table.value.notna().all()
    with pytest.raises(ValueError, match='4 outputs for 3 classes'): trained(bags, 'dsmil', 1, n_out=4)

def test_learner_files(maxed, tmp_path):
    maxed.path = tmp_path
    before = predict_bags(maxed, TEST)
    maxed.save('here')
    with torch.no_grad(): maxed.model.instance.weight.zero_(); maxed.model.norm.mean.zero_()
    assert not torch.equal(predict_bags(maxed, TEST), before)
    maxed.load('here')
    assert torch.equal(predict_bags(maxed, TEST), before)
    for name in MIL_MODELS:
        model = MIL_MODELS[name](F, 2).eval(); model.norm.fit(COHORT)
        save_mil(model, tmp_path/'m.safetensors', encoder='x')
        back = load_mil(tmp_path/'m.safetensors')
        assert type(back) is type(model) and torch.equal(predict_bags(back, TEST), predict_bags(model, TEST)) and back.meta['encoder'] == 'x'

def test_verbs_that_cannot_stack_slides_say_what_to_call(maxed):
    with pytest.raises(NotImplementedError, match='predict_bags'): maxed.get_preds()
    assert np.isfinite(maxed.validate()[0])

def test_looking_leaves_the_model_as_it_was(maxed):
    maxed.model.train()
    out = look_at(maxed, TEST[1])
    assert maxed.model.training and out.attention.shape == (1,len(TEST[1]),1) and not out.bag.requires_grad
    assert TEST[1].assignments[out.attention[0,:,0].argmax()] == 1

# --- scores

def test_auc_is_that_of_scikit_learn(maxed):
    probs = class_probabilities(predict_bags(maxed, TEST), 2)
    want = roc_auc_score(TEST.labels, probs[:,1])
    assert auc(maxed, TEST) == pytest.approx(want) and mil_scores(maxed, TEST).value['AUC positive'] == pytest.approx(want)

def test_one_class_has_no_auc(maxed):
    assert np.isnan(class_aucs([1,1], torch.rand(2,2))).all()
    with pytest.raises(ValueError, match='an AUC of one class is not 1'): mil_scores(maxed, TEST[::2])

@pytest.mark.parametrize('seed', range(5))
def test_the_threshold_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    y,s = rng.integers(2, size=30), rng.random(30).round(1)
    def youden(c): return (s[y == 1] >= c).mean() - (s[y == 0] >= c).mean()
    cut = choose_threshold(y, np.stack([1-s,s], 1))
    assert youden(cut) == pytest.approx(max(youden(c) for c in np.linspace(-.01, 1.01, 500)))

def test_a_grid_chooses_on_val_and_tests_once():
    table = mil_grid(COHORT[:32], TEST, ['max'], lrs=(1e-2,1e-5), wds=(1e-3,), seeds=(0,1), epochs=4)
    assert len(table) == 4 and table.chosen.sum() == 2 and table.accuracy.notna().eq(table.chosen).all()
    for _,part in table.groupby('seed'): assert part[part.chosen]['val AUC'].item() == part['val AUC'].max()

def test_a_cell_that_diverges_is_a_row_and_not_the_end():
    table = mil_grid(COHORT[:24], TEST, ['max'], lrs=(1e-2,float('inf')), wds=(1e-3,), epochs=2)
    assert table['val AUC'].isna().tolist() == [False,True] and table.stopped[1] and table.chosen.tolist() == [True,False]

def test_a_missing_package_names_its_extra(monkeypatch, tmp_path):
    save_bag(Bag(torch.ones(3,2)), tmp_path/'a.h5')
    monkeypatch.setitem(sys.modules, 'h5py', None)
    for call in (lambda: read_bag(tmp_path/'a.h5'), lambda: save_bag(Bag(torch.ones(3,2)), tmp_path/'b.h5')):
        with pytest.raises(ImportError, match=r"h5py is not installed.*pathlearn\[slides\]"): call()

def test_what_a_killed_process_left_of_a_bag_is_cleared(tmp_path):
    from pathlearn.learning.files import clear_leftovers
    left, kept = tmp_path/'a.h5.999999999.tmp', tmp_path/'a.h5'
    for f in (left,kept): f.write_text('x')
    clear_leftovers(tmp_path)
    assert not left.exists() and kept.exists()
