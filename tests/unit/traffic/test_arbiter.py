"""VL arbitration: the rules by example, the shares that they come to exactly, and that nobody waits beyond the bound."""

from collections import Counter, deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dualpath_ray.base.vl_shares import Period, shares, starvation_bound, steady_period
from dualpath_ray.base.vl_tables import DROPPED, NO_LIMIT, PAPER_TABLES, VlTables, VlWeight
from dualpath_ray.traffic.arbiter import Arbiter

LANES = 4
MTU = 4096

sizes = st.one_of(st.integers(1, 300), st.sampled_from([64, 256, 2048, MTU]))
limits = st.one_of(st.integers(0, 3), st.sampled_from([40, 240, NO_LIMIT]))
weights = st.one_of(st.integers(0, 12), st.sampled_from([64, 192, 255]))
entries = st.lists(st.builds(VlWeight, st.integers(0, LANES - 1), weights), max_size=6)


def make_tables(high: list[VlWeight], low: list[VlWeight], limit: int = 0) -> VlTables:
    """Tables in which any lane may be without a weight: no service level uses a lane."""
    return VlTables(_tidy(high), _tidy(low), limit, 15, (DROPPED,) * 16)


def _tidy(entries: list[VlWeight]) -> tuple[VlWeight, ...]:
    lanes = Counter(entry.vl for entry in entries)
    return tuple(entry for entry in entries if entry.weight or lanes[entry.vl] == 1)


tables = st.builds(make_tables, entries, entries, limits)
saturated = st.dictionaries(st.integers(0, LANES - 1), sizes, min_size=1)  # by lane, its packets' bytes


def table(*entries: tuple[int, int]) -> list[VlWeight]:
    return [VlWeight(*entry) for entry in entries]


def lanes_sent(tables: VlTables, packet_bytes: dict[int, int]) -> Iterator[int]:
    """The lanes that send, one packet after the other, while these lanes always have some."""
    arbiter, heads = Arbiter(tables), [packet_bytes.get(vl, 0) for vl in range(15)]
    while (vl := arbiter.next(heads)) is not None:
        yield vl


def first(count: int, tables: VlTables, packet_bytes: dict[int, int]) -> list[int]:
    return list(islice(lanes_sent(tables, packet_bytes), count))


def has_weight(tables: VlTables, vl: int) -> bool:
    return any(entry.vl == vl and entry.weight for entry in tables.high + tables.low)


# the rules by example ------------------------------------------------------------------------------------------------


def test_an_entry_keeps_its_turn_until_its_weight_is_used_up():
    assert first(10, make_tables(table((0, 2), (1, 3)), []), {0: 64, 1: 64}) == [0, 0, 1, 1, 1] * 2


def test_a_packet_that_began_within_the_weight_goes_whole_and_leaves_no_debt():
    assert first(8, make_tables(table((0, 1), (1, 1)), []), {0: MTU, 1: 64}) == [0, 1] * 4
    assert (
        first(6, make_tables(table((0, 3), (1, 1)), []), {0: 128, 1: 64}) == [0, 0, 1] * 2
    )  # 3 units: a second begins


def test_a_packet_takes_whole_units():
    assert first(6, make_tables(table((0, 2), (1, 1)), []), {0: 65, 1: 1}) == [0, 1] * 3
    assert first(6, make_tables(table((0, 2), (1, 1)), []), {0: 1, 1: 1}) == [0, 0, 1] * 2


def test_a_turn_is_lost_when_its_lane_runs_empty_and_the_next_one_is_full():
    arbiter = Arbiter(make_tables(table((0, 3), (1, 2)), []))
    assert arbiter.next([64, 64]) == 0
    assert arbiter.next([0, 64]) == 1
    assert [arbiter.next([64, 64]) for _ in range(5)] == [1, 0, 0, 0, 1]


def test_entries_of_weight_0_are_skipped_and_a_lane_may_have_several_entries():
    rules = make_tables(table((2, 0), (0, 1), (1, 2), (0, 2)), [])
    assert first(10, rules, {0: 64, 1: 64, 2: 64}) == [0, 1, 1, 0, 0] * 2
    assert first(1, rules, {2: 64}) == []


