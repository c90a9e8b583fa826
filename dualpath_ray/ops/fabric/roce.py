"""What RoCE needs on the nodes: NIC commands to review, and the same numbers as people read them (appendix A.1). Pure."""

from collections.abc import Iterable, Sequence

from dualpath_ray.base.types import TrafficClass
from dualpath_ray.config.roce import COMPUTE_CLASSES, RoceConfig
from dualpath_ray.ops.fabric.devices import Cnic
from dualpath_ray.ops.fabric.text import comment, headed, joined, table

KIND = "RoCE"
MLNX_QOS, DCB, QUEUES = "nic-mlnx_qos.sh", "nic-dcb.sh", "queues.txt"

_EIGHT = range(8)
_REST = TrafficClass.KV_CACHE  # what connections get that name no class


def mlnx_qos_script(roce: RoceConfig, cnics: Sequence[Cnic]) -> str:
    """Commands of NVIDIA's own tools."""
    shares, queues = roce.percent_of_priority, roce.queue_of_priority
    lines = _script_head(MLNX_QOS, "queues of a compute NIC, by mlnx_qos of NVIDIA's driver package", cnics)
    lines += ["", *comment("The host decides, not the NIC's firmware with its peer.")]
    lines += ['mlnx_qos -i "$IFACE" --dcbx os']
    lines += ["", *comment("The NIC goes by the DSCP of a packet, not by a VLAN's priority.")]
    lines += ['mlnx_qos -i "$IFACE" --trust dscp']
    lines += ["", *comment("Priority of each DSCP: first those of no class, which by default come in blocks of eight.")]
    lines += control_comment(roce)
    others = " ".join(str(dscp) for dscp in range(64) if dscp not in roce.priority_of_dscp)
    lines += [f'for dscp in {others}; do mlnx_qos -i "$IFACE" --dscp2prio "set,$dscp,{roce.other_priority}"; done']
    lines += [
        f'mlnx_qos -i "$IFACE" --dscp2prio set,{dscp},{priority}' for dscp, priority in roce.priority_of_dscp.items()
    ]
    lines += ["", *comment("Queue of each priority, and kind and share of each queue (ETS), from 0 to 7.")]
    lines += _strict_comment(roce)
    kinds = [roce.kind_of_queue.get(each, "strict") for each in _EIGHT]
    bandwidth = _listed(shares.get(each, 0) for each in _EIGHT)
    lines += [f'mlnx_qos -i "$IFACE" --prio_tc {_listed(queues)} --tsa {_listed(kinds)} --tcbw {bandwidth}']
    lines += [*_no_pause(), "", *comment("PFC of priorities 0 to 7.")]
    lines += [f'mlnx_qos -i "$IFACE" --pfc {_listed(int(each in roce.pfc_priorities) for each in _EIGHT)}']
    return joined([*lines, *_rdma_cm(roce)])


def dcb_script(roce: RoceConfig, cnics: Sequence[Cnic]) -> str:
    """The same by iproute2, for every driver that has the kernel's DCB interface."""
    shares, queues = roce.percent_of_priority, roce.queue_of_priority
    lines = _script_head(DCB, "queues of a compute NIC, by dcb of iproute2", cnics)
    lines += ["", *comment("The host decides, not the NIC's firmware with its peer (willing off, below).")]
    lines += ['dcb dcbx set dev "$IFACE" host ieee']
    lines += ["", *comment("Priority of each DSCP, one by one: dcb would add all:0 to them, not replace it.")]
    lines += comment("ConnectX goes by DSCP as soon as there is one such entry.")
    lines += control_comment(roce)
    priorities = {dscp: roce.priority_of_dscp.get(dscp, roce.other_priority) for dscp in range(64)}
    lines += [f'dcb app replace dev "$IFACE" dscp-prio {_pairs(priorities)}']
    lines += ["", *comment("Queue of each priority, and kind and share of each queue (ETS).")]
    lines += _strict_comment(roce)
    kinds = " ".join(f"{each}:{kind}" for each, kind in roce.kind_of_queue.items())
    lines += [
        f'dcb ets set dev "$IFACE" willing off prio-tc {_pairs(dict(enumerate(queues)))} tc-tsa all:strict {kinds} '
        f"tc-bw all:0 {_pairs(shares)}"
    ]
    lines += [*_no_pause(), "", *comment("PFC.")]
    paused = "".join(f" {each}:on" for each in sorted(roce.pfc_priorities))
    lines += [f'dcb pfc set dev "$IFACE" prio-pfc all:off{paused}']
    return joined([*lines, *_rdma_cm(roce)])


