"""Requests, loads and reports for hypothesis to draw, and the usual ones by hand."""

from types import SimpleNamespace

import pytest
from hypothesis import strategies as st

from dualpath_ray.base.types import Role
from dualpath_ray.scheduler.state import DecodeLoad, FetchLimits, GroupReport, NicLoad, NodeLoad, PrefillLoad, Request

LIMITS = FetchLimits(short_read_queue_tokens=1000, max_unfinished_tokens=5000, token_bytes=2)


def request(name, prompt=100, hit=50, new=10, attempt=0, samples=1):
    return Request(name, attempt, f"t-{name}", prompt, min(hit, prompt - 1), new, samples, payload=object())


def node(name, read_queue=0, read_bytes=0, can_read=True, free_buffer=10**6):
    return NodeLoad(name, read_queue, read_bytes, can_read, free_buffer, (NicLoad(f"{name}/snic", 1.5, 0.25),))


def prefill(group="p0", tokens=(0,), seen=0, finished=(), **of_node):
    loads = tuple(PrefillLoad(f"{group}/e{i}", count > 0, count) for i, count in enumerate(tokens))
    return GroupReport(group, Role.PREFILL, node(group, **of_node), loads, seen, tuple(finished))


def decode(group="d0", tokens=(0,), free_hbm=10**6, seen=0, finished=(), **of_node):
    loads = tuple(DecodeLoad(f"{group}/e{i}", count > 0, count, free_hbm) for i, count in enumerate(tokens))
    return GroupReport(group, Role.DECODE, node(group, **of_node), loads, seen, tuple(finished))


@pytest.fixture(scope="session")
def make():
    return SimpleNamespace(request=request, node=node, prefill=prefill, decode=decode, limits=LIMITS)


tokens = st.integers(0, 3000)
requests = st.builds(
    Request,
    request_id=st.uuids().map(str),
    attempt=st.integers(0, 3),
    trajectory_id=st.just("t"),
    prompt_tokens=st.integers(1, 2000),
    hit_tokens=st.integers(0, 2000),
    max_new_tokens=st.integers(1, 500),
    num_samples=st.integers(1, 3),
)
limits = st.builds(
    FetchLimits,
    st.integers(0, 3000),
    st.integers(0, 6000),
    st.just(1.05),
    st.integers(1, 100),
    st.sampled_from([1, 64]),
)
nodes = {
    name: st.builds(NodeLoad, st.just(name), tokens, tokens, st.booleans(), st.integers(0, 8000), st.just(()))
    for name in ("p0", "p1", "d0", "d1")
}


def prefill_report(name):
    loads = st.tuples(*(st.builds(PrefillLoad, st.just(f"{name}/e{i}"), st.integers(0, 9), tokens) for i in range(2)))
    return st.builds(GroupReport, st.just(name), st.just(Role.PREFILL), nodes[name], loads, st.just(0))


def decode_report(name):
    loads = st.tuples(
        *(
            st.builds(DecodeLoad, st.just(f"{name}/e{i}"), st.integers(0, 9), tokens, st.integers(0, 9000))
            for i in range(2)
        )
    )
    return st.builds(GroupReport, st.just(name), st.just(Role.DECODE), nodes[name], loads, st.just(0))


systems = st.fixed_dictionaries(
    {name: (prefill_report if name[0] == "p" else decode_report)(name) for name in ("p0", "p1", "d0", "d1")}
)


@pytest.fixture(scope="session")
def drawn():
    """Strategies; drawn with ``data`` since a test in importlib mode cannot import this file."""
    return SimpleNamespace(
        requests=requests,
        waiting=st.lists(requests, max_size=25, unique_by=lambda r: r.request_id),
        limits=limits,
        systems=systems,
    )
