"""``dualpath bench layerwise``: prefill over a long cached context, its layers brought while others compute (section 4.1).

The engine's own parts run: its model adapter, and its memory with its three buffers and streams, over a page-locked pool
of scattered blocks. What is missing is the traffic manager: every staging region is free at once. Batches run one after
the other, as in an engine with work: the first layers of each come while the last ones of the one before compute. Beside
it, in the same rounds: one batch alone, the same forward with the KV in HBM already, the same copies alone, and the forward
without overlap.
"""

import secrets
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.types import ReadPath
from dualpath_ray.bench.result import write_result
from dualpath_ray.engine.describe import describe
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import SHM_DIR, Segment
from dualpath_ray.ops.results_dir import make_out
from dualpath_ray.traffic.copies import plan_rows
from dualpath_ray.traffic.messages import LayerIn

BLOCK_TOKENS = 64
AT_MOST = {1: 1.15, 4: 1.08, 8: 1.08}  # of the larger of computation and copies, by batch
PEAK_LAYERS_AT_MOST = 4
_CONSECUTIVE = 8  # batches in a row; the first fills the pipeline and is not counted


@dataclass(frozen=True, slots=True)
class LayerwiseRow:
    """Medians over rounds, seconds of one batch. ``over_limit``: ``overlapped_s`` over the larger of computation and copies."""

    name: str
    batch: int
    block_bytes: int
    way: str
    attention: str  # whose kernels
    compute_s: float
    copies_s: float
    copies_bytes_per_s: float
    overlapped_s: float  # batch after batch
    alone_s: float  # nothing before it and nothing after it
    serial_s: float  # all layers first, then the forward, then the new KV back
    over_limit: float
    alone_over_limit: float
    at_most: float | None
    peak_layers: float  # KV in HBM at most, in layers of the batch
    bytes_per_s: float
    limit_name: str
    limit_bytes_per_s: float
    ratio_to_limit: float
    cpu_s_per_gb: float


def run(
    models: Sequence[str],
    batches: Sequence[int],
    cached_tokens: int,
    new_tokens: int,
    rounds: int,
    out: Path,
    echo: Callable[[str], None],
) -> dict[str, Any]:
    """Run the benchmark and write ``layerwise.json``. Raises: ConfigError when there is no CUDA device."""
    import torch

    if not torch.cuda.is_available():
        raise ConfigError("bench layerwise: there is no CUDA device here; run it on a machine with a GPU")
    make_out(out)
    rows: list[LayerwiseRow] = []
    skipped: list[str] = []
    for model in models:
        bench = _LayerwiseBench(model, max(batches), cached_tokens, new_tokens)
        for batch in batches:
            try:
                rows.append(bench.row(batch, rounds))
            except torch.OutOfMemoryError:  # the plain model expands the latents of all its context
                skipped.append(f"{model}, batch {batch}: its forward does not fit into this GPU")
                echo(skipped[-1])
                break
            echo(_said(rows[-1]))
        bench.close()
    found = {
        "cached_tokens": cached_tokens,
        "new_tokens": new_tokens,
        "gpu": torch.cuda.get_device_name(),
        "peak_layers_at_most": PEAK_LAYERS_AT_MOST,
        "rows": [asdict(row) for row in rows],
        "skipped": skipped,
    }
    write_result(out / "layerwise.json", found)
    return found


def _said(row: LayerwiseRow) -> str:
    bar = f" (at most {row.at_most:g})" if row.at_most else ""
    return (
        f"{row.name}, batch {row.batch}: compute {row.compute_s * 1e3:.1f} ms, copies {row.copies_s * 1e3:.1f} ms "
        f"({row.copies_bytes_per_s / 1e9:.1f} GB/s, {row.way}), batch after batch {row.overlapped_s * 1e3:.1f} ms = "
        f"{row.over_limit:.2f}x{bar}, alone {row.alone_s * 1e3:.1f} ms = {row.alone_over_limit:.2f}x, "
        f"not overlapped {row.serial_s * 1e3:.1f} ms; at most {row.peak_layers:.1f} layers in HBM"
    )


