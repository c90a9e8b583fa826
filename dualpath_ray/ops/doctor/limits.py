"""Limits and secrets of this process: memory that may be locked, ports, tokens."""

import os
import resource
import socket
from collections.abc import Mapping
from pathlib import Path

from dualpath_ray.base.units import format_bytes
from dualpath_ray.ops.doctor.check import Check, Level

_PORTS = {6379: "Ray's head", 8265: "Ray's dashboard", 10001: "Ray's client server"}


def locked_memory_check(needed_bytes: int | None, by_rdma: bool) -> Check:
    """Args: needed_bytes: largest buffer of a node, where known; by_rdma: whether it is registered with an RDMA device."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return judge_locked_memory(None if soft == resource.RLIM_INFINITY else soft, needed_bytes, by_rdma)


def judge_locked_memory(limit_bytes: int | None, needed_bytes: int | None, by_rdma: bool) -> Check:
    """Pure. Args: limit_bytes: None: unlimited."""
    name = "locked memory"
    if limit_bytes is None:
        return Check(name, "unlimited")
    says = f"at most {format_bytes(limit_bytes)}"
    if not by_rdma:
        return Check(name, f"{says}; only RDMA needs more")
    if needed_bytes is not None and needed_bytes <= limit_bytes:
        return Check(name, f"{says}: enough for a node's buffers ({format_bytes(needed_bytes)})")
    what = f" of {format_bytes(needed_bytes)}" if needed_bytes is not None else ""
    remedy = "ulimit -l unlimited; in a container LimitMEMLOCK=infinity of its runtime"
    return Check(name, f"{says}: buffers{what} cannot be registered for RDMA", Level.ERROR, remedy)


def port_check(starts_ray: bool) -> Check:
    """Whether the ports are free that a Ray started here would take."""
    taken = [f"{port} ({what})" for port, what in _PORTS.items() if _answers(port)]
    if not taken:
        return Check("ports", "those that Ray takes by default are free")
    says = f"in use: {', '.join(taken)}"
    if starts_ray:
        return Check("ports", f"{says}; `dualpath up` takes other ones")
    return Check("ports", says)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def token_check(names_cluster: bool, environment: Mapping[str, str] | None = None, home: Path | None = None) -> Check:
    """Whether there is a token to show to a cluster. Its value is told to nobody."""
    env = os.environ if environment is None else environment
    file = (home or Path.home()) / ".ray" / "auth_token"
    if env.get("RAY_AUTH_MODE", "token") == "disabled":
        remedy = "unset RAY_AUTH_MODE, or set it to token"
        return Check(
            "token", "RAY_AUTH_MODE is disabled: whoever reaches Ray's ports may run code", Level.WARNING, remedy
        )
    for where, found in (
        ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN" in env),
        ("the file of RAY_AUTH_TOKEN_PATH", Path(env.get("RAY_AUTH_TOKEN_PATH", "/nowhere")).is_file()),
        ("~/.ray/auth_token", file.is_file()),
    ):
        if found:
            mode = (
                "" if "RAY_AUTH_MODE" in env or not names_cluster else "; set RAY_AUTH_MODE=token to use it elsewhere"
            )
            return Check("token", f"in {where}{mode}")
    if not names_cluster:
        return Check("token", "none yet: Ray makes one when it is started here")
    remedy = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the cluster's"
    return Check("token", "none is here, and a cluster usually wants one", Level.WARNING, remedy)


def rdma_check(devices: list[str], needed: bool) -> Check:
    """Args: devices: that are up; needed: the configuration names one."""
    if devices:
        return Check("RDMA", f"devices: {', '.join(devices)}")
    if needed:
        return Check(
            "RDMA", "no device is up, but the configuration names one", Level.ERROR, "use transport: auto or sockets"
        )
    return Check("RDMA", "no device: copies between hosts go over TCP")
