"""What CluSiam claims of its clusters, measured on lung patches with three seeds, for nbs/results/clusiam_*.csv

    python tests/bench/cluster_claims.py PART ... [--data lc25000_lung_64.npz] [--runs FOLDER] [--out nbs/results]

collapse   the same ten epochs with and without stop-gradient (also without the norm that ends the projector), and with and
           without Gumbel noise
gradient   how large a share of the encoder's gradient the cluster loss has, step by step
clusters   assigner against k-means at equal counts, three classes (rows of `pathlearn_reproduce clusiam`, weights in RUNS)
mix        the same on a 95 : 5 mix of two classes
fair       CluSiam on that mix, with all rows and columns of `fair_clusters`, and k-means of colours at the same count; beside it
           SwAV by its prototypes and PCL by its clusters
components tables 4 and 5: cluster loss alone, without Gumbel noise, projectors without a last norm, CluBYOL
number     K = 1, 2, 3, 10 and 100
weight     the cluster loss with nine times the weight (alpha = .9 in place of .5)"""
import argparse, time
from pathlib import Path
import pandas as pd, torch, torch.nn.functional as F
from fastai.callback.core import Callback
from pathlearn.all import *
from pathlearn.commands.runs import code_version, hardware
from pathlearn.clusiam import ClusterLoss
from pathlearn.clustered import nearest_centre

SEEDS, SETTING = (0,1,2), dict(arch='tiny', view='gentle', bs=128, lr=.1)
RARE, COMMON = 'lung_aca', 'lung_n'   # of the mix: adenocarcinoma in normal tissue

def learner(kind, train, **kw): # -> Learner under the one setting of this script
    make = dict(SimSiam=simsiam_learner, CluSiam=clusiam_learner, CluBYOL=clubyol_learner, SwAV=swav_learner, PCL=pcl_learner)[kind]
    return make(train.dls(bs=SETTING['bs']), SETTING['arch'], view=gentle_view(train.size), lr=SETTING['lr'], **kw)

def fit(learn, epochs): # -> minutes
    start = time.time()
    with learn.no_logging(), learn.no_bar(): learn.fit(epochs)
    return round((time.time() - start)/60, 2)

# clusters and their scores

def counted(assignments): return torch.as_tensor(assignments).unique().numel()

def with_clusters(emb, clusters): return Embeddings(emb.features, emb.labels, clusters, emb.classes)

def by_kmeans(train, test, k, seed): # -> both with assignments
    return [with_clusters(e, kmeans_clusters(train, k, seed, e)) for e in (train,test)]

def merged(train, test, k): # the assigner's clusters joined to k by the centroids of their patches
    return [with_clusters(e, merge_clusters(train, k, e)) for e in (train,test)]

def scored(pair, classes): # -> dict: one row of a table of clusters
    train,test = pair
    purity = cluster_scores(test.labels, test.assignments)['purity']
    rows = [fair_scores(train, test, c) for c in classes] # they differ in the best cluster's F1 alone
    return rows[0] | {'best-cluster F1':sum(r['best-cluster F1'] for r in rows)/len(rows), 'purity':purity}

def ways(train, test, n_classes, seed): # -> name: (train, test) with assignments
    n = counted(train.assignments)
    one = [with_clusters(e, torch.zeros(len(e.labels), dtype=torch.long)) for e in (train,test)]
    return {'assigner':(train,test), 'k-means':by_kmeans(train, test, n, seed), f'assigner, merged to {n_classes}':merged(train, test, n_classes),
            f'k-means, {n_classes}':by_kmeans(train, test, n_classes, seed), 'one cluster':one}

def compared(train, test, classes, n_classes, seed): # -> list of rows
    return [{'clusters by':name} | scored(pair, classes) for name,pair in ways(train, test, n_classes, seed).items()]

# the parts

def clusters(splits, args):
    for kind in ('CluSiam','CluBYOL'):
        for seed in SEEDS:
            file = Path(args.runs)/f'clusiam_{Path(args.data).stem}_{kind}_tiny_64_gentle_40_128_100_{seed}_0.1.safetensors'.lower()
            model = load_encoder(file)
            train,test = (embed(model, p) for p in (splits.train,splits.test))
            for row in compared(train, test, range(3), 3, seed): yield dict(method=kind, epochs=40, k=100, seed=seed, **row)

def mixture(data, rare, common, share, seed): # -> PatchData of two classes, 1 = the rare one
    g = torch.Generator().manual_seed(seed)
    many,few = ((data.labels == c).nonzero().flatten() for c in (common,rare))
    n = round(len(many)*share/(1-share))
    rows = torch.cat([many, few[torch.randperm(len(few), generator=g)[:n]]])
    return PatchData(data.images[rows], (data.labels[rows] == rare).long(), classes=['common','rare'])

