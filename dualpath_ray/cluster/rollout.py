"""Replaying trajectories through a client, as the paper does (section 7): each turn appends A_i and generates exactly g_i."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dualpath_ray.base.errors import DualPathError, RequestRefusedError
from dualpath_ray.cluster.asking import ask
from dualpath_ray.cluster.client import Client, Generation
from dualpath_ray.cluster.delays import Delays
from dualpath_ray.cluster.sampler import Sampler
from dualpath_ray.cluster.system import System
from dualpath_ray.engine.sampling import SamplingParams
from dualpath_ray.observability.run_record import RunRecord, TurnRecord
from dualpath_ray.scheduler.state import Request
from dualpath_ray.workload.trajectory import Trajectory

SAMPLE_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rollout is; given to its display."""

    trajectories_done: int
    trajectories_total: int
    turns_done: int
    turns_total: int
    generated_tokens: int
    elapsed_s: float
    nics: dict[str, tuple[float, int]]  # direction -> (utilisation since the sample before, queued bytes)


@dataclass(slots=True)
class _Replay:
    """One trajectory under way."""

    trajectory: Trajectory
    context: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    turn: int = 0
    generated: list[list[int]] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)

    def prompt(self) -> np.ndarray:
        """Of the next turn."""
        return np.concatenate([self.context, self.trajectory.turns[self.turn].append_ids.astype(np.int32)])

    def take(self, token_ids: list[int]) -> None:
        """The turn has ended with these tokens."""
        prompt = self.prompt()
        self.context = np.concatenate([prompt, np.array(token_ids, np.int32)])
        self.generated.append(token_ids)
        self.spans.append((len(prompt), len(self.context)))
        self.turn += 1


@dataclass(frozen=True, slots=True)
class _Ended:
    """A turn that is over, until its decision is known: a long rollout has hundreds of thousands, each with a long prompt."""

    trajectory_id: str
    turn: int
    append_tokens: int
    request: Request  # without its payload
    facts: dict[str, Any]
    token_times_s: list[float]
    token_ids: list[int]  # generated


@dataclass(frozen=True, slots=True)
class FinishedTurn:
    """All that is known of a turn: enough to go on from it in another process."""

    record: TurnRecord
    token_ids: list[int]  # generated
    last_token_s: float


Finished = Callable[[list[FinishedTurn]], None]


@dataclass(frozen=True, slots=True)
class Earlier:
    """What earlier parts of an interrupted rollout did."""

    turns: tuple[FinishedTurn, ...] = ()
    num_parts: int = 0
    took_s: float = 0.0


