"""The traffic manager's core: events in, effects out, one at a time. No clock, no thread, no Ray."""

from collections.abc import Callable
from typing import Any

from dualpath_ray.traffic import messages as m
from dualpath_ray.traffic.context import NodeContext
from dualpath_ray.traffic.decode_side import DecodeSide
from dualpath_ray.traffic.effects import Effect, Event, FromEngine, FromPeer, OpDone
from dualpath_ray.traffic.hit_reads import HitReads
from dualpath_ray.traffic.nic import Direction
from dualpath_ray.traffic.prefill_side import PrefillSide, StagingRing
from dualpath_ray.traffic.write_back import WriteBack


class TrafficCore:
    """Everything a node's traffic manager decides.

    Args: rings: one staging ring per engine (prefill nodes); leaders: engine indices that are told the node's state;
        report_interval_s: the least time between two of these reports.
    """

    def __init__(
        self,
        context: NodeContext,
        rings: list[StagingRing],
        max_write_back_blocks: int,
        report_interval_s: float,
    ) -> None:
        self.context = context
        self.reads = HitReads(context)
        self.write_back = WriteBack(context, max_write_back_blocks)
        self.prefill = PrefillSide(context, self.reads, rings)
        self.decode = DecodeSide(context, self.reads, self.write_back)
        self._report_interval_s = report_interval_s
        self._reported: tuple[Any, ...] | None = None
        self._opened: dict[int, int] = {}  # engine -> number of its last decision that was opened here
        self._looked_s = float("-inf")
        self._report_due_s: float | None = None
        self._nic_sample: tuple[float, dict[str, tuple[float, float]]] = (0.0, {})
        self._from_engine: dict[type, Callable[[Any], None]] = {
            m.Hello: self._on_hello,
            m.Relay: lambda message: context.send(message.to_engine, message),
            m.OpenSource: self.prefill.on_open,
            m.Batch: self.prefill.on_batch,
            m.LayerOut: self.prefill.on_layer_out,
            m.BatchDone: self.prefill.on_batch_done,
            m.CloseSource: self.prefill.on_close,
            m.OpenSink: self.decode.on_open,
            m.SinkLoaded: self.decode.on_loaded,
            m.PersistWant: self.decode.on_persist_want,
            m.PersistReady: self.decode.on_persist_ready,
            m.CloseSink: self.decode.on_close,
            m.Collective: context.on_collective,
        }
        self._from_peer: dict[type, Callable[[Any], None]] = {
            m.Offer: self.prefill.on_offer,
            m.PromptDone: self.decode.on_prompt_done,
            m.Revoked: self.decode.on_revoked,
            m.Settled: self.prefill.on_settled,
            m.Granted: context.on_granted,
        }

    def handle(self, event: Event, now_s: float) -> list[Effect]:
        """Take in one event and everything that is due by now; what must be done about it comes back in order."""
        context = self.context
        context.now_s = max(context.now_s, now_s)
        context.outbox = []
        if isinstance(event, OpDone):
            context.op_done(event)
        elif isinstance(event, FromEngine):
            self._from_engine[type(event.message)](event.message)
            if isinstance(event.message, m.OpenSource | m.OpenSink):
                self._opened[event.message.engine] = event.message.seq
        elif isinstance(event, FromPeer):
            self._on_peer(event.node, event.message)
        while context.poll_nics():
            pass
        self._report()
        return context.outbox

    def _on_peer(self, node: str, message: Any) -> None:
        if isinstance(message, m.Grant):
            self.context.on_grant(node, message)
        elif isinstance(message, m.Revoke):
            self.prefill.on_revoke(node, message)
        else:
            self._from_peer[type(message)](message)

    def next_deadline_s(self) -> float | None:
        """When to come back with a Tick if nothing happens before; None when there is nothing to wait for."""
        times = [self.context.next_deadline_s(), self._report_due_s]
        return min((t for t in times if t is not None), default=None)

    def _on_hello(self, message: m.Hello) -> None:
        """An engine has linked up: if it leads, it needs the node's state even when nothing changes."""
        self._reported = None

    def _report(self) -> None:
        """Tell the group's leader (engine 0) what it reports of this node when that has changed.

        Looked at once an interval, not at every event: counting walks over all open requests.
        """
        now = self.context.now_s
        due_s = self._looked_s + self._report_interval_s
        if now < due_s:
            self._report_due_s = due_s
            return
        self._looked_s, self._report_due_s = now, None
        state = self.node_state(now)
        loads = (state.read_queue_tokens, state.read_bytes, state.can_read, state.free_buffer_tokens, state.opened)
        if loads != self._reported:
            self._reported = loads
            self.context.send(0, state)

    def node_state(self, now_s: float) -> m.NodeState:
        """Loads of this node as of now; NIC rates are means since the sample before."""
        context = self.context
        return m.NodeState(
            read_queue_tokens=self._read_queue_tokens(),
            read_bytes=self.reads.read_bytes,
            can_read=context.can_read,
            free_buffer_tokens=self._free_buffer_tokens(),
            nics=self._nic_rates(now_s),
            opened=[[engine, seq] for engine, seq in self._opened.items()],
        )

    def _read_queue_tokens(self) -> int:
        """``read_q``: what is asked for, and what will be as soon as there are slots."""
        waiting = self.prefill.waiting_blocks + self.decode.waiting_blocks[0]
        return self.reads.read_queue_tokens + waiting * self.context.layout.block_tokens

    def _free_buffer_tokens(self) -> int:
        """Free slots that nobody waits for."""
        free = self.context.pool.num_free - self.decode.waiting_blocks[1]
        return max(0, free) * self.context.layout.block_tokens

    def _nic_rates(self, now_s: float) -> list[list[Any]]:
        last_s, before = self._nic_sample
        sample = {
            q.name: q.busy_until(now_s) for nic in (self.context.snic, *self.context.cnics) for q in nic.queues.values()
        }
        passed = now_s - last_s
        if passed <= 0:
            return []
        rates = []
        for name, (busy, done) in sample.items():
            busy_before, done_before = before.get(name, (0.0, 0.0))
            utilisation = round(min(1.0, (busy - busy_before) / passed), 3)
            rates.append([name, round((done - done_before) / passed), utilisation])
        if passed > 0.2:  # means over a fifth of a second at least: shorter ones only show single blocks
            self._nic_sample = (now_s, sample)
        return rates

    def status(self, now_s: float) -> dict[str, Any]:
        """Counters for displays and summaries: bytes exact, busy seconds up to now."""
        context = self.context
        nics = {}
        for nic in (context.snic, *context.cnics):
            for direction in Direction:
                queue = nic[direction]
                busy, done = queue.busy_until(now_s)
                nics[queue.name] = {
                    "bytes": queue.counters.done_bytes,
                    "moved_bytes": done,
                    "busy_s": busy,
                    "queued_bytes": queue.queued_bytes,
                    "transfers": queue.counters.transfers,
                    "promoted": queue.counters.promoted,
                    "bytes_by_class": dict(queue.counters.bytes_by_class),
                    "queued_by_class": queue.queued_by_class(),
                    "lanes": queue.lanes(),
                    "rate_bytes_per_s": queue.reported_bytes_per_s,
                    "emulated": queue.rate_bytes_per_s is not None,
                    "device": nic.device,
                }
        return {
            "node": context.node,
            "nics": nics,
            "read_queue_tokens": self.reads.read_queue_tokens,
            "load_failures": self.reads.load_failures,
            "load_failures_by_cause": dict(self.reads.failed_blocks),
            "recomputed_tokens": dict(self.reads.recomputed_tokens),
            "shared_blocks": self.reads.shared_blocks,
            "num_reads": self.reads.num_reads,
            "read_bytes": self.reads.read_bytes,
            "written_bytes": self.write_back.written_bytes,
            "writing_blocks": self.write_back.writing_blocks,
            "write_back_limit_blocks": self.write_back.max_blocks,
            "write_back_waiting_blocks": self.write_back.waiting_blocks,
            "write_failures": self.write_back.write_failures,
            "last_write_error": self.write_back.last_error,
            "free_slots": context.pool.num_free,
            "lost_slots": context.pool.num_lost,
            "num_slots": context.pool.num_slots,
            "open_requests": self.prefill.num_requests + self.decode.num_requests,
            "can_read": context.can_read,
        }
