"""``dualpath bench h2d``: scattered blocks of page-locked slots to the GPU and back, beside one large copy (section 5.2)."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.bench.rates import RateRow, Sample, in_rounds, rate_row, result, table
from dualpath_ray.bench.result import write_result
from dualpath_ray.ops.results_dir import make_out

SMALL_AT_LEAST, LARGE_AT_LEAST, LARGE_BYTES = 0.85, 0.93, 128 << 10
_GROUP = 32  # layer blocks of a slot: a copy takes one of each slot, as a layer's copy does


def run(sizes: Sequence[int], total_bytes: int, rounds: int, out: Path, echo: Callable[[str], None]) -> dict[str, Any]:
    """Run the benchmark and write ``h2d.json``. Args: total_bytes: copied by each way in a round.

    Raises: ConfigError when there is no CUDA device.
    """
    import torch

    if not torch.cuda.is_available():
        raise ConfigError("bench h2d: there is no CUDA device here; run it on a machine with a GPU")
    make_out(out)
    rows: list[RateRow] = []
    chosen = []
    for size in sizes:
        with torch.cuda.stream(torch.cuda.Stream()):
            found, choice = _at_size(size, total_bytes, rounds)
        rows += found
        chosen.append({"block_bytes": size, "chosen": choice})
    figures = {**result(rows, []), "gpu": torch.cuda.get_device_name(), "chosen": chosen}
    write_result(out / "h2d.json", figures)
    for line in table(rows):
        echo(line)
    for size, way in zip(sizes, chosen, strict=True):
        echo(f"{size >> 10} KiB: {way['chosen']}")
    return figures


def _at_size(size: int, total_bytes: int, rounds: int) -> tuple[list[RateRow], str]:
    import torch

    from dualpath_ray.engine.hbm.calls import CopyCalls
    from dualpath_ray.engine.hbm.port import BlockCopy
    from dualpath_ray.engine.hbm.probe import choose, device_s, probe, ways

    count = total_bytes // size
    stride = size * min(_GROUP, max(1, (4 << 30) // (count * size)))  # at most 4 GiB of slots
    pool = torch.empty(count * stride, dtype=torch.uint8, pin_memory=True)
    pool.view(torch.int32).random_()
    device = torch.empty(count * size, dtype=torch.uint8, device="cuda")
    order = np.random.default_rng(0).permutation(count).astype(np.uint64)
    host = order * np.uint64(stride) + np.uint64(pool.data_ptr())
    target = np.arange(count, dtype=np.uint64) * np.uint64(size) + np.uint64(device.data_ptr())
    every: list[BlockCopy] = [*ways(), CopyCalls()]
    measured: dict[str, Callable[[], Sample]] = {}

    def sample(work: Callable[[], Any]) -> Sample:
        cpu = time.process_time()
        seconds = device_s(work)
        return Sample(count * size, seconds, time.process_time() - cpu)

    whole = pool[: count * size]
    measured["one copy in"] = partial(sample, partial(device.copy_, whole, non_blocking=True))
    measured["one copy out"] = partial(sample, partial(whole.copy_, device, non_blocking=True))
    lists = {way.name: way.prepare(host, target, size) for way in every}
    for way in every:
        measured[f"{way.name} in"] = partial(sample, partial(way.to_device, lists[way.name]))
        measured[f"{way.name} out"] = partial(sample, partial(way.to_host, lists[way.name]))
    found = in_rounds(measured, rounds + 1)
    rows = []
    choice = choose(probe(pool.numpy(), size, stride, min(total_bytes, 64 << 20)))
    for way in every:
        for direction, name in (("in", "to the device"), ("out", "to the host")):
            limits, samples = found[f"one copy {direction}"][1:], found[f"{way.name} {direction}"][1:]
            wanted = LARGE_AT_LEAST if size >= LARGE_BYTES else SMALL_AT_LEAST
            at_least = wanted if way.name == choice.way.name and direction == "in" else None
            rows.append(rate_row(f"{way.name}, {name}", size, samples, "one large copy", limits, at_least=at_least))
    _check(every, pool, device, order, size, stride, host, target)
    return rows, choice.way.name


def _check(
    every: Sequence[Any], pool: Any, device: Any, order: np.ndarray, size: int, stride: int, host: Any, target: Any
) -> None:
    """Every way moves the right bytes. Raises: AssertionError."""
    import torch

    blocks = [pool[int(slot) * stride :][:size] for slot in order[:64]]
    wanted = torch.stack(blocks)
    for way in every:
        device.zero_()
        prepared = way.prepare(host, target, size)
        way.to_device(prepared)
        torch.cuda.synchronize()
        assert torch.equal(device.view(-1, size)[: len(wanted)].cpu(), wanted), way.name
        for block in blocks:
            block.zero_()
        way.to_host(prepared)
        torch.cuda.synchronize()
        assert torch.equal(torch.stack(blocks), wanted), way.name
