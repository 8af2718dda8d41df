"Drawn cohorts of slides, and `pathlearn_reproduce slides`: pairs, resuming to the same rows, what it refuses"
import os, signal, subprocess, sys, time
import numpy as np, pandas as pd, pytest
from sklearn.metrics import roc_auc_score
from pathlearn import cli
from pathlearn.slides import open_slide, tile_labels, tile_slide
from pathlearn.synthetic import TISSUES, drawn_cohort, drawn_slide, save_cohort, synthetic_slide

TUMOUR = list(TISSUES).index('tumour')
SMALL = '--slides 8 --slide-size 320 --tumour .05 .1 --tiles 60 --epochs 2 --bs 16 --k 8 --models max --mil-seeds 0 1 --mil-epochs 3 --seed 0 --lrs .01 .001 --wds .001 --device cpu'.split()

def arguments(out, *more): return ['slides', *SMALL, '--out', str(out), '--runs', str(out/'runs'), *more]

def call(out, *more): return cli.pathlearn_reproduce(arguments(out, *more))

def rows(out, name=''): return pd.read_csv(out/f'slides_drawn{name}.csv', dtype={'mil seed': int}).drop(columns=['seconds','minutes'], errors='ignore')

@pytest.fixture(scope='module')
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp('slides')
    assert not call(out, '--methods', 'oracle', 'simsiam', 'clusiam')
    return out

def test_a_pair_differs_in_its_tumour_alone():
    for seed in range(3):
        (clean,_),(ill,kinds) = (synthetic_slide(256, seed, tumour=t) for t in (0,.05))
        spot = (kinds == TUMOUR).numpy()
        y,x = np.nonzero((clean != ill).any(0).numpy())
        assert len(y) and spot.any()
        near = np.sqrt(((np.argwhere(spot)[:,None] - np.stack([y,x], 1)[None,::17])**2).sum(2)).min(0)
        assert near.max() < 15 and abs(spot.sum()/(kinds != 1).sum() - .05) < .002

def test_slides_drawn_as_before_are_the_same_bytes():
    image,kinds = synthetic_slide(128, 0)
    assert kinds.flatten().bincount().tolist() == [1017,6495,1472,1404,1572,1100,1029,1244,1051] # counted before there was `tumour=`
    assert image.float().mean((1,2)).tolist() == pytest.approx([206.5251,181.7020,207.7711], abs=.01)
    assert not (synthetic_slide(128, 0, 0)[1] == TUMOUR).any()

def test_every_positive_slide_at_the_smallest_share_has_a_tile_of_tumour():
    row = drawn_cohort(4, shares=(.005,.005)).iloc[1]
    image,regions = drawn_slide(row, 1024)
    tiles = tile_slide(open_slide(image.permute(1,2,0).numpy(), mpp=1.75), 32, 1.75)
    assert 1 <= (tile_labels(tiles, regions.numpy()) == TUMOUR).sum() <= 6

def test_the_files_of_a_cohort_are_what_the_commands_take(tmp_path):
    from pathlearn import cli_slides
    save_cohort(drawn_cohort(4, shares=(.05,.1)), tmp_path/'cohort', size=256)
    given = [tmp_path/'cohort'/'slides', '--out', tmp_path/'job', '--px', 32, '--mpp', 1.75, '--slide-mpp', 1.75]
    assert not cli_slides.pathlearn_tile(list(map(str, given)))
    assert len(pd.read_csv(tmp_path/'job'/'report.csv')) == 4

def test_rows_hold_what_an_interval_needs(run):
    found = rows(run)
    assert len(found) == 6 and set(found.method) == {'oracle','simsiam','clusiam'} and found['mil seed'].tolist() == [0,1]*3
    test = drawn_cohort(8, shares=(.05,.1)).query("part == 'test'")
    for r in found.to_dict('records'):
        assert roc_auc_score(test.label, list(map(int, r['ranks tumour'].split()))) == pytest.approx(r['AUC tumour'], abs=1e-4)
        assert len(r['right']) == len(test) and r['right'].count('r')/len(test) == pytest.approx(r['accuracy'])
    assert found.cells.tolist() == [2,1]*3 # the grid for the first seed, its choice for the others

def test_three_classes_have_an_auc_each(tmp_path):
    assert not call(tmp_path, '--classes', '3', '--slides', '12', '--methods', 'oracle', 'without Gumbel noise', '--lrs', '.01')
    found = pd.read_csv(tmp_path/'slides_drawn_3.csv')
    assert {'AUC none','AUC neoplasia','AUC tumour','ranks none'} <= {*found} and len(found) == 4

def test_clusters_stand_beside_floors(run):
    found = rows(run, '_tiles').query("method == 'clusiam'")
    assert {'assigner','k-means','shuffled','one cluster'} <= {*found['clusters by'].dropna()}
    assert found['balanced Rand'].dropna().between(0, 1).all()

@pytest.mark.parametrize('more', [('--lr','.2'), ('--px','40'), ('--tumour','.06','.1')])
def test_other_settings_never_take_the_weights_of_a_run(more, run, tmp_path):
    from shutil import copytree
    before = {p.name for p in (run/'runs').glob('*.safetensors')}
    copytree(run/'runs', tmp_path/'runs')
    assert not call(tmp_path, '--methods', 'simsiam', *more)
    assert {p.name for p in (tmp_path/'runs').glob('*.safetensors')} - before

def test_a_second_call_leaves_everything_alone(run):
    before = {p: p.stat().st_mtime_ns for p in run.glob('*.csv')}
    assert not call(run, '--methods', 'oracle', 'simsiam', 'clusiam')
    assert before == {p: p.stat().st_mtime_ns for p in run.glob('*.csv')}

def test_killed_and_started_again_the_rows_are_the_same(run, tmp_path):
    code = 'import sys; from pathlearn.cli import pathlearn_reproduce as f; sys.exit(f(sys.argv[1:]))'
    child = subprocess.Popen([sys.executable, '-c', code, *arguments(tmp_path, '--methods', 'oracle', 'simsiam', 'clusiam')],
                             stdout=subprocess.DEVNULL, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    until = time.time() + 120
    while not list(tmp_path.glob('runs/*simsiam*')):
        assert time.time() < until and child.poll() is None
        time.sleep(.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not call(tmp_path, '--methods', 'oracle', 'simsiam', 'clusiam')
    for name in ('','_tiles'): pd.testing.assert_frame_equal(rows(tmp_path, name), rows(run, name), atol=1e-3)
    assert not list(tmp_path.rglob('*.pt'))

@pytest.mark.parametrize('more,said', [
    (['--methods','resnet'], 'expected some of mean RGB'),
    (['--tumour','.001','.001','--methods','oracle'], 'draw larger slides'),
    (['--tumour','.1','.01'], 'the smaller first'),
    (['--slides','10'], 'multiple of 4')])
def test_what_it_refuses(more, said, tmp_path, capsys):
    assert call(tmp_path, *more) == 2 and said in capsys.readouterr().err

def test_other_papers_need_data(capsys):
    assert cli.pathlearn_reproduce(['clusiam']) == 2 and '--data' in capsys.readouterr().err
