"""What tools print, as data; what they do not say is not there."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.vl_tables import VlWeight
from dualpath_ray.config.roce import RoceConfig
from dualpath_ray.ops.fabric.read_back import (
    NicQueues,
    parse_dcb,
    parse_global_class,
    parse_high_limit,
    parse_mlnx_qos,
    parse_pause,
    parse_sl2vl,
    parse_vlarb,
)
from tests.unit.ops.fabric import said


def test_smpquery_tells_map_tables_and_limit():
    assert parse_sl2vl(said.SL2VL) == (0, 1, 2, 3) * 4
    tables = parse_vlarb(said.VLARB)
    assert tables.high[:4] == (VlWeight(0, 192), VlWeight(1, 192), VlWeight(2, 0), VlWeight(3, 192))
    assert tables.low[2] == VlWeight(2, 64) and len(tables.low) == len(tables.high) == 8
    assert parse_high_limit(said.PORTINFO) == 240


def test_a_table_may_take_several_lines():
    longer = said.VLARB.replace("# High", "VL    : |0x1 |\nWEIGHT: |0x7 |\n# High")
    assert parse_vlarb(longer).low[8:] == (VlWeight(1, 7),)


def test_mlnx_qos_and_dcb_tell_the_same_of_a_nic_that_is_as_configured():
    config = RoceConfig()
    by_dscp = {dscp: config.priority_of_dscp.get(dscp, 0) for dscp in range(64)}
    queues, pfc = dict(enumerate(config.queue_of_priority)), {each: each in (3, 4, 5) for each in range(8)}
    wanted = NicQueues("dscp", by_dscp, {}, queues, config.kind_of_queue, config.percent_of_priority, pfc)
    assert parse_mlnx_qos(said.MLNX_QOS) == wanted
    kinds = dict.fromkeys(range(8), "strict") | config.kind_of_queue  # dcb tells those of queues that nobody takes too
    by_dcb = parse_dcb(said.DCB_ETS, said.DCB_PFC, said.DCB_APP)
    assert by_dcb == replace(wanted, trust=None, kind_of_queue=kinds)


def test_a_dscp_that_stands_there_twice_is_told_with_all_its_priorities():
    doubled = said.DCB_APP.replace(" 26:3", " 26:0 26:3")
    assert parse_dcb("", "", doubled).doubled_dscps == {26: (0, 3)}
    doubled = said.MLNX_QOS.replace("dscp:26,", "dscp:26,34,")
    assert parse_mlnx_qos(doubled).doubled_dscps == {34: (3, 4)}


def test_a_nic_as_it_comes_shares_nothing():
    found = parse_mlnx_qos(said.MLNX_QOS_BEFORE)
    assert (found.trust, found.priority_of_dscp, found.percent_of_queue) == ("pcp", {}, {})
    assert found.queue_of_priority == {0: 1, 1: 0} | {each: each for each in range(2, 8)}


@pytest.mark.parametrize(
    ("text", "paused"),
    [(said.PAUSE_OFF, False), (said.PAUSE_OFF.replace("TX:\t\toff", "TX:\t\ton"), True), ("", None)],
)
def test_ethtool_tells_whether_the_link_is_paused(text, paused):
    assert parse_pause(text) is paused


@pytest.mark.parametrize(("text", "forced"), [("Global tclass=106\n", 106), ("", None), ("\n", None)])
def test_a_forced_class_is_read(text, forced):
    assert parse_global_class(text) == forced


@given(st.text(alphabet="VL WEIGHT:|0x1\n# HighLowportsenabledtc,;", max_size=200) | st.text(max_size=50))
def test_text_of_no_tool_is_nothing_and_no_error(text):
    parse_sl2vl(text), parse_high_limit(text), parse_pause(text), parse_global_class(text), parse_dcb(text, text, text)
    parse_mlnx_qos(text)
    parse_vlarb(text)
