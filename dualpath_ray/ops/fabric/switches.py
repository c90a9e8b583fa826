"""The same queues for two common switch systems, as snippets to review and take over. Pure."""

import json
from collections.abc import Iterable

from dualpath_ray.config.roce import RoceConfig
from dualpath_ray.ops.fabric.roce import KIND, control_comment
from dualpath_ray.ops.fabric.text import comment, headed, joined

CUMULUS, SONIC = "switch-cumulus.txt", "switch-sonic.txt"

_NAME = "DUALPATH"  # of the maps
_PORT = "Ethernet0"  # an example; every port needs its own
_WATCHDOG = (
    "A PFC watchdog must be on: without one, a single NIC that pauses and never resumes stops these classes on its switch,",
    "then on all others. It drops what waits in a queue that is paused for too long.",
)


def cumulus(roce: RoceConfig) -> str:
    """NVUE commands of NVIDIA Cumulus Linux 5."""
    shares, lossless = roce.percent_of_priority, sorted(roce.pfc_priorities)
    lines = headed(
        KIND,
        "queues of all ports of a switch with NVIDIA Cumulus Linux 5, as NVUE commands",
        "",
        "Not together with `nv set qos roce`, which brings queues of its own. What `nv config apply` does to buffers may",
        "lose packets for a moment. Thresholds of ECN and lengths of cables stay as the switch has them.",
    )
    lines += ["", *comment("Go by DSCP; those of no class first."), *control_comment(roce)]
    lines += ["nv set qos mapping default-global trust l3"]
    others = _listed(dscp for dscp in range(64) if dscp not in roce.priority_of_dscp)
    lines += [f"nv set qos mapping default-global dscp {others} switch-priority {roce.other_priority}"]
    lines += [
        f"nv set qos mapping default-global dscp {dscp} switch-priority {priority}"
        for dscp, priority in roce.priority_of_dscp.items()
    ]
    lines += ["", *comment("Queue (traffic class) of each priority.")]
    lines += [
        f"nv set qos egress-queue-mapping default-global switch-priority {priority} traffic-class {queue}"
        for priority, queue in enumerate(roce.queue_of_priority)
    ]
    control = [queue for queue, kind in roce.kind_of_queue.items() if kind == "strict"]
    which = f" but {_listed(control)}, of control packets, which goes first" if control else ""
    lines += ["", *comment(f"Shares of queues (ETS). No priority takes the strict ones{which}.")]
    for queue, percent in shares.items():
        lines += [
            f"nv set qos egress-scheduler default-global traffic-class {queue} mode dwrr",
            f"nv set qos egress-scheduler default-global traffic-class {queue} bw-percent {percent}",
        ]
    strict = [queue for queue in range(8) if queue not in shares]
    lines += [f"nv set qos egress-scheduler default-global traffic-class {_listed(strict)} mode strict"]
    if lossless:
        lines += ["", *comment("PFC, and half of the buffer for what must not be lost.")]
        lines += [
            "nv set qos traffic-pool default-lossless memory-percent 50",
            "nv set qos traffic-pool default-lossy memory-percent 50",
            *(f"nv set qos pfc default-global switch-priority {priority}" for priority in lossless),
            "nv set qos pfc default-global tx enable",
            "nv set qos pfc default-global rx enable",
        ]
        lines += [
            "",
            *comment(
                *_WATCHDOG,
                "It is off unless set, and set by port; since Cumulus Linux 5.6, for every port (not for a bond):",
                "  nv set interface swp1 qos pfc-watchdog state enable",
            ),
        ]
    return joined([*lines, "", *comment("Look at it with `nv config diff` first."), "nv config apply"])


def sonic(roce: RoceConfig) -> str:
    """Tables of SONiC's CONFIG_DB."""
    watchdog = [
        *_WATCHDOG,
        "Once the tables are loaded (times are in ms; `show pfcwd config` lists the ports that have it):",
        "  sudo config pfcwd start --action drop all 400 --restoration-time 400 && sudo config save",
    ]
    lines = headed(
        KIND,
        "queues of a port of a switch with SONiC, as tables of CONFIG_DB",
        "",
        f"Repeat {_PORT} in PORT_QOS_MAP and QUEUE for every port. Then, as SONiC reads JSON without comments:",
        f"  grep -v '^#' {SONIC} > qos.json && sudo config load qos.json && sudo config save",
        f"Older releases want names of maps as [DSCP_TO_TC_MAP|{_NAME}]. Lossless buffers (BUFFER_PG) are not",
        "here: the dynamic buffer model makes them of pfc_enable, another one needs them from the switch's vendor.",
        *(["", *watchdog] if roce.pfc_priorities else []),
    )
    lines += ["#", *control_comment(roce)]
    return joined([*lines, json.dumps(_sonic_tables(roce), indent=2)])


def _sonic_tables(roce: RoceConfig) -> dict[str, dict[str, dict[str, str]]]:
    shares, lossless = roce.percent_of_priority, sorted(roce.pfc_priorities)
    priorities = {dscp: roce.priority_of_dscp.get(dscp, roce.other_priority) for dscp in range(64)}
    groups = {priority: priority if priority in lossless else 0 for priority in range(8)}
    port = {
        "dscp_to_tc_map": _NAME,
        "tc_to_queue_map": _NAME,
        "tc_to_pg_map": _NAME,
        "pfc_to_queue_map": _NAME,
    }
    return {
        "DSCP_TO_TC_MAP": {_NAME: _strings(priorities)},
        "TC_TO_QUEUE_MAP": {_NAME: _strings(dict(enumerate(roce.queue_of_priority)))},
        "TC_TO_PRIORITY_GROUP_MAP": {_NAME: _strings(groups)},
        "MAP_PFC_PRIORITY_TO_QUEUE": {_NAME: _strings(dict(enumerate(roce.queue_of_priority)))},
        "SCHEDULER": {
            f"dualpath.{queue}": {"type": "DWRR", "weight": str(shares[queue])} if kind == "ets" else {"type": "STRICT"}
            for queue, kind in roce.kind_of_queue.items()
        },
        "QUEUE": {f"{_PORT}|{queue}": {"scheduler": f"dualpath.{queue}"} for queue in roce.kind_of_queue},
        "PORT_QOS_MAP": {_PORT: port | ({"pfc_enable": _listed(lossless)} if lossless else {})},
    }


def _strings(values: dict[int, int]) -> dict[str, str]:
    return {str(key): str(value) for key, value in values.items()}


def _listed(values: Iterable[int]) -> str:
    return ",".join(map(str, values))
