"""The client API: generate, stream, cancel, end a trajectory. Holds tokens, never KV."""

import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from dualpath_ray.base.errors import DualPathError, RequestRefusedError, SystemDiedError
from dualpath_ray.base.packed import PackedList
from dualpath_ray.cluster.asking import ANSWER_S, ask, first_line, own_error
from dualpath_ray.cluster.client_metrics import ClientMetrics
from dualpath_ray.cluster.decisions import decisions_of
from dualpath_ray.cluster.plan import named
from dualpath_ray.cluster.submitter import Submitter
from dualpath_ray.cluster.system import System
from dualpath_ray.engine.group import client_payload
from dualpath_ray.engine.request import StepEvent
from dualpath_ray.engine.sampling import SamplingParams
from dualpath_ray.kv.keys import block_keys, hit_blocks
from dualpath_ray.observability.run_record import RunRecord
from dualpath_ray.scheduler.state import Request
from dualpath_ray.storage.client import ABSENT, BEING_WRITTEN, ShardedIndex
from dualpath_ray.workload.trajectory import Trajectory

if TYPE_CHECKING:
    from dualpath_ray.cluster.rollout import Progress

_LOG = logging.getLogger(__name__)
_POLL_S = 1.0
_WATCH_S = 1.0


LONGEST_S = 86_400.0  # that a deadline may be away


