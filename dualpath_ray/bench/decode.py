"""``dualpath bench decode``: a decode step as a recorded CUDA graph, beside launching it, and beside reading its memory once."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.bench.result import write_result
from dualpath_ray.engine.describe import describe
from dualpath_ray.ops.results_dir import make_out

_STEPS = 20  # of a measurement


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """Medians over rounds, seconds of one step. ``limit_s``: to read weights and KV once, as fast as a copy on the GPU reads."""

    name: str
    batch: int
    context_tokens: int
    graph_s: float
    launched_s: float
    limit_name: str
    limit_s: float
    ratio_to_limit: float
    tokens_per_s: float


def run(
    models: Sequence[str], batches: Sequence[int], context: int, rounds: int, out: Path, echo: Callable[[str], None]
) -> dict[str, Any]:
    """Run the benchmark and write ``decode.json``. Raises: ConfigError when there is no CUDA device."""
    import torch

    if not torch.cuda.is_available():
        raise ConfigError("bench decode: there is no CUDA device here; run it on a machine with a GPU")
    make_out(out)
    rows: list[DecodeRow] = []
    for model in models:
        for row in _of_model(model, batches, context, rounds):
            rows.append(row)
            echo(
                f"{row.name}, batch {row.batch}: graph {row.graph_s * 1e3:.2f} ms, launched {row.launched_s * 1e3:.2f} ms, "
                f"{row.limit_name} {row.limit_s * 1e3:.2f} ms; {row.tokens_per_s:,.0f} tokens/s"
            )
    found = {"rows": [asdict(row) for row in rows], "gpu": torch.cuda.get_device_name(), "skipped": []}
    write_result(out / "decode.json", found)
    return found


def _of_model(model: str, batches: Sequence[int], context: int, rounds: int) -> list[DecodeRow]:
    import torch

    from dualpath_ray.engine.hbm.sequences import HbmStepKv
    from dualpath_ray.engine.model import ModelAdapter

    description = describe(model, "bfloat16", 0)
    adapter = ModelAdapter(description, "bfloat16", 0, "cuda")
    if not adapter.records_decode:
        raise ConfigError(f"bench decode: the steps of {model} cannot be recorded; name a model with grouped KV heads")
    per_token = description.bytes_per_token_layer("bfloat16")
    shape = (description.num_layers, max(batches) * (context + 1) + 1, per_token)
    memory = torch.zeros(shape, dtype=torch.uint8, device="cuda")
    half = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    other = torch.empty_like(half)
    rows = []
    for batch in batches:
        kv = HbmStepKv(memory, [i * (context + 1) for i in range(batch)])
        tokens, starts = list(range(2, 2 + batch)), [context] * batch
        launched = partial(adapter.forward, [[t] for t in tokens], starts, kv, range(batch))
        recorded = partial(adapter.decode, tokens, starts, kv)
        if not batch & (batch - 1):  # else the graph is of a larger batch, whose sums have another order
            assert torch.equal(launched(), recorded()), "the graph's logits differ"
        nbytes = adapter.read_bytes + batch * context * per_token * description.num_layers
        found: dict[str, list[float]] = {"graph": [], "launched": [], "limit": []}
        for _ in range(rounds):
            found["graph"].append(_step_s(recorded))
            found["launched"].append(_step_s(launched))
            found["limit"].append(_step_s(partial(other.copy_, half)) * nbytes / (2 * half.nbytes))  # it writes too
        ratios = [limit / graph for limit, graph in zip(found["limit"], found["graph"], strict=True)]
        medians = {name: statistics.median(values) for name, values in found.items()}
        rows.append(
            DecodeRow(
                model,
                batch,
                context,
                medians["graph"],
                medians["launched"],
                "weights and KV read once",
                medians["limit"],
                statistics.median(ratios),
                batch / medians["graph"],
            )
        )
    return rows


def _step_s(step: Callable[[], Any]) -> float:
    import torch

    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(_STEPS):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / _STEPS
