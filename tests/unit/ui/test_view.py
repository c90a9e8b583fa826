"""What the page shows of a status."""

import pytest

from dualpath_ray.ui.view import decision_row, view_of


def lanes_of(view):
    return {lane["nic"]: lane for node in view["nodes"] for lane in node["lanes"]}


def test_every_direction_of_every_nic_stands_at_its_node(status):
    told = status(prefill=2, decode=4, cnics=8)
    view = view_of(told, 100.0)
    assert view["shape"] == "2P4D"
    assert sorted(lanes_of(view)) == sorted(nic["nic"] for nic in told["nics"])
    for node in view["nodes"]:
        assert {lane["node"] for lane in node["lanes"]} == {node["node"]}


@pytest.mark.parametrize("share", [0.0, 0.07, 0.5, 1.0])
def test_a_bar_says_its_share_rate_and_queue_in_words(status, share):
    lane = lanes_of(view_of(status(shares={"d1/snic/in": share}), 0.0))["d1/snic/in"]
    assert (lane["share"], lane["percent"]) == (share, f"{share * 100:.0f} %")
    assert lane["rate"] == f"{share * 2:.1f} of 2.0 MB/s" and lane["queue"] == "no queue" and lane["does"] == "read"


def test_what_waits_is_told(status):
    told = status()
    told["nics"][0]["queued_bytes"] = 3 * 2**20
    assert lanes_of(view_of(told, 0.0))["p0/snic/in"]["queue"] == "3.0 MiB queued"


def test_a_nic_of_unknown_rate_has_no_share(status):
    view = view_of(status(shares={"p0/snic/in": 0.4}, rate=None), 0.0)
    lane = lanes_of(view)["p0/snic/in"]
    assert lane["share"] is None and lane["percent"] == "not known" and lane["rate"] == "400 kB/s"
    assert view["pool"]["share"] is None and view["snics"]["p0"] is None


def test_the_pool_is_all_storage_nics_as_one(status):
    pool = view_of(status(shares={"p0/snic/in": 1.0, "d0/snic/in": 0.5, "p0/cnic0/in": 1.0}), 0.0)["pool"]
    assert pool["share"] == pytest.approx(0.5) and pool["rate"] == "3.0 of 6.0 MB/s" and pool["num"] == 3


def test_on_the_single_path_idle_decode_nics_are_said_to_be_closed(status):
    def closed(path, shares):
        lanes = lanes_of(view_of(status(read_path=path, shares=shares), 0.0))
        return [name for name, lane in lanes.items() if lane["closed"]]

    assert closed("prefill_only", {}) == ["d0/snic/in", "d1/snic/in"]
    assert closed("prefill_only", {"d0/snic/in": 0.3}) == ["d1/snic/in"], "what was bound before still reads"
    assert closed("scheduled", {}) == []


def test_counts_and_shares_of_the_paths(status):
    view = view_of(status(), 0.0)
    assert [row["value"] for row in view["counters"]] == ["1,234", "5", "7"]
    assert [(row["path"], row["value"], row["share"]) for row in view["by_path"]] == [
        ("pe", "1", 0.25),
        ("de", "3", 0.75),
    ]


def test_nothing_read_yet_divides_by_nothing(status):
    told = status()
    told["scheduler"]["num_by_path"] = {"pe": 0, "de": 0}
    assert [row["share"] for row in view_of(told, 0.0)["by_path"]] == [0.0, 0.0]


def test_a_node_says_what_it_has_to_do(status):
    node = view_of(status(), 0.0)["nodes"][0]
    assert node["work"] == "2 requests, 5,952 tokens"
    assert (node["buffer"], node["buffer_share"]) == ("buffer 25 % full", 0.25)


def test_a_node_that_is_gone_is_still_there(status):
    told = status()
    told["nodes"][2] = {"node": "d1", "role": "decode", "host": "", "state": "gone"}
    told["nics"] = [nic for nic in told["nics"] if not nic["nic"].startswith("d1/")]
    node = view_of(told, 0.0)["nodes"][2]
    assert node["state"] == "gone" and node["lanes"] == [] and node["buffer_share"] is None


def test_a_decision_says_side_reason_and_engines(record):
    row = decision_row(record(9))
    assert (row["side"], row["hit"], row["prefill"], row["decode"]) == ("decode side", "2,608 tokens", "p0/e0", "d1/e0")
    assert row["reason"] == "read queue PE 6448, DE 2160 tokens"
    assert decision_row(record(9, "pe", 0))["side"] == "no hit"
    single = decision_row({**record(9, "pe"), "reason": "prefill_only"})
    assert single["reason"] == "single path: the prefill side reads"
