"""Ranges of an engine's HBM: never two in one place, and room is found whenever enough is free."""

from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.engine.hbm.ranges import TokenRanges

TOKENS = 64


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=60))
def test_ranges_do_not_overlap_and_keep_what_they_hold(steps):
    ranges = TokenRanges(TOKENS)
    memory = [0] * TOKENS  # who wrote here last
    held: dict[int, int] = {}
    for take, number in steps:
        if take:
            free = TOKENS - sum(held.values())
            assert ranges.free_tokens == free
            found = ranges.take(number)
            assert (found is None) == (number > free)
            if found is None:
                continue
            owner, moves = found
            for move in moves:
                assert move.target < move.source
                memory[move.target : move.target + move.count] = memory[move.source : move.source + move.count]
            held[owner] = number
            first = ranges.first(owner)
            assert 0 <= first <= TOKENS - number
            memory[first : first + number] = [owner] * number
        elif held:
            owner = sorted(held)[number % len(held)]
            ranges.give(owner)
            del held[owner]
        for owner, count in held.items():
            first = ranges.first(owner)
            assert memory[first : first + count] == [owner] * count
