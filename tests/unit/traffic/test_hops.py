"""The table of hops: what every request must move, and the byte formulas of the data path that really runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.types import ReadPath, Role
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.traffic.copies import cnic_bytes
from dualpath_ray.traffic.hops import HOPS, PERSIST_GENERATED, PERSIST_PROMPT, LinkKind, link_bytes

tokens = st.integers(0, 100_000)


def without_loopback(path: ReadPath, hit: float, new: float) -> dict[LinkKind, float]:
    return link_bytes(tuple(hop for hop in HOPS[path] if not hop.is_loopback), hit, new)


@given(path=st.sampled_from(ReadPath), hit=tokens, new=tokens)
def test_cnics_between_nodes_carry_what_the_data_path_moves(path, hit, new):
    layout = KvLayout(num_layers=2, block_tokens=16, bytes_per_token_layer=8)
    loads = without_loopback(path, hit * layout.token_bytes, new * layout.token_bytes)
    into, out = cnic_bytes(layout, path, hit, [hit + new])
    assert (loads.get(LinkKind.PE_CNIC_IN, 0), loads.get(LinkKind.PE_CNIC_OUT, 0)) == (into, out)
    assert (loads.get(LinkKind.DE_CNIC_IN, 0), loads.get(LinkKind.DE_CNIC_OUT, 0)) == (out, into)


@given(hit=tokens, new=tokens)
def test_storage_is_read_once_on_the_side_of_the_path_and_the_prompt_ends_in_decode_hbm(hit, new):
    for path, snic in ((ReadPath.PE, LinkKind.PE_SNIC_IN), (ReadPath.DE, LinkKind.DE_SNIC_IN)):
        loads = link_bytes(HOPS[path], hit, new)
        assert {link: load for link, load in loads.items() if "snic" in link} == ({snic: hit} if hit else {})
        last = HOPS[path][-1]
        assert last.is_loopback and last.nbytes(hit, new) == hit + new and not last.per_layer


def test_the_papers_loads_of_hit_kv():  # section 4.2, per byte read on each path
    pe = {
        "pe_snic_in": 1,
        "pe_dram": 2,
        "pe_cnic_out": 2,
        "pe_cnic_in": 1,
        "de_cnic_in": 2,
        "de_cnic_out": 1,
        "de_dram": 2,
    }
    de = {"de_snic_in": 1, "pe_cnic_in": 1, "de_cnic_out": 2, "de_cnic_in": 1, "de_dram": 3}
    assert link_bytes(HOPS[ReadPath.PE], 1, 0) == pe and link_bytes(HOPS[ReadPath.DE], 1, 0) == de


def test_new_kv_never_touches_prefill_dram_and_is_written_once():
    for path in ReadPath:
        assert LinkKind.PE_DRAM not in link_bytes(HOPS[path], 0, 1)
    assert link_bytes(PERSIST_PROMPT, 7, 1) == {LinkKind.DE_DRAM: 1, LinkKind.DE_SNIC_OUT: 1}
    generated = {LinkKind.DE_DRAM: 2, LinkKind.DE_CNIC_IN: 1, LinkKind.DE_CNIC_OUT: 1, LinkKind.DE_SNIC_OUT: 1}
    assert link_bytes(PERSIST_GENERATED, 7, 1) == generated


@pytest.mark.parametrize("link", LinkKind)
def test_a_link_belongs_to_one_side_and_is_of_one_sort(link):
    assert link.role is (Role.PREFILL if link.startswith("pe") else Role.DECODE)
    assert link.is_cnic + link.is_dram + ("snic" in link) == 1