def test_at_limit_0_one_packet_of_the_high_table_goes_before_one_of_the_low():
    rules = make_tables(table((0, 255)), table((1, 255)), 0)
    assert first(6, rules, {0: MTU, 1: 64}) == [0, 1] * 3


def test_the_limit_counts_4_kib_and_the_packet_that_began_within_it_goes_whole():
    rules = make_tables(table((0, 255)), table((1, 255)), 1)
    assert first(10, rules, {0: 1024, 1: MTU}) == [0, 0, 0, 0, 1] * 2
    assert first(8, rules, {0: 1088, 1: MTU}) == [0, 0, 0, 0, 1, 0, 0, 0]  # 17 units, of 64
    assert first(8, rules, {0: 1408, 1: MTU}) == [0, 0, 0, 1] * 2  # 22 units


def test_without_a_limit_the_low_table_only_has_what_the_high_one_leaves():
    rules = make_tables(table((0, 1)), table((1, 1)), NO_LIMIT)
    assert first(1000, rules, {0: MTU, 1: MTU}) == [0] * 1000
    assert first(10, rules, {1: MTU}) == [1] * 10


def test_a_packet_of_the_low_table_starts_the_count_anew():
    arbiter = Arbiter(make_tables(table((0, 255)), table((1, 255)), 1))
    heads = [2048, MTU]
    assert [arbiter.next(h) for h in ([2048, 0], [0, MTU], heads, heads, heads)] == [0, 1, 0, 0, 1]


def test_a_chance_that_the_low_table_cannot_take_is_gone():
    arbiter = Arbiter(make_tables(table((0, 255)), table((1, 255)), 1))
    heads = [2048, MTU]
    assert [arbiter.next(h) for h in ([2048, 0], [2048, 0], [2048, 0], heads, heads)] == [0, 0, 0, 0, 1]


def test_the_low_table_goes_on_where_the_high_one_stopped_it():
    rules = make_tables(table((0, 1)), table((1, 2), (2, 1)), 0)
    assert first(12, rules, {0: 64, 1: 64, 2: 64}) == [0, 1, 0, 1, 0, 2] * 2


def test_a_lane_in_both_tables_is_served_by_both():
    assert first(8, make_tables(table((0, 1), (1, 1)), table((0, 1)), 0), {0: 64, 1: 64}) == [0, 0, 1, 0] * 2


@given(tables, saturated, st.integers(1, 5))
def test_asking_when_nobody_has_a_packet_changes_nothing(tables, packet_bytes, times):
    asked, heads, sent = Arbiter(tables), [packet_bytes.get(vl, 0) for vl in range(15)], []
    for _ in range(60):
        for _ in range(times):
            assert asked.next([0] * 15) is None and asked.next_run([0] * 15, [MTU] * 15, 1) is None
        sent.append(asked.next(heads))
    if sent[0] is not None:
        assert sent == first(60, tables, packet_bytes)


