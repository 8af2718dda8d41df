"The glossary explains every column that a training logs, and can be searched by eye"
import json, re
from pathlib import Path
import pytest
from pathlearn.all import METHODS
from pathlearn.autoencoder import ReconstructionWatch
from pathlearn.learning import CollapseWatch, KNNWatch
from pathlearn.cdcl import semi_dls
from pathlearn.synthetic import synthetic_nuclei, synthetic_tissue

PAGE = Path(__file__).parents[1]/'nbs/glossary.ipynb'
TEXT = '\n\n'.join(''.join(c['source']) for c in json.loads(PAGE.read_text(encoding='utf-8'))['cells'])
COLUMNS = TEXT[TEXT.index('## Columns'):TEXT.index('## Terms')]

def explained(): # names in the first column of the table
    return {name for row in re.findall(r'^\|([^|]*`[^|]*)\|', COLUMNS, re.M) for name in re.findall(r'`(\w+)`', row)}

@pytest.mark.parametrize('name', sorted(METHODS))
def test_each_column_of_a_training_is_explained(name):
    method = METHODS[name]
    if method.data == 'nuclei':
        few, more = synthetic_nuclei(n=4, size=64), synthetic_nuclei(n=4, size=64, seed=1)
        learn = method.learner(semi_dls(few, more, valid=few, bs=2), arch='tiny', grid=4, start=0)
    else:
        splits = synthetic_tissue(n=90, size=32)
        watches = [KNNWatch(splits.train, splits.val), *[CollapseWatch()]*(name != 'autoencoder' and not method.labels), *[ReconstructionWatch(splits.val)]*(name == 'autoencoder')]
        own = dict(opt='adamw', latent=8) if name == 'autoencoder' else dict(k=5) if method.k else {}
        learn = method.learner(splits.train.dls(splits.val, bs=30), arch='tiny', view=method.draw(32), cbs=watches, **own)
    logged = set()
    learn.logger = lambda row: logged.update(n for n in learn.recorder.metric_names if n)
    with learn.no_bar():
        if method.fit: method.fit(learn, 2, 3, 0)
        else: learn.fit(1)
    assert 'train_loss' in learn.recorder.metric_names
    assert not (set(learn.recorder.metric_names) | logged) - explained()

def test_terms_are_unique_and_sorted():
    terms = re.findall(r'^### (.+)$', TEXT[TEXT.index('## Terms'):], re.M)
    assert len(terms) > 60 and terms == sorted(terms, key=str.lower) and len({t.lower() for t in terms}) == len(terms)
