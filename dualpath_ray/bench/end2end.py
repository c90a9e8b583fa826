"""``dualpath bench end2end``: the main job, whole, once through each transport and with each type of KV.

A job is a rollout on one path and on both; every generated token is checked against the plain model. The transport that
``auto`` picks is the limit of the others: what a job moved over the compute NICs in its time, over what that one did. KV
that is stored in fewer bits is checked against a plain model that rounds alike, and what the rounding changed is counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from dualpath_ray.bench.result import write_result
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.engine.device import gpu_name
from dualpath_ray.observability.run_record import RunRecord, TokenCheck
from dualpath_ray.ops.options import RolloutOptions
from dualpath_ray.ops.results_dir import make_out
from dualpath_ray.ops.rollout import check_tokens, prepare, run_all

DEFAULT = "auto"


@dataclass(frozen=True, slots=True)
class End2EndRow:
    """One run. ``bytes_per_s``: over the compute NICs, of the whole job's time."""

    name: str  # transport, mode, and the KV's type if it is not the configured one
    block_bytes: int
    jct_s: float
    jct_over_default: float
    ttft_p50_s: float
    num_tokens_compared: int
    num_near_ties: int
    num_wrong: int
    num_changed_by_rounding: int | None  # of those compared, by the plain model alone
    num_other_tokens: int  # generated tokens that differ from the default's on the same path
    bytes_per_s: float
    limit_name: str
    limit_bytes_per_s: float
    ratio_to_limit: float | None
    cpu_s_per_gb: float | None  # of all actors, over everything they do; the oracle's NICs count nothing
    latency_s: float | None  # what a block takes is for `bench transport`


def run(
    config: Path,
    transports: Sequence[str],
    kv_dtypes: Sequence[str],
    modes: Sequence[str],
    out: Path,
    echo: Callable[[str], None],
    live: TextIO,
) -> dict[str, Any]:
    """Run the benchmark and write ``end2end.json``.

    Args:   transports: beside the default; kv_dtypes: beside the configured one, through the default transport.
    Raises: ConfigError naming file and key.
    """
    make_out(out)
    options = RolloutOptions(compare=tuple(modes))
    rows: list[End2EndRow] = []
    defaults: dict[str, RunRecord] = {}
    variants: list[tuple[str, str | None]] = [(transport, None) for transport in (DEFAULT, *transports)]
    for transport, kv_dtype in [*variants, *((DEFAULT, kv_dtype) for kv_dtype in kv_dtypes)]:
        echo(f"transport {transport}" + (f", KV in {kv_dtype}" if kv_dtype else ""))
        overrides = {"transport": transport, **({"engine.kv_dtype": kv_dtype} if kv_dtype else {})}
        prepared = prepare(config, options, overrides)
        records = run_all(prepared, options, echo, live=live)
        checks = check_tokens(prepared, records, echo)
        for record, check in zip(records, checks, strict=True):
            default = defaults.setdefault(record.mode, record)
            name = ", ".join([transport, record.mode, *([f"KV in {kv_dtype}"] if kv_dtype else [])])
            rows.append(make_row(name, record, check, default, prepared.runs[0].plan.layout.full_block_bytes))
            echo(_said(rows[-1]))
    found = {"config": config.name, **gpu_of(prepared.config), "rows": [asdict(row) for row in rows]}
    write_result(out / "end2end.json", found)
    return found


def gpu_of(config: ClusterConfig) -> dict[str, str]:
    """The name of the GPU that the engines ran on, if they did."""
    return {"gpu": gpu_name()} if config.engine.device == "cuda" else {}


def make_row(name: str, record: RunRecord, check: TokenCheck, default: RunRecord, block_bytes: int) -> End2EndRow:
    """One run beside the default's of the same mode. Pure."""
    moved, limit = _cnic_bytes(record), _cnic_bytes(default) / default.jct_s
    return End2EndRow(
        name=name,
        block_bytes=block_bytes,
        jct_s=record.jct_s,
        jct_over_default=record.jct_s / default.jct_s,
        ttft_p50_s=median(turn.ttft_s for turn in record.turns) if record.turns else 0.0,
        num_tokens_compared=check.num_tokens_compared,
        num_near_ties=check.num_near_ties,
        num_wrong=check.num_wrong,
        num_changed_by_rounding=check.num_changed_by_rounding,
        num_other_tokens=other_tokens(record.generated, default.generated),
        bytes_per_s=moved / record.jct_s,
        limit_name=f"{DEFAULT}, {record.mode}",
        limit_bytes_per_s=limit,
        ratio_to_limit=moved / record.jct_s / limit if limit else None,
        cpu_s_per_gb=record.cpu_s / moved * 1e9 if moved else None,
        latency_s=None,
    )


def _cnic_bytes(record: RunRecord) -> int:
    """Of the prefill nodes, both directions: each byte once."""
    return sum(sum(record.cnic_bytes[node].values()) for node in record.prefill_names)


def other_tokens(ours: dict[str, list[list[int]]], theirs: dict[str, list[list[int]]]) -> int:
    """Generated tokens that are not the same. Pure."""
    return sum(
        a != b
        for name, turns in theirs.items()
        for mine, wanted in zip(ours[name], turns, strict=True)
        for a, b in zip(mine, wanted, strict=True)
    )


def _said(row: End2EndRow) -> str:
    return (
        f"{row.name}: JCT {row.jct_s:.1f} s = {row.jct_over_default:.2f} of the default's, {row.bytes_per_s / 1e6:.1f} MB/s "
        f"over the CNICs, {row.num_tokens_compared} tokens, {row.num_near_ties} near ties, {row.num_wrong} wrong, "
        f"{row.num_other_tokens} other than the default's"
        + ("" if row.num_changed_by_rounding is None else f", {row.num_changed_by_rounding} changed by rounding")
    )
