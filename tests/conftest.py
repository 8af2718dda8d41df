from pathlib import Path
import pytest

SHARED = Path(__file__).parents[2]/'shared'/'data'

@pytest.fixture(scope='session')
def shared():
    "The folder of real images beside the checkout"
    if not SHARED.exists(): pytest.skip('no data')
    return SHARED
