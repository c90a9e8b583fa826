"""A small system on hardware that need not exist, nodes of one GPU, and a short trace."""

from pathlib import Path

import pytest
import yaml

from dualpath_ray.planning.candidate import make_candidate
from dualpath_ray.planning.split import Split
from dualpath_ray.simulator.build import typical_turn
from dualpath_ray.workload.trajectory import TrajectoryLengths

SYSTEM = {
    "prefill_nodes": 1,
    "decode_nodes": 2,
    "model": "ds-27b",
    "hardware": "hopper",
    "node": {"gpus": 1, "snic_bps": "50 Gbps", "pe_buffer_bytes": "80 GB", "de_buffer_bytes": "80 GB"},
    "engine": {"max_batch_tokens": 16384},
    "scheduler": {"compute_quota_s": 0.01},
}


@pytest.fixture
def write_config(tmp_path):
    """Writes a configuration, with other values where some are given (None: left out), and returns its path."""

    def write(**changes) -> Path:
        path = tmp_path / "system.yaml"
        values = {key: value for key, value in {**SYSTEM, **changes}.items() if value is not None}
        path.write_text(yaml.safe_dump(values))
        return path

    return write


@pytest.fixture(scope="session")
def trajectories():
    """Agents whose contexts grow to some 30K tokens in 12 turns."""
    return [
        TrajectoryLengths(f"t{i}", ((12_000, 20 + i, 0.0), *((1_500, 20 + i, 0.0) for _ in range(11))))
        for i in range(10)
    ]


@pytest.fixture
def specs(write_config, trajectories):
    """Simulated systems of a split, by name."""

    def make(split=None, **changes):
        split = split or Split(1, 2)
        return make_candidate(write_config(**changes), {}, split, typical_turn(trajectories), None).specs

    return make