class Rollout:
    """All trajectories start at once; a trajectory's next turn is submitted when its turn before has ended."""

    def __init__(
        self,
        system: System,
        client: Client,
        trajectories: Sequence[Trajectory],
        show: Callable[[Progress], None],
        finished: Finished = lambda turns: None,
        earlier: Earlier | None = None,
    ) -> None:
        """Args: finished: is told the turns that are over, each once, twice a second; earlier: go on from there.

        Raises: RequestRefusedError when two trajectories have one id.
        """
        repeated = [name for name, n in Counter(t.trajectory_id for t in trajectories).items() if n > 1]
        if repeated:
            raise RequestRefusedError(f"trajectories: {repeated[0]} is there more than once; give each its own id")
        self._system, self._client, self._show = system, client, show
        self._replays = [_Replay(t) for t in trajectories]
        self._turns_total = sum(len(t.turns) for t in trajectories)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._done = 0
        self._tokens = 0
        self._earlier = earlier or Earlier()
        self._finished = finished
        self._ended_turns: list[_Ended] = []  # whose decision is not known yet
        self._turns: list[FinishedTurn] = []
        self._last_token_s = 0.0
        self._first_submit_s: float | None = None
        self._take_up(self._earlier.turns)
        self._workers = ThreadPoolExecutor(8, "rollout")
        self._delays = Delays()
        self._decisions: dict[str, dict[str, Any]] = {}
        self._last_decision = 0

    def run(self, mode: str | None) -> RunRecord:
        """Replay everything.

        Args:   mode: what the run is called; None: after the policies of the read path that are in force meanwhile.
        Raises: SystemDiedError, or whatever refused a turn; the rollout ends with the first.
        """
        try:
            sampler = Sampler(self._system)
            counted_before = sampler.sample()
            self._last_decision = counted_before["scheduler"]["num_decisions"]
            started = time.time()
            if self._done == len(self._replays):
                self._ended.set()
            for replay in self._replays:
                if replay.turn < len(replay.trajectory.turns):
                    self._go_on(replay)
            while not self._ended.wait(SAMPLE_INTERVAL_S):
                if self._client.failure is not None:
                    raise self._client.failure
                sampler.sample()
                self._collect()
                self._show(self._progress(started, sampler))
        finally:
            self._closing()
            self._delays.close()
            self._workers.shutdown(wait=False, cancel_futures=True)
        if self._error is not None:
            raise self._error
        counted = sampler.sample()
        self._show(self._progress(started, sampler))
        return self._record(mode, started, sampler, counted_before, counted)

    def _take_up(self, turns: Sequence[FinishedTurn]) -> None:
        """Bring every trajectory to where an earlier part had come to."""
        replays = {replay.trajectory.trajectory_id: replay for replay in self._replays}
        for turn in sorted(turns, key=lambda each: each.record.turn):
            replay = replays[turn.record.trajectory_id]
            if turn.record.turn == replay.turn:  # else it is there twice, or one before it was lost: computed again
                replay.take(turn.token_ids)
                self._turns.append(turn)
                self._tokens += len(turn.token_ids)
        self._done = sum(replay.turn == len(replay.trajectory.turns) for replay in self._replays)

    def _collect(self) -> None:
        """Decisions, and turns that are over: the scheduler's log is bounded, a long rollout must not wait until its end."""
        with self._lock:
            ended = list(self._ended_turns)
        for record in self._client.decisions(self._last_decision):
            if self._client.has_made(record["request_id"]):  # others may use the system, too
                self._decisions[record["request_id"]] = record
            self._last_decision = record["seq"]
        config, layout = self._system.plan.config, self._system.plan.layout
        some = [
            _finished_turn(
                each, self._decisions[each.request.request_id], layout.block_tokens, not config.scheduler.oracle
            )
            for each in ended  # which was decided before, and the log is read often enough
        ]
        if some:
            self._finished(some)  # first: what ends this process now must not lose them
        with self._lock:
            self._turns += some
            del self._ended_turns[: len(ended)]

    def _closing(self) -> None:
        """However a rollout ends, what was finished by then is told."""
        with suppress(DualPathError):  # of a system that is gone
            self._collect()

    def _guarded(self, replay: _Replay) -> None:
        try:
            if not self._ended.is_set():
                self._submit(replay)
        except BaseException as error:  # a worker thread's error must end the rollout, not vanish
            self._stop(error)

    def _stop(self, error: BaseException | None) -> None:
        with self._lock:
            self._error = self._error or error
        self._ended.set()

    def _submit(self, replay: _Replay) -> None:
        turn = replay.trajectory.turns[replay.turn]
        params = SamplingParams(max_tokens=turn.gen_tokens, ignore_end=True)
        self._client.generate(
            replay.prompt(), params, replay.trajectory.trajectory_id, on_end=lambda g: self._on_end(replay, g)
        )

    def _on_end(self, replay: _Replay, generation: Generation) -> None:
        """Called from a client thread: what waits for Ray goes to a worker."""
        if generation.error is not None:
            self._stop(generation.error)
            return
        tokens = list(generation.samples[0].token_ids)
        request = generation.request
        turn = replay.trajectory.turns[replay.turn]
        ended = _Ended(
            replay.trajectory.trajectory_id,
            replay.turn,
            turn.append_tokens,
            replace(request, payload=None),
            generation.facts,
            sorted(generation.token_times_s),
            tokens,
        )
        with self._lock:
            self._ended_turns.append(ended)
            self._tokens += len(tokens)
            self._last_token_s = max(self._last_token_s, ended.token_times_s[-1])
            submit_s = generation.facts["submit_s"]
            self._first_submit_s = min(submit_s, self._first_submit_s or submit_s)
            replay.take(tokens)
            over = replay.turn == len(replay.trajectory.turns)
            self._done += over
            all_over = self._done == len(self._replays)
        if over:
            self._client.end_trajectory(replay.trajectory.trajectory_id)
        if all_over:
            self._ended.set()
        elif not over and not self._ended.is_set():
            self._go_on(replay)

    def _go_on(self, replay: _Replay) -> None:
        """Submit a trajectory's next turn, after its tool's delay."""
        delay_s = replay.trajectory.turns[replay.turn].tool_delay_s
        if delay_s > 0:  # no worker waits: slow tools must not hold up other agents
            self._delays.after(delay_s, lambda: self._work(replay))
        else:
            self._work(replay)

    def _work(self, replay: _Replay) -> None:
        with suppress(RuntimeError):  # the rollout has failed, and its workers are gone
            self._workers.submit(self._guarded, replay)

    def _progress(self, started: float, sampler: Sampler) -> Progress:
        with self._lock:
            turns, done, tokens = len(self._turns) + len(self._ended_turns), self._done, self._tokens
        elapsed = time.time() - started
        return Progress(done, len(self._replays), turns, self._turns_total, tokens, elapsed, sampler.utilisation())

    def _record(
        self, mode: str | None, started: float, sampler: Sampler, before: dict[str, Any], after: dict[str, Any]
    ) -> RunRecord:
        config = self._system.plan.config
        decisions = self._decisions
        seen = sampler.nodes  # in the order of roles and numbers: some may have come or gone meanwhile
        nodes, prefill = list(seen), [node for node in seen if node.startswith("p")]
        nics = {name: nic for node in seen.values() for name, nic in node["nics"].items()}
        nics_before = {name: nic for node in before["nodes"].values() for name, nic in node["nics"].items()}
        nothing = {"bytes": 0, "bytes_by_class": {}}  # of a node that joined

        def moved(name: str) -> int:
            return int(nics[name]["bytes"] - nics_before.get(name, nothing)["bytes"])

        def failures(node: str) -> int:
            return int(seen[node]["load_failures"] - before["nodes"].get(node, {"load_failures": 0})["load_failures"])

        engines = after["prefill"] + after["decode"]
        policies = _policies(decisions.values()) or after["scheduler"]["policy"]
        mode = mode or policies
        return RunRecord(
            mode=mode,
            read_path=policies,
            layerwise=config.scheduler.layerwise,
            quota=config.scheduler.quota,
            oracle=config.scheduler.oracle,
            prefill_nodes=len(prefill),
            decode_nodes=len(nodes) - len(prefill),
            started_s=self._first_submit_s or started,
            ended_s=self._last_token_s or started,
            turns=[turn.record for turn in self._turns],
            earlier_s=self._earlier.took_s,
            num_parts=self._earlier.num_parts + 1,
            samples=sampler.samples,
            nic_rates_bytes_per_s={name: nic["rate_bytes_per_s"] for name, nic in nics.items()},
            nic_devices={name: nic["device"] for name, nic in nics.items() if nic["device"]},
            snic_read_bytes={node: moved(f"{node}/snic/in") for node in nodes},
            snic_write_bytes={node: moved(f"{node}/snic/out") for node in nodes},
            cnic_bytes={
                node: {
                    way: sum(moved(n) for n in nics if n.startswith(f"{node}/cnic") and n.endswith(f"/{way}"))
                    for way in ("in", "out")
                }
                for node in nodes
            },
            class_bytes={name: _by_class(nics_before.get(name, nothing), nic) for name, nic in nics.items()},
            read_spans=_read_spans(self._system, {node: told["num_reads"] for node, told in before["nodes"].items()}),
            load_failures=sum(map(failures, nodes)),
            cpu_s=_cpu_s(before, after),
            generated={r.trajectory.trajectory_id: r.generated for r in self._replays},
            contexts={r.trajectory.trajectory_id: r.context.tolist() for r in self._replays},
            generated_spans={r.trajectory.trajectory_id: r.spans for r in self._replays},
            engines={e["engine"]: e for e in engines},
            profile=self._system.profile.to_dict(),
            decisions=[{**record, "mode": mode} for record in decisions.values()],
        )


