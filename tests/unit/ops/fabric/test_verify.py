"""``--verify``: a host that is as configured has no difference, and every difference is named with what to do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.nic_devices import read_devices
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.base.vl_tables import VlWeight
from dualpath_ray.config.fabric import CnicLanes
from dualpath_ray.config.roce import RoceConfig
from dualpath_ray.ops.fabric.finding import Finding, Verdict, differs, lines, summary
from dualpath_ray.ops.fabric.host import Answer, ask, examine
from dualpath_ray.ops.fabric.read_back import NicQueues, PortTables, parse_vlarb
from dualpath_ray.ops.fabric.verify import queue_findings, table_findings
from tests.unit.base.machines import FakeSys
from tests.unit.ops.fabric import said
from tests.unit.ops.fabric.cases import cluster, roces

SLOT = "pci0000:00/0000:00:01.0/0000:01:00.0"
GOOD = {
    "sl2vl": said.SL2VL,
    "vlarb": said.VLARB,
    "portinfo": said.PORTINFO,
    "mlnx_qos": said.MLNX_QOS,
    "ets": said.DCB_ETS,
    "pfc": said.DCB_PFC,
    "app": said.DCB_APP,
    "ethtool": said.PAUSE_OFF,
}
NCCL, UCX = "NCCL_IB_SL", "UCX_IB_SL"


class Machine:
    """A host with one RDMA device mlx5_0, interface ens1, and tools that say what it is told."""

    def __init__(self, tmp_path, layer: str = "InfiniBand", **said_by_tool: str) -> None:
        fake = FakeSys(tmp_path)
        fake.nic("ens1", SLOT, rdma="mlx5_0")
        self.port = tmp_path / "class/infiniband/mlx5_0/ports/1"
        (self.port / "link_layer").write_text(f"{layer}\n")
        (self.port / "lid").write_text("0x1\n")
        self.sys, self.asked, self._said = tmp_path, list[str](), GOOD | said_by_tool

    def ask(self, command) -> Answer:
        self.asked.append(" ".join(command))
        for word in command:
            if word in self._said:
                text = self._said[word]
                return Answer(text) if text else Answer(missing=f"{command[0]} is not installed")
        return Answer(missing=f"{command[0]} is not installed")

    def examine(self, config, **environment: str) -> list[Finding]:
        host = read_devices(self.sys, {}, self.sys / "dev")
        return examine(config, host, environment, self.ask, self.sys)


def by_name(findings: list[Finding], verdict: Verdict) -> dict[str, Finding]:
    return {each.name: each for each in findings if each.verdict is verdict}


@pytest.mark.parametrize("cnic", [["auto"], ["mlx5_0"], ["ens1"], ["mlx5_0:1"]])
def test_a_subnet_as_configured_has_no_difference(tmp_path, cnic):
    machine = Machine(tmp_path)
    found = machine.examine(cluster("infiniband", cnic), NCCL_IB_SL="0", UCX_IB_SL="2")
    assert not differs(found)
    items = {"mlx5_0:1", "mlx5_0:1 SL2VL", "mlx5_0:1 VLArb high", "mlx5_0:1 VLArb low", "mlx5_0:1 VLHighLimit"}
    assert set(by_name(found, Verdict.SAME)) == items | {NCCL, UCX}
    assert "smpquery -C mlx5_0 -P 1 vlarb 0x1 1" in machine.asked


def test_a_subnet_that_nobody_configured_differs_item_by_item(tmp_path):
    machine = Machine(tmp_path, sl2vl=said.SL2VL_BEFORE, vlarb=said.VLARB_BEFORE, portinfo="VLHighLimit:....4")
    found = by_name(machine.examine(cluster("infiniband", ["auto"])), Verdict.DIFFERS)
    assert found["mlx5_0:1 SL2VL"].says.startswith("service level 4 takes lane 4, configured 0, service level 5")
    assert found["mlx5_0:1 SL2VL"].says.endswith(", and 9 more")
    assert found["mlx5_0:1 VLArb high"].says.startswith("entry 0 is 0:4, configured 0:192, entry 1 is 1:0, configured")
    assert found["mlx5_0:1 VLHighLimit"].says == "it is 4, configured 240"
    assert "opensm.qos.conf" in found["mlx5_0:1 VLArb low"].remedy


@pytest.mark.parametrize("tool", ["mlnx_qos", "dcb"])
def test_a_nic_as_configured_has_no_difference_by_either_tool(tmp_path, tool):
    machine = Machine(tmp_path, "Ethernet", **({"mlnx_qos": ""} if tool == "dcb" else {}))
    found = machine.examine(cluster("roce", ["ens1"]), NCCL_IB_TC="186", UCX_NET_DEVICES="mlx5_0:1")
    assert not differs(found)
    items = {f"mlx5_0:1 {item}" for item in ("DSCP map", "queues", "kinds of queues", "shares", "PFC", "pause")} | {
        "mlx5_0:1"
    }
    trust = {"mlx5_0:1 trust"} if tool == "mlnx_qos" else set()  # dcb does not say
    assert set(by_name(found, Verdict.SAME)) == items | trust | {"NCCL_IB_TC", "UCX_NET_DEVICES"}


def test_a_nic_as_it_comes_differs_item_by_item(tmp_path):
    machine = Machine(tmp_path, "Ethernet", mlnx_qos=said.MLNX_QOS_BEFORE, ethtool="RX:\t\ton\nTX:\t\ton\n")
    (machine.port.parents[1] / "tc/1").mkdir(parents=True)
    (machine.port.parents[1] / "tc/1/traffic_class").write_text("Global tclass=106\n")
    found = by_name(machine.examine(cluster("roce", ["auto"])), Verdict.DIFFERS)
    assert found["mlx5_0:1 trust"].says == "it goes by pcp, configured dscp"
    assert found["mlx5_0:1 PFC"].says.startswith("priority 3: PFC off, configured PFC on")
    assert found["mlx5_0:1 queues"].says.startswith("priority 0 has queue 1, configured 0")
    assert found["mlx5_0:1 kinds of queues"].says.startswith("queue 0 is vendor, configured ets")
    assert found["mlx5_0:1 pause"].remedy == "run ethtool -A ens1 rx off tx off"
    assert "everything as traffic class 106 (DSCP 26)" in found["mlx5_0:1 traffic_class"].says
    assert "nic-mlnx_qos.sh ens1 mlx5_0" in found["mlx5_0:1 trust"].remedy


@pytest.mark.parametrize("kind", ["infiniband", "roce"])
def test_tools_that_are_missing_are_notes(tmp_path, kind):
    machine = Machine(tmp_path, "InfiniBand" if kind == "infiniband" else "Ethernet", **dict.fromkeys(GOOD, ""))
    found = machine.examine(cluster(kind, ["auto"]))
    assert not differs(found) and list(by_name(found, Verdict.SAME)) == ["mlx5_0:1"]
    assert any("is not installed" in each.says for each in found)


def test_a_tool_that_says_it_in_another_way_is_a_note(tmp_path):
    found = Machine(tmp_path, vlarb="something new", sl2vl="ports: | x|").examine(cluster("infiniband", ["auto"]))
    assert {"mlx5_0:1 VLArb", "mlx5_0:1 SL2VL"} <= set(by_name(found, Verdict.NOTE)) and not differs(found)


def test_a_link_of_the_other_kind_and_a_port_that_is_down_differ(tmp_path):
    machine = Machine(tmp_path, "Ethernet")
    (other,) = by_name(machine.examine(cluster("infiniband", ["mlx5_0"])), Verdict.DIFFERS).values()
    assert other.says == "its link is Ethernet, configured InfiniBand" and "fabric.kind: roce" in other.remedy
    (machine.port / "state").write_text("1: DOWN\n")
    (down,) = by_name(machine.examine(cluster("roce", ["mlx5_0"])), Verdict.DIFFERS).values()
    assert down.says == "its port is 1: DOWN, not active"


def test_a_device_that_is_named_and_not_there_differs_and_with_auto_it_is_a_note(tmp_path):
    machine = Machine(tmp_path)
    (missing,) = by_name(machine.examine(cluster("infiniband", ["mlx5_7"])), Verdict.DIFFERS).values()
    assert "this host has no such RDMA device; it has mlx5_0:1" in missing.says
    found = machine.examine(cluster("roce", ["auto"]))
    assert not differs(found) and "may open no RDMA device with Ethernet here" in found[0].says


def test_variables_of_another_lane_differ_and_unset_ones_are_notes(tmp_path):
    machine = Machine(tmp_path)
    found = machine.examine(cluster("infiniband", ["mlx5_0"]), UCX_IB_SL="0", NCCL_IB_HCA="mlx5_1")
    wrong = by_name(found, Verdict.DIFFERS)
    assert wrong[UCX].says == "it is 0, configured 1 (kv_urgent) or 2 (kv_cache)"
    assert wrong["NCCL_IB_HCA"].says == "it is mlx5_1, configured =mlx5_0:1"
    assert by_name(found, Verdict.NOTE)[NCCL].remedy == "source env-model-execution.sh where engines start"


@given(roces)
def test_every_queue_that_is_set_as_configured_is_found_to_be(roce):
    dscps = {dscp: roce.priority_of_dscp.get(dscp, roce.other_priority) for dscp in range(64)}
    pfc = {each: each in roce.pfc_priorities for each in range(8)}
    queues = dict(enumerate(roce.queue_of_priority))
    found = NicQueues("dscp", dscps, {}, queues, roce.kind_of_queue, roce.percent_of_priority, pfc)
    assert not differs(queue_findings(roce, "n", found, "a b"))


@given(roces, st.integers(0, 63), st.integers(1, 7))
def test_any_dscp_in_a_wrong_queue_is_named(roce, dscp, by):
    dscps = {each: roce.priority_of_dscp.get(each, roce.other_priority) for each in range(64)}
    dscps[dscp] = (dscps[dscp] + by) % 8
    (wrong,) = queue_findings(roce, "n", NicQueues(priority_of_dscp=dscps), "a b")
    assert wrong.verdict is Verdict.DIFFERS and wrong.says.startswith(f"DSCP {dscp} has priority {dscps[dscp]}, ")


@given(roces, st.integers(0, 63), st.integers(0, 7))
def test_a_dscp_that_stands_there_twice_differs_even_if_the_last_is_right(roce, dscp, other):
    priority = roce.priority_of_dscp.get(dscp, roce.other_priority)
    found = NicQueues(
        priority_of_dscp={dscp: priority} | roce.priority_of_dscp, doubled_dscps={dscp: (other, priority)}
    )
    (wrong,) = queue_findings(roce, "n", found, "a b")
    assert wrong.verdict is Verdict.DIFFERS
    assert wrong.says == f"DSCP {dscp} has priority {other} and {priority}, configured {priority}"


@pytest.mark.parametrize("kind", ["ets", "vendor"])
def test_a_control_queue_that_is_not_strict_differs(kind):
    found = NicQueues(kind_of_queue=RoceConfig().kind_of_queue | {1: "vendor", 6: kind})
    (wrong,) = queue_findings(RoceConfig(), "n", found, "a b")
    assert (wrong.verdict, wrong.says) == (Verdict.DIFFERS, f"queue 6 is {kind}, configured strict")


@given(st.integers(0, 7), st.integers(0, 3), st.integers(0, 255))
def test_any_entry_of_a_table_that_is_another_one_is_named(at, lane, weight):
    tables = parse_vlarb(said.VLARB)
    changed = list(tables.high)
    changed[at] = VlWeight(lane, weight)
    high, low = table_findings(CnicLanes(), "n", PortTables(tuple(changed), tables.low))
    harmless = changed[at] == tables.high[at] or (at >= 4 and weight == 0)
    assert low.verdict is Verdict.SAME and (high.verdict is Verdict.SAME) == harmless
    assert harmless or f"entry {at} is {lane}:{weight}" in high.says


def test_a_table_that_the_port_has_no_room_for_differs():
    cnic = CnicLanes(qos_vlarb_high="0:1,1:1,2:1,3:1", qos_vlarb_low="0:1,1:1,2:1,3:1")
    short = PortTables((VlWeight(0, 1),) * 3, (VlWeight(0, 1),) * 3)
    high, _ = table_findings(cnic, "n", short)
    assert high.says == "the port has room for 3 entries, configured are 4"


def test_two_classes_of_one_level_are_one_value(tmp_path):
    levels = {each: 1 for each in (TrafficClass.MODEL_EXECUTION, TrafficClass.KV_URGENT, TrafficClass.KV_CACHE)}
    config = cluster("infiniband", ["auto"], cnic={"service_levels": levels})
    assert UCX in by_name(Machine(tmp_path).examine(config, UCX_IB_SL="1"), Verdict.SAME)


def test_findings_are_lines_and_a_sum():
    same, wrong = Finding("a", "as configured", Verdict.SAME), Finding("longer", "bad", Verdict.DIFFERS, "mend it")
    assert lines([same, wrong]) == [
        "same     a       as configured",
        "differs  longer  bad; mend it",
        "1 of 2 items compared differs.",
    ]
    assert summary([Finding("a", "?", Verdict.NOTE)]) == "Nothing could be compared here."
    assert summary([same]) == "None of 1 items compared differs."
    assert summary([wrong, wrong]) == "2 of 2 items compared differ."


def test_a_tool_that_fails_or_is_missing_says_why():
    assert ask(["no-such-tool-here"]).missing == "no-such-tool-here is not installed"
    assert ask(["sh", "-c", "echo oops >&2; exit 3"]).missing == "sh failed: oops"
    assert ask(["sh", "-c", "exit 3"]).missing == "sh failed: exit code 3"
    assert ask(["echo", "hello"]) == Answer("hello\n")
