"""``dualpath bench isolation``: what KV traffic does to model execution on a compute NIC (section 5), lane by lane.

A decode engine generates, each layer ending with a burst on its emulated CNIC as an expert-parallel model's all-to-all
makes it; meanwhile the KV of other requests comes over the same NIC. Windows with and without KV take turns, in one system
whose lanes are the configured ones, and in one where all classes share a lane.
"""

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.bench.result import write_result
from dualpath_ray.cluster.asking import ask
from dualpath_ray.cluster.client import Client, Generation
from dualpath_ray.cluster.plan import make_plan
from dualpath_ray.cluster.system import System, start_system
from dualpath_ray.config.load import parse_cluster
from dualpath_ray.engine.sampling import SamplingParams
from dualpath_ray.engine.timed import is_timed
from dualpath_ray.ops.results_dir import make_out

CNIC_BPS, SNIC_BPS = "2 GB/s", "200 MB/s"
BURST_BYTES = 1_600_000  # of a layer: 0.8 ms of the CNIC
AT_MOST = 1.02  # of the time without KV, in lanes of their own
LANES, ONE_LANE = "own lanes", "one lane"
_MOST_TOKENS_PER_S = 40  # of a measured sequence
_SEQUENCES = 2  # that are measured
_LOADS = 3  # requests under way that bring KV
_ALL = (TrafficClass.MODEL_EXECUTION, TrafficClass.KV_URGENT, TrafficClass.KV_CACHE)
_BLOCK_TOKENS = 64


