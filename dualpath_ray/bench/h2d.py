"""``dualpath bench h2d``: scattered blocks of page-locked slots to the GPU and back, beside one large copy (section 5.2)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.bench.rates import RateRow, Sample, in_rounds, rate_row, result, table
from dualpath_ray.bench.result import write_result
from dualpath_ray.engine.hbm.port import BlockCopy, BlockList
from dualpath_ray.ops.results_dir import make_out

if TYPE_CHECKING:
    from dualpath_ray.engine.hbm.probe import Probed  # loads torch

SMALL_AT_LEAST, LARGE_AT_LEAST, LARGE_BYTES = 0.85, 0.93, 128 << 10
_MOST_BYTES = 1 << 30  # of a copy when their number grows
_GROUP = 32  # layer blocks of a slot: a copy takes one of each slot, as a layer's copy does


def run(
    sizes: Sequence[int],
    total_bytes: int,
    counts: Sequence[int],
    rounds: int,
    out: Path,
    echo: Callable[[str], None],
) -> dict[str, Any]:
    """Run the benchmark and write ``h2d.json``.

    Args: total_bytes: copied by each way in a round; counts: of blocks of a copy, measured by the way chosen.

    Raises: ConfigError when there is no CUDA device.
    """
    import torch

    if not torch.cuda.is_available():
        raise ConfigError("bench h2d: there is no CUDA device here; run it on a machine with a GPU")
    make_out(out)
    rows: list[RateRow] = []
    scaling: list[dict[str, Any]] = []
    chosen = []
    for size in sizes:
        with torch.cuda.stream(torch.cuda.Stream()):
            some = [count for count in counts if count * size <= _MOST_BYTES]
            bench = _SizeBench(size, max(total_bytes // size, *some))
            found, choice = bench.rows(total_bytes, rounds)
            scaling += [bench.scaling_row(count, choice.way, rounds) for count in some]
        rows += found
        chosen.append({"block_bytes": size, "chosen": choice.way.name})
    figures = {**result(rows, []), "scaling": scaling, "gpu": torch.cuda.get_device_name(), "chosen": chosen}
    write_result(out / "h2d.json", figures)
    for line in table(rows):
        echo(line)
    for size, way in zip(sizes, chosen, strict=True):
        echo(f"{size >> 10} KiB: {way['chosen']}")
    return figures


class _SizeBench:
    """Blocks of one size, scattered in page-locked memory, and a place for them on the device."""

    def __init__(self, size: int, most: int) -> None:
        import torch

        self._size, self._stride = (
            size,
            size * min(_GROUP, max(1, (4 << 30) // (most * size))),
        )  # at most 4 GiB of slots
        self._pool = torch.empty(most * self._stride, dtype=torch.uint8, pin_memory=True)
        self._pool.view(torch.int32).random_()
        self._device = torch.empty(most * size, dtype=torch.uint8, device="cuda")
        self._order = np.random.default_rng(0).permutation(most).astype(np.uint64)
        self._host = self._order * np.uint64(self._stride) + np.uint64(self._pool.data_ptr())
        self._target = np.arange(most, dtype=np.uint64) * np.uint64(size) + np.uint64(self._device.data_ptr())

    def _lists(self, way: BlockCopy, count: int) -> BlockList:
        return way.prepare(self._host[:count], self._target[:count], self._size)

    def _sample(self, count: int, work: Callable[[], Any]) -> Sample:
        from dualpath_ray.engine.hbm.probe import device_s

        cpu = time.process_time()
        seconds = device_s(work)
        return Sample(count * self._size, seconds, time.process_time() - cpu)

    def _whole(self, count: int, to_device: bool) -> Callable[[], Sample]:
        """One large copy of as many bytes."""
        host, device = self._pool[: count * self._size], self._device[: count * self._size]
        pair = (device, host) if to_device else (host, device)
        return partial(self._sample, count, partial(pair[0].copy_, pair[1], non_blocking=True))

    def rows(self, total_bytes: int, rounds: int) -> tuple[list[RateRow], "Probed"]:
        """Every way, in both directions; and what the probe chooses."""
        from dualpath_ray.engine.hbm.calls import CopyCalls
        from dualpath_ray.engine.hbm.probe import choose, probe, ways

        size, count = self._size, total_bytes // self._size
        every: list[BlockCopy] = [*ways(self._pool.numpy()), CopyCalls()]
        measured = {"one copy in": self._whole(count, True), "one copy out": self._whole(count, False)}
        for way in every:
            blocks = self._lists(way, count)
            measured[f"{way.name} in"] = partial(self._sample, count, partial(way.to_device, blocks))
            measured[f"{way.name} out"] = partial(self._sample, count, partial(way.to_host, blocks))
        found = in_rounds(measured, rounds + 1)
        rows = []
        choice = choose(probe(self._pool.numpy(), size, self._stride, min(total_bytes, 64 << 20)))
        for way in every:
            for direction, name in (("in", "to the device"), ("out", "to the host")):
                limits, samples = found[f"one copy {direction}"][1:], found[f"{way.name} {direction}"][1:]
                wanted = LARGE_AT_LEAST if size >= LARGE_BYTES else SMALL_AT_LEAST
                at_least = wanted if way.name == choice.way.name and direction == "in" else None
                rows.append(rate_row(f"{way.name}, {name}", size, samples, "one large copy", limits, at_least=at_least))
        for way in every:
            self._check(way, count)
        return rows, choice

    def scaling_row(self, count: int, way: BlockCopy, rounds: int) -> dict[str, Any]:
        """A copy of so many blocks to the device."""
        blocks = self._lists(way, count)
        ways: dict[str, Callable[[], Sample]] = {
            "way": partial(self._sample, count, partial(way.to_device, blocks)),
            "one copy": self._whole(count, True),
        }
        found = in_rounds(ways, rounds + 1)
        row = rate_row(way.name, self._size, found["way"][1:], "one large copy", found["one copy"][1:])
        return {"num_blocks": count, **asdict(row)}

    def _check(self, way: BlockCopy, count: int) -> None:
        """It moves the right bytes. Raises: AssertionError."""
        import torch

        blocks = [self._pool[int(slot) * self._stride :][: self._size] for slot in self._order[: min(count, 64)]]
        wanted = torch.stack(blocks)
        self._device.zero_()
        prepared = self._lists(way, len(blocks))
        way.to_device(prepared)
        torch.cuda.synchronize()
        assert torch.equal(self._device.view(-1, self._size)[: len(wanted)].cpu(), wanted), way.name
        for block in blocks:
            block.zero_()
        way.to_host(prepared)
        torch.cuda.synchronize()
        assert torch.equal(torch.stack(blocks), wanted), way.name
