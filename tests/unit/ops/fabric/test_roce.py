"""Files for NICs and switches: all four ways of saying it come to the same queues."""

import json
import os
import re
import subprocess

import pytest
from hypothesis import given

from dualpath_ray.config.roce import RoceConfig
from dualpath_ray.ops.fabric.roce import dcb_script, mlnx_qos_script
from dualpath_ray.ops.fabric.switches import cumulus, sonic
from tests.unit.ops.fabric.cases import roces

# Queue of each DSCP, share of each queue, strict queues that some DSCP comes to, lossless priorities
State = tuple[list[int], dict[int, int], set[int], set[int]]


def configured(roce: RoceConfig) -> State:
    priorities = [roce.priority_of_dscp.get(dscp, roce.other_priority) for dscp in range(64)]
    queues = [roce.queue_of_priority[priority] for priority in priorities]
    strict = {roce.control_priority} if roce.control_dscps else set()
    return queues, roce.percent_of_priority, strict, set(roce.pfc_priorities)


def of_mlnx_qos(text: str) -> State:
    loop = re.search(r'for dscp in ([\d ]+); do mlnx_qos -i "\$IFACE" --dscp2prio "set,\$dscp,(\d)"', text)
    priorities = {int(dscp): int(loop[2]) for dscp in loop[1].split()}
    for dscp, priority in re.findall(r"--dscp2prio set,(\d+),(\d)", text):
        priorities[int(dscp)] = int(priority)
    found = re.search(r"--prio_tc (\S+) --tsa (\S+) --tcbw (\S+)", text)
    queues, kinds, shares = (each.split(",") for each in found.groups())
    percents = {
        queue: int(share) for queue, (kind, share) in enumerate(zip(kinds, shares, strict=True)) if kind == "ets"
    }
    lossless = re.search(r"--pfc (\S+)", text)[1].split(",")
    assert sum(map(int, shares)) == sum(percents.values()) == 100  # a strict queue has none
    used = [int(queues[priorities[dscp]]) for dscp in range(64)]
    return (
        used,
        percents,
        {queue for queue in used if kinds[queue] == "strict"},
        {priority for priority, on in enumerate(lossless) if on == "1"},
    )


def overlaid(text: str) -> dict[int, str]:
    """As dcb reads maps of queues and priorities: from left to right, ``all`` sets every one."""
    found: dict[int, str] = {}
    for key, value in (pair.split(":") for pair in text.split()):
        found |= dict.fromkeys(range(8), value) if key == "all" else {int(key): value}
    return found


def of_dcb(text: str) -> State:
    pairs = re.search(r"dscp-prio (.*)", text)[1].split()  # each adds an entry: a DSCP must not be there twice
    priorities = {int(dscp): int(priority) for dscp, priority in (pair.split(":") for pair in pairs)}
    assert len(pairs) == len(priorities) == 64
    queues, kinds, shares = map(overlaid, re.search(r"prio-tc (.*) tc-tsa (.*) tc-bw (.*)", text).groups())
    percents = {queue: int(shares[queue]) for queue in range(8) if kinds[queue] == "ets"}
    lossless = overlaid(re.search(r"prio-pfc (.*)", text)[1])
    assert sum(map(int, shares.values())) == sum(percents.values()) == 100
    used = [int(queues[priorities[dscp]]) for dscp in range(64)]
    return (
        used,
        percents,
        {queue for queue in used if kinds[queue] == "strict"},
        {priority for priority in range(8) if lossless[priority] == "on"},
    )


def of_cumulus(text: str) -> State:
    priorities = {
        int(dscp): int(priority)
        for dscps, priority in re.findall(r"mapping default-global dscp (\S+) switch-priority (\d)", text)
        for dscp in dscps.split(",")
    }
    queues = dict(re.findall(r"switch-priority (\d) traffic-class (\d)", text))
    percents = {int(queue): int(share) for queue, share in re.findall(r"traffic-class (\d) bw-percent (\d+)", text)}
    lossless = {int(priority) for priority in re.findall(r"pfc default-global switch-priority (\d)", text)}
    used = [int(queues[str(priorities[dscp])]) for dscp in range(64)]
    strict = {int(queue) for queue in re.search(r"traffic-class (\S+) mode strict", text)[1].split(",")}
    assert strict | percents.keys() == set(range(8)) and not strict & percents.keys()
    return used, percents, strict & set(used), lossless


