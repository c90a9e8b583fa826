"""How a round's bytes are divided among engines that share a model's experts."""

from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.engine.expert_round import PIECE_BYTES, GroupPlace, pieces, splits

sizes = st.lists(st.integers(0, 10**6), min_size=2, max_size=9)


@given(sizes)
def test_members_agree_and_every_byte_goes_to_somebody_else(sizes):
    ranks = range(len(sizes))
    all_splits = [splits(sizes, rank) for rank in ranks]
    for rank in ranks:
        send, receive = all_splits[rank]
        assert sum(send) == sizes[rank] and send[rank] == receive[rank] == 0
        assert max(send) - min(send[:rank] + send[rank + 1 :]) <= 1, "evenly"
        assert receive == [all_splits[other][0][rank] for other in ranks]


@given(sizes, st.data())
def test_what_leaves_over_compute_nics_comes_over_others(sizes, data):
    """Over all members, of what goes to other nodes as much leaves as comes: each byte goes there and back."""
    nodes = tuple(data.draw(st.lists(st.sampled_from(["d0", "d1", "d2"]), min_size=len(sizes), max_size=len(sizes))))
    over = 0
    for rank in range(len(sizes)):
        place = GroupPlace("engine", rank, nodes, "127.0.0.1", 1, 0, {})
        over += place.over_cnic_bytes(*splits(sizes, rank))
    far = sum(
        sent for rank in range(len(sizes)) for to, sent in enumerate(splits(sizes, rank)[0]) if nodes[to] != nodes[rank]
    )
    assert over == 2 * far


@given(st.lists(st.integers(0, 3 * PIECE_BYTES), min_size=2, max_size=5))
def test_pieces_are_the_round_and_fit_into_the_memory_of_every_member(sizes):
    parts = list(pieces(sizes))
    assert [sum(part[rank] for part in parts) for rank in range(len(sizes))] == (sizes if parts else [0] * len(sizes))
    assert len(parts) == -(-max(sizes) // PIECE_BYTES)
    for part in parts:
        for rank in range(len(sizes)):
            send, receive = splits(part, rank)
            assert sum(send) <= PIECE_BYTES and sum(receive) <= PIECE_BYTES + len(sizes)  # what a group has room for
