"What reads badly in the notebook: other processes, other thread counts, every size and every message"
import hashlib, os, subprocess, sys
from pathlib import Path
import pytest, torch
from pathlearn.synthetic import TISSUES, synthetic_nuclei, synthetic_slide, synthetic_tissue

def digest():
    parts = [d.images for d in synthetic_tissue(n=18, size=48)] + [synthetic_nuclei(n=2).masks, *synthetic_slide(256)]
    return hashlib.sha256(b''.join(p.numpy().tobytes() for p in parts)).hexdigest()

def test_same_bytes_in_another_process():
    env = dict(os.environ, OMP_NUM_THREADS='2', OPENBLAS_NUM_THREADS='2', PYTHONHASHSEED='7')
    run = [sys.executable, '-c', 'from test_synthetic import digest; print(digest())']
    other = subprocess.run(run, env=env, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout
    assert other.strip() == digest()

@pytest.mark.parametrize('size', [16, 32, 50, 96, 224, 256])
def test_every_size_and_kind(size):
    train = synthetic_tissue(n=18, size=size).train
    assert train.images.shape == (18,3,size,size) and train.classes == list(TISSUES)
    assert (train.images.float().std((1,2,3)) > 1).all()

@pytest.mark.parametrize('size', [64, 96, 320])
def test_masks_are_numbered_without_gaps(size):
    data = synthetic_nuclei(n=3, size=size)
    assert data.masks.shape == (3,size,size)
    for m in data.masks: assert torch.equal(m.unique(), torch.arange(m.max()+1, dtype=m.dtype))

@pytest.mark.parametrize('size', [64, 500])
def test_slide_of_any_size(size):
    image,regions = synthetic_slide(size, seed=2)
    assert image.shape == (3,size,size) and regions.shape == (size,size) and regions.max() < len(TISSUES)

@pytest.mark.parametrize('call, words', [
    (lambda: synthetic_tissue(n=17), 'n is 17, expected at least 18'),
    (lambda: synthetic_tissue(size=15), 'size is 15 px, expected at least 16'),
    (lambda: synthetic_tissue(seed=-1), 'seed is -1'),
    (lambda: synthetic_nuclei(n=0), 'n is 0, expected at least 1'),
    (lambda: synthetic_slide(size=8), 'size is 8 px')])
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words): call()