def mix(splits, args, epochs=40, draws=20):
    rare,common = (splits.train.classes.index(c) for c in (RARE,COMMON))
    for seed in SEEDS:
        train = mixture(splits.train, rare, common, .05, seed)
        tests = [mixture(splits.test, rare, common, .05, d) for d in range(draws)]
        colours = {'colour histogram':colour_histogram}
        for kind,k in (('CluSiam',100), ('CluSiam',2), ('SimSiam',None), ('untrained',None), *((n,None) for n in colours)):
            minutes, model = 0., None
            if kind in ('SimSiam','CluSiam'):
                set_seed(seed)
                model = learner(kind, train, **({} if k is None else dict(k=k)))
                minutes = fit(model, epochs)
            elif kind == 'untrained': model = untrained_encoder(train, SETTING['arch'], seed)
            def seen(p): return embed(model, p) if model is not None else Embeddings(colours[kind](p), p.labels)
            tr, te = seen(train), [seen(t) for t in tests]
            rows = []
            for test in te:
                if k: rows += compared(tr, test, [1], 2, seed)
                else: rows += [{'clusters by':f'k-means, {n}'} | scored(by_kmeans(tr, test, n, seed), [1]) for n in (2,10)]
            table = pd.DataFrame(rows).groupby('clusters by', sort=False).mean().reset_index()
            for row in table.to_dict('records'):
                yield dict(method=kind, epochs=epochs if minutes else 0, k=k, seed=seed, share=.05, draws=draws, **row, minutes=minutes)

def clustered(learn, data): # -> Embeddings; PCL's clusters are the nearest of its centres
    emb = embed(learn, data)
    if emb.assignments is not None: return emb
    learn.model.eval()
    return with_clusters(emb, nearest_centre(learn.model.keys(data.images), learn.model.split()[0][0])[1])

def fair(splits, args, epochs=40, draws=20):
    rare,common = (splits.train.classes.index(c) for c in (RARE,COMMON))
    for kind,seed in [(kind,seed) for kind in ('CluSiam','SwAV','PCL') for seed in SEEDS]:
        if args.only and kind not in args.only: continue
        train = mixture(splits.train, rare, common, .05, seed)
        tests = [mixture(splits.test, rare, common, .05, d) for d in range(draws)]
        set_seed(seed)
        model = learner(kind, train, **(dict(ks=(100,)) if kind == 'PCL' else dict(k=100)))
        minutes, tr = fit(model, epochs), clustered(model, train)
        def colours(p): return Embeddings(colour_histogram(p), p.labels)
        def by_colours(p): return with_clusters(colours(p), kmeans_clusters(colours(train), counted(tr.assignments), seed, colours(p)))
        rows = []
        for test in tests:
            rows += fair_clusters(tr, clustered(model, test), label=1, seed=seed).reset_index().to_dict('records')
            if kind == 'CluSiam': rows.append({'clusters by':'k-means of colours'} | fair_scores(by_colours(train), by_colours(test), 1))
        for row in pd.DataFrame(rows).groupby('clusters by', sort=False).mean().reset_index().to_dict('records'):
            yield dict(method=kind, epochs=epochs, k=100, seed=seed, share=.05, draws=draws, **row, minutes=minutes)

class Terms(ClusterLoss):
    "The same loss, with both of its terms kept"
    def __call__(self, out, *_):
        logits, z = out.logits, torch.cat([out.z1,out.z2])
        self.terms = (1-self.alpha)*self.inv(out), self.alpha*cluster_loss(z, logits, self.tau, self.noise)
        return sum(self.terms)

class Share(Callback):
    "|gradient of the cluster loss| / |gradient of the invariance loss| on the encoder, each step"
    def before_fit(self): self.shares = []
    def after_loss(self):
        if not self.training: return
        weights = [p for p in self.model.encoder.parameters() if p.requires_grad]
        norms = [torch.cat([g.flatten() for g in torch.autograd.grad(t, weights, retain_graph=True)]).norm() for t in self.loss_func.terms]
        self.shares.append((norms[1]/norms[0]).item())

def gradient(splits, args, epochs=16):
    for seed in SEEDS:
        set_seed(seed)
        learn = learner('CluSiam', splits.train, k=100, cbs=[share := Share()])
        learn.loss_func = Terms(clusiam_inv, .5)
        learn.remove_cbs([cb for cb in learn.cbs if type(cb).__name__ == 'LossParts'])
        minutes = fit(learn, epochs)
        steps = pd.Series(share.shares)
        for first in range(0, len(steps), 20):
            part = steps[first:first+20]
            yield dict(method='CluSiam', epochs=epochs, k=100, alpha=.5, seed=seed, **{'from step':first, 'to step':first+len(part)-1}, share=part.mean(), minutes=minutes)

def open_inv(out): # eq. 1 without stop-gradient
    return -F.cosine_similarity(out.p1, out.z2).mean() - F.cosine_similarity(out.p2, out.z1).mean()
def open_simsiam(out, *_): return open_inv(out)/2

def without(learn, what): # -> Learner with one thing taken out
    if 'last norm' in what: learn.model.projector.layers[-1] = torch.nn.Identity() # it keeps the spread by itself
    if 'stop-gradient' in what: learn.loss_func = open_simsiam if not hasattr(learn.loss_func, 'inv') else ClusterLoss(open_inv, learn.loss_func.alpha)
    return learn