# shares --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet_bytes", "expected"),
    [
        # 240 packets of the high table, then one of the low: in ten of those lane 2 has one, each other lane three
        (dict.fromkeys(range(4), 4096), {0: (803, 2410), 1: (803, 2410), 2: (1, 2410), 3: (803, 2410)}),
        # one class in each: of four packets of the low table the high lane has three
        ({0: 4096, 2: 4096}, {0: (963, 964), 2: (1, 964)}),
        ({3: 2048, 2: 2048}, {3: (1923, 1924), 2: (1, 1924)}),  # 480 packets to the limit, six and two in a turn
        # 4 KiB and its headers are 65 units: 237 packets to the limit, three and one in a turn as before
        ({0: 4122, 2: 4122}, {0: (951, 952), 2: (1, 952)}),
        # 3840 small packets of the high lane to the limit; turns of 48 of them and one of 4 KiB in the low table
        ({0: 256, 2: 4096}, {0: (49 * 3840 + 48, 49 * 3840 + 64), 2: (16, 49 * 3840 + 64)}),
        ({0: 4096}, {0: (1, 1)}),
        ({2: 4096}, {2: (1, 1)}),
        # of 22 packets of the low table lane 2 has 16, which are 4 KiB together; 22 times 240 go before them
        ({0: 4096, 1: 4096, 2: 256}, {0: (2643, 5287), 1: (2643, 5287), 2: (1, 5287)}),
    ],
)
def test_the_shares_of_the_paper_s_tables(packet_bytes, expected):
    expected = {vl: Fraction(*share) for vl, share in expected.items()}
    assert shares(PAPER_TABLES, packet_bytes) == expected
    period = steady_period(PAPER_TABLES, packet_bytes)
    counts = Counter(first(sum(period.packets.values()), PAPER_TABLES, packet_bytes))
    total = sum(counts[vl] * size for vl, size in packet_bytes.items())
    assert {vl: Fraction(counts[vl] * size, total) for vl, size in packet_bytes.items()} == expected


def test_bursts_of_packets_of_two_sizes_come_round_after_a_while():
    rules = make_tables(table((0, 1), (1, 1)), table((2, 1)), 1)
    packet_bytes = {0: 4096, 1: 2048, 2: 4096}
    assert first(11, rules, packet_bytes) == [0, 2] + [1, 0, 2] * 3  # 64 units are reached by 64, then by 32 and 64
    assert steady_period(rules, packet_bytes) == Period(2, {0: 1, 1: 1, 2: 1})
    assert shares(rules, packet_bytes) == {0: Fraction(2, 5), 1: Fraction(1, 5), 2: Fraction(2, 5)}
    packet_bytes = {0: 3072, 1: 1024, 2: 4096}  # 48 and 16 units: a burst is the whole cycle
    assert first(6, rules, packet_bytes) == [0, 1, 2] * 2
    assert steady_period(rules, packet_bytes) == Period(0, {0: 1, 1: 1, 2: 1})


@given(tables, saturated)
def test_a_period_of_saturated_lanes_is_exactly_what_the_arbiter_sends(tables, packet_bytes):
    period = steady_period(tables, packet_bytes)
    num_packets = sum(period.packets.values())
    assume(period.lead_packets + 2 * num_packets < 30_000)
    sent = first(period.lead_packets + 2 * num_packets, tables, packet_bytes)[period.lead_packets :]
    assert sent[:num_packets] == sent[num_packets:]
    assert Counter(sent[:num_packets]) == +Counter(period.packets)
    total = sum(count * packet_bytes[vl] for vl, count in period.packets.items())
    expected = {vl: Fraction(count * packet_bytes[vl], total or 1) for vl, count in period.packets.items()}
    assert shares(tables, packet_bytes) == expected
    assert sum(expected.values()) == any(has_weight(tables, vl) for vl in packet_bytes)


@given(tables, saturated)
def test_weight_0_in_one_table_starves_nobody_whom_the_other_serves(tables, packet_bytes):
    assume(tables.high_limit != NO_LIMIT)
    for vl, share in shares(tables, packet_bytes).items():
        assert (share > 0) == has_weight(tables, vl)


@given(entries, entries, limits, st.integers(0, LANES - 1), sizes)
def test_the_low_table_has_the_whole_link_while_the_high_one_is_idle(high, low, limit, vl, size):
    rules = make_tables([e for e in high if e.vl != vl], [*low, VlWeight(vl, 7)], limit)
    assert first(300, rules, {vl: size}) == [vl] * 300
    assert shares(rules, {vl: size}) == {vl: 1}


# traffic that comes and goes ------------------------------------------------------------------------------------------

arrivals = st.lists(
    st.tuples(st.integers(0, LANES - 1), sizes, st.integers(1, 40)), max_size=4
)  # (lane, bytes, packets)
traffic = st.lists(arrivals, min_size=1, max_size=25)  # what comes before each decision


