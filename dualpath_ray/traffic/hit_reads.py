"""Reading hit blocks from storage into pool slots over the SNIC: steps 1 and 2 of both read paths.

A block that several requests of the node want is read once and shared while any of them holds it.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from dualpath_ray.base.errors import BlockNotFoundError, CorruptBlockError, UnendedReadError
from dualpath_ray.kv.segment import READY
from dualpath_ray.traffic.context import NodeContext
from dualpath_ray.traffic.effects import OpDone
from dualpath_ray.traffic.index_queue import IndexQueue
from dualpath_ray.traffic.nic import Direction
from dualpath_ray.traffic.nic_queue import Transfer


@dataclass(slots=True)
class ResidentBlock:
    """A stored block in a slot of this pool, being read or verified, with the number of requests that hold it."""

    key: bytes
    slot: int
    holders: int = 1
    settled: bool = False
    failed: str = ""  # why it cannot be used; empty: it can
    unended: bool = False  # the device may write to the slot yet
    read_bytes: int = 0  # over the SNIC
    transfer: Transfer | None = None  # its read, once it is asked for
    urgent_at_s: float = inf  # of the most urgent request that waits for it
    waiting: list[Callable[[], None]] = field(default_factory=list)


class HitReads:
    """The read queue of a node."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._resident: dict[bytes, ResidentBlock] = {}
        self.queued_blocks = 0
        self.read_bytes = self.num_reads = 0
        self.load_failures = 0
        self.failed_blocks: Counter[str] = Counter()  # the same by cause
        self.recomputed_tokens: Counter[str] = Counter()  # hits that ended early, by the cause of the first failure
        self.shared_blocks = 0
        self.spans: deque[tuple[float, float, int]] = deque(maxlen=100_000)  # (asked, done, bytes) of each block read
        self._suspects = IndexQueue(context, "suspect", self._on_checked)

    @property
    def read_queue_tokens(self) -> int:
        """``read_q`` of section 6: tokens asked for and not here yet."""
        return self.queued_blocks * self._context.layout.block_tokens

    def missing(self, keys: Sequence[bytes]) -> int:
        """Slots that ``acquire`` would lease."""
        return sum(key not in self._resident for key in keys)

    def acquire(
        self,
        keys: Sequence[bytes],
        being_written: Sequence[bool],
        owner: str,
        attempt: int,
        done: Callable[[list[ResidentBlock], int], None],
        urgent_at_s: float | None = None,
    ) -> bool:
        """Hold the blocks for a request. Once every one is verified or has failed, ``done`` gets them all and the bytes
        that were read for this request: another one's are not read again.

        Returns: False, and nothing is held, when the pool has not enough free slots now.
        """
        slots = self._context.pool.lease(self.missing(keys), owner, attempt)
        if slots is None:
            return False
        urgent = inf if urgent_at_s is None else urgent_at_s
        blocks: list[ResidentBlock] = []
        unsettled = 0

        def settled() -> None:
            nonlocal unsettled
            unsettled -= 1
            if not unsettled:
                over()

        fresh: list[ResidentBlock] = []
        late: list[ResidentBlock] = []

        asked_s, context = self._context.now_s, self._context

        def over() -> None:
            nbytes = sum(block.read_bytes for block in (*fresh, *late))
            shared = len(blocks) - len(fresh) - len(late)
            first_failed = next((block.failed for block in blocks if block.failed), "")
            note = f"{len(blocks)} blocks{f', {shared} of them read for others' if shared else ''}"
            note += f"; the first that failed: {first_failed}" if first_failed else ""
            context.span("kv_read", asked_s, [owner], context.snic, Direction.IN, nbytes=nbytes, note=note)
            if self.load_failures:
                self._count_recomputed(blocks)
            done(blocks, sum(block.read_bytes for block in (*fresh, *late)))

        for key, written_later in zip(keys, being_written, strict=True):
            block = self._resident.get(key)
            if block is None:
                block = self._resident[key] = ResidentBlock(key, slots.pop())
                block.urgent_at_s = urgent
                (late if written_later else fresh).append(block)
            else:
                block.holders += 1
                self.shared_blocks += 1
                self._hurry(block, urgent)
            blocks.append(block)
            if not block.settled:
                unsettled += 1
                block.waiting.append(settled)
        self.queued_blocks += len(fresh) + len(late)
        for block in fresh:
            self._read(block, self._context.now_s)
        if late:
            self._read_when_written(late)
        if not unsettled:
            over()
        return True

    def _read_when_written(self, blocks: list[ResidentBlock]) -> None:
        def written(event: OpDone) -> None:
            committed = event.result if event.error is None else [False] * len(blocks)
            for block, ok in zip(blocks, committed, strict=True):
                if ok:
                    self._read(block, self._context.now_s)
                else:  # its writer gave up: it never was in the store, so there is nothing to take out of the index
                    self._settle(block, failed="not_written")

        self._context.index("await_written", [b.key for b in blocks], done=written)

    def _read(self, block: ResidentBlock, asked_s: float) -> None:
        context = self._context
        nbytes = context.layout.sealed_bytes
        waiting = 2
        error: Exception | None = None

        def part_done() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting:
                return
            self.spans.append((asked_s, context.now_s, nbytes))
            self.read_bytes += nbytes
            self.num_reads += 1
            block.transfer = None  # there is nothing to hurry any more
            block.read_bytes = nbytes
            if error is not None:
                self._suspects.add(block.key)
            self._settle(block, failed=_cause(error))

        def read_done(event: OpDone) -> None:
            nonlocal error
            error = event.error
            block.unended = isinstance(error, UnendedReadError)
            part_done()

        block.transfer = context.wire(
            context.snic,
            Direction.IN,
            nbytes,
            on_start=lambda: context.read_block(block.key, block.slot, read_done),
            on_finish=part_done,
            urgent_at_s=None if block.urgent_at_s == inf else block.urgent_at_s,
        )

    def _hurry(self, block: ResidentBlock, urgent_at_s: float) -> None:
        """Another request waits for it, too."""
        block.urgent_at_s = min(block.urgent_at_s, urgent_at_s)
        if block.transfer is not None and block.urgent_at_s < inf:
            context = self._context
            context.snic[Direction.IN].hurry(block.transfer, block.urgent_at_s, context.now_s)

    def _on_checked(self, intact: list[bool]) -> None:
        """The storage nodes have looked themselves. What they find intact was not the block's fault but this node's."""
        if any(intact):
            self._context.reading_failed()

    def count_no_room(self, num_blocks: int) -> None:
        """A hit was cut by so many blocks, for which the pool has no slots any more."""
        self.recomputed_tokens["no_room"] += num_blocks * self._context.layout.block_tokens

    def _count_recomputed(self, blocks: Sequence[ResidentBlock]) -> None:
        """What a request loses by failed blocks: the first of them and all after it."""
        whole = verified_prefix(blocks)
        if whole < len(blocks):
            tokens = (len(blocks) - whole) * self._context.layout.block_tokens
            self.recomputed_tokens[blocks[whole].failed] += tokens

    def _settle(self, block: ResidentBlock, failed: str) -> None:
        block.settled, block.failed = True, failed
        self.queued_blocks -= 1
        if failed:
            self.load_failures += 1
            self.failed_blocks[failed] += 1
            if self._resident.get(block.key) is block:
                del self._resident[block.key]  # the next request asks the store again
        else:
            self._context.pool.mark([block.slot], READY)
        waiting, block.waiting = block.waiting, []
        for callback in waiting:
            callback()

    def release(self, blocks: Sequence[ResidentBlock]) -> None:
        """A request lets its blocks go; a slot is free when nobody holds it and nothing writes to it."""
        for block in blocks:
            block.holders -= 1
            if not block.holders:
                if self._resident.get(block.key) is block:
                    del self._resident[block.key]
                if block.unended:
                    self._context.pool.lose([block.slot])
                else:
                    self._context.pool.release([block.slot])


def _cause(error: Exception | None) -> str:
    """One of ``observability.metrics.LOAD_FAILURE_CAUSES``; empty without an error."""
    if error is None:
        return ""
    kinds = {CorruptBlockError: "corrupt", BlockNotFoundError: "missing", UnendedReadError: "read_unended"}
    return next((cause for kind, cause in kinds.items() if isinstance(error, kind)), "read_error")


def verified_prefix(blocks: Sequence[ResidentBlock]) -> int:
    """Blocks before the first that failed: what may be computed on."""
    return next((i for i, block in enumerate(blocks) if block.failed), len(blocks))