def state(learn, splits): # -> dict: spread of the projections and live clusters without noise on val, 5-NN on test
    train,val,test = (embed(learn, p) for p in splits)
    model = learn.model.eval()
    with torch.no_grad(): z = torch.cat([model.projector(model.encoder(x)) for x in to_unit(splits.val.images).split(256)])
    spread = F.normalize(z, dim=1).std(0).mean().item()*z.shape[1]**.5
    live = counted(val.assignments) if val.assignments is not None else ''
    return {'spread':spread, 'live clusters':live, '5-NN':knn_score(train, test)}

def collapse(splits, args, epochs=10):
    both = 'stop-gradient and last norm'
    jobs = [(kind,what) for kind in ('SimSiam','CluSiam') for what in ('nothing','stop-gradient','last norm',both)] + [('CluSiam','Gumbel noise')]
    for kind,what in jobs:
        for seed in SEEDS:
            if args.only and what not in args.only: continue
            set_seed(seed)
            own = {} if kind == 'SimSiam' else dict(k=100, noise=what != 'Gumbel noise')
            learn = without(learner(kind, splits.train, **own), what)
            minutes = fit(learn, epochs)
            yield dict(method=kind, without=what, epochs=epochs, k=own.get('k'), seed=seed, **state(learn, splits), minutes=minutes)

def found(learn, splits): # -> dict: what one trained learner gives on test
    train,val,test = (embed(learn, p) for p in splits)
    row = {'5-NN':knn_score(train, test), 'linear':linear_score(train, test)}
    if test.assignments is None: return row
    s = cluster_scores(test.labels, test.assignments)
    return row | {'Rand':s['rand'], 'adjusted Rand':s['adjusted_rand'], 'live clusters':s['n_clusters']}

def weight(splits, args, epochs=40):
    for seed in SEEDS:
        set_seed(seed)
        learn = learner('CluSiam', splits.train, k=100, alpha=.9)
        minutes = fit(learn, epochs)
        yield dict(method='CluSiam', epochs=epochs, k=100, alpha=.9, seed=seed, **found(learn, splits), minutes=minutes)

COMPONENTS = { # row of tables 4 and 5: learner and what differs
    'SimSiam':('SimSiam',{}), 'cluster loss alone':('CluSiam',dict(alpha=1)), 'joint, without noise':('CluSiam',dict(noise=False)),
    'CluSiam':('CluSiam',{}), 'CluSiam, no last norm':('CluSiam',dict(last_bn=False)),
    'CluBYOL':('CluBYOL',{}), 'CluBYOL, no last norm':('CluBYOL',dict(last_bn=False))}

def components(splits, args, epochs=10):
    for row,(kind,own) in COMPONENTS.items():
        if args.only and row not in args.only: continue
        for seed in SEEDS:
            set_seed(seed)
            learn = learner(kind, splits.train, **({} if kind == 'SimSiam' else dict(k=100)), **own)
            minutes = fit(learn, epochs)
            yield dict(method=kind, row=row, epochs=epochs, k=None if kind == 'SimSiam' else 100, seed=seed, **found(learn, splits), minutes=minutes)

def number(splits, args, epochs=10):
    for k in (1,2,3,10): # 100 is the row "CluSiam" of `components`
        if args.only and str(k) not in args.only: continue
        for seed in SEEDS:
            set_seed(seed)
            learn = learner('CluSiam', splits.train, k=k)
            minutes = fit(learn, epochs)
            yield dict(method='CluSiam', epochs=epochs, k=k, seed=seed, **found(learn, splits), minutes=minutes)

PARTS = dict(collapse=collapse, gradient=gradient, clusters=clusters, mix=mix, fair=fair, components=components, number=number, weight=weight)

NAMED = dict(collapse='without', fair='method', components='row', number='k') # the column that `--only` names

def kept(file, part, only): # -> list of rows that stay: those that `--only` does not name
    if not only or not file.exists(): return []
    rows = pd.read_csv(file, dtype={'commit':str})
    return rows[~rows[NAMED[part]].astype(str).isin(only)].to_dict('records')

def write(part, splits, args):
    "Rows appear in the file as they are measured"
    made, file = dict(commit=code_version(), hardware=hardware()), Path(args.out)/f'clusiam_{part}.csv'
    rows = kept(file, part, args.only)
    for row in PARTS[part](splits, args):
        rows.append(row | {n:v for n,v in SETTING.items() if n not in row} | dict(data=Path(args.data).stem, part='test') | made)
        print(part, {n: round(v, 4) if isinstance(v, float) else v for n,v in row.items()}, flush=True)
        pd.DataFrame(rows).round(5).to_csv(file, index=False)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('parts', nargs='+', choices=PARTS)
    parser.add_argument('--data', default='lc25000_lung_64.npz')
    parser.add_argument('--runs', default='runs', help='folder in which `pathlearn_reproduce clusiam` kept its weights')
    parser.add_argument('--out', default='nbs/results')
    parser.add_argument('--only', nargs='+', help='of `collapse`, `fair`, `components` and `number`: these rows alone, such as "stop-gradient and last norm" or SwAV; others stay')
    args = parser.parse_args()
    splits = npz_data(args.data)
    for part in args.parts: write(part, splits, args)
