"""Alpha: three seconds of the slowest thing that a read passes."""

import pytest

from dualpath_ray.cluster.plan import make_plan
from dualpath_ray.config.load import parse_cluster
from dualpath_ray.engine.profile import ALPHA_S, EngineProfile

SMALLEST = {"prefill_nodes": 1, "decode_nodes": 1, "model": "toy-llama", "block_tokens": 16}


@pytest.mark.parametrize(
    ("snic_bps", "link_bytes_per_s", "read_bytes_per_s", "slowest"),
    [
        ("8 MB/s", None, 0.0, 8e6),
        ("8 MB/s", 2e6, 0.0, 8e6),  # emulated: the device under it is not what limits
        (None, 2e6, 0.0, 2e6),
        (None, 4e6, 3e6, 3e6),
        (None, 4e6, 5e6, 4e6),
        (None, None, 5e6, 5e6),
    ],
)
def test_alpha_is_of_the_slowest_of_nic_and_profile(snic_bps, link_bytes_per_s, read_bytes_per_s, slowest):
    plan = make_plan(parse_cluster(SMALLEST, "c.yaml", {"node.snic_bps": snic_bps}), "c.yaml", 512)
    profile = EngineProfile(0.0, 0.0, 1.0, 1.0, read_bytes_per_s=read_bytes_per_s)
    limits = plan.fetch_limits(profile, link_bytes_per_s)
    assert limits.short_read_queue_tokens == int(slowest * ALPHA_S / plan.layout.token_bytes)


def test_alpha_has_no_limit_where_no_rate_is_known():
    plan = make_plan(parse_cluster(SMALLEST, "c.yaml"), "c.yaml", 512)
    assert plan.fetch_limits(EngineProfile(0.0, 0.0, 1.0, 1.0)).short_read_queue_tokens > 10**9
