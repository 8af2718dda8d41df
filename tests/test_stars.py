"`from pathlearn.X import *` works in a fresh process, brings the public names, and only names that say what they are"
import json, os, subprocess, sys
import pytest

PUBLIC = dict(
    data='PatchData Splits medmnist_data npz_data folder_data nuclei_data nuclei_items folder_dls semi_dls',
    synthetic='synthetic_tissue synthetic_nuclei synthetic_slide',
    views='weak_view strong_view standard_view mixup_views cutmix_views show_views',
    networks='encoder Projector Predictor MomentumCopy DenseUNet',
    learning='ViewPair MomentumTarget CollapseWatch KNNWatch Resume save_encoder load_encoder ssl_learner Method register',
    evaluate='embed Embeddings knn_score linear_score fine_tune_score cluster_scores shuffled_rand best_cluster_f1 fair_clusters balanced_rand merge_clusters map_clusters mapped_score segmentation_scores '
             'floor_rows segmentation_floor compare',
    explore='reduce plot_map Explorer EpochExplorer',
    transfer='mask_dls detector predict_masks',
    slides='open_slide Slide find_tissue Tissue plot_tissue tile_slide Tiles load_tiles tile_labels',
    siamese='nt_xent negative_cosine SimCLR SimSiam BYOL simclr_learner simsiam_learner byol_learner',
    gumbel='GumbelAssigner cluster_loss', clusiam='CluSiam CluBYOL clusiam_learner clubyol_learner PatchData embed plot_map',
    decorrelated='barlow_loss vicreg_loss barlow_floor BarlowTwins VICReg barlow_learner vicreg_learner PatchData embed plot_map',
    moco='moco_loss MoCo moco_learner PatchData embed plot_map',
    clustered='spherical_kmeans proto_nce PCL pcl_learner moco_learner PatchData embed plot_map',
    supervised='class_weights weighted_loss classify Supervised supervised_learner PatchData embed plot_map',
    swav='sinkhorn swav_loss SwAV swav_learner PatchData embed plot_map',
    mixing='StrongWeak', adversarial='adversarial_pair', ca2cl='cluster_aware_loss CA2CL ca2cl_learner PatchData embed plot_map',
    prototypes='fit_prototypes soft_assign', decoder='ConditionalDecoder',
    autoencoder='ContrastiveAE autoencoder_learner fit_two_phases PatchData embed plot_map',
    crosspatch='foreground_score patch_kinds FeatureBank dense_contrastive_loss',
    mil='Bag Bags read_bag save_bag bag_folder drawn_bags MaxPool DSMIL ABMIL mil_loss mil_learner mil_scores mil_grid save_mil load_mil',
    cdcl='CDCL cdcl_learner segment PatchData embed split_touching',
    basics='PatchData standard_view encoder embed ssl_learner plot_map', knobs='gumbel_knobs stain_knobs mixing_knobs',
    all='clusiam_learner ca2cl_learner autoencoder_learner cdcl_learner barlow_learner moco_learner swav_learner pcl_learner supervised_learner gumbel_knobs',
    cli='pathlearn_demo pathlearn_train pathlearn_embed pathlearn_reproduce', cli_slides='pathlearn_tile pathlearn_mil')

# Other packages are loaded once; each module is then imported by a child in which nothing of pathlearn has been.
SCRIPT = '''
import inspect, json, os, sys, warnings
warnings.simplefilter('ignore')
import fastai.vision.all, matplotlib.pyplot, pandas, sklearn.cluster, torch, torchvision
assert not any(m.partition('.')[0] == 'pathlearn' for m in sys.modules)
def look(module):
    scope = {}
    exec(f'from pathlearn.{module} import *', scope)
    names = {n: v for n,v in scope.items() if n != '__builtins__'}
    dumb = [n for n,v in names.items() if (inspect.isclass(v) or callable(v)) and not (inspect.getdoc(v) or '').strip()]
    return dict(names=sorted(names), dumb=dumb, private=[n for n in names if n[0] == '_'])
for module in sys.argv[1:]:
    sys.stdout.flush()
    if pid := os.fork():
        os.waitpid(pid, 0)
        continue
    try: found = look(module)
    except BaseException as e: found = dict(error=f'{type(e).__name__}: {e}')
    print(json.dumps({module: found}), flush=True)
    os._exit(0)
'''

@pytest.fixture(scope='module')
def stars():
    env = {k: v for k,v in os.environ.items() if k != 'IN_TEST'}
    done = subprocess.run([sys.executable, '-c', SCRIPT, *PUBLIC], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    lines = [json.loads(l) for l in done.stdout.splitlines() if l.startswith('{')]
    return {m: v for line in lines for m,v in line.items()}

@pytest.mark.parametrize('module', PUBLIC)
def test_star_import_brings_the_public_names(stars, module):
    found = stars.get(module, dict(error='no answer'))
    assert 'error' not in found, found['error']
    assert not set(PUBLIC[module].split()) - set(found['names'])
    assert not found['private']

@pytest.mark.parametrize('module', PUBLIC)
def test_what_it_brings_says_what_it_is(stars, module):
    assert not stars[module].get('dumb'), 'these names lack a docstring: give them one, or keep them out of __all__ by `#| exporti`'
