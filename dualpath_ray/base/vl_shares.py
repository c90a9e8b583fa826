"""What arbitration tables come to: shares under saturation and the longest wait, derived from the rules. Pure.

Nothing here runs the arbiter. docs/arbitration.md has the derivation, with numbers for appendix A.1.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import lcm

from dualpath_ray.base.vl_tables import UNIT_BYTES, VlTables, VlWeight, units_of


@dataclass(frozen=True, slots=True)
class Period:
    """What a saturated port sends from its start: some packets, then the same ones over and over."""

    lead_packets: int
    packets: dict[int, int]  # of each lane, in one period


def steady_period(tables: VlTables, packet_bytes: Mapping[int, int]) -> Period:
    """A period of a port on which the given lanes always have packets and the others never.

    Args: packet_bytes: by lane, the size of all its packets.
    """
    high, low, limit = _Cycle(tables.high, packet_bytes), _Cycle(tables.low, packet_bytes), tables.limit_units
    if not low.num_packets or (high.num_packets and limit is None):
        return Period(0, {vl: high.packets[vl] for vl in packet_bytes})
    if not high.num_packets or limit is None:
        return Period(0, {vl: low.packets[vl] for vl in packet_bytes})
    lead, lead_bursts, num_cycles, num_bursts = _bursts(high, limit)
    rounds = lcm(num_bursts, low.num_packets) // num_bursts  # until the low table is where it was, too
    high_times, low_times = rounds * num_cycles, rounds * num_bursts // low.num_packets
    packets = {vl: high_times * high.packets[vl] + low_times * low.packets[vl] for vl in packet_bytes}
    return Period(lead + lead_bursts, packets)  # a packet of the low table follows each burst


def shares(tables: VlTables, packet_bytes: Mapping[int, int]) -> dict[int, Fraction]:
    """Each lane's exact share of the bytes in the long run, where these lanes always have packets and the others never.

    Args: packet_bytes: by lane, the size of all its packets.
    """
    packets = steady_period(tables, packet_bytes).packets
    nbytes = {vl: packets[vl] * packet_bytes[vl] for vl in packet_bytes}
    return {vl: Fraction(sent, sum(nbytes.values()) or 1) for vl, sent in nbytes.items()}


class _Cycle:
    """One way round a table: an entry's turn is as many packets as it takes to use up its weight."""

    def __init__(self, entries: Sequence[VlWeight], packet_bytes: Mapping[int, int]) -> None:
        served = [entry for entry in entries if entry.weight and entry.vl in packet_bytes]
        self._units = [units_of(packet_bytes[entry.vl]) for entry in served]
        turns = [-(-entry.weight // units) for entry, units in zip(served, self._units, strict=True)]
        self.packets: Counter[int] = Counter()
        for entry, turn in zip(served, turns, strict=True):
            self.packets[entry.vl] += turn
        self._packets_before = [0, *accumulate(turns)]
        self._units_before = [0, *accumulate(n * units for n, units in zip(turns, self._units, strict=True))]
        self.num_packets = self._packets_before[-1]

    def burst(self, place: int, limit_units: int) -> int:
        """Packets from a place in the cycle until they have taken the limit."""
        turn = bisect_right(self._packets_before, place) - 1
        target = self._units_before[turn] + (place - self._packets_before[turn]) * self._units[turn] + limit_units
        cycles, target = divmod(target, self._units_before[-1])
        turn = bisect_right(self._units_before, target) - 1
        in_turn = -(-(target - self._units_before[turn]) // self._units[turn])
        return cycles * self.num_packets + self._packets_before[turn] + in_turn - place


def _bursts(high: _Cycle, limit_units: int) -> tuple[int, int, int, int]:
    """Where bursts begin in the cycle comes round: (packets, bursts) before it does, (cycles, bursts) each time."""
    place, sent, seen = 0, 0, dict[int, tuple[int, int]]()
    while place not in seen:
        seen[place] = (sent, len(seen))
        packets = high.burst(place, limit_units)
        place, sent = (place + packets) % high.num_packets, sent + packets
    lead, lead_bursts = seen[place]
    return lead, lead_bursts, (sent - lead) // high.num_packets, len(seen) - lead_bursts


def starvation_bound(tables: VlTables, vl: int, most_bytes: int, least_bytes: int = 1) -> int | None:
    """The most bytes that other lanes may send between two packets of a lane that always has some, and before its first.

    Whatever the other lanes do. None: there is no bound, for the lane has no weight, or none in the high table, and the
    high table has no limit.

    Args: most_bytes, least_bytes: what the packets of the other lanes have at most and at least.
    """
    sizes, limit = _Sizes(least_bytes, most_bytes), tables.limit_units
    high_others, low_others = _has_others(tables.high, vl), _has_others(tables.low, vl)
    waits: list[list[int]] = [[], []]  # for a packet by the high table, by the low table
    for gap in _gaps(tables.high, vl):  # the high table is never idle meanwhile: a low packet takes a spent limit each
        low_packets = 1 + sum(map(sizes.units, gap)) // limit if low_others and limit is not None else 0
        waits[0].append(sum(map(sizes.nbytes, gap)) + low_packets * most_bytes)
    if limit is not None or not high_others:
        burst = sizes.nbytes(limit) if high_others and limit is not None else 0
        for gap in _gaps(tables.low, vl):  # a burst of the high table goes before each packet of the low one
            bursts = 1 + sum(map(sizes.packets, gap))
            waits[1].append(sum(map(sizes.nbytes, gap)) + bursts * burst)
    return min((max(by_table) for by_table in waits if by_table), default=None)


def _has_others(entries: Sequence[VlWeight], vl: int) -> bool:
    return any(entry.weight and entry.vl != vl for entry in entries)


def _gaps(entries: Sequence[VlWeight], vl: int) -> list[list[int]]:
    """Weights of the other lanes' entries between one entry of the lane and its next, all the way round."""
    weighted = [entry for entry in entries if entry.weight]
    own = [at for at, entry in enumerate(weighted) if entry.vl == vl]
    if not own:
        return []
    around = weighted[own[0] + 1 :] + weighted[: own[0] + 1]  # ends with an entry of the lane
    gaps: list[list[int]] = [[]]
    for entry in around:
        if entry.vl == vl:
            gaps.append([])
        else:
            gaps[-1].append(entry.weight)
    return gaps[:-1]


@dataclass(frozen=True, slots=True)
class _Sizes:
    """The most that may go while some units are used up: a packet may begin as long as one is left."""

    least_bytes: int
    most_bytes: int

    def packets(self, units: int) -> int:
        return (units - 1) // units_of(self.least_bytes) + 1

    def units(self, units: int) -> int:
        most = units_of(self.most_bytes)
        return min((self.packets(units) - 1) * most, units - 1) + most

    def nbytes(self, units: int) -> int:
        return min((self.packets(units) - 1) * self.most_bytes, (units - 1) * UNIT_BYTES) + self.most_bytes
