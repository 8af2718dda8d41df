"What the pages say of their first runs: the table must bear it out"
from pathlib import Path
import pandas as pd, pytest

TABLE = pd.read_csv(Path(__file__).parents[1]/'nbs'/'results'/'first_runs.csv')

@pytest.mark.parametrize('page', ['10_siamese','12_clusiam','13_decorrelated','14_moco','14a_swav','14b_clustered','15_supervised','22_ca2cl','32_autoencoder','41_cdcl'])
def test_a_first_run_learns(page):
    rows = TABLE[TABLE.page == page]
    gain = rows.trained - rows.untrained
    assert len(rows) >= 3 and (rows.n_held_out >= 300).all() and (rows.cpu_seconds < 40).all()
    assert (gain > 0).all() and gain.mean() > rows.interval.iloc[0]
    assert gain.mean() == pytest.approx(rows.mean_gain.iloc[0], abs=1e-3)
