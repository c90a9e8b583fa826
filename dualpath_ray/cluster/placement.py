"""Where actors run. A logical node's actors share one Ray node (they share memory); labels choose which."""

import os
import secrets
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster.leftovers import temporary_dir
from dualpath_ray.engine.device import num_cuda_devices

ROLE_LABEL = "dualpath-role"  # prefill, decode or storage; where no Ray node has it, any will do
OBJECT_STORE_BYTES = 96 * 2**20  # KV never goes there: control messages only


class RaySession:
    """A connection to Ray: an own private one, or somebody's cluster. ``close`` undoes what ``open`` did."""

    def __init__(self) -> None:
        self._temp_dir: Path | None = None
        self._opened = False

    def open(self, address: str | None, num_cpus: float, uses_gpus: bool = False) -> None:
        """Join a cluster, or start a private local one on free ports. A Ray that this process is in already is used.

        Raises: ConfigError when there is no cluster at the address, or Ray cannot start here.
        """
        if ray.is_initialized():
            return
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if address is not None:
            _check_reachable(address)
            with _own_sigterm(), _saying(f"--address: no Ray cluster answers at {address}", "name a running one"):
                ray.init(address=address, **common)
            self._opened = True
            return
        # A token of its own: two private clusters, or a stranger on this host, never talk to one another. Ray switches
        # the mode on by itself; were the mode set here, after its import, its cached configuration would not see it.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.setdefault("RAY_enable_metrics_collection", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        self._temp_dir = temporary_dir("ray")
        cores = len(os.sched_getaffinity(0))
        remedy = "free memory, disk or ports here, or name a running cluster with --address"
        with _own_sigterm(), _saying(f"Ray could not be started in {self._temp_dir}", remedy):
            ray.init(
                address="local",
                num_cpus=max(cores, int(-(-num_cpus // 1))),
                num_gpus=num_cuda_devices() if uses_gpus else 0,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                _temp_dir=str(self._temp_dir),
                **common,
            )
        self._opened = True

    def close(self) -> None:
        """Leave the cluster; a private one ends with all its processes and files."""
        if self._opened:
            ray.shutdown()
            self._opened = False
        if self._temp_dir is not None:
            shutil.rmtree(self._temp_dir, ignore_errors=True)
            self._temp_dir = None


def metrics_endpoints() -> list[str]:
    """Of every Ray node: where its metrics, and those of our actors on it, are read."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics" for node in alive]


@contextmanager
def _saying(what: str, remedy: str) -> Iterator[None]:
    """Ray's own error becomes one sentence."""
    try:
        yield
    except Exception as error:  # Ray raises plain ones too
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{what} ({reason}); {remedy}") from error


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the program's handler of SIGTERM, if it has one: Ray puts its own in the place."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes. Raises: ConfigError when nobody listens at host:port."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto" and the like: Ray finds out at once
    try:
        socket.create_connection((host, int(port)), 5).close()
    except OSError as error:
        raise ConfigError(f"--address: no Ray cluster answers at {address} ({error.strerror or error})") from error


class Placement:
    """Reserves a Ray node's resources for each logical node."""

    def __init__(self) -> None:
        self._groups: list[PlacementGroup] = []
        self._labels = {
            label for node in ray.nodes() if node["Alive"] for label in [node["Labels"].get(ROLE_LABEL)] if label
        }

    def check_cpus(self, needed: float) -> None:
        """Raises: ConfigError when the cluster has fewer CPUs than all engines need."""
        have = ray.cluster_resources().get("CPU", 0)
        if needed > have + 1e-6:
            raise ConfigError(
                f"engine.cpus: the engines need {needed:g} CPUs, but this Ray cluster has {have:g}; "
                "lower engine.cpus or the number of nodes, or add Ray nodes"
            )

    def check_gpus(self, needed: float) -> None:
        """Raises: ConfigError when the cluster has fewer GPUs than all engines need."""
        have = ray.cluster_resources().get("GPU", 0)
        if needed > have + 1e-6:
            raise ConfigError(
                f"engine.gpus: the engines need {needed:g} GPUs, but this Ray cluster has {have:g}; lower engine.gpus, so that "
                "engines share one, or the number of nodes, or add Ray nodes"
            )

    def reserve(
        self, role: str, num_engines: int, cpus: float, gpus: float, timeout_s: float
    ) -> PlacementGroupSchedulingStrategy:
        """A place for one logical node: all its actors on one Ray node with this role's label, where nodes have labels.

        Args:   cpus, gpus: of an engine; a share of a GPU is of one device.
        Raises: ConfigError when no Ray node has room in time.
        """
        selector = [{ROLE_LABEL: role}] * num_engines if role in self._labels else None
        bundles = [{"CPU": cpus, **({"GPU": gpus} if gpus else {})}] * num_engines
        group = placement_group(bundles, strategy="STRICT_PACK", bundle_label_selector=selector)
        self._groups.append(group)
        if not group.wait(timeout_s):
            where = f" with label {ROLE_LABEL}={role}" if selector else ""
            and_gpus = f" and {gpus:g} GPUs" if gpus else ""
            key = "engine.cpus and engine.gpus" if gpus else "engine.cpus"
            each = f" for each of {num_engines} engines" if num_engines > 1 else ""
            raise ConfigError(f"{key}: no Ray node{where} has {cpus:g} free CPUs{and_gpus}{each} of a {role} node")
        return PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=False)

    def options_for(self, role: str) -> dict[str, Any]:
        """Actor options that need no CPUs: only the label, where nodes have it."""
        return {"label_selector": {ROLE_LABEL: role}} if role in self._labels else {}

    def release(self) -> None:
        for group in self._groups:
            remove_placement_group(group)
        self._groups.clear()
