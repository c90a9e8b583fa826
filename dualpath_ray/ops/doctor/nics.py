"""The map of GPUs and NICs, and which NIC would get which role. Pure: a host's devices in, checks out."""

from collections.abc import Sequence

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.nic_choice import (
    AUTO,
    CNIC_KEY,
    SNIC_KEY,
    NicChoice,
    both_roles,
    choose_cnics,
    named_device,
    nearest_nics,
    uses_rdma,
)
from dualpath_ray.base.nic_devices import HostDevices
from dualpath_ray.base.pci import Distance
from dualpath_ray.ops.doctor.check import Check, Level


def gpu_checks(host: HostDevices) -> list[Check]:
    """Each GPU with its nearest NIC and the way between them."""
    candidates = [nic for nic in host.nics if nic.place is not None]
    if not host.gpus:
        return [Check("GPU", "none of NVIDIA's on PCIe")]
    if not candidates:
        return [Check(f"GPU {gpu.address}", "no NIC on PCIe") for gpu in host.gpus]
    rdma = [nic for nic in candidates if nic.rdma] or candidates
    checks = []
    for gpu, (nic, far) in zip(host.gpus, nearest_nics(host.gpus, rdma), strict=True):
        says = f"nearest NIC {nic.name}, {far.words}{'' if nic.rdma else ', no RDMA'}"
        slow = nic.rdma is not None and far is Distance.ACROSS_SOCKETS
        remedy = "KV crosses the link between sockets; move the NIC or the GPU to another slot" if slow else ""
        checks.append(Check(f"GPU {gpu.address}", says, Level.WARNING if slow else Level.OK, remedy))
    return checks


def nic_checks(host: HostDevices, roles: dict[str, list[str]]) -> list[Check]:
    """Args: roles: device -> what it would be, and why."""
    checks = []
    for nic in host.nics:
        if nic.is_loopback and nic.name not in roles:
            continue
        facts = [
            nic.driver or "no driver known",
            f"link {nic.rate_bps / 1e9:g} Gbps" if nic.rate_bps else "link rate not known",
            nic.address or "no IPv4 address",
            f"RDMA {nic.rdma}" if nic.rdma else "no RDMA",
        ]
        if not nic.up:
            facts.insert(0, "interface down" if nic.rdma_up else "down")
        role = "; ".join(roles.get(nic.name, ["no role"]))
        checks.append(Check(f"NIC {nic.name}", f"{', '.join(facts)}: {role}"))
    return checks


def role_checks(
    host: HostDevices,
    address: str,
    snic: str,
    cnics: Sequence[str],
    num_engines: int,
    on_gpus: bool,
    transport: str,
) -> tuple[list[Check], dict[str, list[str]]]:
    """Which device would be storage NIC and which compute NICs of a node on this host.

    Args:    address: of this host in a Ray cluster; the others are the configuration's (``NodeConfig`` and ``transport``).
    Returns: what there is to say of the names, and device -> its roles.
    """
    found: list[Check] = []
    roles: dict[str, list[str]] = {}
    storage = NicChoice(None, "")
    compute: list[NicChoice] = []
    try:
        compute = choose_cnics(cnics, "this machine", host, num_engines, address, on_gpus, transport)
        for engine, choice in enumerate(compute):
            which = "compute NIC" if num_engines == 1 else f"compute NIC {engine}"
            roles.setdefault(choice.name or "", []).append(f"{which} ({choice.why})")
    except ConfigError as error:
        found.append(_wrong_name(CNIC_KEY, error))
    try:
        if snic == AUTO:
            says = "auto: found when a system starts, by the route to its storage nodes; none where the store is files"
            found.append(Check("storage NIC", says))
        else:
            storage = NicChoice(named_device(snic, SNIC_KEY, "this machine", host), f"named in {SNIC_KEY}")
            roles.setdefault(storage.name or "", []).append(f"storage NIC ({storage.why})")
    except ConfigError as error:
        found.append(_wrong_name(SNIC_KEY, error))
    if shared := both_roles(storage, [choice.device for choice in compute]):
        found.append(Check("roles", shared, Level.WARNING, "name another device for one of them, if there is one"))
    used = [(storage.device, False), *((choice.device, uses_rdma(transport)) for choice in compute)]
    for name in dict.fromkeys(nic.name for nic, rdma in used if nic and not (nic.up or (rdma and nic.rdma_up))):
        remedy = f"bring it up: ip link set {name} up"
        found.append(Check(f"NIC {name}", "it has a role, and is down", Level.ERROR, remedy))
    roles.pop("", None)
    return found, roles


def _wrong_name(key: str, error: ConfigError) -> Check:
    return Check(key, str(error).removeprefix(f"{key}: "), Level.ERROR, "name one of those")
