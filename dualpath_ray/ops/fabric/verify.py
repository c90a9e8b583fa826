"""What differs between what a host says and what is configured. Pure: readings in, findings out."""

from collections.abc import Mapping, Sequence

from dualpath_ray.base.types import TrafficClass
from dualpath_ray.base.vl_tables import VlWeight
from dualpath_ray.config.fabric import CnicLanes, FabricConfig
from dualpath_ray.config.roce import KV_CLASSES, RoceConfig
from dualpath_ray.ops.fabric.devices import Cnic
from dualpath_ray.ops.fabric.environment import device_variable, env_name
from dualpath_ray.ops.fabric.finding import Finding, Verdict
from dualpath_ray.ops.fabric.infiniband import OPENSM
from dualpath_ray.ops.fabric.read_back import NicQueues, PortTables
from dualpath_ray.ops.fabric.roce import DCB, MLNX_QOS

_FROM_OPENSM = f"load {OPENSM} into opensm and let it sweep"
_LINK_LAYERS = {"infiniband": "InfiniBand", "roce": "Ethernet"}  # as sysfs has them
_KEPT = 3  # of many differences


def port_finding(fabric: FabricConfig, name: str, link_layer: str | None, state: str | None) -> Finding:
    """Whether a compute NIC's port is of the kind that is configured, and active.

    Args: link_layer, state: of the port, as sysfs has them ("InfiniBand", "4: ACTIVE").
    """
    wanted = _LINK_LAYERS[fabric.network]
    if link_layer != wanted:
        other = next((kind for kind, layer in _LINK_LAYERS.items() if layer == link_layer), None)
        remedy = f"set fabric.kind: {other}, or name another device" if other else "name another device"
        return Finding(name, f"its link is {link_layer or 'not known'}, configured {wanted}", Verdict.DIFFERS, remedy)
    if "ACTIVE" not in (state or ""):
        remedy = "look at cable and subnet manager" if fabric.network == "infiniband" else "bring its interface up"
        return Finding(name, f"its port is {state or 'in no known state'}, not active", Verdict.DIFFERS, remedy)
    return Finding(name, f"{wanted}, port active", Verdict.SAME)


def map_finding(cnic: CnicLanes, name: str, sl_to_vl: Sequence[int]) -> Finding:
    """The map of service levels to lanes."""
    wrong = [
        f"service level {level} takes lane {found}, configured {wanted}"
        for level, (found, wanted) in enumerate(zip(sl_to_vl, cnic.tables.sl_to_vl, strict=True))
        if found != wanted
    ]
    return _compared(f"{name} SL2VL", wrong, _FROM_OPENSM)


def table_findings(cnic: CnicLanes, name: str, tables: PortTables) -> list[Finding]:
    """Both arbitration tables."""
    both = (("high", tables.high, cnic.tables.high), ("low", tables.low, cnic.tables.low))
    return [_table_finding(f"{name} VLArb {which}", found, wanted) for which, found, wanted in both]


def limit_finding(cnic: CnicLanes, name: str, high_limit: int) -> Finding:
    """How much the high table sends at once."""
    wanted = cnic.tables.high_limit
    wrong = [] if high_limit == wanted else [f"it is {high_limit}, configured {wanted}"]
    return _compared(f"{name} VLHighLimit", wrong, _FROM_OPENSM)


def queue_findings(roce: RoceConfig, name: str, found: NicQueues, names: str) -> list[Finding]:
    """Queues of an Ethernet NIC, of each item that the tool told.

    Args: names: interface and RDMA device, as the scripts take them.
    """
    remedy = f"run {MLNX_QOS} {names}, or {DCB}"
    wanted_dscps = {dscp: roce.priority_of_dscp.get(dscp, roce.other_priority) for dscp in found.priority_of_dscp}
    wanted_dscps |= roce.priority_of_dscp if found.priority_of_dscp else {}
    doubled = {dscp: " and ".join(map(str, priorities)) for dscp, priorities in found.doubled_dscps.items()}
    kinds = {queue: kind for queue, kind in found.kind_of_queue.items() if queue in roce.kind_of_queue}
    findings = []
    if found.trust is not None:
        wrong = [] if found.trust == "dscp" else [f"it goes by {found.trust}, configured dscp"]
        findings.append(_compared(f"{name} trust", wrong, remedy))
    for item, word, readings, wanted in (
        ("DSCP map", "DSCP {} has priority {}, configured {}", {**found.priority_of_dscp, **doubled}, wanted_dscps),
        (
            "queues",
            "priority {} has queue {}, configured {}",
            found.queue_of_priority,
            _numbered(roce.queue_of_priority),
        ),
        ("kinds of queues", "queue {} is {}, configured {}", kinds, roce.kind_of_queue),
        ("shares", "queue {} has {} %, configured {} %", found.percent_of_queue, roce.percent_of_priority),
        ("PFC", "priority {}: {}, configured {}", _on_off(found.pfc), _on_off(_pfc(roce))),
    ):
        if readings:
            findings.append(_compared(f"{name} {item}", _wrong(word, readings, wanted), remedy))
    return findings


