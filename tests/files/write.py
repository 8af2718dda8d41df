"What wrote these files, under 0.1.0: run it in the root of that checkout"
import torch, numpy as np, warnings, torch.nn as nn
from pathlib import Path
from pathlearn.all import *
from fastai.callback.core import Callback
out=Path('tests/files')
tissue=synthetic_tissue(n=45,size=32,seed=3).train
imgs=tissue.images[:8]
np.savez_compressed(out/'images.npz', images=imgs.numpy())
def emb(m):
    e=embed(m, PatchData(imgs)); return dict(features=e.features.numpy(), **({} if e.assignments is None else dict(assignments=e.assignments.numpy())))
def coarse(model):
    with torch.no_grad():
        for p in model.parameters():
            s=p.std() if p.numel()>1 else p.abs()
            if p.ndim>1: p.copy_((p/s).round().clamp(-1,1)*s)
def own():
    torch.manual_seed(0)
    m=nn.Sequential(nn.Conv2d(3,8,3,2),nn.BatchNorm2d(8),nn.ReLU(),nn.AdaptiveAvgPool2d(1),nn.Flatten()); m.n_out=8; return m
class Own(nn.Module):
    def __init__(s):
        super().__init__(); s.net=own(); s.n_out=8
    def forward(s,x): return s.net(x.float()/255 if x.dtype==torch.uint8 else x)
dls=lambda: tissue.dls(bs=15)
torch.manual_seed(0)
learn=clusiam_learner(dls(),'tiny',k=5,dim=16,hidden=16); learn.fit(1); coarse(learn.model)
save_encoder(learn,out/'clusiam.safetensors',data='drawn',seed=0); got={'clusiam':emb(learn)}
ae=autoencoder_learner(dls(),latent=8,arch='conv3')
fit_two_phases(ae,1,2,4,seed=0); coarse(ae.model); save_encoder(ae,out/'autoencoder.safetensors',data='drawn',seed=0); got['autoencoder']=emb(ae)
cells=synthetic_nuclei(n=12,size=64,seed=1)
cd=cdcl_learner(semi_dls(cells[:4],cells[4:8],cells[8:],bs=2),'tiny',start=0)
cd.fit(1); coarse(cd.model); save_encoder(cd,out/'cdcl.safetensors',data='drawn',seed=0)
cd=load_encoder(out/'cdcl.safetensors') # the learner itself computes channels last, which rounds otherwise
m=segment(cd,PatchData(cells.images[:2])); np.savez_compressed(out/'nuclei.npz',images=cells.images[:2].numpy(), masks=torch.stack(list(m)).numpy())
got["cdcl"]=emb(cd)
for n,e in got.items(): np.savez_compressed(out/f'{n}_embeddings.npz',**e)
for n in ('clusiam','autoencoder'):
    e=emb(load_encoder(out/f'{n}.safetensors')); assert all((e[k]==got[n][k]).all() for k in e),n
# a run of four epochs that was stopped after two, and the weights it must end in
class Stop(Callback):
    order=71
    def after_epoch(s):
        if s.epoch==1: raise KeyboardInterrupt
def run(path,cbs=()):
    torch.manual_seed(0)
    return simsiam_learner(dls(),Own(),dim=8,hidden=8,view=weak_view(32),cbs=[Resume(path),*cbs])
l=run('/tmp/whole.pt'); l.fit(4)
import shutil; shutil.copy('/tmp/whole.pt','/tmp/whole_kept.pt')
end={k:v.numpy() for k,v in l.model.state_dict().items()}
l=run(out/'training.pt',[Stop()])
try: l.fit(4)
except KeyboardInterrupt: pass
l=run('/tmp/x.pt'); shutil.copy(out/'training.pt','/tmp/x.pt'); l.fit(4)
assert all((v.numpy()==end[k]).all() for k,v in l.model.state_dict().items())
np.savez_compressed(out/'training_end.npz',**end)
for f in sorted(out.iterdir()): print(f.stat().st_size//1024,'kB',f.name)
