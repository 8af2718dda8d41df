import os
from pathlib import Path
import pytest
from browsing import chromium, lab # noqa: F401 (one browser and one JupyterLab for all tests of a worker)

# prepared data beside the checkout serve the notebooks too, unless somebody names another folder
SHARED = Path(__file__).parents[2]/'shared'/'data'
if SHARED.exists(): os.environ.setdefault('PATHLEARN_DATA', str(SHARED))

@pytest.fixture(scope='session')
def shared():
    "The folder of real images: PATHLEARN_DATA, or the one beside the checkout"
    if not (folder := os.environ.get('PATHLEARN_DATA')): pytest.skip('no data')
    return Path(folder)
