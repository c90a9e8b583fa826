"""Persisting full blocks: sealed, registered in the index first, then written over the SNIC. The queue is bounded."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dualpath_ray.base.errors import StorageError, StoreFullError
from dualpath_ray.kv.segment import WRITING
from dualpath_ray.traffic.context import NodeContext, nothing
from dualpath_ray.traffic.effects import OpDone
from dualpath_ray.traffic.nic import Direction


@dataclass(frozen=True, slots=True)
class NewBlock:
    """A full block in a slot that write-back now owns."""

    key: bytes
    parent: bytes
    weights_version: int
    slot: int


class WriteBack:
    """The write-back queue of a decode node."""

    def __init__(self, context: NodeContext, max_blocks: int) -> None:
        self._context = context
        self._max_blocks = max_blocks
        self.on_free: Callable[[], None] = nothing  # a slot became free: whoever waits for one may go on
        self._wanted: deque[tuple[str, int, Callable[[int], None]]] = deque()
        self.writing_blocks = 0
        self.written_bytes = 0
        self.write_failures = 0
        self.last_error = ""

    def want_slot(self, owner: str, attempt: int, granted: Callable[[int], None]) -> None:
        """Ask for a slot to hand a block over; granted in order while the queue has room."""
        self._wanted.append((owner, attempt, granted))
        self.grant_slots()

    def grant_slots(self) -> None:
        """Call after slots became free."""
        while self._wanted and self.writing_blocks < self._max_blocks:
            owner, attempt, granted = self._wanted[0]
            slots = self._context.pool.lease(1, owner, attempt)
            if slots is None:
                return
            self._wanted.popleft()
            self.writing_blocks += 1
            granted(slots[0])

    def write(
        self, blocks: Sequence[NewBlock], trajectory_id: str, registered: Callable[[], None], counted: bool = False
    ) -> None:
        """Persist blocks and give their slots back.

        ``registered`` runs when the index knows them: from then on they are hits (read your writes).
        ``counted``: their slots came from ``want_slot``.
        """
        if not counted:
            self.writing_blocks += len(blocks)
        self._context.pool.mark([b.slot for b in blocks], WRITING)
        entries = [(b.key, b.parent, b.weights_version, trajectory_id) for b in blocks]

        def begun(event: OpDone) -> None:
            if event.error:
                self._context.fail(StorageError(f"the block index does not answer: {event.error}"))
                return
            to_write, refused = event.result
            if refused:
                self.write_failures += len(refused)
                self.last_error = "storage capacity is used up and every block is in use; raise storage.capacity_bytes"
            chosen = set(to_write)
            for block in blocks:
                if block.key in chosen:
                    chosen.discard(block.key)
                    self._write(block)
                else:  # the store has it, or has no room for it
                    self._free(block)
            registered()

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
                context.index("commit", [block.key], done=lambda event: None)
            else:
                self.write_failures += 1
                self.last_error = str(error)
                context.index("abort", [block.key], done=lambda event: None)
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
        )

    def _free(self, block: NewBlock) -> None:
        self.writing_blocks -= 1
        self._context.pool.release([block.slot])
        self.grant_slots()
        self.on_free()