class _LayerwiseBench:
    """One model, and a pool that holds the largest batch's cached blocks."""

    def __init__(self, model: str, largest: int, cached_tokens: int, new_tokens: int) -> None:
        import torch

        from dualpath_ray.engine.hbm.pool_access import PoolAccess
        from dualpath_ray.engine.model import ModelAdapter

        self._model, self._cached, self._new = model, cached_tokens // BLOCK_TOKENS * BLOCK_TOKENS, new_tokens
        description = describe(model, "bfloat16", 0)
        self._layout = layout = KvLayout(
            description.num_layers, BLOCK_TOKENS, description.bytes_per_token_layer("bfloat16")
        )
        self._adapter = ModelAdapter(description, "bfloat16", 0, "cuda")
        self._blocks = self._cached // BLOCK_TOKENS
        region = largest * new_tokens * layout.bytes_per_token_layer
        self._region_bytes = region
        path = SHM_DIR / f"dualpath-bench.{secrets.token_hex(4)}"
        self._segment = Segment.create(
            path, layout, largest * self._blocks, layout.num_layers * region, "bench layerwise"
        )
        self._segment.unlink()
        values = torch.randn(layout.slot_bytes // 2, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
        self._segment.slots[:] = values.view(torch.uint8).numpy()
        self._access = PoolAccess(self._segment)
        self._slots = np.random.default_rng(0).permutation(largest * self._blocks)
        self._tokens = np.random.default_rng(1).integers(100, description.vocab_size, new_tokens).tolist()

    def row(self, batch: int, rounds: int) -> LayerwiseRow:
        import torch

        layout, total = self._layout, self._cached + self._new
        nbytes = batch * self._cached * layout.token_bytes
        resident, expected = self._resident(batch)
        copies = self._copies(batch)
        names = ("compute", "copies", "overlapped", "alone", "serial")
        found: dict[str, list[float]] = {name: [] for name in names}
        cpu, memories = [], {layerwise: self._memory(layerwise) for layerwise in (True, False)}
        for number in range(rounds + 1):  # the first warms up
            measured = {"compute": _seconds(partial(self._forward, batch, resident)), "copies": _seconds(copies)}
            began = time.process_time()
            times = self._run_in_a_row(memories[True], batch, _CONSECUTIVE, expected)
            used = (time.process_time() - began) / _CONSECUTIVE
            measured["overlapped"] = statistics.median(times[1:])
            for name, layerwise in (("alone", True), ("serial", False)):
                measured[name] = _seconds(partial(self._run_in_a_row, memories[layerwise], batch, 1, expected))
            if number:
                for name, seconds in measured.items():
                    found[name].append(seconds)
                cpu.append(used)
        peak = memories[True].meter.peak_bytes
        del resident, copies, memories
        torch.cuda.empty_cache()
        medians = {name: statistics.median(values) for name, values in found.items()}
        bounds = [max(both) for both in zip(found["compute"], found["copies"], strict=True)]
        over, alone = (
            statistics.median(took / bound for took, bound in zip(found[name], bounds, strict=True))
            for name in ("overlapped", "alone")
        )
        bound = max(medians["compute"], medians["copies"])
        layer_bytes = batch * total * layout.bytes_per_token_layer
        return LayerwiseRow(
            name=self._model,
            batch=batch,
            block_bytes=layout.layer_block_bytes,
            way=self._access.way.name,
            attention=self._adapter.attention,
            compute_s=medians["compute"],
            copies_s=medians["copies"],
            copies_bytes_per_s=nbytes / medians["copies"],
            overlapped_s=medians["overlapped"],
            alone_s=medians["alone"],
            serial_s=medians["serial"],
            over_limit=over,
            alone_over_limit=alone,
            at_most=AT_MOST.get(batch),
            peak_layers=peak / layer_bytes,
            bytes_per_s=nbytes / medians["overlapped"],
            limit_name="the larger of computation and copies",
            limit_bytes_per_s=nbytes / bound,
            ratio_to_limit=1 / over,
            cpu_s_per_gb=statistics.median(cpu) / nbytes * 1e9,
        )

    def _forward(self, batch: int, kv: Any) -> Any:
        return self._adapter.forward([self._tokens] * batch, [self._cached] * batch, kv, range(batch))

    def _resident(self, batch: int) -> tuple[Any, Any]:
        """The same rows, all in HBM; and the logits they give."""
        import torch

        layout, total = self._layout, self._cached + self._new
        shape = (layout.num_layers, batch, total, layout.bytes_per_token_layer)
        memory = torch.empty(shape, dtype=torch.uint8, device="cuda")
        for request in range(batch):
            for block, slot in enumerate(self._slots_of(request)):
                first = block * BLOCK_TOKENS
                rows = torch.from_numpy(self._segment.full_block(int(slot)))
                memory[:, request, first : first + BLOCK_TOKENS].copy_(rows, non_blocking=True)
        torch.cuda.synchronize()
        kv = _ResidentKv(memory.flatten(1, 2), [request * total for request in range(batch)])
        return kv, self._forward(batch, kv)

    def _slots_of(self, request: int) -> np.ndarray:
        return self._slots[request * self._blocks : (request + 1) * self._blocks]

    def _memory(self, layerwise: bool) -> Any:
        from dualpath_ray.engine.hbm.layerwise import HbmBatches

        return HbmBatches(self._access, 0, layerwise, lambda message: None)

    def _begin(self, memory: Any, batch: int, loaded: Callable[[], None]) -> Any:
        """KV of a batch, all of its regions granted."""
        plans = plan_rows([(ReadPath.PE, self._cached, self._cached, self._cached + self._new)] * batch)
        kv = memory.batch(1, plans, [self._slots_of(r).tolist() for r in range(batch)], loaded)
        start = self._segment.staging_offset
        for layer in range(self._layout.num_layers):
            kv.on_layer_in(LayerIn(1, layer, start + layer * self._region_bytes, 0.0))
        return kv

    def _run_in_a_row(self, memory: Any, batch: int, count: int, expected: Any) -> list[float]:
        """So many batches, as the engine runs them. Returns: seconds from the end of each one to that of the next."""
        import torch

        begun: list[Any] = []

        def begin() -> None:
            if len(begun) < count:
                begun.append(self._begin(memory, batch, begin))

        begin()
        times, last = [], time.perf_counter()
        for number in range(count):
            try:
                logits = self._forward(batch, begun[number])
            except torch.OutOfMemoryError:
                begun[number].abandon()
                raise
            begun[number].finish()
            assert torch.equal(logits.argmax(1), expected.argmax(1)), "the tokens differ from those with KV in HBM"
            begun[number], now = None, time.perf_counter()
            times.append(now - last)
            last = now
        return times

    def _copies(self, batch: int) -> Callable[[], None]:
        """All layers' cached blocks, one layer after the other, into as many buffers as the engine has."""
        import torch

        from dualpath_ray.engine.hbm.layerwise import NUM_BUFFERS

        layout, total, way = self._layout, self._cached + self._new, self._access.way
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            shape = (batch * total, layout.bytes_per_token_layer)
            buffers = [torch.empty(shape, dtype=torch.uint8, device="cuda") for _ in range(NUM_BUFFERS)]
            rows = [r * total + BLOCK_TOKENS * np.arange(self._blocks) for r in range(batch)]
            offsets = np.concatenate(rows).astype(np.uint64) * np.uint64(layout.bytes_per_token_layer)
            host = self._access.layer_blocks(self._slots[: batch * self._blocks])
            targets = [offsets + np.uint64(buffer.data_ptr()) for buffer in buffers]
            lists = [way.prepare(host, target, layout.layer_block_bytes) for target in targets]

        def copy() -> None:
            with torch.cuda.stream(stream):
                for layer in range(layout.num_layers):
                    way.to_device(lists[layer % len(buffers)], host_offset=layer * layout.layer_block_bytes)

        return copy

    def close(self) -> None:
        """Free HBM and the pool."""
        import torch

        from dualpath_ray.engine.hbm.page_lock import unlock

        torch.cuda.synchronize()
        unlock(self._segment.bytes)
        del self._adapter
        torch.cuda.empty_cache()


class _ResidentKv:
    """HbmKv whose cached rows are in HBM already."""

    def __init__(self, memory: Any, first_rows: list[int]) -> None:
        self._memory, self.first_rows = memory, first_rows

    def begin_layer(self, layer: int) -> Any:
        return self._memory[layer]

    def end_layer(self, layer: int) -> None:
        """The new rows stay."""


def _seconds(work: Callable[[], Any]) -> float:
    import torch

    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began
