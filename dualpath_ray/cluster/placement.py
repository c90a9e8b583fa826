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
from ray.util.placement_group import (
    PlacementGroup,
    PlacementGroupID,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster.leftovers import temporary_dir
from dualpath_ray.engine.device import num_cuda_devices

ROLE_LABEL = "dualpath-role"  # prefill, decode or storage; where no Ray node has it, any will do
_REACH_S = 5.0
_HEAD = "node:__internal_head__"  # a resource that Ray gives the head node
OBJECT_STORE_BYTES = 96 * 2**20  # KV never goes there: control messages only


class RaySession:
    """A connection to Ray: an own private one, or somebody's cluster. ``close`` undoes what ``open`` did."""

    def __init__(self) -> None:
        self._temp_dir: Path | None = None
        self._opened = False
        self.dashboard = ""  # where Ray's is: host and port, if the cluster has one

    def open(self, address: str | None, num_cpus: float, uses_gpus: bool = False) -> None:
        """Join a cluster, or start a private local one on free ports. A Ray that this process is in already is used.

        Raises: ConfigError when there is no cluster at the address, or Ray cannot start here.
        """
        if ray.is_initialized():
            return
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if address is not None:
            here = _this_machines() if address == "auto" else address
            _check_reachable(here)
            # Of its own accord Ray takes the user's token only for a cluster that it finds by itself.
            at = "auto" if here == machines_ray() else here
            remedy = "name a running one, and where it wants a token set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
            with _own_sigterm(), _saying(f"--address: no Ray cluster answers at {here}", remedy):
                self.dashboard = ray.init(address=at, **common).dashboard_url or ""
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


def _this_machines() -> str:
    """What ``auto`` means: RAY_ADDRESS, else the Ray that was started here last. Ray itself would also take any process for
    one that looks like a Ray, be it in another network or long dead, and try it for minutes.

    Raises: ConfigError when there is none.
    """
    if named := os.environ.get("RAY_ADDRESS"):
        return named
    found = machines_ray()
    if not found:
        raise ConfigError("--address: no Ray cluster runs on this machine; name one, or start one with `dualpath up`")
    return found


def machines_ray() -> str | None:
    """The address of the Ray that was started on this machine last, if it was not stopped."""
    from ray._private.utils import read_ray_address  # no public call tells this

    found: str | None = read_ray_address()
    return found


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes. Raises: ConfigError when nobody listens at host:port."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto" and the like: Ray finds out at once
    try:
        socket.create_connection((host, int(port)), _REACH_S).close()
    except OSError as error:
        raise ConfigError(f"--address: no Ray cluster answers at {address} ({error.strerror or error})") from error
    if not address.startswith("ray://") and "RAY_USE_TLS" not in os.environ and not _speaks_grpc(f"{host}:{port}"):
        raise ConfigError(f"--address: what answers at {address} is no Ray cluster; name a running one")


def answers(address: str) -> bool:
    """Whether anybody listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _REACH_S).close()
    except (OSError, ValueError):
        return False
    return True


def _speaks_grpc(address: str) -> bool:
    """As Ray's head does: whatever else listens there, Ray would talk to it for minutes."""
    import grpc  # comes with ray[default]

    channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
    try:
        grpc.channel_ready_future(channel).result(timeout=_REACH_S)
    except grpc.FutureTimeoutError:
        return False
    finally:
        channel.close()
    return True


class Placement:
    """Reserves a Ray node's resources for each logical node of a system."""

    def __init__(self, system: str, detached: bool = False, needs_labels: bool = False) -> None:
        """Args: detached: what is placed outlives this process. needs_labels: a role goes to nodes with its label alone, even
        where no node has it yet: an autoscaler then adds one.
        """
        self._system, self._detached, self._needs_labels = system, detached, needs_labels
        self._groups: dict[str, tuple[PlacementGroup, str]] = {}  # by logical node; with what to say if it has no place

    @property
    def lifetime(self) -> dict[str, Any]:
        """As an option of what is placed."""
        return {"lifetime": "detached"} if self._detached else {}

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

    def ask(self, node: str, role: str, num_engines: int, cpus: float, gpus: float) -> None:
        """Ask for a place for one logical node: all its actors on one Ray node with this role's label, where nodes have labels.

        Args: cpus, gpus: of an engine; a share of a GPU is of one device.
        """
        labelled = self._by_label(role)
        group = placement_group(
            [{"CPU": cpus, **({"GPU": gpus} if gpus else {})}] * num_engines,
            strategy="STRICT_PACK",
            name=_group_name(self._system, node),
            bundle_label_selector=[{ROLE_LABEL: role}] * num_engines if labelled else None,
            **self.lifetime,
        )
        where = f" with label {ROLE_LABEL}={role}" if labelled else ""
        and_gpus = f" and {gpus:g} GPUs" if gpus else ""
        key = "engine.cpus and engine.gpus" if gpus else "engine.cpus"
        each = f" for each of {num_engines} engines" if num_engines > 1 else ""
        missing = f"{key}: no Ray node{where} has {cpus:g} free CPUs{and_gpus}{each} of a {role} node"
        self._groups[node] = group, missing

    def wait(self, node: str, timeout_s: float) -> PlacementGroupSchedulingStrategy:
        """The place that was asked for. Raises: ConfigError when no Ray node has room in time."""
        group, missing = self._groups[node]
        if not group.wait(timeout_s):
            raise ConfigError(missing)
        return PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=False)

    def options_for(self, role: str) -> dict[str, Any]:
        """Actor options that need no CPUs: lifetime, and the label where nodes have it; else, of what outlives its starter,
        the node that is the last to go away.
        """
        if self._by_label(role):
            return {**self.lifetime, "label_selector": {ROLE_LABEL: role}}
        return {**self.lifetime, **(on_head() if self._detached else {})}

    def _by_label(self, role: str) -> bool:
        return self._needs_labels or any(
            node["Alive"] and node["Labels"].get(ROLE_LABEL) == role for node in ray.nodes()
        )

    def release(self, node: str) -> None:
        """Give a logical node's place back, whoever has reserved it."""
        known = self._groups.pop(node, None)
        if known is not None:
            remove_placement_group(known[0])
        else:
            remove_places(self._system, node)

    def release_all(self) -> None:
        """What this process has reserved."""
        for node in list(self._groups):
            self.release(node)


def on_head() -> dict[str, Any]:
    """Actor options for what should outlive every other Ray node."""
    heads = [node["NodeID"] for node in ray.nodes() if node["Alive"] and _HEAD in node["Resources"]]
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(heads[0], soft=True)} if heads else {}


def _group_name(system: str, node: str) -> str:
    return f"{system}/{node}"


def remove_places(system: str, node: str | None = None) -> None:
    """Remove what is reserved for a logical node, or for all of a system's."""
    for group_id, group in placement_group_table().items():
        of_system, _, of_node = group["name"].rpartition("/")
        if of_system == system and node in (None, of_node) and group["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group_id))))
