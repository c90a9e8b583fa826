"""The system as a Ray cluster of four nodes over shaped NICs: bytes where they belong, and the dual path's speedup.

One node prefills, two decode, one has the storage node, whose own storage NIC is not shaped.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.netlab.cluster import Cluster
from tests.netlab.lab import CNIC, HIGH, LOW, MGMT, SNIC, why_not
from tests.ray.nodes import BIN, ROOT

REASON = why_not()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

SNIC_MBIT, CNIC_MBIT = 20, 1000
NODES = ("p0", "d0", "d1")
VALUES: dict[str, Any] = {
    "prefill_nodes": 1,
    "decode_nodes": 2,
    "model": "toy-llama-32l",
    "block_tokens": 32,
    "engine": {"cpus": 0.5},
    "storage": {"access": "network"},
    "profile": {"s_per_flop": 1e-9, "overhead_s": 0.01, "prompt_tokens_per_s": 1e4, "new_tokens_per_s": 1e3},
}
REAL = {"node": {"snic": SNIC, "cnic": CNIC}, "transport": "sockets", "fabric": {"kind": "roce"}}
RATES = {"node": {"snic_bps": f"{SNIC_MBIT} Mbps", "cnic_bps": f"{CNIC_MBIT} Mbps"}}
WITHIN = 1.05  # headers, acknowledgements and what the libraries say to one another
SETUP_BYTES = 50_000  # of connections, before there is anything to say


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="dp-n-", ignore_cleanup_errors=True) as temp:
        roles = ("prefill", "decode", "decode", "storage")
        made = Cluster(Path(temp), roles, snic_mbit=SNIC_MBIT, cnic_mbit=CNIC_MBIT)
        try:
            made.start()
            yield made
        finally:
            made.stop()


def roll_out(cluster: Cluster | None, folder: Path, config: dict[str, Any], *job: str) -> dict[str, Any]:
    """The summary; every token was checked against the plain model before it was written. None: over emulated NICs."""
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config))
    command = [str(BIN / "dualpath"), "rollout", str(file), *job, "--out", str(folder)]
    if cluster is None:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    else:
        done = cluster.run(900, *command, "--address", cluster.address)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    assert all(run["load_failures"] == 0 for run in summary["runs"])
    return summary


def moved(before: list[Any], after: list[Any], pick: Any) -> list[int]:
    return [pick(now) - pick(then) for then, now in zip(before, after, strict=True)][: len(NODES)]


class Row(NamedTuple):
    """Bytes of a node: sent in the low and the high lane of its compute NIC, and received by its storage NIC."""

    low: int
    high: int
    blocks: int

    def agrees(self, ours: "Row") -> bool:
        """Whether devices that count this carried no more, and no less."""
        return all(our <= counted <= WITHIN * our + SETUP_BYTES for our, counted in zip(ours, self, strict=True))

    def __repr__(self) -> str:
        return "/".join(f"{each / 1e6:.2f}" for each in self) + " MB"


def sent(run: dict[str, Any], node: str) -> Row:
    out = dict(run["class_bytes"][f"{node}/cnic0/out"])
    model = out.pop("model_execution", 0)
    return Row(sum(out.values()), model, run["snic_bytes"][node])


@pytest.mark.parametrize("transport", ["sockets", "nixl"])
def test_each_byte_goes_over_its_nic_and_in_its_lane(cluster: Cluster, tmp_path: Path, transport: str) -> None:
    """KV in the low lane of compute NICs, what decode engines exchange in the high one, blocks over storage NICs: to 5 %."""
    if transport == "nixl":
        pytest.importorskip("nixl", reason="nixl is not installed")
    engine = {"cpus": 0.5, "all_to_all_bytes": "64 KiB"}
    config = {**VALUES, **REAL, "engine": engine, "transport": transport}
    lanes, storage, control = cluster.sent(), cluster.devices(SNIC), cluster.devices(MGMT)
    job = ("--num-trajectories", "4", "--max-turns", "3", "--total-tokens", "1200")
    (run,) = roll_out(cluster, tmp_path / "run", config, *job)["runs"]
    after = cluster.sent()
    high, low = moved(lanes, after, lambda sent: sent[HIGH]), moved(lanes, after, lambda sent: sent[LOW])
    came = moved(storage, cluster.devices(SNIC), lambda both: both[0])
    controlled = moved(control, cluster.devices(MGMT), lambda both: both[1])
    rows = [Row(*row) for row in zip(low, high, came, strict=True)]
    ours = [sent(run, node) for node in NODES]
    # Ray chooses which decode node is where: there is one way in which all agree.
    found = [
        order
        for order in ((0, 1, 2), (0, 2, 1))
        if all(rows[at].agrees(our) for at, our in zip(order, ours, strict=True))
    ]
    print(
        f"{transport}: ours {ours}, on the devices {rows}, {sum(controlled) / 1e6:.1f} MB of control traffic beside them"
    )
    assert found
    assert ours[0].high == 0, "the prefill engine has nobody to exchange with"
    assert all(our.high > 0 for our in ours[1:])


@pytest.mark.timing
def test_the_dual_path_gains_over_shaped_nics_what_it_gains_over_emulated_ones(
    cluster: Cluster, tmp_path: Path
) -> None:
    job = (
        "--compare",
        "prefill_only,scheduled",
        "--num-trajectories",
        "6",
        "--max-turns",
        "6",
        "--total-tokens",
        "3000",
    )
    real = roll_out(cluster, tmp_path / "real", {**VALUES, **REAL}, *job)
    emulated = roll_out(None, tmp_path / "emulated", {**VALUES, **RATES}, *job)
    found, predicted = real["speedup"], emulated["speedup"]
    for what, summary in (("shaped", real), ("emulated", emulated)):
        said = ", ".join(f"{run['mode']} {run['jct_s']:.1f} s" for run in summary["runs"])
        print(f"over {what} NICs: {said}: {summary['speedup']:.2f}x")
    assert abs(found / predicted - 1) <= 0.1
