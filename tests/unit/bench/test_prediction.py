"""The benchmark of predictions: its systems differ from those that are fitted, and its verdict is the worst of them."""

from itertools import product
from pathlib import Path

import pytest

from dualpath_ray.base.units import parse_bps
from dualpath_ray.bench.prediction import CALIBRATION, PREDICTED, verdict

CONFIGS = Path(__file__).parents[3] / "cluster_configs"


def test_what_is_predicted_is_another_system_with_another_workload():
    assert {system.bound for system in PREDICTED} == {"storage-bound", "mixed", "compute-bound"}
    for system in CALIBRATION + PREDICTED:
        assert (CONFIGS / f"{system.config}.yaml").is_file() and parse_bps(system.snic_rate) > 0
    seen = {(system.config, system.snic_rate) for system in CALIBRATION + PREDICTED}
    assert len(seen) == len(CALIBRATION) + len(PREDICTED)
    for fitted, predicted in product(CALIBRATION, PREDICTED):
        assert predicted.options.seed != fitted.options.seed
        assert predicted.options.max_turns != fitted.options.max_turns


def row(kind, jct_error, ttft_error):
    return {"kind": kind, "jct_error": jct_error, "ttft_p50_error": ttft_error}


@pytest.mark.parametrize("sign", (1, -1))
def test_the_verdict_is_the_worst_prediction_whatever_the_fit(sign):
    rows = [
        row("fitted", 0.9, 0.9),
        row("predicted", 0.02, sign * 0.13),
        row("predicted", sign * 0.07, 0.01),
    ]
    assert verdict(rows) == "2 predictions: JCT at most 7.0% off (limit 10%), TTFT p50 at most 13.0% (limit 15%)"
