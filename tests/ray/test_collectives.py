"""Model-execution traffic of engines with peers: exchanged between them, counted at the NICs of both, tokens unchanged."""

import pytest

from dualpath_ray.base.types import TrafficClass
from tests.ray.systems import check, roll_out, running, trajectories

pytestmark = pytest.mark.ray

BYTES = 64  # of a token in a layer
EXCHANGED = {
    "decode_nodes": 2,
    "engine": {"all_to_all_bytes": BYTES, "all_to_all": "exchanged"},
    "node": {"cnic_bps": "2 GB/s"},
}


def test_engines_of_a_role_exchange_their_tokens_bytes_after_every_layer() -> None:
    """The only prefill engine has nobody to exchange with, and replays."""
    with running(EXCHANGED) as (system, client):
        record = roll_out(system, client, trajectories(4, turns=2))
        assert check(system, record).identical
        status = system.status()
    layers = system.plan.description.num_layers
    bursts = {
        name: node["nics"][f"{name}/cnic0/in"]["bytes_by_class"].get(TrafficClass.MODEL_EXECUTION, 0)
        for name, node in status["nodes"].items()
    }
    decoded = sum(engine["generated_tokens"] for engine in status["decode"])
    computed = sum(engine["computed_tokens"] for engine in status["prefill"])
    assert bursts["p0"] == computed * layers * BYTES
    assert bursts["d0"] == bursts["d1"] == decoded * layers * BYTES, "two members: what one sends, the other gives back"
