"""Which virtual lane sends next: InfiniBand's VL arbitration (specification volume 1, section 7.6.9). Pure.

Each table is a weighted round robin. The high one goes first; once it has sent its limit, the low one may send a packet.
docs/arbitration.md has the rules in full, what they come to, and where the specification leaves room.
"""

from collections.abc import Sequence
from math import inf

from dualpath_ray.base.vl_tables import UNIT_BYTES, VlTables, VlWeight


class _Table:
    """Weighted round robin over the entries that have a weight."""

    __slots__ = ("left", "vl", "_following", "_entries")

    def __init__(self, entries: Sequence[VlWeight]) -> None:
        weighted = [(at, entry.vl, entry.weight) for at, entry in enumerate(e for e in entries if e.weight)]
        # from each entry on, all the way round: it comes last itself
        self._following = [(*weighted[at + 1 :], *weighted[: at + 1]) for at in range(len(weighted))]
        self._entries = self._following[-1] if weighted else ()  # those that follow the current one
        self.vl = 0
        self.left = 0  # units of the current entry; a packet that began within them may overdraw them

    def find(self, waiting: Sequence[int]) -> bool:
        """Whether a lane has a packet; then ``vl`` is the lane whose turn it is. Else nothing changes.

        An entry that the turn comes to has its full weight: neither what it left last time nor what it overdrew counts.
        """
        if self.left > 0 and waiting[self.vl]:
            return True
        for at, vl, weight in self._entries:
            if waiting[vl]:
                self._entries, self.vl, self.left = self._following[at], vl, weight
                return True
        return False

    def run(self, waiting: Sequence[int], units: int) -> int:
        """Packets that the current lane may send, of so many units each, while nothing comes: its turn, or all it has."""
        own = len(self._entries) - 1  # of the others' entries; one more of the same lane would have a turn of its own
        for _, vl, _ in self._entries[:own]:
            if waiting[vl]:
                return min(waiting[self.vl], -(-self.left // units))  # one may begin while anything is left
        return waiting[self.vl]  # nobody else has a packet: one turn follows the other

    def round(self, waiting: Sequence[int], packet_bytes: Sequence[int]) -> list[tuple[int, int, int]]:
        """(lane, packets, units) of each turn until it is where it is now. Empty unless it is at the end of a turn."""
        if self.left > 0 or not self._entries or not waiting[self._entries[-1][1]]:
            return []
        turns = []
        for _, vl, weight in self._entries:
            if waiting[vl]:
                units = -(-packet_bytes[vl] // UNIT_BYTES)
                packets = -(-weight // units)
                turns.append((vl, packets, packets * units))
        return turns

    def sent(self, packets: int, units: int) -> None:
        """So many packets of the current lane went; a turn that came to it again meanwhile had its full weight."""
        self.left -= packets * units
        if self.left + units <= 0:  # the last one began when nothing was left
            weight = self._entries[-1][2]
            more = packets - -(-(self.left + packets * units) // units)  # after the turn that was under way
            turn = -(-weight // units)
            self.left = weight - ((more - 1) % turn + 1) * units


class Arbiter:
    """The arbiter of one direction of a port. The same questions in the same order have the same answers.

    Sequences are indexed by lane and reach the highest lane of the tables at least. A lane without a weight never sends.
    """

    __slots__ = ("_high", "_low", "_limit", "_high_left")

    def __init__(self, tables: VlTables) -> None:
        self._high = _Table(tables.high)
        self._low = _Table(tables.low)
        self._limit: float = inf if tables.limit_units is None else tables.limit_units
        self._high_left = self._limit  # units until the low table may send; the packet that reaches 0 goes whole

    def next(self, heads: Sequence[int]) -> int | None:
        """The lane that sends one packet now. None: no lane has one, and nothing changes.

        Args: heads: bytes of the packet at the head of each lane's queue; 0 is an empty one.
        """
        table = self._turn(heads)
        if table is None:
            return None
        self._count(table, 1, -(-heads[table.vl] // UNIT_BYTES))
        return table.vl

    def next_run(self, waiting: Sequence[int], packet_bytes: Sequence[int], most: int) -> tuple[int, int] | None:
        """(lane, packets) that go next, one after the other: what as many calls of ``next`` would say, decided at once.

        A run ends with the lane's turn at the latest, if others of its table wait, so the next one may be the same
        lane's. None as ``next`` has it.

        Args: waiting: packets of one size at the front of each lane's queue. packet_bytes: that size, at least 1.
            most: packets that are asked for, at least 1.
        """
        spent = self._high_left <= 0
        table = self._turn(waiting)
        if table is None:
            return None
        vl = table.vl
        units = -(-packet_bytes[vl] // UNIT_BYTES)
        packets = min(most, table.run(waiting, units))
        if table is self._high:
            if packets * units > self._high_left:
                packets = -int(-self._high_left // units)
        elif spent:
            packets = 1  # then it is the high table's turn
        self._count(table, packets, units)
        return vl, packets

    def next_rounds(self, waiting: Sequence[int], packet_bytes: Sequence[int], most: int) -> Sequence[tuple[int, int]]:
        """(lane, packets) of whole rounds of the high table that go next: what as many calls of ``next`` would say,
        decided at once, but for their order. Every lane keeps a packet. Empty where less than a round is certain.

        Args: as of ``next_run``.
        """
        turns = self._high.round(waiting, packet_bytes)
        if not turns:
            return ()
        by_lane = dict.fromkeys((vl for vl, _, _ in turns), 0)
        for vl, packets, _ in turns:
            by_lane[vl] += packets
        units = sum(turn[2] for turn in turns)
        times = min(most // sum(by_lane.values()), *((waiting[vl] - 1) // packets for vl, packets in by_lane.items()))
        if times * units > self._high_left:
            times = int(self._high_left // units)
        if times < 1:
            return ()
        self._high_left -= times * units
        return [(vl, times * packets) for vl, packets in by_lane.items()]

    def _turn(self, waiting: Sequence[int]) -> _Table | None:
        high, low = self._high, self._low
        if self._high_left > 0:
            return high if high.find(waiting) else low if low.find(waiting) else None
        if low.find(waiting):
            return low
        if high.find(waiting):
            self._high_left = self._limit  # the low table had its chance
            return high
        return None

    def _count(self, table: _Table, packets: int, units: int) -> None:
        table.sent(packets, units)
        if table is self._high:
            self._high_left -= packets * units
        else:
            self._high_left = self._limit