def of_sonic(text: str) -> State:
    tables = json.loads("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    port = tables["PORT_QOS_MAP"]["Ethernet0"]
    priorities = tables["DSCP_TO_TC_MAP"][port["dscp_to_tc_map"]]
    queues = tables["TC_TO_QUEUE_MAP"][port["tc_to_queue_map"]]
    schedulers = {
        int(queue.partition("|")[2]): tables["SCHEDULER"][entry["scheduler"]]
        for queue, entry in tables["QUEUE"].items()
    }
    percents = {queue: int(each["weight"]) for queue, each in schedulers.items() if each["type"] == "DWRR"}
    strict = {queue for queue, each in schedulers.items() if each == {"type": "STRICT"}}
    lossless = {int(priority) for priority in port.get("pfc_enable", "").split(",") if priority}
    groups = tables["TC_TO_PRIORITY_GROUP_MAP"][port["tc_to_pg_map"]]
    assert all(groups[str(priority)] == str(priority) for priority in lossless)  # a buffer of its own, to be paused
    return [int(queues[priorities[str(dscp)]]) for dscp in range(64)], percents, strict, lossless


@given(roces)
def test_nics_and_switches_come_to_the_same_queues(roce):
    wanted = configured(roce)
    assert of_mlnx_qos(mlnx_qos_script(roce, [])) == wanted
    assert of_dcb(dcb_script(roce, [])) == wanted
    assert of_cumulus(cumulus(roce)) == wanted
    assert of_sonic(sonic(roce)) == wanted


@given(roces)
def test_a_line_is_a_command_or_a_comment(roce):
    for line in cumulus(roce).splitlines():
        assert not line or line.startswith(("#", "nv set qos ", "nv config apply"))
    for script in (mlnx_qos_script, dcb_script):
        commands = [line for line in script(roce, []).splitlines() if not line.startswith("#")]
        assert not [line for line in commands if "/sys/" in line]  # a class forced on a device would be everyone's


@given(roces)
def test_control_packets_wait_behind_nobody_and_pause_nobody(roce):
    queues = of_dcb(dcb_script(roce, []))[0]
    control = {queues[dscp] for dscp in roce.control_dscps}
    others = {queues[dscp] for dscp in range(64) if dscp not in roce.control_dscps}
    assert not control & others and len(control) == bool(roce.control_dscps)
    assert not control & set(roce.pfc_priorities)


def test_a_switch_whose_classes_lose_no_packets_is_told_of_a_watchdog():
    assert "sudo config pfcwd start --action drop all 400 --restoration-time 400" in sonic(RoceConfig())
    assert "pfc-watchdog state enable" in cumulus(RoceConfig())
    lossy = RoceConfig(pfc_priorities=[])
    assert "watchdog" not in sonic(lossy) + cumulus(lossy)


@pytest.mark.parametrize("write", [mlnx_qos_script, dcb_script])
@pytest.mark.parametrize(("status", "goes_on"), [(0, True), (78, True), (1, False)])
def test_a_script_goes_on_where_the_link_was_not_paused_and_stops_where_that_fails(tmp_path, write, status, goes_on):
    for tool in ("mlnx_qos", "dcb", "ethtool", "cma_roce_tos"):
        (tmp_path / tool).write_text(
            f"#!/bin/sh\necho {tool} $* >> {tmp_path}/ran\nexit {status * (tool == 'ethtool')}\n"
        )
        (tmp_path / tool).chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", write(RoceConfig(), []), "nic", "ens1", "mlx5_0"], env=path, check=False)
    ran = (tmp_path / "ran").read_text().splitlines()
    paused = ran.index("ethtool -A ens1 rx off tx off")
    pfc = [at for at, line in enumerate(ran) if "pfc" in line]
    assert (done.returncode == 0) == goes_on == (ran[-1] == "cma_roce_tos -d mlx5_0 -t 106")
    assert bool(pfc) == goes_on and all(at > paused for at in pfc)
