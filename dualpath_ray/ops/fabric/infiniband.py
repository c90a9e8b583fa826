"""What InfiniBand's subnet manager opensm takes, and the same tables as people read them (appendix A.1). Pure."""

from collections.abc import Sequence
from fractions import Fraction

from dualpath_ray.base.lanes import Lanes
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.base.vl_shares import shares, starvation_bound
from dualpath_ray.base.vl_tables import NO_LIMIT, UNIT_BYTES, VlTables, VlWeight, units_of
from dualpath_ray.config.fabric import CnicLanes
from dualpath_ray.ops.fabric.text import comment, headed, joined, table

KIND = "InfiniBand"
OPENSM, POLICY, PARTITIONS, LANES = "opensm.qos.conf", "qos-policy.conf", "partitions.conf", "lanes.txt"

_POLICY_PATH = f"/etc/opensm/{POLICY}"
_PORTS = (
    ("qos", "Every port that has no keys of its own below"),
    ("qos_ca", "Channel adapters: the nodes' NICs"),
    ("qos_sw0", "Port 0 of switches, which manages them"),
    ("qos_swe", "External ports of switches"),
    ("qos_rtr", "Routers"),
)
_MTU_CODES = {256: 1, 512: 2, 1024: 3, 2048: 4, 4096: 5}  # of opensm
_REST = TrafficClass.KV_CACHE  # whose lane all takes that names none: section 5 leaves the low one to the rest


def opensm_conf(cnic: CnicLanes) -> str:
    """Lines to add to opensm's own configuration file."""
    tables = cnic.tables
    lines = headed(
        KIND,
        "quality of service for opensm, the subnet manager",
        "",
        "Add these lines to opensm.conf in the place of all that begin with qos, and restart opensm. They hold for the",
        "whole subnet, and so for every user of it. max_op_vls must leave ports the lanes that are used here; its default",
        "of 5 leaves them all.",
    )
    lines += ["", *comment("Without this no key below has any effect."), "qos TRUE"]
    lines += ["", *comment(f"Where {POLICY} is put."), f"qos_policy_file {_POLICY_PATH}"]
    for prefix, ports in _PORTS:
        lines += ["", *comment(f"{ports}.")]
        if prefix == "qos":
            lines += comment(
                f"Lanes of a port. The high table sends {_limit_words(tables)}",
                f"Tables: lane:weight, a weight is {UNIT_BYTES} bytes. Map: lane of each service level from 0 to 15.",
            )
        lines += [
            f"{prefix}_max_vls {tables.max_vls}",
            f"{prefix}_high_limit {tables.high_limit}",
            f"{prefix}_vlarb_high {_entries(tables.high)}",
            f"{prefix}_vlarb_low {_entries(tables.low)}",
            f"{prefix}_sl2vl {','.join(map(str, tables.sl_to_vl))}",
        ]
    return joined(lines)


def qos_policy(cnic: CnicLanes) -> str:
    """Which service level opensm answers to those that ask it."""
    level = cnic.service_levels[_REST]
    lines = headed(
        KIND,
        "service levels that opensm answers to those that ask for a path",
        "",
        f"Put it to {_POLICY_PATH}. NCCL and UCX do not ask: env-*.sh tell them. All others, as IPoIB and RDMA-CM,",
        f"get the service level of {_REST}, so that no stranger enters the lane of {TrafficClass.MODEL_EXECUTION}.",
    )
    return joined([*lines, "", "qos-ulps", f"    default : {level}", f"    ipoib : {level}", "end-qos-ulps"])


def partitions(cnic: CnicLanes) -> str:
    """The default partition, with the service level of IP over InfiniBand."""
    level, code = cnic.service_levels[_REST], _MTU_CODES.get(cnic.packet_bytes)
    mtu = f", mtu={code}" if code else ""
    lines = headed(
        KIND,
        "the subnet's one partition",
        "",
        "Put it to /etc/opensm/partitions.conf, or where opensm has its own, take over sl alone. Every port is a full",
        f"member. IP over InfiniBand, which carries Ray's control and sockets, has the service level of {_REST}.",
    )
    if code:
        lines += comment(
            f"mtu={code} is {cnic.packet_bytes} bytes; a port with less cannot join: then write what the least one has."
        )
    return joined([*lines, "", f"Default=0x7fff, ipoib{mtu}, sl={level}, defmember=full : ALL, SELF=full ;"])


def lane_tables(cnic: CnicLanes) -> str:
    """Classes, map and tables with what they come to."""
    tables, lanes = cnic.tables, cnic.lanes
    lines = headed(KIND, "which class takes which lane, and what the tables come to (docs/arbitration.md)")
    lines += ["", "Traffic classes", *_class_rows(cnic, lanes)]
    lines += comment(
        "Shares: packets of the largest size, all these lanes full; each KV lane full beside model_execution alone."
    )
    lines += comment("Longest wait: bytes that others may send before it, all packets of the largest size.")
    lines += ["", "Map of service levels to lanes (SL2VL); 15 drops"]
    lines += table(["SL", *map(str, range(16))], [["VL", *tables.sl_to_vl]])
    for name, entries in (("High", tables.high), ("Low", tables.low)):
        lines += ["", f"{name} table (VLArb)", *_table_rows(entries, cnic.packet_bytes)]
    return joined([*lines, "", f"The high table sends {_limit_words(tables)}"])


def _class_rows(cnic: CnicLanes, lanes: Lanes) -> list[str]:
    size, model = cnic.packet_bytes, lanes.lane(TrafficClass.MODEL_EXECUTION)
    full = shares(lanes.tables, {lanes.lane(each): size for each in cnic.CLASSES})
    rows = []
    for each in cnic.CLASSES:
        lane = lanes.lane(each)
        pair = shares(lanes.tables, {model: size, lane: size})[lane]
        bound = starvation_bound(lanes.tables, lane, size, size)
        wait = "no bound" if bound is None else f"{bound:,}"
        beside = "" if lane == model else _percent(pair)
        rows.append([each, cnic.service_levels[each], lane, _percent(full[lane]), beside, wait])
    head = ["class", "service level", "lane", "share, all full", "beside model_execution", "longest wait in bytes"]
    return table(head, rows)


def _table_rows(entries: Sequence[VlWeight], packet_bytes: int) -> list[str]:
    rows = [
        [at, entry.vl, entry.weight, entry.weight * UNIT_BYTES, -(-entry.weight // units_of(packet_bytes))]
        for at, entry in enumerate(entries)
    ]
    return table(["entry", "lane", "weight", "bytes a turn", f"packets of {packet_bytes} a turn"], rows)


def _limit_words(tables: VlTables) -> str:
    if tables.high_limit == NO_LIMIT:
        return f"as long as it has packets (high limit {NO_LIMIT}: none)."
    if tables.high_limit == 0:
        return "one packet, then the low one may send one (high limit 0)."
    nbytes = tables.high_limit * 4096
    return f"{tables.high_limit} x 4 KiB = {nbytes:,} bytes, then the low one may send one packet (high limit)."


def _entries(entries: Sequence[VlWeight]) -> str:
    return ",".join(f"{entry.vl}:{entry.weight}" for entry in entries)


def _percent(share: Fraction) -> str:
    return f"{float(share) * 100:.3f} %"
