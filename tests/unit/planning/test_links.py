"""Loads of links and the bottleneck-free range, against the closed form of section 4.2."""

from math import inf, isclose

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.config.hardware import load_hardware
from dualpath_ray.planning.links import (
    SNIC_READS,
    NodeLinks,
    bottleneck_free_range,
    link_loads,
    pooled_share,
    read_limit,
)
from dualpath_ray.traffic.hops import LinkKind

GB = 1e9
nodes = st.builds(
    lambda g, s, cnic, dram: NodeLinks(g, cnic, s * g * cnic, dram),
    g=st.integers(1, 16),
    s=st.floats(0.01, 0.99),  # storage over all CNICs of a node, s/g
    cnic=st.floats(1 * GB, 200 * GB),
    dram=st.floats(10 * GB, 5_000 * GB),
)
counts = st.integers(1, 200)


def closed_form(node: NodeLinks) -> tuple[float, float]:
    """The paper's bounds of P/D, in its symbols."""
    g, b, m = node.gpus, node.cnic_bytes_per_s, node.dram_bytes_per_s
    s = node.snic_bytes_per_s / b
    return s / (g - s), min((g - 2 * s) / s, (g - s) / (2 * s), (m / (b * s) - 3) / 2)


def full_rate(node: NodeLinks, p: int, d: int) -> dict[LinkKind, float]:
    loads = link_loads(node, p, d, p * node.snic_bytes_per_s, d * node.snic_bytes_per_s)
    return {link: load / node.capacity(link) for link, load in loads.items()}


@given(nodes)
def test_the_range_is_the_papers(node):
    low, high = closed_form(node)
    assume(not isclose(low, high, rel_tol=1e-9))
    found = bottleneck_free_range(node)
    assert found.is_empty == (low > high)
    if not found.is_empty:
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_the_papers_example():
    node = NodeLinks(gpus=8, cnic_bytes_per_s=50 * GB, snic_bytes_per_s=50 * GB, dram_bytes_per_s=500 * GB)
    assert NodeLinks.of(load_hardware("hopper")) == node
    found = bottleneck_free_range(node)
    assert (found.low, found.high) == (pytest.approx(1 / 7), pytest.approx(7 / 2))
    assert found.low_link is LinkKind.PE_CNIC_IN
    assert found.high_link in (LinkKind.DE_CNIC_IN, LinkKind.DE_DRAM)  # both reach their limit at 7/2
    assert found.contains(1, 7) and found.contains(7, 2) and not found.contains(1, 8) and not found.contains(4, 1)


@given(node=nodes, p=counts, d=counts)
def test_inside_the_range_only_snics_are_full_and_outside_another_link_is_over(node, p, d):
    found = bottleneck_free_range(node)
    assume(not any(isclose(p / d, bound, rel_tol=1e-9) for bound in (found.low, found.high)))
    used = full_rate(node, p, d)
    others = {link: u for link, u in used.items() if link not in SNIC_READS}
    assume(not any(isclose(u, 1, rel_tol=1e-9) for u in others.values()))  # rounding decides there
    assert all(used[link] == pytest.approx(1) for link in SNIC_READS)
    assert (max(others.values()) <= 1) == found.contains(p, d)
    if p / d < found.low:
        assert others[found.low_link] > 1
    elif p / d > found.high:
        assert others[found.high_link] > 1


@given(node=nodes, p=counts, d=counts)
def test_inside_the_range_the_pool_reads_at_the_rate_of_all_snics(node, p, d):
    limit = read_limit(node, p, d, pooled_share(p, d))
    everything = (p + d) * node.snic_bytes_per_s
    if bottleneck_free_range(node).contains(p, d):
        assert limit.read_bytes_per_s == pytest.approx(everything)
    assert limit.read_bytes_per_s <= everything * (1 + 1e-9)


@given(node=nodes, p=counts, d=counts, share=st.floats(0, 1), new=st.floats(0, 1))
def test_at_its_limit_one_link_is_full_and_none_is_over(node, p, d, share, new):
    limit = read_limit(node, p, d, share, new)
    rate = limit.read_bytes_per_s
    loads = link_loads(node, p, d, share * rate, (1 - share) * rate, new)
    assert loads[limit.link] == pytest.approx(node.capacity(limit.link))
    for link, load in loads.items():
        assert load / node.capacity(link) == pytest.approx(limit.utilisation[link]) and limit.utilisation[link] <= 1


@given(node=nodes, p=counts, d=counts, pe=st.floats(0, 1e12), de=st.floats(0, 1e12), new=st.floats(0, 1))
def test_loads_of_two_paths_add_up(node, p, d, pe, de, new):
    both = link_loads(node, p, d, pe, de, new)
    one, other = link_loads(node, p, d, pe, 0, new), link_loads(node, p, d, 0, de, new)
    assert all(both[link] == pytest.approx(one[link] + other[link]) for link in LinkKind)


@given(node=nodes, new=st.floats(0, 1))
def test_new_kv_narrows_the_range(node, new):
    plain, loaded = bottleneck_free_range(node), bottleneck_free_range(node, new)
    assert loaded.is_empty or (loaded.low >= plain.low and loaded.high <= plain.high)


def test_the_single_path_is_bound_by_the_prefill_snics():
    node = NodeLinks.of(load_hardware("hopper"))
    single = read_limit(node, 2, 4, 1.0)
    assert single.link is LinkKind.PE_SNIC_IN and single.read_bytes_per_s == pytest.approx(2 * 50 * GB)
    assert read_limit(node, 2, 4, pooled_share(2, 4)).read_bytes_per_s == pytest.approx(6 * 50 * GB)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda n: NodeLinks(8, 50 * GB, 400 * GB, 500 * GB), r"snic_bytes_per_s: 4e\+11 must stay below gpus \* cnic"),
        (lambda n: NodeLinks(0, 50 * GB, 50 * GB, 500 * GB), "gpus: 0 must be positive"),
        (lambda n: NodeLinks(8, 50 * GB, 50 * GB, inf), "dram_bytes_per_s: inf must be positive and finite"),
        (lambda n: read_limit(n, 1, 0, 0.5), "decode_nodes: a cluster needs at least one, not 0"),
        (lambda n: link_loads(n, 0, 1, 1, 1), "prefill_nodes: a cluster needs at least one, not 0"),
        (lambda n: pooled_share(1, -1), "decode_nodes: a cluster needs at least one, not -1"),
        (lambda n: read_limit(n, 1, 1, 1.5), "pe_share: 1.5 is no share"),
        (lambda n: link_loads(n, 1, 1, -1, 1), "must not be negative"),
    ],
)
def test_impossible_clusters_are_refused(build, says):
    node = NodeLinks(8, 50 * GB, 50 * GB, 500 * GB)
    with pytest.raises(ConfigError, match=says):
        build(node)
