"""A request of a system whose decode engine is gone: what is left to tell is told."""

from typing import Any

import numpy as np
import pytest
import ray

from dualpath_ray import SamplingParams
from dualpath_ray.base.errors import SystemDiedError
from dualpath_ray.cluster.trace import collect
from tests.ray.systems import running

pytestmark = pytest.mark.ray


def told(span: dict[str, Any]) -> tuple[Any, ...]:
    """Without the times, which are of the wall clock and so not twice the same."""
    return span["name"], span["place"], span["layer"], span["nbytes"], span["request_ids"]


def test_a_dead_engine_is_named_and_the_others_still_tell() -> None:
    with pytest.raises(SystemDiedError), running() as (system, client):
        generation = client.generate(np.arange(20, 120), SamplingParams(max_tokens=4, ignore_end=True), "t")
        generation.result(60)
        whole = collect(system.name, generation.request.request_id)
        assert whole.silent == () and whole.facts is not None
        assert {span["name"] for span in whole.spans} == {"prefill_layer", "kv_out", "decode_step"}

        ray.kill(ray.get_actor("decode/d0/e0", namespace=system.name))
        left = collect(system.name, generation.request.request_id)
        assert left.decision == whole.decision and left.facts is None
        assert [told(span) for span in left.spans] == [told(s) for s in whole.spans if s["place"] != "d0/e0"]
        assert left.silent == ("decode engine d0/e0 is gone: its process has died",)
        client.generate(np.arange(20, 120), SamplingParams(max_tokens=4), "t").result(60)