def queue_tables(roce: RoceConfig) -> str:
    """Classes, DSCPs, priorities, queues and shares."""
    lines = headed(KIND, "which class takes which DSCP, priority and queue, and its share while all want the link")
    rows = [
        [
            each,
            roce.dscp[each],
            roce.tos(each),
            roce.priorities[each],
            roce.priorities[each],
            f"{roce.ets_percent[each]} %",
        ]
        + ["on" if roce.priorities[each] in roce.pfc_priorities else "off"]
        for each in COMPUTE_CLASSES
    ]
    control = ["control packets", ", ".join(map(str, roce.control_dscps)), "", *[roce.control_priority] * 2, "strict"]
    if roce.control_dscps:
        rows.append([*control, "off"])
    rest = [
        "all other packets",
        "any other",
        "",
        roce.other_priority,
        roce.other_priority,
        f"{roce.other_ets_percent} %",
        "off",
    ]
    lines += ["", *table(["class", "DSCP", "whole byte", "priority", "queue", "ETS", "PFC"], [*rows, rest])]
    if roce.control_dscps:
        lines += ["", "The strict queue goes before all others and has no share, so nothing else may carry its DSCPs."]
    lines += ["", "Queue of each priority"]
    lines += table(["priority", *map(str, _EIGHT)], [["queue", *roce.queue_of_priority]])
    return joined(lines)


def control_comment(roce: RoceConfig) -> list[str]:
    """Why some DSCPs of no class are apart. For switches too."""
    if not roce.control_dscps:
        return comment("No DSCP is set apart for control packets: congestion notices (CNPs) wait among the rest.")
    which = ", ".join(map(str, roce.control_dscps))
    return comment(
        f"Control packets ({which}) have a queue of their own: congestion notices (CNPs), by which a receiver slows",
        "senders down, are of no use once they wait behind TCP. The DSCP and priority with which NICs send CNPs are set",
        "elsewhere, on ConnectX with NVIDIA's driver package in /sys/class/net/INTERFACE/ecn/roce_np/cnp_dscp and",
        f"cnp_802p_prio (as a rule 48 and 6). Look there: they must be one of these DSCPs, and {roce.control_priority}.",
    )


def _strict_comment(roce: RoceConfig) -> list[str]:
    unused = "Queues that no priority takes are strict, for a queue without a share must be."
    if not roce.control_dscps:
        return comment(unused)
    return comment(f"Queue {roce.control_priority}, of control packets, is strict: it goes before all others.", unused)


def _script_head(name: str, purpose: str, cnics: Sequence[Cnic]) -> list[str]:
    runs = [f"  sh {name} {cnic.interface} {cnic.rdma}" for cnic in cnics] or [f"  sh {name} INTERFACE RDMA_DEVICE"]
    unknown = [cnic.interface for cnic in cnics if not cnic.known]
    note = (
        [f"({', '.join(unknown)}: as in node.cnic; write the network interface, then the RDMA device.)"]
        if unknown
        else []
    )
    return [
        "#!/bin/sh",
        *headed(
            KIND,
            purpose,
            "",
            "As root on every node, for each compute NIC; what it sets is gone after a reboot:",
            *runs,
            *note,
            "Changing PFC or buffers may take the link down for a moment: drain the node first.",
        ),
        "set -eu",
        'IFACE="${1:?name the network interface, for example ens1f0np0}"',
        'RDMA="${2:?name the RDMA device, for example mlx5_0}"',
    ]


def _no_pause() -> list[str]:
    return [
        "",
        *comment(
            "Pausing the whole link and PFC exclude each other, so this comes before PFC.",
            "(Older ethtool exits with 78 when nothing was to change.)",
        ),
        'ethtool -A "$IFACE" rx off tx off || [ "$?" -eq 78 ]',
    ]


def _rdma_cm(roce: RoceConfig) -> list[str]:
    """The end of either script."""
    return [
        "",
        *comment(
            f"Connections by RDMA-CM that name no class go as {_REST}, so that no stranger enters another queue.",
            "(cma_roce_tos is of NVIDIA's driver package. Leave /sys/class/infiniband/*/tc/1/traffic_class unset: it would",
            "put every queue pair of the device into one class, whatever env-*.sh say.)",
        ),
        f'if command -v cma_roce_tos >/dev/null; then cma_roce_tos -d "$RDMA" -t {roce.tos(_REST)}; fi',
    ]


def _listed(values: Iterable[object]) -> str:
    return ",".join(map(str, values))


def _pairs(values: dict[int, int]) -> str:
    return " ".join(f"{key}:{value}" for key, value in values.items())
