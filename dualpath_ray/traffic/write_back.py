"""Persisting full blocks: sealed, registered in the index first, then written over the SNIC. The queue is bounded."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dualpath_ray.base.errors import StorageError, StoreFullError
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.kv.segment import WRITING
from dualpath_ray.traffic.context import NodeContext, nothing
from dualpath_ray.traffic.effects import OpDone
from dualpath_ray.traffic.index_queue import IndexQueue
from dualpath_ray.traffic.nic import Direction


@dataclass(frozen=True, slots=True)
class NewBlock:
    """A full block in a slot that write-back now owns."""

    key: bytes
    parent: bytes
    weights_version: int
    slot: int


@dataclass(frozen=True, slots=True)
class _Handed:
    """Blocks that were handed over together."""

    blocks: list[NewBlock]
    trajectory_id: str
    registered: Callable[[int], None]


class WriteBack:
    """The write-back queue of a decode node."""

    def __init__(self, context: NodeContext, max_blocks: int) -> None:
        self._context = context
        self.max_blocks = max_blocks
        self.on_free: Callable[[], None] = nothing  # a slot became free: whoever waits for one may go on
        self._wanted: deque[tuple[str, int, Callable[[int], None]]] = deque()
        self._pending: list[_Handed] = []  # go to the index with its next call
        self._begin_out = False
        self._commits = IndexQueue(context, "commit")
        self._aborts = IndexQueue(context, "abort")
        self.writing_blocks = 0
        self.written_bytes = 0
        self.write_failures = 0
        self.last_error = ""

    @property
    def waiting_blocks(self) -> int:
        """Full blocks that wait for a slot and a place in the queue."""
        return len(self._wanted)

    def want_slot(self, owner: str, attempt: int, granted: Callable[[int], None]) -> None:
        """Ask for a slot to hand a block over; granted in order while the queue has room."""
        self._wanted.append((owner, attempt, granted))
        self.grant_slots()

    def grant_slots(self) -> None:
        """Call after slots became free."""
        while self._wanted and self.writing_blocks < self.max_blocks:
            owner, attempt, granted = self._wanted[0]
            slots = self._context.pool.lease(1, owner, attempt)
            if slots is None:
                return
            self._wanted.popleft()
            self.writing_blocks += 1
            granted(slots[0])

    def write(
        self, blocks: Sequence[NewBlock], trajectory_id: str, registered: Callable[[int], None], counted: bool = False
    ) -> None:
        """Persist blocks and give their slots back.

        ``registered`` runs when the index knows them: from then on they are hits (read your writes). It is told how many
        of them are written: the others are in the store already, or there is no room for them.
        ``counted``: their slots came from ``want_slot``.
        """
        if not counted:
            self.writing_blocks += len(blocks)
        self._context.pool.mark([b.slot for b in blocks], WRITING)
        self._pending.append(_Handed(list(blocks), trajectory_id, registered))
        self._begin()

    def _begin(self) -> None:
        """One call at a time: blocks that come while it is out go along with the next."""
        if self._begin_out or not self._pending:
            return
        handed, self._pending = self._pending, []
        self._begin_out = True
        entries = [(b.key, b.parent, b.weights_version, each.trajectory_id) for each in handed for b in each.blocks]

        def begun(event: OpDone) -> None:
            self._begin_out = False
            if event.error:
                self._context.fail(StorageError(f"the block index does not answer: {event.error}"))
                return
            to_write, refused = event.result
            if refused:
                self.write_failures += len(refused)
                self.last_error = "storage capacity is used up and every block is in use; raise storage.capacity_bytes"
            chosen = set(to_write)
            for each in handed:
                num_writes = 0
                for block in each.blocks:
                    if block.key in chosen:
                        chosen.discard(block.key)
                        num_writes += 1
                        self._write(block)
                    else:  # the store has it, or has no room for it
                        self._free(block)
                each.registered(num_writes)
            self._begin()

        self._context.index("begin_write", entries, done=begun)

    def _write(self, block: NewBlock) -> None:
        context = self._context
        waiting = 2
        error: Exception | None = None

        def part_done() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting:
                return
            if error is None:
                self.written_bytes += context.layout.sealed_bytes
                self._commits.add(block.key)
            else:
                self.write_failures += 1
                self.last_error = str(error)
                self._aborts.add(block.key)
                if isinstance(error, StoreFullError):
                    context.fail(error)
            self._free(block)

        def written(event: OpDone) -> None:
            nonlocal error
            error = event.error
            part_done()

        context.wire(
            context.snic,
            Direction.OUT,
            context.layout.sealed_bytes,
            on_start=lambda: context.write_block(block.key, block.parent, block.weights_version, block.slot, written),
            on_finish=part_done,
            traffic_class=TrafficClass.WRITE_BACK,
        )

    def _free(self, block: NewBlock) -> None:
        self.writing_blocks -= 1
        self._context.pool.release([block.slot])
        self.grant_slots()
        self.on_free()
