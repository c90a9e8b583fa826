"""A system's life as an operator leads it, command by command, on a Ray that ``dualpath up`` starts."""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.timeout(600)
DUALPATH = Path(sys.executable).parent / "dualpath"
CONFIG = """
prefill_nodes: 1
decode_nodes: 1
model: toy-llama
block_tokens: 16
name: uptest
tenant: hunter2hunter2
node: {snic_bps: 4 MB/s, cnic_bps: 40 MB/s}
engine: {cpus: 0.5}
"""
WORK = ["--num-trajectories", "2", "--max-turns", "3", "--total-tokens", "200"]


class Operator:
    """Somebody with a shell."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / "cluster.yaml"
        self.config.write_text(CONFIG)
        ours = {
            "RAY_TMPDIR": str(home),
            "DUALPATH_HOME": str(home / "dp"),
            "HOME": str(home),
            "SECRET_TOKEN": "hunter2hunter2",
        }
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | ours

    def says(self, *command: str, code: int = 0, timeout_s: float = 120) -> str:
        """What a command prints, which ends with this exit code."""
        done = subprocess.run(
            [str(DUALPATH), *command],
            env=self.env,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        return said

    def processes(self) -> list[psutil.Process]:
        """Of the Ray that ``up`` has started."""
        state = json.loads((self.home / "dp" / "local_ray.json").read_text())
        head = psutil.Process(state["pid"])
        return [head, *head.children(recursive=True)]

    def status(self) -> dict[str, object]:
        told: dict[str, object] = json.loads(self.says("status", "--json", "--interval", "0.3"))
        return told


@pytest.fixture(scope="module")
def operator() -> Iterator[Operator]:
    with tempfile.TemporaryDirectory(prefix="dp-u-", ignore_cleanup_errors=True) as home:
        operator = Operator(Path(home))
        try:
            yield operator
        finally:
            state = Path(home) / "dp" / "local_ray.json"
            if state.exists():  # a test failed before ``down``
                process = psutil.Process(json.loads(state.read_text())["pid"])
                for each in [*process.children(recursive=True), process]:
                    each.kill()


def test_before_anything_runs(operator: Operator) -> None:
    for command in (["status"], ["down"], ["scale", "--prefill", "2"], ["logs"]):
        assert "--address: no Ray cluster runs on this machine" in operator.says(*command, code=2)


def test_up_and_up_again(operator: Operator) -> None:
    said = operator.says("up", str(operator.config))
    assert "starting Ray on this machine" in said and "uptest is up: 1P1D, toy-llama" in said
    assert "is up already, with this configuration" in operator.says("up", str(operator.config))
    other = operator.home / "other.yaml"
    other.write_text(CONFIG.replace("block_tokens: 16", "block_tokens: 32"))
    said = operator.says("up", str(other), code=2)
    assert "uptest is up with another configuration" in said and "block_tokens is 16 there and 32 in the file" in said
    status = operator.status()
    assert status["system"] == "uptest" and status["problems"] == []
    assert [(node["node"], node["state"]) for node in status["nodes"]] == [("p0", "up"), ("d0", "up")]


def test_rollouts_on_the_running_system_and_the_switch(operator: Operator) -> None:
    for path in ("prefill_only", "scheduled"):
        operator.says("set", f"read_path={path}")
        out = operator.home / path
        operator.says("rollout", str(operator.config), *WORK, "--system", "uptest", "--out", str(out), timeout_s=200)
        summary = json.loads((out / "summary.json").read_text())
        run = summary["runs"][0]
        assert summary["tokens_identical"] and run["mode"] == run["read_path"] == path
    assert operator.status()["read_path"] == "scheduled"
    assert "foo: only read_path can be set" in operator.says("set", "foo=1", code=2)
    assert "scheduler.read_path" in operator.says("set", "read_path=nowhere", code=2)
    assert "write KEY=VALUE" in operator.says("set", "read_path", code=2)


def test_a_request_is_traced_over_all_nodes_and_layers(operator: Operator) -> None:
    results = operator.home / "scheduled"
    last = json.loads((results / "decisions.jsonl").read_text().splitlines()[-1])
    file = operator.home / "trace.json"
    said = operator.says("trace", last["request_id"], "--out", str(file))
    for words in (
        "replay: the same inputs give the same decision",
        "hit read from storage",
        "prefill, to the first token",
    ):
        assert words in said
    assert "recomputed: nothing" in said
    events = [event for event in json.loads(file.read_text())["traceEvents"] if event["ph"] == "X"]
    layers = {(event["cat"], event["args"].get("layer")) for event in events}
    num_layers = len({layer for name, layer in layers if name == "prefill_layer"})
    assert num_layers > 1
    for name in ("prefill_layer", "kv_out"):
        assert {layer for cat, layer in layers if cat == name} == set(range(num_layers))
    by_name = {event["cat"] for event in events}
    assert {"kv_read", "kv_out", "prefill_layer", "decode_step"} <= by_name
    assert "knows of none" in operator.says("trace", "nobody", code=2)


def test_a_keeper_that_dies_comes_back_and_knows_its_system(operator: Operator) -> None:
    (keeper,) = [p for p in operator.processes() if "ray::Keeper" in " ".join(p.cmdline())]
    keeper.kill()
    assert "d1: joined" in operator.says("scale", "--decode", "2", timeout_s=200)
    assert "d1: left" in operator.says("scale", "--decode", "1")


def test_scale_and_drain(operator: Operator) -> None:
    said = operator.says("scale", "--decode", "2")
    assert "d1: joined" in said and "uptest: 1P2D" in said
    assert "d1 is drained" in operator.says("drain", "d1")
    states = {node["node"]: node["state"] for node in operator.status()["nodes"]}
    assert states == {"p0": "up", "d0": "up", "d1": "drained"}
    assert "d1 takes work again" in operator.says("undrain", "d1")
    assert "there is no d9; the nodes are p0, d0, d1" in operator.says("drain", "d9", code=2)
    assert "d1: left" in operator.says("scale", "--decode", "1")
    assert [node["node"] for node in operator.status()["nodes"]] == ["p0", "d0"]


def test_logs_and_a_bundle_without_secrets(operator: Operator) -> None:
    assert "keeper: d1: joined" in operator.says("logs", "keeper")
    assert "has none that begins with 'nobody'" in operator.says("logs", "nobody", code=2)
    bundle = operator.home / "bundle.tar.gz"
    operator.says("debug-bundle", "--out", str(bundle))
    with tarfile.open(bundle) as archive:
        files = {entry.name.partition("/")[2]: archive.extractfile(entry).read().decode() for entry in archive}
    assert {"status.json", "config.yaml", "versions.json", "doctor.json", "decisions.jsonl"} <= set(files)
    assert "toy-llama" in files["config.yaml"] and files["decisions.jsonl"].count("\n") == 12
    assert "logs/keeper.log" in files and any(name.startswith("metrics/") for name in files)
    everything = "".join(files.values())
    assert "tenant: [removed]" in files["config.yaml"] and "hunter2" not in everything, "a value of this shell's"


def test_down_removes_exactly_what_up_created(operator: Operator) -> None:
    family = operator.processes()
    store = operator.status()["storage"][0]["store"]
    assert Path(store).is_dir()
    said = operator.says("down")
    assert "uptest is down" in said and "the Ray that `dualpath up` started has ended" in said
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not list(Path("/dev/shm").glob("dualpath.uptest*")) and not Path(store).exists()
    assert "--address: no Ray cluster runs on this machine" in operator.says("status", code=2)