@dataclass(slots=True)
class Sample:
    """One sampled continuation."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """One streamed token."""

    sample: int
    index: int
    token_id: int
    logprob: float


class Generation:
    """A request under way: iterate to stream its tokens, ``result`` to wait for the end, ``cancel`` to stop it."""

    def __init__(
        self, client: "Client", request: Request, submit_s: float, on_end: Callable[["Generation"], None] | None
    ) -> None:
        self._client, self.request, self._on_end = client, request, on_end
        self.samples = [Sample() for _ in range(request.num_samples)]
        self.facts: dict[str, Any] = {"submit_s": submit_s}
        self.token_times_s: list[float] = []  # of sample 0
        self.error: DualPathError | None = None
        self.submitted: Future[None] | None = None  # done once the scheduler has it
        self._ended = [False] * request.num_samples
        self._streamed = [0] * request.num_samples
        self._lock = threading.Lock()  # two engines speak of a request, each on a thread of the client
        self._done = threading.Event()
        self._stream: queue.SimpleQueue[Token | None] = queue.SimpleQueue()

    @property
    def request_id(self) -> str:
        return self.request.request_id

    def __iter__(self) -> Iterator[Token]:
        """Tokens as they come. Raises: what ``result`` raises."""
        while (token := self._stream.get()) is not None:
            yield token
        self._stream.put(None)  # whoever iterates again ends at once
        if self.error is not None:
            raise self.error

    def result(self, timeout_s: float | None = None) -> list[Sample]:
        """The samples, once all have ended.

        Raises: SystemDiedError when the system can no longer answer; TimeoutError.
        """
        if not self._done.wait(timeout_s):
            raise TimeoutError(f"request {self.request_id} has not ended within {timeout_s} s")
        if self.error is not None:
            raise self.error
        return self.samples

    def cancel(self) -> None:
        """Stop generating; ``result`` then returns what there is, with the reason ``cancelled``."""
        self._client.cancel(self)

    def on_event(self, event: StepEvent) -> None:
        """Take in what an engine said. A first token and the later ones come from two engines, in any order."""
        with self._lock:
            self._take(event)
            over = all(self._ended)
        if over:
            self._end(None)

    def _take(self, event: StepEvent) -> None:
        sample = self.samples[event.sample]
        self.facts.update(event.facts)
        for index, (token, logprob) in enumerate(zip(event.tokens, event.logprobs, strict=True), event.first_index):
            placed = self._place(sample, index, token, logprob)
            if placed and event.sample == 0:
                # the last event may overtake the first token's, which comes from another engine: it knows that time too
                first_s = event.facts.get("prefill_end_s", event.time_s) if index == 0 else event.time_s
                self.token_times_s.append(first_s)
        self._stream_in_order(event.sample, sample)
        if event.finished:
            sample.finish_reason = event.reason
            self._ended[event.sample] = True

    def _stream_in_order(self, index: int, sample: Sample) -> None:
        """Pass on the tokens that have no gap before them."""
        while (n := self._streamed[index]) < len(sample.token_ids) and sample.token_ids[n] >= 0:
            self._stream.put(Token(index, n, sample.token_ids[n], sample.logprobs[n]))
            self._streamed[index] += 1

    @staticmethod
    def _place(sample: Sample, index: int, token: int, logprob: float) -> bool:
        """Put a token where it belongs; False when it is there already."""
        if index < len(sample.token_ids) and sample.token_ids[index] >= 0:
            return False
        missing = index + 1 - len(sample.token_ids)
        sample.token_ids.extend([-1] * missing)
        sample.logprobs.extend([0.0] * missing)
        sample.token_ids[index], sample.logprobs[index] = token, logprob
        return True

    def _end(self, error: DualPathError | None) -> None:
        with self._lock:
            if self._done.is_set():
                return
            self.error = error
            self._done.set()
        self._stream.put(None)
        reason = "failed" if error is not None else self.samples[0].finish_reason
        self._client.metrics.ended(self.request.trajectory_id, self.facts["submit_s"], self.token_times_s, reason)
        if self._on_end is not None:
            try:
                self._on_end(self)
            except Exception:  # the caller's own; the thread that calls it serves every other request too
                _LOG.exception("on_end of request %s failed", self.request_id)

    def fail(self, error: DualPathError) -> None:
        self._end(error)


class Client:
    """A user of a system. Thread-safe; ``close`` ends its threads."""

    def __init__(self, system: System) -> None:
        self._system, self._plan = system, system.plan
        self._id = secrets.token_hex(4)
        self._handles, self._version = system.handles.copy(), system.version
        self._index = ShardedIndex(len(system.handles.storage), self._call_index)
        self._scope = replace(system.plan.scope, weights_version=self._stored_version())
        self._lock = threading.Lock()
        self._running: dict[str, Generation] = {}
        self._next = 0
        self._failure: DualPathError | None = None
        self._closed = threading.Event()
        self.metrics = ClientMetrics(self._plan.export_settings(system.name))
        self._submitter = Submitter(self._submit, self._plan.config.scheduler.fetch_interval_s)
        self._polled: set[Any] = set()  # engines
        self._threads = [threading.Thread(target=self._watch, name="watch", daemon=True)]
        self._poll_all()
        self._threads[0].start()

    # requests --------------------------------------------------------------------------------------------------------

    def generate(
        self,
        token_ids: Sequence[int] | np.ndarray,
        params: SamplingParams,
        trajectory_id: str,
        on_end: Callable[[Generation], None] | None = None,
        first_token_within_s: float | None = None,
    ) -> Generation:
        """Submit a prompt.

        Args:   token_ids: the whole context [prompt_tokens]; what earlier turns of the trajectory stored is a hit.
            on_end: called from a client thread when the request has ended. first_token_within_s: when this is nearly over,
            the request's KV goes on in the lane of urgent KV (section 5; ours).
        Raises: RequestRefusedError when it can never run here; SystemDiedError.
        """
        submit_s = time.time()
        if first_token_within_s is not None and not 0 <= first_token_within_s < LONGEST_S:
            raise RequestRefusedError(
                f"first_token_within_s: {first_token_within_s} is not from 0 to {LONGEST_S:g} seconds"
            )
        self._check_alive()
        tokens = np.ascontiguousarray(token_ids, dtype="<i4")
        self._refuse(tokens, params)
        with self._lock:
            self._next += 1
            request_id = f"{self._id}-{self._next}"
        layout = self._plan.layout
        scope = self._scope  # one for the whole request, should the weights change meanwhile
        keys = block_keys(tokens, layout.block_tokens, scope.salt())
        try:
            found = self._lookup(request_id, keys)
        except (
            BaseException
        ):  # a Ctrl-C too: the lookup may have pinned blocks, and this request will never let them go
            self._forget(request_id)
            raise
        hits = hit_blocks([f != ABSENT for f in found], len(tokens), layout.block_tokens)
        request = Request(
            request_id=request_id,
            attempt=1,
            trajectory_id=trajectory_id,
            prompt_tokens=len(tokens),
            hit_tokens=hits * layout.block_tokens,
            max_new_tokens=params.max_tokens,
            num_samples=params.num_samples,
            prompt_copies=self._plan.prompt_copies(params.num_samples),
            payload=client_payload(
                self._id,
                tokens.tobytes(),
                keys,
                [f == BEING_WRITTEN for f in found[:hits]],
                scope.salt(),
                scope.weights_version,
                params,
                None if first_token_within_s is None else submit_s + first_token_within_s,
            ),
        )
        generation = Generation(self, request, submit_s, on_end)
        with self._lock:
            self._check_alive()  # else nobody would tell this request of a death that came meanwhile
            self._running[request_id] = generation
        self.metrics.submitted(trajectory_id, submit_s)
        generation.submitted = self._submitter.put(request)
        return generation

    def has_made(self, request_id: str) -> bool:
        """Whether a request is this client's."""
        return request_id.startswith(f"{self._id}-")

    def _submit(self, requests: list[Request]) -> None:
        ask(self._handles.scheduler.submit.remote(PackedList(requests)), "the scheduler")

    def _lookup(self, request_id: str, keys: list[bytes]) -> list[int]:
        return self._from_index(self._index.lookup(self._id, request_id, keys)) if keys else []

    def _from_index(self, answer: Future[Any]) -> Any:
        """Raises: SystemDiedError when a storage node is gone or does not answer."""
        try:
            return answer.result(ANSWER_S)
        except FutureTimeoutError as error:
            raise SystemDiedError(f"a storage node does not answer within {ANSWER_S:g} s") from error
        except ray.exceptions.RayError as error:
            raise SystemDiedError(f"a storage node is gone: {first_line(error)}") from error

    def _refuse(self, tokens: np.ndarray, params: SamplingParams) -> None:
        """Demand beyond what can ever be had is refused at the edge."""
        plan, layout = self._plan, self._plan.layout
        total = len(tokens) + params.max_tokens
        if not len(tokens):
            raise RequestRefusedError("token_ids: the prompt is empty")
        if tokens.min() < 0 or tokens.max() >= plan.description.vocab_size:
            raise RequestRefusedError(f"token_ids: a token is outside the vocabulary of {plan.description.vocab_size}")
        if total > plan.max_context_tokens:
            raise RequestRefusedError(
                f"token_ids: {len(tokens)} prompt and {params.max_tokens} new tokens pass the context limit of "
                f"{plan.max_context_tokens} (engine.max_context_tokens)"
            )
        copies = plan.prompt_copies(params.num_samples)
        if copies * len(tokens) + params.num_samples * params.max_tokens > plan.hbm_tokens:
            prompts = f"{copies} x {len(tokens)}" if copies > 1 else str(len(tokens))
            raise RequestRefusedError(
                f"num_samples: {prompts} prompt tokens and {params.num_samples} x {params.max_tokens} new ones need more KV "
                f"memory than a decode engine's {plan.hbm_tokens} tokens (engine.hbm_kv_bytes)"
            )
        for key, slots in (("node.de_buffer_bytes", plan.de_slots), ("node.pe_buffer_bytes", plan.pe_slots)):
            if layout.num_blocks(len(tokens)) > slots:
                raise RequestRefusedError(
                    f"token_ids: {len(tokens)} tokens need {layout.num_blocks(len(tokens))} blocks, but the buffer holds "
                    f"{slots} ({key})"
                )

    def cancel(self, generation: Generation) -> None:
        """Stop a request wherever it is."""
        request_id = generation.request_id
        if generation.submitted is not None:
            generation.submitted.result()  # calls may overtake one another: this one must not
        waiting, engine = ask(self._handles.scheduler.cancel.remote(request_id), "the scheduler")
        if waiting:
            for index in range(generation.request.num_samples):
                generation.on_event(StepEvent(request_id, 1, index, 0, finished=True, reason="cancelled"))
            self._forget(request_id)
            return
        if engine:
            self._decode_engine(engine).cancel.remote(request_id)

    def _decode_engine(self, name: str) -> Any:
        """One that has just joined gets work a moment before everyone knows it. Raises: SystemDiedError when it is gone."""
        deadline = time.monotonic() + ANSWER_S
        while name not in self._handles.decode:
            if time.monotonic() > deadline:
                raise SystemDiedError(f"decode engine {name} is gone")
            time.sleep(0.05)
            self._refresh()
        return self._handles.decode[name]

    def rollout(
        self,
        trajectories: Sequence[Trajectory],
        show: Callable[["Progress"], None] = lambda progress: None,
        name: str | None = None,
    ) -> RunRecord:
        """Replay trajectories, all starting at once.

        Args:   show: is told how far it is, twice a second; name: of the run in its record, the read path that it had when None.
        Raises: SystemDiedError; RequestRefusedError when a turn can never run here.
        """
        from dualpath_ray.cluster.rollout import Rollout

        return Rollout(self._system, self, trajectories, show).run(name)

    def end_trajectory(self, trajectory_id: str) -> None:
        """No further turn will come: its blocks may be evicted before others."""
        self.metrics.trajectory_ended(trajectory_id)
        self._index.each("end_trajectories", [trajectory_id])

    def update_weights(self, version: int) -> None:
        """New weights: the version enters the keys, so that no old block is a hit; old ones are evicted first.

        Other clients of the system take it over within seconds.

        Raises: RequestRefusedError for a version below the present one: its blocks may be gone.
        """
        in_force = max(self._from_index(self._index.each("set_weights_version", version)))
        self._take_version(in_force)
        if in_force > version:
            raise RequestRefusedError(f"version: {version} is older than {in_force}")

    def _take_version(self, version: int) -> None:
        with self._lock:
            if version > self._scope.weights_version:
                self._scope = replace(self._scope, weights_version=version)

    @property
    def weights_version(self) -> int:
        """That this client's requests are keyed with."""
        return self._scope.weights_version

    def _stored_version(self) -> int:
        """The version that the storage nodes hold for current: a client may come after an update."""
        return max(int(status["weights_version"]) for status in self._from_index(self._index.each("status")))

    def decisions(self, since_seq: int = 0) -> list[dict[str, Any]]:
        """Records of the scheduler's decisions, with the inputs that each was made on."""
        return decisions_of(self._handles.scheduler, since_seq)

    # threads ---------------------------------------------------------------------------------------------------------

    def _call_index(self, shard: int, method: str, args: tuple[Any, ...]) -> Any:
        return getattr(self._handles.storage[shard], method).remote(*args).future()

    def _poll_all(self) -> None:
        """A thread for each engine that has none yet."""
        for name, engine in self._handles.engines.items():
            if engine not in self._polled:
                self._polled.add(engine)
                poller = threading.Thread(target=self._poll, args=(name, engine), name=f"events-{name}", daemon=True)
                self._threads.append(poller)
                poller.start()

    def _refresh(self) -> None:
        """Hear of nodes that came or went. Raises: SystemDiedError."""
        facts = ask(self._handles.scheduler.facts.remote(self._version), "the scheduler")
        with self._lock:
            if facts is None or facts.version <= self._version:
                return
            handles = facts.handles.copy()
            handles.scheduler = self._handles.scheduler
            self._handles, self._version = handles, facts.version
            self._poll_all()

    def _has_left(self, actor: Any) -> bool:
        """Whether an actor that does not answer is none of the system's any more."""
        if self._closed.is_set() or not ray.is_initialized():  # a call would start a Ray of its own
            return False
        with suppress(DualPathError):  # of the scheduler, which its own turn finds
            self._refresh()
        return all(actor != handle for handle in self._handles.named().values())

    def _poll(self, name: str, engine: Any) -> None:
        while not self._closed.is_set():
            try:
                events: list[StepEvent] = ray.get(engine.poll_events.remote(self._id, _POLL_S))
            except (
                Exception
            ) as error:  # the engine is gone: whatever Ray calls it, nobody will hear of its requests again
                if not self._has_left(engine):
                    self._die(f"engine {name}", error)
                return
            for event in events:
                generation = self._running.get(event.request_id)
                if generation is not None:
                    generation.on_event(event)
                    if event.finished and generation._done.is_set():
                        self._forget(event.request_id)

    def _forget(self, request_id: str) -> None:
        with self._lock:
            self._running.pop(request_id, None)
        self._index.each("unpin", self._id, [request_id])

    def _watch(self) -> None:
        """Any actor's death ends what waits for it, within seconds."""
        while not self._closed.wait(_WATCH_S):
            for name, handle in self._handles.named().items():
                try:
                    ask(handle.ping.remote(), name)
                except Exception as error:  # dead, hung or failed: all end the run
                    if not self._has_left(handle):
                        self._die(name, error)
                        return
            self._renew()
            try:
                self._refresh()
            except Exception as error:
                self._die("the scheduler", error)
                return

    def _renew(self) -> None:
        """Keep this client's pins, and hear of weights that another client has updated."""
        try:
            version = max(self._from_index(self._index.each("renew", self._id)))
        except Exception as error:
            self._die("a storage node", error)
            return
        self._take_version(version)

    def _die(self, who: str, error: Exception) -> None:
        if self._closed.is_set():
            return
        reason = own_error(error) or SystemDiedError(f"{who} is gone: {first_line(error)}")
        with self._lock:
            self._failure = self._failure or named(reason, self._plan.source)
            running = list(self._running.values())
            self._running.clear()
        for generation in running:
            generation.fail(self._failure)

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise self._failure

    @property
    def failure(self) -> DualPathError | None:
        """Why the system can no longer answer, once that is so."""
        return self._failure

    def close(self) -> None:
        """End this client's threads. Requests under way go on without their pins: an evicted block is recomputed."""
        self._closed.set()
        self._submitter.close()
        self.metrics.close()
        with self._lock:
            running = list(self._running)
            self._running.clear()
        if running and self._failure is None:
            self._index.each("unpin", self._id, running)
        if ray.is_initialized():
            for engine in self._handles.engines.values():
                engine.leave.remote(self._id)
        deadline = time.monotonic() + _POLL_S + _WATCH_S  # whoever leaves Ray next must find no thread that is calling
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
