"""Reads this host back: its devices in sysfs, and what the tools say that are installed. The rest is pure, in verify.py."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualpath_ray.base.nic_choice import AUTO
from dualpath_ray.base.nic_devices import SYS, HostDevices, NicDevice
from dualpath_ray.base.pci import read_text
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.ops.fabric import read_back, verify
from dualpath_ray.ops.fabric.devices import named_cnics
from dualpath_ray.ops.fabric.finding import Finding, Verdict

_TOOL_S = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a tool: what it printed, or why it did not."""

    text: str = ""
    missing: str = ""


Ask = Callable[[Sequence[str]], Answer]


def ask(command: Sequence[str]) -> Answer:
    """Run a tool that only reads."""
    if shutil.which(command[0]) is None:
        return Answer(missing=f"{command[0]} is not installed")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Answer(missing=f"{command[0]} failed: {error}")
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        return Answer(missing=f"{command[0]} failed: {said[-1] if said else f'exit code {done.returncode}'}")
    return Answer(done.stdout)


def examine(
    config: ClusterConfig, host: HostDevices, environment: Mapping[str, str], ask: Ask = ask, sys: Path = SYS
) -> list[Finding]:
    """Every item of this host that the configuration speaks of, and the environment of this process."""
    findings: list[Finding] = []
    for nic in _compute_nics(config, host, sys, findings):
        port = sys / f"class/infiniband/{nic.rdma}/ports/{nic.rdma_port}"
        fit = verify.port_finding(
            config.fabric, nic.ucx_name, read_text(port / "link_layer"), read_text(port / "state")
        )
        findings.append(fit)
        if fit.verdict is Verdict.SAME:
            findings += (
                _lanes(config, nic, port, ask)
                if config.fabric.network == "infiniband"
                else _queues(config, nic, ask, sys)
            )
    cnics = named_cnics(config.node.cnic, host)
    return findings + verify.environment_findings(config.fabric, cnics, environment)


def _compute_nics(config: ClusterConfig, host: HostDevices, sys: Path, findings: list[Finding]) -> Iterator[NicDevice]:
    """Those that are named; with ``auto`` all of the configured kind. What is not there is added to the findings."""
    names = list(dict.fromkeys(name for name in config.node.cnic if name != AUTO))
    there = [nic for nic in host.nics if nic.rdma]
    known = ", ".join(nic.ucx_name for nic in there) or "none"
    for name in names:
        nic = host.named(name)
        if nic is None or nic.rdma is None:
            says = f"node.cnic names it, but this host has no such RDMA device; it has {known}"
            findings.append(Finding(name, says, Verdict.DIFFERS, "name one of those, or look with `dualpath doctor`"))
        else:
            yield nic
    if names:
        return
    layer = "InfiniBand" if config.fabric.network == "infiniband" else "Ethernet"
    fitting = [
        nic
        for nic in there
        if read_text(sys / f"class/infiniband/{nic.rdma}/ports/{nic.rdma_port}/link_layer") == layer
    ]
    if not fitting:
        says = f"node.cnic is auto, and this process may open no RDMA device with {layer} here; it has {known}"
        findings.append(Finding("compute NICs", says, Verdict.NOTE))
    yield from fitting


def _lanes(config: ClusterConfig, nic: NicDevice, port: Path, ask: Ask) -> Iterator[Finding]:
    """Lanes of an InfiniBand port, by smpquery."""
    cnic, name = config.fabric.cnic, nic.ucx_name
    lid = read_text(port / "lid") or "0"
    asked = ["smpquery", "-C", str(nic.rdma), "-P", str(nic.rdma_port)]
    for what, item in (("sl2vl", "SL2VL"), ("vlarb", "VLArb"), ("portinfo", "VLHighLimit")):
        answer = ask([*asked, what, lid, str(nic.rdma_port)])
        if answer.missing:
            yield Finding(f"{name} {item}", answer.missing, Verdict.NOTE, "compare it as root with infiniband-diags")
        elif what == "sl2vl" and (lanes := read_back.parse_sl2vl(answer.text)):
            yield verify.map_finding(cnic, name, lanes)
        elif what == "vlarb" and (tables := read_back.parse_vlarb(answer.text)):
            yield from verify.table_findings(cnic, name, tables)
        elif what == "portinfo" and (limit := read_back.parse_high_limit(answer.text)) is not None:
            yield verify.limit_finding(cnic, name, limit)
        else:
            yield Finding(f"{name} {item}", "smpquery says it in a way that is not known here", Verdict.NOTE)


def _queues(config: ClusterConfig, nic: NicDevice, ask: Ask, sys: Path) -> Iterator[Finding]:
    """Queues of an Ethernet NIC, by mlnx_qos or else dcb; and what would undo them."""
    roce, name = config.fabric.roce, nic.ucx_name
    queues = _nic_queues(nic.name, ask)
    if isinstance(queues, str):
        yield Finding(f"{name} queues", queues, Verdict.NOTE, "compare them where one of the two tools works")
    else:
        yield from verify.queue_findings(roce, name, queues, f"{nic.name} {nic.rdma}")
    answer = ask(["ethtool", "-a", nic.name])
    paused = read_back.parse_pause(answer.text)
    if paused is None:
        yield Finding(f"{name} pause", answer.missing or "ethtool does not say", Verdict.NOTE)
    else:
        yield verify.pause_finding(name, nic.name, paused)
    forced = read_text(sys / f"class/infiniband/{nic.rdma}/tc/{nic.rdma_port}/traffic_class")
    if forced is not None:  # NVIDIA's driver package alone has the file
        yield verify.global_class_finding(name, read_back.parse_global_class(forced))


def _nic_queues(interface: str, ask: Ask) -> read_back.NicQueues | str:
    """Or why neither tool told them."""
    answer = ask(["mlnx_qos", "-i", interface])
    if not answer.missing:
        return read_back.parse_mlnx_qos(answer.text)
    shown = [ask(["dcb", "-N", what, "show", "dev", interface]) for what in ("ets", "pfc", "app")]
    missing = next((each.missing for each in shown if each.missing), "")
    if missing:
        return f"{answer.missing}, and {missing}"
    return read_back.parse_dcb(*(each.text for each in shown))
