"""A plan in one sentence: what to do, or what stands in the way. Pure."""

from collections.abc import Sequence

from dualpath_ray.observability.format import amount, percent, seconds, times
from dualpath_ray.planning.candidate import BASIC, SINGLE
from dualpath_ray.planning.choice import Row, best_single, gain
from dualpath_ray.planning.online import Slo

_WORTH_IT = 1.05


def value_words(value: float, more_is_better: bool) -> str:
    """A rate in agents per second, or a job's time."""
    return f"{value:.3g}" if more_is_better else seconds(value)


def slo_words(slo: Slo) -> str:
    return f"mean TTFT {seconds(slo.ttft_s)} and TPOT {seconds(slo.tpot_s)}"


def online_verdict(rows: Sequence[Row], best: Row | None, num_nodes: int, slo: Slo, wanted_aps: float | None) -> str:
    """Args: best: the row that wins; wanted_aps: the rate that must be sustained, None: as high as possible."""
    if best is None or best.dual is None:
        return f"No split of {num_nodes} nodes keeps {slo_words(slo)}: {_obstacle(rows, slo)}."
    aps, where = best.dual.value, _where(best)
    if wanted_aps is not None and aps < wanted_aps:
        nodes = -(-num_nodes * wanted_aps // aps)
        return (
            f"No split of {num_nodes} nodes sustains {wanted_aps:g} agents/s within {slo_words(slo)}: the best, {best.split}, "
            f"sustains {value_words(aps, True)} (simulated), where {where}; it would take about {nodes:.0f} nodes."
        )
    asked = f", {times(aps / wanted_aps)} what is asked for," if wanted_aps is not None else ""
    return (
        f"Use {best.split}: it sustains {value_words(aps, True)} agents/s{asked} within {slo_words(slo)} (simulated), "
        f"{_compared(rows, best, True)}; beyond that {where}."
    )


def offline_verdict(rows: Sequence[Row], best: Row | None, num_nodes: int, num_agents: int) -> str:
    if best is None or best.dual is None:
        return f"No split of {num_nodes} nodes can do this job."
    name, share = best.dual.busiest
    return (
        f"Use {best.split}: {amount(num_agents, 'agent')} end after {seconds(best.dual.value)} (simulated), "
        f"{_compared(rows, best, False)}; the busiest resource is {name} ({percent(share)})."
    )


def title(best: Row | None, more_is_better: bool, wanted_aps: float | None) -> str:
    """For the picture."""
    if best is None or best.dual is None:
        return "No split keeps the SLO"
    if wanted_aps is not None and best.dual.value < wanted_aps:
        return f"No split sustains {wanted_aps:g} agents/s: {best.split} comes nearest, with {value_words(best.dual.value, True)}"
    value = (
        f"{value_words(best.dual.value, True)} agents/s"
        if more_is_better
        else f"the job takes {seconds(best.dual.value)}"
    )
    ratio = gain(best, SINGLE, more_is_better)
    if ratio is None:
        return f"Use {best.split}: {value}"
    than = "what the single path sustains" if more_is_better else "as fast as the single path"
    return f"Use {best.split}: {value}, {times(ratio)} {than}"


def _where(row: Row) -> str:
    assert row.dual is not None
    name, share = row.dual.busiest
    return f"{row.dual.breaks} is the first to break ({name} at {percent(share)})"


def _compared(rows: Sequence[Row], best: Row, more_is_better: bool) -> str:
    """What the dual path gains, on this split and over the best that the single path can do on any."""
    over_single, over_basic = (gain(best, system, more_is_better) for system in (SINGLE, BASIC))
    if over_single is None:
        return "which the single path was not compared with"
    as_much = "as much as" if more_is_better else "as fast as"
    words = f"{times(over_single)} {as_much} the single path"
    if over_basic is not None:
        words += f" and {times(over_basic)} {as_much} Basic there"
    if over_single < _WORTH_IT:
        words = f"no more than the single path does ({times(over_single)}): storage NICs are not what binds here"
    other = best_single(rows, more_is_better)
    if other is not None and other is not best:
        theirs, ours = other.outcomes[SINGLE].value, best.dual.value if best.dual else 0.0
        ratio = ours / theirs if more_is_better else theirs / ours
        words += f", and {times(ratio)} {as_much} the single path on its own best split, {other.split}"
    return words


def _obstacle(rows: Sequence[Row], slo: Slo) -> str:
    """Of the split that comes nearest, the constraint that it cannot meet."""
    simulated = [(row.dual, row.split) for row in rows if row.dual is not None]
    if simulated:
        dual, split = min(simulated, key=lambda of: max(of[0].ttft_s / slo.ttft_s, of[0].tpot_s / slo.tpot_s))
        mean = dual.ttft_s if dual.breaks == "TTFT" else dual.tpot_s
        number = amount(dual.num_agents, "agent")
        return f"on {split} {dual.breaks} is {seconds(mean)} with {number} under way (simulated)"
    refused = [(row.bound, row.split) for row in rows if row.bound is not None and row.bound.refused]
    bound, split = min(refused, key=lambda of: of[0].strain)
    return f"even on {split} {bound.refused}"
