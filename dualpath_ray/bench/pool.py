"""``dualpath bench pool``: does one scheduler make all storage NICs one pool? (sections 7.2 and 7.4, Figures 7 and 8)

1P1D, 1P2D and 2P1D at a storage-bound SNIC rate, then 1P1D from storage-bound to compute-bound. Each speedup stands
beside its bound, (P + D) / P; everything is measured live, on emulated NICs.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from dualpath_ray.base.units import format_rate, parse_bps
from dualpath_ray.bench.compare_live import compare_live
from dualpath_ray.bench.result import write_result
from dualpath_ray.ops.options import RolloutOptions
from dualpath_ray.ops.results_dir import make_out, writing_to

CONFIGS = ("laptop_1p1d", "laptop_1p2d", "laptop_2p1d")
# At this rate even two prefill nodes' SNICs need over six times as long to read as the engines to compute.
STORAGE_BOUND = "5 MB/s"
SWEEP = ("30 MB/s", "100 MB/s", "2 GB/s")
WORKLOAD = RolloutOptions(num_trajectories=8, max_turns=24, total_tokens=900, gen_tokens=2)


@dataclass(frozen=True, slots=True)
class PoolRow:
    """One run. ``bound`` is the speedup over prefill_only that the NICs which may read allow; None for oracle."""

    name: str  # e.g. 1P2D scheduled
    config: str
    mode: str
    snic_bps: int
    jct_s: float
    speedup: float | None
    bound: float | None
    hit_ratio: float
    snic_max_over_mean_ratio: float | None
    tokens_identical: bool | None  # None: not checked, the system does not run in float32


def run(
    config_dir: Path,
    snic_rates: Sequence[str] = (),
    out: Path = Path("runs/bench-pool"),
    echo: Callable[[str], None] = print,
    live: TextIO | None = None,
) -> dict[str, Any]:
    """Run the benchmark and write ``pool.json``, ``pool.md``, ``pool.svg``, and a folder for each comparison.

    Args:   snic_rates: the first is the storage-bound one for all three systems, the others are the sweep on 1P1D.
            live: where progress is shown, standard output when None.
    Raises: ConfigError naming file and key.
    """
    make_out(out)
    first, *sweep = snic_rates or (STORAGE_BOUND, *SWEEP)
    rows: list[PoolRow] = []
    for name in CONFIGS:
        rows += _compare(config_dir / f"{name}.yaml", first, ("prefill_only", "scheduled", "oracle"), out, echo, live)
    for rate in sweep:
        rows += _compare(config_dir / f"{CONFIGS[0]}.yaml", rate, ("prefill_only", "scheduled"), out, echo, live)
    result = {"rows": [asdict(r) for r in rows], "claims": claims(rows, parse_bps(first))}
    write_result(out / "pool.json", result)
    from dualpath_ray.observability.chart_speedup import speedup_svg

    points = [(r.snic_bps, r.speedup) for r in rows if r.config == "1P1D" and r.mode == "scheduled" and r.speedup]
    with writing_to(out):
        (out / "pool.md").write_text(table(result))
        (out / "pool.svg").write_text(speedup_svg(points, bound=2.0))
    echo(table(result))
    echo(f"results: {out}")
    return result


def _compare(
    config: Path, rate: str, modes: tuple[str, ...], out: Path, echo: Callable[[str], None], live: TextIO | None
) -> list[PoolRow]:
    found = compare_live(config, rate, replace(WORKLOAD, compare=modes), out, echo, live)
    label, cluster, comparison, summary = found.label, found.config, found.comparison, found.summary
    records = comparison.runs
    checks: list[bool | None] = [c.identical for c in comparison.checks]
    checks = checks or [None] * len(records)
    base = records[0].jct_s
    bound = (cluster.prefill_nodes + cluster.decode_nodes) / cluster.prefill_nodes
    return [
        PoolRow(
            name=f"{label} {record.mode}",
            config=label,
            mode=record.mode,
            snic_bps=parse_bps(rate),
            jct_s=record.jct_s,
            speedup=base / record.jct_s,
            bound={"prefill_only": 1.0, "scheduled": bound}.get(record.mode),
            hit_ratio=run["hit_ratio"],
            snic_max_over_mean_ratio=run["snic_max_over_mean_ratio"],
            tokens_identical=identical,
        )
        for record, run, identical in zip(records, summary["runs"], checks, strict=True)
    ]


def claims(rows: Sequence[PoolRow], snic_bps: int) -> list[dict[str, Any]]:
    """What the paper says of these systems, beside what was measured at the storage-bound rate."""
    jct = {(r.config, r.mode): r.jct_s for r in rows if r.snic_bps == snic_bps}

    def ratio(a: tuple[str, str], b: tuple[str, str]) -> float:
        return jct[a] / jct[b]

    names = ("1P1D", "1P2D", "2P1D")
    found = [
        {
            "claim": f"{n} scheduled over prefill_only",
            "measured": ratio((n, "prefill_only"), (n, "scheduled")),
            "bound": {"1P1D": 2.0, "1P2D": 3.0, "2P1D": 1.5}[n],
        }
        for n in names
    ]
    found += [
        {
            "claim": f"{n} oracle / prefill_only (storage-bound when small)",
            "measured": ratio((n, "oracle"), (n, "prefill_only")),
        }
        for n in names
    ]
    pairs = ((("1P1D", "scheduled"), ("2P1D", "prefill_only")), (("1P1D", "prefill_only"), ("1P2D", "prefill_only")))
    found += [
        {"claim": f"{' '.join(a)} ~ {' '.join(b)} (Figure 8: equal)", "measured": ratio(a, b), "bound": 1.0}
        for a, b in pairs
    ]
    return found


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = [
        "| run | SNIC | JCT s | speedup | bound | hit ratio | SNIC max/mean | tokens |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in result["rows"]:
        bound = "" if r["bound"] is None else f"{r['bound']:.2f}x"
        balance = "" if r["snic_max_over_mean_ratio"] is None else f"{r['snic_max_over_mean_ratio']:.3f}"
        tokens = {True: "same", False: "DIFFER", None: "not checked"}[r["tokens_identical"]]
        lines.append(
            f"| {r['name']} | {format_rate(r['snic_bps'])} | {r['jct_s']:.1f} | {r['speedup']:.2f}x | {bound} | "
            f"{r['hit_ratio']:.3f} | {balance} | {tokens} |"
        )
    lines += ["", "| claim | measured | bound |", "|---|---|---|"]
    for c in result["claims"]:
        bound = f"{c['bound']:.2f}" if "bound" in c else ""
        lines.append(f"| {c['claim']} | {c['measured']:.3f} | {bound} |")
    return "\n".join(lines) + "\n"
