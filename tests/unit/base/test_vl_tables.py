"""Arbitration tables as opensm writes them: read as they stand, or refused with the key."""

from dataclasses import replace

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.vl_tables import (
    DROPPED,
    PAPER_TABLES,
    VlTables,
    VlWeight,
    default_sl_to_vl,
    parse_vl_tables,
)

PAPER = {
    "qos_max_vls": 4,
    "qos_high_limit": 240,
    "qos_vlarb_high": "0:192,1:192,2:0,3:192",
    "qos_vlarb_low": "0:192,1:192,2:64,3:192",
}


def test_the_paper_s_tables():
    assert PAPER_TABLES.high == (VlWeight(0, 192), VlWeight(1, 192), VlWeight(2, 0), VlWeight(3, 192))
    assert PAPER_TABLES.low == (VlWeight(0, 192), VlWeight(1, 192), VlWeight(2, 64), VlWeight(3, 192))
    assert PAPER_TABLES.sl_to_vl == (0, 1, 2, 3) * 4
    assert PAPER_TABLES.limit_units == 240 * 4096 // 64
    assert parse_vl_tables(**PAPER) == PAPER_TABLES


@pytest.mark.parametrize(("limit", "units"), [(0, 1), (1, 64), (254, 254 * 64), (255, None)])
def test_the_limit_is_in_4_kib_with_one_packet_at_0_and_none_at_255(limit, units):
    assert replace(PAPER_TABLES, high_limit=limit).limit_units == units


def test_lanes_repeat_in_a_table_and_tables_may_be_empty():
    tables = parse_vl_tables(2, 0, "", " 0:1, 1:2 ,0:3", "0,1," * 7 + "0,15")
    assert tables.high == () and tables.low == (VlWeight(0, 1), VlWeight(1, 2), VlWeight(0, 3))
    assert tables.sl_to_vl[-2:] == (0, DROPPED)  # no lane to be starved


def test_the_default_map_is_opensm_s_as_far_as_lanes_go():
    assert default_sl_to_vl(15) == (*range(15), 7)
    assert default_sl_to_vl(8) == (*range(8), *range(8))
    assert default_sl_to_vl(1) == (0,) * 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qos_vlarb_high": "0:192,1:300"}, "qos_vlarb_high: weight 300 of lane 1 is beyond 255"),
        ({"qos_vlarb_low": "0:1,4:1"}, "qos_vlarb_low: lane 4 is beyond qos_max_vls 4"),
        ({"qos_vlarb_low": "0:1,15:1"}, "qos_vlarb_low: lane 15 is beyond"),
        ({"qos_vlarb_low": ",".join(["0:1"] * 65)}, "qos_vlarb_low: 65 entries are more than the 64"),
        (
            {"qos_vlarb_low": "0:192,1:192,2:0,3:192"},
            "qos_vlarb_low: lane 2 of service level 2 has no weight here nor in",
        ),
        ({"qos_vlarb_low": "0:192,1:192,3:192"}, "lane 2 of service level 2 .* would never send"),
        ({"qos_vlarb_high": "2:0,0:192,2:64"}, "qos_vlarb_high: lane 2 stands here with weight 0 and once more"),
        ({"qos_vlarb_high": "2:0,2:0"}, "qos_vlarb_high: lane 2 stands here with weight 0 and once more"),
        ({"qos_vlarb_high": "0-192"}, "qos_vlarb_high: '0-192' is no entry; write lane:weight"),
        ({"qos_vlarb_high": "0:192,"}, "qos_vlarb_high: '' is no entry"),
        ({"qos_vlarb_high": "0:-1"}, "qos_vlarb_high: '0:-1' is no entry"),
        ({"qos_vlarb_high": "0:1:2"}, "qos_vlarb_high: '0:1:2' is no entry"),
        ({"qos_high_limit": 256}, "qos_high_limit: 256 is not from 0"),
        ({"qos_high_limit": -1}, "qos_high_limit: -1 is not from 0"),
        ({"qos_max_vls": 5}, "qos_max_vls: 5 is none of 1, 2, 4, 8 and 15"),
        ({"qos_max_vls": 0}, "qos_max_vls: 0 is none of"),
        ({"qos_max_vls": 2}, "qos_vlarb_high: lane 2 is beyond qos_max_vls 2"),
        ({"qos_sl2vl": "0,1"}, "qos_sl2vl: has 2 lanes, write one for each of 16 service levels"),
        ({"qos_sl2vl": "0,1,2,7" + ",0" * 12}, "qos_sl2vl: lane 7 of service level 3 is beyond qos_max_vls 4"),
        ({"qos_sl2vl": "a" + ",0" * 15}, "qos_sl2vl: 'a' is no lane"),
    ],
)
def test_what_no_port_could_follow_is_refused_with_its_key(change, message):
    with pytest.raises(ConfigError, match=message):
        parse_vl_tables(**{**PAPER, **change})


def test_tables_that_were_never_text_are_checked_too():
    with pytest.raises(ConfigError, match="qos_vlarb_high: weight -1 of lane 0 is below 0"):
        VlTables((VlWeight(0, -1),), (VlWeight(0, 1),), 0, 1, (0,) * 16)
    with pytest.raises(ConfigError, match="qos_sl2vl: lane -1 of service level 0 is beyond"):
        VlTables((), (VlWeight(0, 1),), 0, 1, (-1, *(0,) * 15))