class Queues:
    """Packets, as their sizes, in a queue for each lane."""

    def __init__(self) -> None:
        self.lanes: list[deque[int]] = [deque() for _ in range(LANES)]

    def arrive(self, arrivals: list[tuple[int, int, int]]) -> None:
        for vl, size, packets in arrivals:
            self.lanes[vl] += [size] * packets

    @property
    def heads(self) -> list[int]:
        return [lane[0] if lane else 0 for lane in self.lanes]

    @property
    def waiting(self) -> list[int]:
        """Packets at the front of each queue that have the size of the first."""
        return [next((n for n, size in enumerate(lane) if size != lane[0]), len(lane)) for lane in self.lanes]


@given(tables, traffic, st.integers(1, 50))
def test_a_run_is_what_the_packets_would_have_been_one_by_one(tables, traffic, most):
    by_run, by_packet, queues = Arbiter(tables), Arbiter(tables), Queues()
    for arrivals in [*traffic, *([[]] * 400)]:
        queues.arrive(arrivals)
        run = by_run.next_run(queues.waiting, queues.heads, most)
        if run is None:
            assert by_packet.next(queues.heads) is None
            continue
        vl, packets = run
        assert 1 <= packets <= min(most, queues.waiting[vl])
        for _ in range(packets):
            assert by_packet.next(queues.heads) == vl
            queues.lanes[vl].popleft()


@given(tables, traffic, st.integers(1, 200))
def test_rounds_are_what_the_packets_would_have_been_but_for_their_order(tables, traffic, most):
    by_round, by_packet, queues = Arbiter(tables), Arbiter(tables), Queues()
    for arrivals in [*traffic, *([[]] * 50)]:
        queues.arrive([(vl, size, 5 * packets) for vl, size, packets in arrivals])
        rounds = by_round.next_rounds(queues.waiting, queues.heads, most)
        counts = Counter(by_packet.next(queues.heads) for _ in range(sum(packets for _, packets in rounds)))
        assert counts == dict(rounds) and counts.total() <= most
        for vl, packets in rounds:
            assert packets < queues.waiting[vl]
            for _ in range(packets):
                queues.lanes[vl].popleft()
        run = by_round.next_run(queues.waiting, queues.heads, most)
        for _ in range(run[1] if run else 1):
            assert by_packet.next(queues.heads) == (run[0] if run else None)
            if run:
                queues.lanes[run[0]].popleft()


def test_full_equal_lanes_take_turns_in_rounds_up_to_the_limit():
    arbiter, waiting, sizes = Arbiter(PAPER_TABLES), [9999, 9999, 9999, 0], [MTU] * 4
    assert arbiter.next_rounds(waiting, sizes, 9999) == (), "lane 3, whose turn is over, has nothing"
    assert [arbiter.next_run(waiting, sizes, 9999) for _ in range(2)] == [(0, 3), (1, 3)]
    assert arbiter.next_rounds(waiting, sizes, 9999) == [(0, 117), (1, 117)]
    assert arbiter.next_run(waiting, sizes, 9999) == (0, 1)


@given(tables, traffic)
def test_every_packet_of_a_lane_with_a_weight_is_sent_once_and_the_link_never_idles(tables, traffic):
    arbiter, queues, sent, came = Arbiter(tables), Queues(), [0] * LANES, [0] * LANES
    for arrivals in [*traffic, []]:
        queues.arrive(arrivals)
        for vl, size, packets in arrivals:
            came[vl] += size * packets
        while (vl := arbiter.next(queues.heads)) is not None:
            sent[vl] += queues.lanes[vl].popleft()
            if arrivals and len(queues.lanes[vl]) % 3 == 0:
                break  # the next packets come while others still wait
    for vl in range(LANES):
        assert sent[vl] + sum(queues.lanes[vl]) == came[vl]
        assert has_weight(tables, vl) or sent[vl] == 0
        assert not has_weight(tables, vl) or not queues.lanes[vl]


