"""Small simulated clusters whose times are easy to reckon."""

from dataclasses import replace

import pytest

from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.models.known import known_model
from dualpath_ray.scheduler.state import FetchLimits
from dualpath_ray.simulator.costs import DecodeCosts, PrefillCosts
from dualpath_ray.simulator.spec import ClusterSpec, Delays, NodeRates


@pytest.fixture(scope="session")
def make_spec():
    """``ClusterSpec`` of smollm2-135m on 1P1D with 100 MB/s storage NICs; any field may be given."""

    def make(**changes):
        model = known_model("smollm2-135m")
        layout = KvLayout(model.kv_layers, 16, model.kv_elements_per_token_layer * model.kv_element_bytes)
        spec = ClusterSpec(
            prefill_nodes=1,
            decode_nodes=1,
            engines=1,
            model=model,
            layout=layout,
            rates=NodeRates(snic_in=1e8, snic_out=1e8, cnic=1e9),
            prefill_costs=PrefillCosts(0.01, 0.001, 0.0002, 1e-12),
            decode_costs=DecodeCosts(0.02, 0.002, 1e-6),
            delays=Delays(),
            limits=FetchLimits(100_000, 100_000, token_bytes=layout.token_bytes, block_tokens=16),
            read_path="scheduled",
            layerwise=True,
            prefetch=True,
            quota_s=0.3,
            oracle=False,
            min_chunk_tokens=16,
            max_batch_tokens=512,
            max_rows=4096,
            pe_blocks=1024,
            de_blocks=2048,
            hbm_tokens=20_000,
            report_interval_s=0.02,
        )
        return replace(spec, **changes)

    return make
