"""From run records to the numbers of ``summary.json``. Pure: no clock, no file, no Ray."""

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import numpy as np

from dualpath_ray.observability.run_record import Comparison, RunRecord, TokenCheck
from dualpath_ray.observability.spans import union_s
from dualpath_ray.observability.turn_columns import column, text_column


def summarize(comparison: Comparison) -> dict[str, Any]:
    """All numbers of a comparison, ready for JSON: no NaN, no infinity; what cannot be said is None.

    Returns: ``runs`` (one object a run, in order, see ``summarize_run``) and, over all of them:
        ``speedup``: JCT of prefill_only / JCT of scheduled; only between runs with the same ``layerwise``, else None.
        ``speedup_over_basic``: JCT of the paper's baseline (prefill_only, not layerwise) / JCT of scheduled.
        ``ideal_speedup``: (P + D) / P, from the storage NICs that may read (section 4.2); a bound only as long as
        nothing but storage limits.
        ``oracle_jct_ratio``: JCT of oracle / JCT of prefill_only, same ``layerwise``: how storage-bound the job is.
        ``tokens_identical``, ``num_tokens_compared``, ``num_near_ties``, ``num_wrong_tokens``: None unless every run
        was checked. ``num_tokens_changed_by_rounding``: of those compared, that KV of full precision would choose
        otherwise; None too where KV is not rounded. ``hit_tokens_equal``: all runs hit the same. ``command, versions,
        workload, profile``.
        Where a mode was run several times, its median JCT counts.
    """
    runs, checks = comparison.runs, comparison.checks
    first = runs[0] if runs else None
    checked = bool(runs) and len(checks) == len(runs)
    summary = {
        "runs": [summarize_run(run) for run in runs],
        "speedup": _paired_ratio(runs, over=_is_prefill_only, under=_is_scheduled),
        "speedup_over_basic": _ratio(_median_jct_s(runs, _is_basic), _median_jct_s(runs, _is_scheduled)),
        "ideal_speedup": _ratio(first.prefill_nodes + first.decode_nodes, first.prefill_nodes) if first else None,
        "oracle_jct_ratio": _paired_ratio(runs, over=_is_oracle, under=_is_prefill_only),
        "tokens_identical": all(c.identical for c in checks) if checked else None,
        "num_tokens_compared": sum(c.num_tokens_compared for c in checks) if checked else None,
        "num_near_ties": sum(c.num_near_ties for c in checks) if checked else None,
        "num_wrong_tokens": sum(c.num_wrong for c in checks) if checked else None,
        "num_tokens_changed_by_rounding": _total_changed(checks) if checked else None,
        "hit_tokens_equal": len({_total(run, "hit_tokens") for run in runs}) <= 1,
        "command": comparison.command,
        "versions": comparison.versions,
        "workload": comparison.workload,
        "profile": next((run.profile for run in runs if run.profile), {}),
    }
    return {key: json_clean(value) for key, value in summary.items()}


def _total_changed(checks: Sequence[TokenCheck]) -> int | None:
    changed = [check.num_changed_by_rounding for check in checks]
    return sum(c for c in changed if c is not None) if any(c is not None for c in changed) else None


