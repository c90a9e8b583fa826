from math import inf

from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.scheduler.inter_engine import (
    balance_threshold,
    choose_decode_engine,
    choose_decode_group,
    choose_prefill_engine,
    fitting_tokens,
)
from dualpath_ray.scheduler.state import DecodeLoad, FetchLimits, PrefillLoad, Request

tokens = st.integers(0, 5000)
ids = st.text("abcdef", min_size=1, max_size=3)
prefill_loads = st.lists(st.builds(PrefillLoad, ids, st.integers(0, 20), tokens), unique_by=lambda x: x.engine_id)
decode_loads = st.lists(
    st.builds(DecodeLoad, ids, st.integers(0, 20), tokens, tokens), min_size=1, unique_by=lambda x: x.engine_id
)
limits = st.builds(FetchLimits, tokens, tokens)
requests = st.builds(Request, ids, st.just(0), ids, st.integers(1, 2000), st.just(0), st.integers(1, 500))


@given(groups=st.dictionaries(ids, tokens, min_size=1))
def test_the_group_with_the_least_tokens_gets_it(groups):
    assert groups[choose_decode_group(groups)] == min(groups.values())


@given(loads=prefill_loads, limits=limits, data=st.data())
def test_prefill_beta_then_short_queues_then_least_tokens(loads, limits, data):
    queues = {load.engine_id: data.draw(tokens) for load in loads}
    chosen = choose_prefill_engine(loads, queues, limits)
    free = [load for load in loads if load.unfinished_tokens <= limits.max_unfinished_tokens]
    if chosen is None:
        assert not free
        return
    assert chosen in free
    short = [load for load in free if queues[load.engine_id] <= limits.short_read_queue_tokens]
    rivals = short or free
    assert chosen in rivals
    assert chosen.unfinished_tokens == min(load.unfinished_tokens for load in rivals)


@given(request=requests, loads=decode_loads, threshold=st.floats(0, 8000))
def test_decode_room_then_under_z_by_count_then_least_tokens(request, loads, threshold):
    chosen = choose_decode_engine(request, loads, threshold)
    room = [load for load in loads if load.free_hbm_tokens >= request.total_tokens]
    if chosen is None:
        assert not room
        return
    under = [load for load in room if load.unfinished_tokens + request.total_tokens <= threshold]
    if under:
        assert chosen in under
        assert chosen.num_unfinished == min(load.num_unfinished for load in under)
    else:
        assert chosen in room
        assert chosen.unfinished_tokens == min(load.unfinished_tokens for load in room)


@given(queue=st.lists(requests), loads=decode_loads)
def test_r_is_the_longest_head_that_fits_the_free_hbm(queue, loads):
    free = sum(load.free_hbm_tokens for load in loads)
    heads = [queue[:count] for count in range(len(queue) + 1)]
    longest = max((h for h in heads if sum(r.total_tokens for r in h) <= free), key=len, default=[])
    assert fitting_tokens(queue, loads) == sum(r.total_tokens for r in longest)


@given(loads=decode_loads, fitting=tokens)
def test_z_is_a_little_over_the_mean_to_come(loads, fitting):
    mean = (fitting + sum(load.unfinished_tokens for load in loads)) / len(loads)
    unfinished = sum(load.unfinished_tokens for load in loads)
    assert abs(balance_threshold(fitting, unfinished, len(loads), FetchLimits(0, 0)) - 1.05 * mean) < 1e-6


def test_samples_share_the_prompt():
    request = Request("r", 0, "t", prompt_tokens=100, hit_tokens=0, max_new_tokens=10, num_samples=4)
    assert request.total_tokens == 140


@given(loads=prefill_loads.filter(bool), sizes=st.lists(st.integers(1, 900), max_size=30), limits=limits)
def test_a_batch_does_not_herd(loads, sizes, limits):
    """Counting what is assigned keeps the engines within one request of each other, unless they were apart before."""
    by_id = {load.engine_id: load for load in loads}
    queues = dict.fromkeys(by_id, 0)
    start = max(load.unfinished_tokens for load in loads)
    for size in sizes:
        chosen = choose_prefill_engine(by_id.values(), queues, limits)
        if chosen is None:
            assert min(load.unfinished_tokens for load in by_id.values()) > limits.max_unfinished_tokens
            break
        grown = PrefillLoad(chosen.engine_id, chosen.num_unfinished + 1, chosen.unfinished_tokens + size)
        by_id[chosen.engine_id] = grown
    least = min((load.unfinished_tokens for load in by_id.values()), default=inf)
    assert max(load.unfinished_tokens for load in by_id.values()) <= max(start, least + max(sizes, default=0))