def _policies(decisions: Iterable[dict[str, Any]]) -> str:
    """Of the read path, when these decisions were made: one, unless it was set meanwhile. Empty: nobody knows."""
    return ", then ".join(dict.fromkeys(made["inputs"]["policy"] for made in decisions if made["inputs"]))


def _by_class(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """Bytes of each traffic class that a direction of a NIC moved meanwhile."""
    then: dict[str, int] = before["bytes_by_class"]
    return {str(each): nbytes - then.get(each, 0) for each, nbytes in after["bytes_by_class"].items()}


def _finished_turn(ended: _Ended, decision: dict[str, Any], block_tokens: int, charged: bool) -> FinishedTurn:
    record = _turn_record(ended, decision, block_tokens, charged)
    return FinishedTurn(record, ended.token_ids, ended.token_times_s[-1])


def _turn_record(ended: _Ended, decision: dict[str, Any], block_tokens: int, charged: bool) -> TurnRecord:
    facts, request, times = ended.facts, ended.request, ended.token_times_s
    loaded = int(facts["hit_blocks"]) * block_tokens
    first = facts["prefill_end_s"]
    return TurnRecord(
        trajectory_id=ended.trajectory_id,
        turn=ended.turn,
        request_id=request.request_id,
        read_path=str(decision["read_path"]),
        reason=decision["reason"],
        prefill_engine=decision["prefill_engine"],
        decode_engine=decision["decode_engine"],
        prompt_tokens=request.prompt_tokens,
        append_tokens=ended.append_tokens,
        hit_tokens=request.hit_tokens,
        miss_tokens=request.prompt_tokens - request.hit_tokens,
        loaded_tokens=loaded,
        recomputed_tokens=request.hit_tokens - loaded,
        generated_tokens=len(ended.token_ids),
        num_chunks=int(facts["num_chunks"]),
        submit_s=facts["submit_s"],
        assigned_s=facts["assigned_s"],
        source_ready_s=facts["source_ready_s"],
        prefill_start_s=facts["prefill_start_s"],
        prefill_end_s=first,
        prompt_complete_s=facts["prompt_complete_s"],
        loaded_s=facts["loaded_s"],
        finished_s=facts["finished_s"],
        read_queued_s=facts["read_queued_s"],
        read_s=facts["read_s"],
        ttft_s=first - facts["submit_s"],
        ttst_s=times[1] - first if len(times) > 1 else 0.0,
        tpot_s=(times[-1] - first) / (len(times) - 1) if len(times) > 1 else 0.0,
        snic_read_bytes=int(facts["snic_read_bytes"]) if charged else 0,
        cnic_in_bytes=int(facts["cnic_in_bytes"]) if charged else 0,
        cnic_out_bytes=int(facts["cnic_out_bytes"]) if charged else 0,
        snic_write_bytes=int(facts["snic_write_bytes"]) if charged else 0,
        h2d_bytes=int(facts["prefill_h2d_bytes"] + facts["decode_h2d_bytes"]),
        d2h_bytes=int(facts["prefill_d2h_bytes"] + facts["decode_d2h_bytes"]),
    )


def _read_spans(system: System, before: dict[str, int]) -> dict[str, list[tuple[float, float, int]]]:
    """Of the nodes that are still there."""
    traffic = system.handles.traffic
    spans = ask([t.read_spans.remote(before.get(node, 0)) for node, t in traffic.items()], "a traffic manager")
    return dict(zip(traffic, spans, strict=True))


def _cpu_s(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Of all actors that are there at the end."""

    def taken(status: dict[str, Any]) -> dict[str, float]:
        engines = [*status["prefill"], *status["decode"]]
        named = [(part["engine"], part) for part in engines] + list(status["nodes"].items())
        named += [(part["name"], part) for part in status["storage"]] + [("scheduler", status["scheduler"])]
        return {name: float(part["cpu_s"]) for name, part in named}

    then = taken(before)
    return sum(cpu_s - then.get(name, 0.0) for name, cpu_s in taken(after).items())
