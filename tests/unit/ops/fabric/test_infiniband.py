"""Files for opensm: what it reads there is what is configured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.types import TrafficClass
from dualpath_ray.base.vl_tables import PAPER_TABLES, default_sl_to_vl, parse_vl_tables
from dualpath_ray.config.fabric import CnicLanes
from dualpath_ray.ops.fabric.infiniband import lane_tables, opensm_conf, partitions, qos_policy


def keys(text: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))


def tables_of(text: str, prefix: str):
    found = keys(text)
    return parse_vl_tables(
        int(found[f"{prefix}_max_vls"]),
        int(found[f"{prefix}_high_limit"]),
        found[f"{prefix}_vlarb_high"],
        found[f"{prefix}_vlarb_low"],
        found[f"{prefix}_sl2vl"],
    )


entries = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 255)), max_size=64)


@given(entries, entries, st.integers(0, 254), st.lists(st.integers(0, 3), min_size=16, max_size=16))
def test_every_kind_of_port_gets_the_configured_tables(high, low, limit, lanes):
    every = [(lane, 1) for lane in range(4)]
    written = [",".join(f"{lane}:{weight}" for lane, weight in table) for table in (high, [*low[:60], *every])]
    cnic = CnicLanes(
        qos_high_limit=limit, qos_vlarb_high=written[0], qos_vlarb_low=written[1], qos_sl2vl=",".join(map(str, lanes))
    )
    text = opensm_conf(cnic)
    assert {tables_of(text, prefix) for prefix in ("qos", "qos_ca", "qos_sw0", "qos_swe", "qos_rtr")} == {cnic.tables}
    assert keys(text)["qos"] == "TRUE"
    assert lane_tables(cnic).count("\n") > len(high) + len(low[:60])


def test_the_paper_s_tables_are_what_is_written_by_default():
    assert tables_of(opensm_conf(CnicLanes()), "qos_swe") == PAPER_TABLES
    assert PAPER_TABLES.sl_to_vl == default_sl_to_vl(4)
    text = lane_tables(CnicLanes())
    assert "0.104 %" in text and "9,867,264" in text  # docs/arbitration.md derives both


@pytest.mark.parametrize("level", [2, 7, 15])
def test_whoever_names_no_class_gets_the_service_level_of_kv(level):
    levels = {TrafficClass.MODEL_EXECUTION: 0, TrafficClass.KV_URGENT: 1, TrafficClass.KV_CACHE: level}
    cnic = CnicLanes(service_levels=levels)
    assert f"    default : {level}\n    ipoib : {level}\n" in qos_policy(cnic)
    assert f", sl={level}, " in partitions(cnic)


@pytest.mark.parametrize(("packet_bytes", "mtu"), [(4096, ", mtu=5"), (2048, ", mtu=4"), (1024, ", mtu=3")])
def test_the_mtu_of_ip_is_written_where_infiniband_has_such_packets(packet_bytes, mtu):
    assert f"ipoib{mtu}, sl=" in partitions(CnicLanes(packet_bytes=packet_bytes))


@pytest.mark.parametrize(("limit", "says"), [(255, "as long as it has packets"), (0, "one packet, then the low one")])
def test_a_limit_is_told_in_words(limit, says):
    assert says in lane_tables(CnicLanes(qos_high_limit=limit, qos_vlarb_low="2:64", qos_vlarb_high="0:1,1:1,2:1,3:1"))
