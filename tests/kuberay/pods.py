"""Pods on one machine, without Kubernetes: a network, process ids, /dev/shm and a file system of their own for each.

A pod's root is this machine's, and what a pod writes goes to memory of its own and is gone with it; the checkout stands where
the image has it. Volumes are folders that outlive pods. All processes of a pod end with its first one, which ends with the
process that started it, or after ``LIFETIME_S``.
"""

import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.kuberay.manifests import Object
from tests.kuberay.operator import RayPod
from tests.ray.nodes import BIN, ROOT

NETWORK = "198.18.24"  # of a range for tests of networks
IMAGE_HOME = "/home/ray"
LIFETIME_S = 600
_UNPACKED = (ROOT, Path(sys.prefix), Path(sys.base_prefix))  # in case they are file systems of their own


def why_not() -> str | None:
    """Why no pod can be made here."""
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in ("ip", "unshare", "setpriv", "timeout")):
        return "no network namespaces here: needs root and iproute2"
    with tempfile.TemporaryDirectory(prefix="dp-k-") as temp:
        pods = Pods(Path(temp))
        try:
            pods.add("try", {"runAsUser": 1000, "runAsGroup": 100})
            done = pods.run("try", f"test -w {IMAGE_HOME} && mountpoint -q /dev/shm && python -c ''", {}, 30)
            return None if done.returncode == 0 else f"no network namespaces here: {done.stderr.strip()[-200:]}"
        except RuntimeError as error:
            return f"no network namespaces here: {error}"
        finally:
            pods.remove()


