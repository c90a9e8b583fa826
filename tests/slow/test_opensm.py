"""The files for InfiniBand as opensm takes them: on a subnet that ibsim simulates, with a switch and two NICs.

Needs opensm, ibsim and infiniband-diags (Debian: opensm, ibsim-utils, infiniband-diags), no hardware and no root. The
simulator keeps every table, but not VLHighLimit.
"""

import glob
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dualpath_ray.base.nic_devices import HostDevices, read_devices
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.load import parse_cluster
from dualpath_ray.ops.fabric.files import fabric_files, write_files
from dualpath_ray.ops.fabric.finding import differs
from dualpath_ray.ops.fabric.host import Answer, examine
from dualpath_ray.ops.fabric.read_back import parse_sl2vl, parse_vlarb
from dualpath_ray.ops.fabric.verify import map_finding, table_findings
from tests.unit.base.machines import FakeSys

SUBNET = """\
Switch\t4 "Switch1"
[1]\t"Hca1"[1]
[2]\t"Hca2"[1]

Hca\t1 "Hca1"
[1]\t"Switch1"[1]

Hca\t1 "Hca2"
[1]\t"Switch1"[2]
"""
NIC, SWITCH_PORT = ("0", "1"), ("0,1", "2")  # by the way from the first NIC
TOOLS = ("opensm", "ibsim", "smpquery", "saquery")

_SWEEP_S = 20
_SIMULATED = next(iter(glob.glob("/usr/lib/*/umad2sim/libumad2sim.so")), os.environ.get("UMAD2SIM"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, TOOLS)) or not _SIMULATED, reason=f"needs {', '.join(TOOLS)} and libumad2sim"
    ),
]


def configured(**fabric) -> ClusterConfig:
    system = {"prefill_nodes": 1, "decode_nodes": 1, "model": "toy-llama"}
    return parse_cluster(system | {"fabric": fabric}, "c.yaml")


@dataclass
class Subnet:
    folder: Path  # where the simulator leaves its sysfs
    environment: dict[str, str]

    def say(self, *command: str) -> str:
        return subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, env=self.environment, timeout=20, check=False
        ).stdout


@pytest.fixture
def subnet(request, tmp_path) -> Iterator[tuple[ClusterConfig, Subnet]]:
    """Swept by an opensm that has the files of the configuration that is this fixture's parameter."""
    config = configured(**request.param)
    write_files(tmp_path / "files", fabric_files(config, HostDevices()))
    (tmp_path / "net").write_text(SUBNET)
    policy, conf = tmp_path / "files/qos-policy.conf", tmp_path / "opensm.conf"
    text = (tmp_path / "files/opensm.qos.conf").read_text()
    conf.write_text(re.sub(r"(?m)^qos_policy_file .*", f"qos_policy_file {policy}", text))
    names = {"IBSIM_SOCKNAME": f"dualpath{os.getpid()}", "SIM_HOST": "Hca1"}
    folders = {"OSM_TMP_DIR": str(tmp_path), "OSM_CACHE_DIR": str(tmp_path)}
    plain = os.environ | names | folders
    preloaded = plain | {"LD_PRELOAD": str(_SIMULATED)}
    found = Subnet(tmp_path, preloaded)
    ibsim = subprocess.Popen(
        ["ibsim", "-s", str(tmp_path / "net")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=tmp_path,
        env=plain,
    )
    opensm = None
    try:
        time.sleep(1)
        opensm = subprocess.Popen(
            ["opensm", "-F", str(conf), "-P", str(tmp_path / "files/partitions.conf"), "-f", str(tmp_path / "log")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
            env=preloaded,
        )
        yield config, found
    finally:
        for process in (opensm, ibsim):
            if process is not None:
                process.kill()
                process.wait()


OTHER = {
    "cnic": {
        "qos_max_vls": 8,
        "qos_vlarb_high": "0:200,3:10,0:55",
        "qos_vlarb_low": "5:64,6:1",
        "qos_sl2vl": "0,5,6,3,0,0,0,0,0,0,0,0,0,0,0,15",
    }
}


def comes_true(condition: Callable[[], bool]) -> bool:
    """While opensm sweeps."""
    end = time.monotonic() + _SWEEP_S
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(0.2)
    return true


@pytest.mark.parametrize("subnet", [{}, OTHER], indirect=True, ids=["paper", "other"])
@pytest.mark.parametrize("way", [NIC, SWITCH_PORT], ids=["nic", "switch"])
def test_opensm_sets_the_configured_lanes(subnet, way):
    config, running = subnet
    cnic = config.fabric.cnic

    def as_configured() -> bool:
        lanes = parse_sl2vl(running.say("smpquery", "-D", "sl2vl", *way))
        tables = parse_vlarb(running.say("smpquery", "-D", "vlarb", *way))
        return bool(lanes and tables) and not differs(
            [map_finding(cnic, "n", lanes), *table_findings(cnic, "n", tables)]
        )

    assert comes_true(as_configured)


@pytest.mark.parametrize("subnet", [{}], indirect=True, ids=["paper"])
def test_verify_reads_the_host_back_with_the_tools_themselves(subnet):
    config, running = subnet
    fake = FakeSys(running.folder / "fake")
    fake.nic("ib0", "pci0000:00/0000:00:01.0/0000:01:00.0", rdma="ibsim0")
    port = fake.root / "class/infiniband/ibsim0/ports/1"
    (port / "link_layer").write_text("InfiniBand")
    (port / "lid").write_text("0x1")
    host = read_devices(fake.root, {}, fake.root / "dev")

    def verdicts() -> dict[str, str]:
        found = examine(config, host, {}, lambda command: Answer(running.say(*command)), fake.root)
        return {each.name.removeprefix("ibsim0:1 "): each.verdict for each in found}

    wanted = {"SL2VL": "same", "VLArb high": "same", "VLArb low": "same", "VLHighLimit": "differs"}  # see above
    assert comes_true(lambda: wanted.items() <= verdicts().items())


@pytest.mark.parametrize("subnet", [{}], indirect=True, ids=["paper"])
def test_whoever_asks_opensm_for_a_path_gets_the_lane_of_kv(subnet):
    config, running = subnet
    level = config.fabric.cnic.service_levels["kv_cache"]
    wanted = re.compile(rf"^\s*sl\.+0x{level:x}$", re.MULTILINE)
    assert comes_true(lambda: wanted.search(running.say("saquery", "--src-to-dst", "1:2")) is not None)
    assert set(re.findall(r"SL\.+(0x\w+)", running.say("saquery", "-g"))) == {f"0x{level:x}"}