@dataclass(frozen=True, slots=True)
class IsolationRow:
    """One figure. ``over_no_kv``: the median, over pairs of windows, of its value over that of the window without KV."""

    name: str
    setting: str
    value: float
    unit: str
    over_no_kv: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Means within a window; ``kv_bytes_per_s`` came over the CNIC."""

    tpot_s: float
    wire_s: float
    waited_s: float
    collective_bytes_per_s: float
    kv_bytes_per_s: float


def run(models: Sequence[str], pairs: int, window_s: float, out: Path, echo: Callable[[str], None]) -> dict[str, Any]:
    """Run the benchmark and write ``isolation.json``. Raises: ConfigError."""
    make_out(out)
    rows: list[IsolationRow] = []
    for model in models:
        for lanes in (LANES, ONE_LANE):
            echo(f"{model}, {lanes}")
            windows = _measure(model, lanes, pairs, window_s, echo)
            rows += make_rows(model, lanes, windows)
    for row in rows:
        echo(said(row))
    found = {"pairs_of_windows": pairs, "window_s": window_s, "rows": [asdict(row) for row in rows]}
    write_result(out / "isolation.json", found)
    return found


def make_rows(model: str, lanes: str, windows: Sequence[tuple[Window, Window]]) -> list[IsolationRow]:
    """Args: windows: (without KV, with it) of each pair. Pure."""
    rows = []
    bound = AT_MOST if lanes == LANES and is_timed(model) else None
    for name, unit, limit in (
        ("tpot_s", "s", bound),
        ("wire_s", "s", bound),
        ("waited_s", "s", None),
        ("collective_bytes_per_s", "B/s", None),
        ("kv_bytes_per_s", "B/s", None),
    ):
        label = f"{model}, {_NAMES[name]}"
        without, loaded = ([getattr(pair[at], name) for pair in windows] for at in (0, 1))
        rows.append(IsolationRow(label, f"no KV, {lanes}", statistics.median(without), unit))
        ratio = statistics.median(b / a for a, b in zip(without, loaded, strict=True)) if all(without) else None
        rows.append(IsolationRow(label, f"KV, {lanes}", statistics.median(loaded), unit, ratio, limit))
    return rows


_NAMES = {
    "tpot_s": "time per output token",
    "wire_s": "collective on the NIC",
    "waited_s": "collective as the engine sees it",
    "collective_bytes_per_s": "collectives' throughput",
    "kv_bytes_per_s": "KV throughput",
}


def said(row: IsolationRow) -> str:
    value = f"{row.value * 1e3:.2f} ms" if row.unit == "s" else f"{row.value / 1e6:.0f} MB/s"
    over = "" if row.over_no_kv is None else f", {row.over_no_kv:.3f} of that without KV"
    return f"{row.name}, {row.setting}: {value}{over}" + (f" (at most {row.at_most})" if row.at_most else "")


def _measure(
    model: str, lanes: str, pairs: int, window_s: float, echo: Callable[[str], None]
) -> list[tuple[Window, Window]]:
    one = {"fabric": {"cnic": {"service_levels": dict.fromkeys(_ALL, 2)}}} if lanes == ONE_LANE else {}
    config = parse_cluster(
        {
            "prefill_nodes": 1,
            "decode_nodes": 1,
            "model": model,
            "block_tokens": _BLOCK_TOKENS,
            "node": {"cnic_bps": CNIC_BPS, "snic_bps": SNIC_BPS},
            "engine": {"all_to_all_bytes": BURST_BYTES // _SEQUENCES},
            "scheduler": {"read_path": "prefill_only"},
            **one,
        },
        "bench isolation",
    )
    context = 4096 if is_timed(model) else 1024
    longest = context + _BLOCK_TOKENS + int(2 * pairs * (window_s + 2) * _MOST_TOKENS_PER_S)
    plan = make_plan(config, "bench isolation", min(longest, 8192) if not is_timed(model) else longest)
    with start_system(plan, progress=lambda step: None) as system:
        client = Client(system)
        try:
            return _windows(system, client, context, plan.max_context_tokens, pairs, window_s, echo)
        finally:
            client.close()


def _windows(
    system: System,
    client: Client,
    context: int,
    longest: int,
    pairs: int,
    window_s: float,
    echo: Callable[[str], None],
) -> list[tuple[Window, Window]]:
    load = KvLoad(client, context)
    load.prepare()
    measured = [_endless(client, number, longest) for number in range(_SEQUENCES)]
    found = []
    try:
        while min(len(generation.token_times_s) for generation in measured) < 3:
            time.sleep(0.05)
        for number in range(pairs):
            without = _window(system, measured[0], window_s)
            load.start()
            time.sleep(min(2.0, window_s))  # until KV flows
            loaded = _window(system, measured[0], window_s)
            load.stop()
            found.append((without, loaded))
            echo(
                f"pair {number + 1}/{pairs}: TPOT {without.tpot_s * 1e3:.2f} and {loaded.tpot_s * 1e3:.2f} ms, "
                f"{loaded.kv_bytes_per_s / 1e6:.0f} MB/s of KV"
            )
    finally:
        load.stop()
        for generation in measured:
            generation.cancel()
    return found


def _endless(client: Client, number: int, longest: int) -> Generation:
    prompt = np.full(_BLOCK_TOKENS // 2, 20 + number, np.int32)
    params = SamplingParams(max_tokens=longest - len(prompt) - 1, ignore_end=True)
    return client.generate(prompt, params, f"measured{number}")


def _window(system: System, generation: Generation, window_s: float) -> Window:
    engine = next(iter(system.handles.decode.values()))
    ask(engine.collective_times.remote(), "the decode engine")
    before, began, first = _cnic_bytes(system), time.monotonic(), len(generation.token_times_s)
    time.sleep(window_s)
    times = generation.token_times_s[first:]
    after, took = _cnic_bytes(system), time.monotonic() - began
    bursts = ask(engine.collective_times.remote(), "the decode engine")
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    if not gaps or not bursts:
        raise ConfigError(
            f"--window: a measured engine gave {len(times)} tokens in {window_s:g} s; make it longer, or take a model that "
            f"generates no more than {_MOST_TOKENS_PER_S} tokens a second"
        )
    moved = {name: (after.get(name, 0) - before.get(name, 0)) / took for name in _ALL}
    return Window(
        tpot_s=statistics.fmean(gaps),
        wire_s=statistics.fmean(wire for wire, _ in bursts),
        waited_s=statistics.fmean(waited for _, waited in bursts),
        collective_bytes_per_s=moved[TrafficClass.MODEL_EXECUTION],
        kv_bytes_per_s=moved[TrafficClass.KV_CACHE],
    )


def _cnic_bytes(system: System) -> dict[str, int]:
    """Bytes that came over the decode node's CNIC, by class."""
    (status,) = (node for name, node in system.status()["nodes"].items() if name.startswith("d"))
    found: dict[str, int] = status["nics"][f"{status['node']}/cnic0/in"]["bytes_by_class"]
    return found


class KvLoad:
    """Requests whose KV is in storage, one after the other: each brings a whole context over the CNICs."""

    def __init__(self, client: Client, context_tokens: int) -> None:
        self._client = client
        self._contexts = [
            np.random.default_rng(number).integers(16, 500, context_tokens + 1).astype(np.int32)
            for number in range(_LOADS)
        ]
        self._params = SamplingParams(max_tokens=1, ignore_end=True)
        self._running = False
        self._one_begins = threading.Lock()
        self._under_way: dict[int, Generation] = {}

    def prepare(self) -> None:
        """Compute the contexts once; they are stored."""
        for number, context in enumerate(self._contexts):
            self._client.generate(context, self._params, f"load{number}").result(120)

    def start(self) -> None:
        self._running = True
        for number in range(_LOADS):
            self._next(number)

    def _next(self, number: int) -> None:
        with self._one_begins:
            if self._running:
                self._under_way[number] = self._client.generate(
                    self._contexts[number], self._params, f"load{number}", lambda ended: self._next(number)
                )

    def stop(self) -> None:
        """Returns when all have ended."""
        with self._one_begins:
            self._running = False
        for generation in list(self._under_way.values()):
            generation.result(60)
        self._under_way.clear()
