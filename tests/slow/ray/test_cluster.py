"""A Ray cluster of three nodes on this machine: logical nodes placed by labels, and the main job as a Ray job."""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.nodes import BIN, Cluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]
CONFIG = "prefill_nodes: 1\ndecode_nodes: 1\nmodel: toy-llama\nblock_tokens: 16\nengine:\n  cpus: 1\n"
# Random tokens: bytes of text share first blocks between trajectories, and who hits them is a matter of time.
TRACE = ["--trace", "table2-32k", "--token-scale", "0.01", "--max-gen", "8"]
FLAGS = [*TRACE, "--num-trajectories", "3", "--max-turns", "4", "--compare", "prefill_only,scheduled"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="dp-c-", ignore_cleanup_errors=True) as temp:
        cluster = Cluster(Path(temp))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def test_a_submitted_job_gives_the_summary_of_the_command(cluster: Cluster, tmp_path: Path) -> None:
    """Before other nodes join: on one machine, several would delete each other's job folder."""
    config = tmp_path / "cluster.yaml"
    config.write_text(CONFIG)
    local, job = tmp_path / "local", tmp_path / "job"
    ran = cluster.run(
        str(BIN / "dualpath"), "rollout", str(config), *FLAGS, "--out", str(local), "--address", cluster.address
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    submitted = cluster.submit("python", "jobs/rollout.py", str(config), *FLAGS, "--out", str(job))
    assert submitted.returncode == 0, submitted.stdout[-3000:] + submitted.stderr[-3000:]
    one, other = (json.loads((path / "summary.json").read_text()) for path in (local, job))
    assert one["tokens_identical"] and other["tokens_identical"]
    assert one["hit_tokens_equal"] and other["hit_tokens_equal"]
    for a, b in zip(one["runs"], other["runs"], strict=True):
        for key in ("mode", "read_path", "prompt_tokens", "hit_tokens", "recomputed_tokens", "num_turns"):
            assert a[key] == b[key]
    assert (job / "report.html").stat().st_size > 10_000


def test_logical_nodes_stand_on_the_ray_nodes_with_their_label(cluster: Cluster, tmp_path: Path) -> None:
    """The head has CPUs to spare, and gets no engine."""
    cluster.join("prefill")
    cluster.join("decode")
    config = tmp_path / "cluster.yaml"
    config.write_text(CONFIG)
    script = f"""
import json, numpy as np, ray
from dualpath_ray import SamplingParams, connect, start
with start({str(config)!r}, address={cluster.address!r}, max_context_tokens=256) as system:
    client = connect(system)
    samples = client.generate(np.arange(20, 120), SamplingParams(max_tokens=3, ignore_end=True), "t").result(60)
    labels = {{n["NodeID"]: n["Labels"].get("dualpath-role") for n in ray.nodes()}}
    h = system.handles
    where = {{name: labels[ray.get(a.ray_node.remote())] for name, a in {{**h.traffic, **h.prefill, **h.decode}}.items()}}
    where["storage"] = labels[ray.get(h.storage[0].ray_node.remote())]
    client.close()
print(json.dumps([where, samples[0].token_ids]))
"""
    done = cluster.run(sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr[-3000:]
    where, tokens = json.loads(done.stdout.strip().splitlines()[-1])
    assert where == {"p0": "prefill", "p0/e0": "prefill", "d0": "decode", "d0/e0": "decode", "storage": "storage"}
    assert len(tokens) == 3


def test_too_few_cpus_are_one_sentence(cluster: Cluster, tmp_path: Path) -> None:
    config = tmp_path / "big.yaml"
    config.write_text(CONFIG.replace("cpus: 1", "cpus: 8"))
    ran = cluster.run(str(BIN / "dualpath"), "rollout", str(config), *FLAGS, "--address", cluster.address)
    assert ran.returncode == 2
    assert f"{config}: engine.cpus" in ran.stderr and len(ran.stderr.strip().splitlines()) == 1