def summarize_run(run: RunRecord) -> dict[str, Any]:
    """Numbers of one run; units are at the end of the names, ``metric_names.py`` says what each means.

    ``hit_tokens`` is what the lookup found, ``recomputed_tokens`` what of it was lost on the way; ``snic_bytes`` are
    reads, of sealed blocks. ``snic_max_over_mean_ratio`` and ``snic_utilisation_ratio`` are over the nodes whose
    storage NIC may read in this run. Utilisation is bytes read / (their rates x the time during which at least one
    block read was outstanding anywhere); ``snic_busy_while_queued_ratio`` is the same of one node over its own reads.
    Both are None where a rate is unknown. Times to second and per token leave out turns of a single token.
    ``overlapped_layer_pairs_ratio``: of adjacent layers of batches with cached tokens, those whose second was on its way
    while the first computed; ``prefill_stall_ratio``: of the prefill engines' batch time, what they waited for KV.
    """
    later = column(run.turns, "generated_tokens") > 1
    prompt_tokens, hit_tokens = _total(run, "prompt_tokens"), _total(run, "hit_tokens")
    generated_tokens = _total(run, "generated_tokens")
    spans = [(asked, done) for node in run.read_spans.values() for asked, done, _ in node]
    loading_s = union_s(spans)
    return {
        "mode": run.mode,
        "read_path": run.read_path,
        "layerwise": run.layerwise,
        "quota": run.quota,
        "oracle": run.oracle,
        "prefill_nodes": run.prefill_nodes,
        "decode_nodes": run.decode_nodes,
        "num_trajectories": len(set(text_column(run.turns, "trajectory_id"))),
        "num_turns": len(run.turns),
        "num_parts": run.num_parts,
        "jct_s": run.jct_s,
        "ttft_s": _quantiles(column(run.turns, "ttft_s")),
        "ttst_s": _quantiles(column(run.turns, "ttst_s")[later]),
        "tpot_s": _quantiles(column(run.turns, "tpot_s")[later]),
        "tokens_per_s": _ratio(generated_tokens, run.jct_s),
        "prompt_tokens": prompt_tokens,
        "generated_tokens": generated_tokens,
        "hit_tokens": hit_tokens,
        "hit_ratio": _ratio(hit_tokens, prompt_tokens),
        "recomputed_tokens": _total(run, "recomputed_tokens"),
        "load_failures": run.load_failures,
        "snic_bytes": dict(run.snic_read_bytes),
        "snic_write_bytes": dict(run.snic_write_bytes),
        "cnic_bytes": {node: dict(ways) for node, ways in run.cnic_bytes.items()},
        "class_bytes": {name: dict(classes) for name, classes in run.class_bytes.items()},
        "nic_devices": dict(run.nic_devices),
        "snic_max_over_mean_ratio": _max_over_mean([run.snic_read_bytes.get(n, 0) for n in run.reading_names]),
        "snic_utilisation_ratio": _pool_utilisation(run, loading_s),
        "snic_busy_while_queued_ratio": {
            node: _busy_while_queued(run, node) for node in run.prefill_names + run.decode_names
        },
        "loading_s": loading_s,
        "cpu_s_per_turn": _ratio(run.cpu_s, len(run.turns)),
        "memory_peak_bytes": run.memory_peak_bytes,
        "overlapped_layer_pairs_ratio": _ratio(
            sum(e.get("overlapped_pairs", 0) for e in run.engines.values()),
            sum(e.get("layer_pairs", 0) for e in run.engines.values()),
        ),
        "prefill_stall_ratio": _ratio(
            sum(e.get("stall_s", 0.0) for e in run.engines.values()),
            sum(e.get("compute_s", 0.0) for e in run.engines.values() if "stall_s" in e),
        ),
    }


def json_clean(value: Any) -> Any:
    """The same value in what JSON knows: NaN and infinities become None, NumPy scalars and odd objects plain ones."""
    if isinstance(value, dict):
        return {str(k): json_clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_clean(v) for v in value]
    if isinstance(value, np.generic | np.ndarray):
        return json_clean(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return str(value)


def _is_prefill_only(run: RunRecord) -> bool:
    return run.read_path == "prefill_only" and not run.oracle


def _is_scheduled(run: RunRecord) -> bool:
    return run.read_path == "scheduled" and not run.oracle


def _is_basic(run: RunRecord) -> bool:
    return _is_prefill_only(run) and not run.layerwise


def _is_oracle(run: RunRecord) -> bool:
    return run.oracle


def _median_jct_s(runs: Iterable[RunRecord], wanted: Any) -> float | None:
    times = [run.jct_s for run in runs if wanted(run)]
    return median(times) if times else None


def _paired_ratio(runs: list[RunRecord], over: Any, under: Any) -> float | None:
    """Ratio of two systems' JCT between runs of the same ``layerwise``; layerwise ones first."""
    for layerwise in (True, False):
        alike = [run for run in runs if run.layerwise is layerwise]
        ratio = _ratio(_median_jct_s(alike, over), _median_jct_s(alike, under))
        if ratio is not None:
            return ratio
    return None


def _total(run: RunRecord, name: str) -> int:
    return int(column(run.turns, name).sum())


def _quantiles(values: np.ndarray) -> dict[str, float | None]:
    if not len(values):
        return {"p50": None, "p99": None, "mean": None}
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "mean": float(np.mean(values))}


def _ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under is not None and under > 0 else None


def _max_over_mean(counts: list[int]) -> float | None:
    """Load balance; 1 is even. None when nothing was read."""
    return max(counts) * len(counts) / sum(counts) if sum(counts) else None


def _pool_utilisation(run: RunRecord, loading_s: float) -> float | None:
    rates = [run.nic_rates_bytes_per_s.get(f"{node}/snic/in") for node in run.reading_names]
    known = [rate for rate in rates if rate]
    if len(known) < len(rates):
        return None
    read_bytes = sum(nbytes for spans in run.read_spans.values() for _, _, nbytes in spans)
    return _ratio(read_bytes, sum(known) * loading_s)


def _busy_while_queued(run: RunRecord, node: str) -> float | None:
    rate = run.nic_rates_bytes_per_s.get(f"{node}/snic/in")
    spans = run.read_spans.get(node, [])
    if not rate:
        return None
    return _ratio(sum(nbytes for _, _, nbytes in spans), rate * union_s((asked, done) for asked, done, _ in spans))