def pause_finding(name: str, interface: str, paused: bool) -> Finding:
    """Pausing the whole link would pause every class."""
    wrong = ["the whole link is paused, which excludes PFC"] if paused else []
    return _compared(f"{name} pause", wrong, f"run ethtool -A {interface} rx off tx off")


def global_class_finding(name: str, forced: int | None) -> Finding:
    """A class that the device forces on everyone makes all classes one."""
    wrong = (
        [f"the device sends everything as traffic class {forced} (DSCP {forced >> 2})"] if forced is not None else []
    )
    return _compared(f"{name} traffic_class", wrong, "find what writes it to tc/1/traffic_class, and undo it")


def environment_findings(fabric: FabricConfig, cnics: Sequence[Cnic], environment: Mapping[str, str]) -> list[Finding]:
    """Variables of a process. One that is not set is a note: engines may have it."""
    findings = []
    for classes in ((TrafficClass.MODEL_EXECUTION,), KV_CLASSES):
        by_value = {fabric.mark(each).value: each for each in classes}
        variable, remedy = fabric.mark(classes[0]).variable, f"source {env_name(classes[-1])} where engines start"
        findings.append(_variable(variable, by_value, environment, remedy))
        device, names = device_variable(cnics, classes[0])
        if names and all(cnic.known for cnic in cnics):
            findings.append(_variable(device, {names: ""}, environment, remedy))
    return findings


def _variable(name: str, wanted: Mapping[str, str], environment: Mapping[str, str], remedy: str) -> Finding:
    found = environment.get(name)
    meant = " or ".join(f"{value}{f' ({of})' if of else ''}" for value, of in wanted.items())
    if found is None:
        return Finding(name, f"not set in this process, configured {meant}", Verdict.NOTE, remedy)
    if found in wanted:
        return Finding(name, f"{found}{f' ({wanted[found]})' if wanted[found] else ''}", Verdict.SAME)
    return Finding(name, f"it is {found}, configured {meant}", Verdict.DIFFERS, remedy)


def _table_finding(name: str, found: Sequence[VlWeight], wanted: Sequence[VlWeight]) -> Finding:
    if len(wanted) > len(found):
        says = f"the port has room for {len(found)} entries, configured are {len(wanted)}"
        return Finding(name, says, Verdict.DIFFERS, "write a shorter table")
    padded = [*wanted, *[None] * (len(found) - len(wanted))]
    wrong = [
        f"entry {at} is {entry.vl}:{entry.weight}, configured {f'{want.vl}:{want.weight}' if want else 'none'}"
        for at, (entry, want) in enumerate(zip(found, padded, strict=True))
        if entry != want and (want or entry.weight)  # an entry without weight is skipped
    ]
    return _compared(name, wrong, _FROM_OPENSM)


def _wrong(word: str, found: Mapping[int, object], wanted: Mapping[int, object]) -> list[str]:
    return [
        word.format(key, found.get(key, "none"), wanted.get(key, "none"))
        for key in sorted(found.keys() | wanted.keys())
        if found.get(key) != wanted.get(key)
    ]


def _compared(name: str, wrong: Sequence[str], remedy: str) -> Finding:
    if not wrong:
        return Finding(name, "as configured", Verdict.SAME)
    more = f", and {len(wrong) - _KEPT} more" if len(wrong) > _KEPT else ""
    return Finding(name, ", ".join(wrong[:_KEPT]) + more, Verdict.DIFFERS, remedy)


def _numbered(values: Sequence[int]) -> dict[int, int]:
    return dict(enumerate(values))


def _pfc(roce: RoceConfig) -> dict[int, bool]:
    return {priority: priority in roce.pfc_priorities for priority in range(8)}


def _on_off(values: Mapping[int, bool]) -> dict[int, str]:
    return {key: "PFC on" if value else "PFC off" for key, value in values.items()}
