"""The data path as spans of OpenTelemetry, of a cluster that was started with a tracing hook."""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.nodes import ROOT, Cluster

pytestmark = pytest.mark.timeout(300)
DRIVER = """
import sys, numpy as np
from dualpath_ray import SamplingParams, connect, start
config = {"prefill_nodes": 1, "decode_nodes": 1, "model": "toy-llama", "block_tokens": 16, "engine": {"cpus": 1}}
with start(config, address=sys.argv[1], max_context_tokens=256) as system:
    client = connect(system)
    for _ in range(2):  # the second one has a hit
        client.generate(np.arange(20, 120), SamplingParams(max_tokens=4, ignore_end=True), "t").result(60)
    client.close()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="dp-s-", ignore_cleanup_errors=True) as temp:
        cluster = Cluster(Path(temp))
        spans = Path(temp) / "spans"
        spans.mkdir()
        cluster.env |= {"SPANS_FOLDER": str(spans), "PYTHONPATH": str(ROOT)}
        try:
            cluster.start("--tracing-startup-hook=tests.slow.tracing_hook:set_up")
            yield cluster
        finally:
            cluster.stop()


def test_reads_transfers_layers_and_steps_are_spans(cluster: Cluster) -> None:
    done = cluster.run(sys.executable, "-c", DRIVER, cluster.address)
    assert done.returncode == 0, done.stderr[-3000:]
    spans = [
        json.loads(line)
        for path in Path(cluster.env["SPANS_FOLDER"]).glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    ours = [span for span in spans if span["name"] in ("kv_read", "kv_in", "kv_out", "prefill_layer", "decode_step")]
    assert {span["name"] for span in ours} >= {"kv_read", "kv_out", "prefill_layer", "decode_step"}
    assert all(span["start_time"] <= span["end_time"] for span in ours)
    layers = {span["attributes"]["layer"] for span in ours if span["name"] == "prefill_layer"}
    assert layers == set(range(len(layers))) and len(layers) > 1
    assert sum(span["attributes"]["bytes"] for span in ours if span["name"] == "kv_read") > 0