@given(tables, traffic)
def test_two_arbiters_that_are_asked_the_same_answer_the_same(tables, traffic):
    def answers() -> list[int | None]:
        arbiter, queues, lanes = Arbiter(tables), Queues(), []
        for arrivals in traffic:
            queues.arrive(arrivals)
            lanes.append(arbiter.next(queues.heads))
            if lanes[-1] is not None:
                queues.lanes[lanes[-1]].popleft()
        return lanes

    assert answers() == answers()


# the starvation bound -------------------------------------------------------------------------------------------------


@given(
    tables,
    st.integers(0, LANES - 1),
    st.tuples(sizes, sizes).map(sorted),
    st.lists(st.tuples(st.integers(0, LANES - 1), st.integers(0, 2), st.integers(1, 200)), min_size=1, max_size=60),
    st.integers(0, 30),
)
def test_others_never_send_more_than_the_bound_between_two_packets_of_a_lane(tables, vl, ends, turns, begins):
    least, most = ends
    bound = starvation_bound(tables, vl, most, least)
    if bound is None:
        unlimited = tables.high_limit == NO_LIMIT and not any(e.vl == vl and e.weight for e in tables.high)
        assert unlimited or not has_weight(tables, vl)
        return
    arbiter, between = Arbiter(tables), 0
    for at, (silent, kind, packets) in enumerate(turns):  # one lane is silent for so many packets; sizes change
        for _ in range(packets):
            heads = [0 if other == silent else (least, most, (least + most) // 2)[kind] for other in range(LANES)]
            heads[vl] = most if at >= begins else 0
            sender = arbiter.next(heads)
            if sender is None or at < begins:
                continue
            between = 0 if sender == vl else between + heads[sender]
            assert between <= bound


def longest_wait(tables: VlTables, vl: int, packet_bytes: dict[int, int]) -> int:
    """Most bytes of others between two packets of a lane, over a period of saturation."""
    period = steady_period(tables, packet_bytes)
    longest = between = 0
    for sender in first(period.lead_packets + 2 * sum(period.packets.values()), tables, packet_bytes):
        between = 0 if sender == vl else between + packet_bytes[sender]
        longest = max(longest, between)
    return longest


def test_the_bound_of_the_paper_s_tables_is_reached():
    saturated = dict.fromkeys(range(4), MTU)
    # nine packets of the low table are others', and ten times the limit goes before, between and after them
    assert starvation_bound(PAPER_TABLES, 2, MTU, MTU) == 10 * 240 * 4096 + 9 * 4096 == 9_867_264
    assert longest_wait(PAPER_TABLES, 2, saturated) == 9_867_264
    # two turns of three packets, and one packet of the low table
    assert starvation_bound(PAPER_TABLES, 0, MTU, MTU) == 7 * 4096
    assert longest_wait(PAPER_TABLES, 0, saturated) == 7 * 4096


def test_the_bound_of_packets_of_any_size_is_reached():
    rules = make_tables(table((0, 3)), table((1, 2), (2, 1)), 0)
    arbiter, others, between = Arbiter(rules), iter([MTU, 64, MTU, MTU, MTU]), 0
    assert [arbiter.next([64, 0, 64]) for _ in range(2)] == [0, 2]
    # high, low, high, low, high: two packets of the low table have room in 2 units, if the first takes one
    for size in others:
        heads = [size, size, 64]
        between += heads[arbiter.next(heads)]
    assert arbiter.next([MTU, MTU, 64]) == 2
    assert between == starvation_bound(rules, 2, MTU) == 4 * MTU + 64


def test_without_a_limit_nothing_bounds_the_wait_of_a_lane_of_the_low_table():
    rules = make_tables(table((0, 1)), table((0, 1), (1, 1)), NO_LIMIT)
    assert starvation_bound(rules, 1, MTU) is None
    assert starvation_bound(rules, 0, MTU) == 0  # the low table never sends while lane 0 has packets
    assert starvation_bound(rules, 2, MTU) is None  # no weight at all
    assert starvation_bound(make_tables([], table((0, 1), (1, 1)), NO_LIMIT), 1, MTU) == MTU