class Pods:
    """Pods of one cluster. ``remove`` ends all of their processes and leaves nothing but volumes."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._prefix = folder, f"dp{secrets.token_hex(2)}"
        self._switch = f"{self._prefix}sw"
        self._names: list[str] = []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._mounts: dict[str, list[tuple[Object, str, bool]]] = {}
        self._users: dict[str, Object] = {}
        self.hosts: dict[str, str] = {}  # name -> address, for the cluster's DNS

    def add(
        self, name: str, user: Object, mounts: Sequence[tuple[Object, str, bool]] = (), services: Sequence[str] = ()
    ) -> None:
        """A pod without processes. Args: user: a securityContext; services: names that lead to this pod."""
        if not self._names:
            self._ip("netns", "add", self._switch)
            self._ip("-n", self._switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
            self._ip("-n", self._switch, "link", "set", "br0", "up")
        self._names.append(name)
        index, space = len(self._names), self._namespace(name)
        address = f"{NETWORK}.{index}"
        self._ip("netns", "add", space)
        self._ip(
            "link", "add", "eth0", "netns", space, "type", "veth", "peer", "name", f"p{index}", "netns", self._switch
        )
        self._ip("-n", self._switch, "link", "set", f"p{index}", "master", "br0", "up")
        self._ip("-n", space, "link", "set", "lo", "up")
        self._ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
        self._ip("-n", space, "link", "set", "eth0", "up")
        self._ip("-n", space, "route", "add", "default", "via", f"{NETWORK}.254")  # so that eth0's address is the pod's
        self._mounts[name], self._users[name] = list(mounts), user
        self.hosts |= dict.fromkeys((name, *services), address)

    def start(self, pod: RayPod) -> None:
        """The pod's Ray container."""
        log = (self._folder / f"{pod.group}.log").open("wb")
        self._processes[pod.name] = subprocess.Popen(
            self._inside(pod.name, pod.command),
            env=self._image_environment(pod.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def run(
        self, name: str, command: str, environment: dict[str, str], timeout_s: float
    ) -> "subprocess.CompletedProcess[str]":
        """A command in a pod that has no other process. Raises: subprocess.TimeoutExpired, once it is gone."""
        process = subprocess.Popen(
            self._inside(name, command),
            env=self._image_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=timeout_s)
        finally:
            _end(process)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def fetch(self, name: str, script: str, timeout_s: float = 30) -> str:
        """What a Python script prints that runs in a pod's network."""
        command = ["ip", "netns", "exec", self._namespace(name), sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip()[-500:])
        return done.stdout

    def ended(self) -> list[str]:
        """Names of pods whose Ray container has ended."""
        return [name for name, process in self._processes.items() if process.poll() is not None]

    def memory_bytes(self, name: str) -> int:
        """What the pod's processes hold for themselves, and what is in its /dev/shm."""
        first = self._first_process(name)
        if first is None:
            return 0
        space, total = os.stat(f"/proc/{first}/ns/pid").st_ino, 0
        for process in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.stat(f"/proc/{process}/ns/pid").st_ino != space:
                    continue
                for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                    if line.startswith(("Pss_Anon:", "Pss_File:")):
                        total += int(line.split()[1]) << 10
            except OSError:
                continue  # it has just ended
        shm = os.statvfs(f"/proc/{first}/root/dev/shm")
        return total + (shm.f_blocks - shm.f_bfree) * shm.f_frsize

    def volume(self, name: str, volume: str) -> Path:
        """The folder behind a volume of a pod."""
        return self._folder / "volumes" / name / volume

    def remove(self) -> None:
        for process in self._processes.values():
            _end(process)
        for name in [*map(self._namespace, self._names), self._switch]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=20, check=False)
        for root in self._folder.glob("roots/*"):
            root.rmdir()

    def _first_process(self, name: str) -> int | None:
        """Of a pod, by this machine's count."""
        parents = [self._processes[name].pid]
        for _ in range(2):  # timeout, then unshare, whose child is the first one
            try:
                children = Path(f"/proc/{parents[0]}/task/{parents[0]}/children").read_text().split()
            except OSError:
                return None
            parents = [int(child) for child in children]
            if not parents:
                return None
        return parents[0]

    def _namespace(self, name: str) -> str:
        return f"{self._prefix}n{self._names.index(name) + 1}"

    def _inside(self, name: str, command: str) -> list[str]:
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        space = ["ip", "netns", "exec", self._namespace(name)]
        setup = ["sh", "-euc", self._setup(name, command)]
        return ["timeout", "--signal=KILL", str(LIFETIME_S), *space, *unshare, *setup]

    def _setup(self, name: str, command: str) -> str:
        own = self._folder / "roots" / name
        own.mkdir(parents=True, exist_ok=True)
        root, user = own / "root", self._users[name]
        lines = [
            "mount --make-rprivate /",
            f"mount -t tmpfs -o size=2g tmpfs {own}",
            f"mkdir {own}/upper {own}/work {root}",
            f"mount -t overlay overlay -o lowerdir=/,upperdir={own}/upper,workdir={own}/work {root}",
            f"mount -t proc proc {root}/proc",
            *(f"mount --rbind {path} {root}{path}" for path in ("/sys", "/dev")),
            *(f"mkdir -p {root}{path} && mount --rbind {path} {root}{path}" for path in _UNPACKED),
            *(f"chmod o+x {root}{parent}" for parent in _parents()),  # of this pod's view alone
            f"mount -t tmpfs -o size=64m,mode=1777 tmpfs {root}/dev/shm",  # of containers without a volume there
            f"mount -t tmpfs -o size=1g,mode=1777 tmpfs {root}/tmp",
            f"mkdir -p {root}{IMAGE_HOME}/dualpath && mount --bind -o ro {ROOT} {root}{IMAGE_HOME}/dualpath",
            f"chown {user['runAsUser']}:{user['runAsGroup']} {root}{IMAGE_HOME}",
            *(f"echo {address} {host} >> {root}/etc/hosts" for host, address in self.hosts.items()),
        ]
        for volume, path, read_only in self._mounts[name]:
            lines += self._mount(name, volume, f"{root}{path}", read_only)
        become = f"setpriv --reuid={user['runAsUser']} --regid={user['runAsGroup']} --clear-groups --no-new-privs"
        shell = f"/bin/bash -c {shlex.quote(f'cd {IMAGE_HOME}; {command}')}"
        return "\n".join([*lines, f"exec chroot {root} {become} --bounding-set=-all {shell}"])

    def _mount(self, name: str, volume: Object, target: str, read_only: bool) -> list[str]:
        source: dict[str, Any] = volume.get("emptyDir", {})
        shared_by = self._users[name]["fsGroup"]
        if source.get("medium") == "Memory":
            size = source["sizeLimit"].removesuffix("i")  # Ki, Mi and Gi are k, m and g to mount
            return [f"mkdir -p {target} && mount -t tmpfs -o size={size},mode=2775,gid={shared_by} tmpfs {target}"]
        folder = self.volume(name, volume["name"])
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, 0, shared_by)
        folder.chmod(0o2775)
        return [f"mkdir -p {target} && mount --bind {'-o ro ' if read_only else ''}{folder} {target}"]

    @staticmethod
    def _image_environment(own: dict[str, str]) -> dict[str, str]:
        """The image's, in which our package is installed, and a container's own."""
        image = {
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": IMAGE_HOME,
            "LANG": "C.UTF-8",
            "PYTHONPATH": f"{IMAGE_HOME}/dualpath",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        here = {
            "GRPC_DNS_RESOLVER": "native",  # reads /etc/hosts: there is no DNS server
            "RAY_raylet_start_wait_time_s": "120",  # this machine's cores are shared
            "RAY_agent_register_timeout_ms": "120000",
        }
        return image | here | own

    @staticmethod
    def _ip(*arguments: str) -> None:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=20, check=False)
        if done.returncode:
            raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _parents() -> list[Path]:
    """Folders that lead to Python and to what is installed: some are their owner's alone, such as a home."""
    return sorted({parent for path in _UNPACKED for parent in path.resolve().parents if parent != parent.parent})


def _end(process: "subprocess.Popen[Any]") -> None:
    """A pod's first process with all that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
