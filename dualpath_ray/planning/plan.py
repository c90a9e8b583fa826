"""How to divide nodes into prefill and decode for a trace, and what dual path gains on them: simulate what may win."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dualpath_ray.config.costs import load_costs
from dualpath_ray.config.load import load_cluster
from dualpath_ray.planning.candidate import BASIC, DUAL, SINGLE, Candidate, make_candidates
from dualpath_ray.planning.choice import Row, next_compared, next_split, winner
from dualpath_ray.planning.links import BottleneckFreeRange
from dualpath_ray.planning.objective import JobTime, Objective, SustainedRate, saturating_agents
from dualpath_ray.planning.plan_options import PlanOptions
from dualpath_ray.planning.simulate import Encode, workload_lengths
from dualpath_ray.planning.split import FINER, MOST_NODES, Split, all_splits, coarse, finer, nearest
from dualpath_ray.planning.verdict import offline_verdict, online_verdict, title
from dualpath_ray.planning.work import turn_work
from dualpath_ray.workload.trajectory import TrajectoryLengths

Echo = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome. ``best``: what comes nearest; ``works``: it does what was asked for."""

    rows: list[Row]
    best: Row | None
    sentence: str
    title: str
    works: bool
    objective: Objective
    free: BottleneckFreeRange | None  # of P/D (section 4.2)

    @property
    def online(self) -> bool:
        return isinstance(self.objective, SustainedRate)

    @property
    def shown(self) -> list[Row]:
        """Rows for a reader: all of a small cluster, those that were simulated of a large one."""
        simulated = [row for row in self.rows if row.outcomes]
        return self.rows if len(self.rows) < MOST_NODES or not simulated else simulated


def make_plan(path: Path, options: PlanOptions, encode: Encode | None, echo: Echo) -> Plan:
    """Simulate what may win.

    Args:   encode: text to token ids, for traces of text; echo: gets a line for each split that is simulated.
    Raises: ConfigError in one sentence that names file and key.
    """
    workload = options.workload
    given = {"seed": workload.seed}
    config = load_cluster(path, given)
    own = Split(config.prefill_nodes, config.decode_nodes)
    num_nodes = own.nodes if options.nodes is None else options.nodes
    every = all_splits(num_nodes)
    costs = load_costs(options.costs) if options.costs else None
    trajectories = workload_lengths(config, str(path), workload, encode)
    candidates, unfit = make_candidates(path, given, every, trajectories, costs)
    by_split = {candidate.split: candidate for candidate in candidates}
    objective = _objective(options, config.seed, trajectories, candidates)
    rows = {split: Row(split, unfit=why) for split, why in unfit.items()}
    for candidate in candidates:
        bound = objective.bound(candidate.specs[DUAL], candidate.scale)
        rows[candidate.split] = Row(candidate.split, first_link=candidate.first_link, bound=bound)

    likely = {nearest(split, by_split) for split in coarse(num_nodes)} | ({own} & by_split.keys())
    found = _simulate(objective, by_split, rows, likely, {}, echo)
    if found and num_nodes > MOST_NODES:
        near = finer(num_nodes, max(found, key=lambda split: found[split]))
        closer, _ = make_candidates(path, given, near, trajectories, costs, FINER * MOST_NODES)
        by_split.update({candidate.split: candidate for candidate in closer})
        found = _simulate(objective, by_split, rows, {c.split for c in closer}, found, echo)
    single: dict[Split, float] = {}
    while (compared := next_compared(found, single)) is not None:
        candidate, outcomes = by_split[compared], rows[compared].outcomes
        for system in candidate.specs.keys() & {SINGLE, BASIC}:
            outcomes[system] = objective.run(candidate.specs[system], candidate.scale)
        single[compared] = objective.score(outcomes[SINGLE].value)
        echo(f"  {compared}: single path simulated: {objective.words(outcomes[SINGLE].value)}")
    chosen = winner(found, own, options.aps or 0.0)
    ordered = [rows[split] for split in every]
    return _told(options, objective, ordered, rows[chosen] if chosen else None, candidates[0].free)


def _objective(
    options: PlanOptions, seed: int, trajectories: list[TrajectoryLengths], candidates: list[Candidate]
) -> Objective:
    spec = candidates[0].specs[DUAL]
    work = turn_work(trajectories, spec)  # of every split the same
    if not options.offline:
        return SustainedRate(trajectories, work, options.slo, seed)
    num_agents = options.workload.num_trajectories
    if num_agents is None:
        num_agents = max(saturating_agents(c.specs[DUAL], work, c.scale) for c in candidates)
    return JobTime(trajectories, work, num_agents, seed)


def _simulate(
    objective: Objective,
    candidates: Mapping[Split, Candidate],
    rows: Mapping[Split, Row],
    likely: set[Split],
    found: dict[Split, float],
    echo: Echo,
) -> dict[Split, float]:
    """The dual path on these splits, those that cannot win left out. Returns: the scores, with those found before."""
    bounds = {}
    for each in likely:
        bound = rows[each].bound
        assert bound is not None
        bounds[each] = 0.0 if bound.refused else objective.score(bound.value)
    found = dict(found)
    while (split := next_split(bounds, found)) is not None:
        candidate = candidates[split]
        outcome = rows[split].outcomes[DUAL] = objective.run(candidate.specs[DUAL], candidate.scale)
        found[split] = objective.score(outcome.value)
        as_what = "" if candidate.model == split else f", as {candidate.scale:g} x {candidate.model}"
        echo(f"  {split}: dual path simulated{as_what}: {objective.words(outcome.value)}")
    return found


def _told(
    options: PlanOptions, objective: Objective, rows: list[Row], best: Row | None, free: BottleneckFreeRange | None
) -> Plan:
    online = isinstance(objective, SustainedRate)
    num_nodes = rows[0].split.nodes
    if isinstance(objective, JobTime):
        sentence = offline_verdict(rows, best, num_nodes, objective.num_agents)
    else:
        sentence = online_verdict(rows, best, num_nodes, options.slo, options.aps)
    works = best is not None and best.dual is not None and (options.aps is None or best.dual.value >= options.aps)
    return Plan(rows, best, sentence, title(best, online, options.aps), works, objective, free)
