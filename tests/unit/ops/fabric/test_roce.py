"""Files for NICs and switches: all four ways of saying it come to the same queues."""

import json
import re

from hypothesis import given

from dualpath_ray.config.roce import RoceConfig
from dualpath_ray.ops.fabric.roce import dcb_script, mlnx_qos_script
from dualpath_ray.ops.fabric.switches import cumulus, sonic
from tests.unit.ops.fabric.cases import roces

State = tuple[list[int], dict[int, int], set[int]]  # queue of each DSCP, share of each queue, lossless priorities


def configured(roce: RoceConfig) -> State:
    priorities = [roce.priority_of_dscp.get(dscp, roce.other_priority) for dscp in range(64)]
    queues = [roce.queue_of_priority[priority] for priority in priorities]
    return queues, roce.percent_of_priority, set(roce.pfc_priorities)


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
    return (
        [int(queues[priorities[dscp]]) for dscp in range(64)],
        percents,
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
    return (
        [int(queues[priorities[dscp]]) for dscp in range(64)],
        percents,
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
    return [int(queues[str(priorities[dscp])]) for dscp in range(64)], percents, lossless


def of_sonic(text: str) -> State:
    tables = json.loads("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    port = tables["PORT_QOS_MAP"]["Ethernet0"]
    priorities = tables["DSCP_TO_TC_MAP"][port["dscp_to_tc_map"]]
    queues = tables["TC_TO_QUEUE_MAP"][port["tc_to_queue_map"]]
    percents = {
        int(queue.partition("|")[2]): int(tables["SCHEDULER"][entry["scheduler"]]["weight"])
        for queue, entry in tables["QUEUE"].items()
    }
    lossless = {int(priority) for priority in port.get("pfc_enable", "").split(",") if priority}
    groups = tables["TC_TO_PRIORITY_GROUP_MAP"][port["tc_to_pg_map"]]
    assert all(groups[str(priority)] == str(priority) for priority in lossless)  # a buffer of its own, to be paused
    return [int(queues[priorities[str(dscp)]]) for dscp in range(64)], percents, lossless


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
