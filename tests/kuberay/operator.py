"""What the KubeRay operator v1.7 makes of a group: the command, environment and volumes of its Ray container.

Told from its documentation and from reading how it builds pods; only what our manifests use is here.
"""

import json
import shlex
from dataclasses import dataclass
from typing import Any

import yaml

from dualpath_ray.ops.kuberay.quantity import parse_quantity
from tests.kuberay.manifests import Object, container

GCS_PORT, DASHBOARD_PORT = 6379, 8265
NAMESPACE = "default"
_TAKE_A_VALUE = (
    "log-color",
    "include-dashboard",
    "include-log-monitor",
)  # the others that are true or false are switches


@dataclass(frozen=True, slots=True)
class RayPod:
    """The Ray container of one pod: a shell command, its environment, who runs it, and what it mounts."""

    name: str
    group: str
    command: str
    environment: dict[str, str]
    user: Object  # securityContext of the pod
    mounts: list[tuple[Object, str, bool]]  # volume, path, read-only
    memory_bytes: float


def head_service(cluster: str) -> str:
    return f"{cluster}-head-svc.{NAMESPACE}.svc.cluster.local"


def ray_pod(spec: Object, name: str, group: Object, cluster: str, token: str) -> RayPod:
    """One pod of a group of a cluster's specification; the group is called ``head`` or as the workers' is."""
    is_head = name == "head"
    command = _ray_start(spec, group, is_head, cluster)
    ray_container = container(group)
    volumes = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}
    return RayPod(
        name=f"{cluster}-{name}",
        group=name,
        command=f"ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-65536}}; {command}",
        environment=_environment(spec, ray_container, command, is_head, name, cluster, token),
        user=group["template"]["spec"]["securityContext"],
        mounts=[
            (volumes[mount["name"]], mount["mountPath"], mount.get("readOnly", False))
            for mount in ray_container["volumeMounts"]
        ],
        memory_bytes=parse_quantity(ray_container["resources"]["limits"]["memory"], name),
    )


def _ray_start(spec: Object, group: Object, is_head: bool, cluster: str) -> str:
    flags = dict(group["rayStartParams"])
    for resource, quantity in group.get("resources", {}).items():
        assert resource == "CPU", "the operator knows more; our manifests do not"
        flags["num-cpus"] = str(int(parse_quantity(quantity, resource)))
    if group.get("labels"):
        flags["labels"] = ",".join(f"{key}={value}" for key, value in sorted(group["labels"].items()))
    if is_head:
        flags.setdefault("dashboard-host", "0.0.0.0")
        if spec.get("enableInTreeAutoscaling"):
            flags["no-monitor"] = "true"
    else:
        flags.setdefault("address", f"{head_service(cluster)}:{GCS_PORT}")
    flags.setdefault("metrics-export-port", "8080")
    flags.setdefault("dashboard-agent-listen-port", "52365")
    flags["block"] = "true"
    limits = container(group)["resources"]["limits"]
    flags.setdefault("num-cpus", str(int(parse_quantity(limits["cpu"], "cpu"))))
    flags.setdefault("memory", str(int(parse_quantity(limits["memory"], "memory"))))
    gpus = next((value for key, value in sorted(limits.items()) if key.endswith("gpu")), None)
    if gpus is not None:
        flags.setdefault("num-gpus", str(gpus))
    words = []
    for flag, value in sorted(flags.items()):
        if value.lower() in ("true", "false") and flag not in _TAKE_A_VALUE:
            words += [f"--{flag}"] if value.lower() == "true" else []
        else:
            words.append(f"--{flag}={value}")
    return " ".join(["ray", "start", *(["--head"] if is_head else []), *words])


def _token(token: str) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}


def _environment(
    spec: Object, ray_container: Object, command: str, is_head: bool, name: str, cluster: str, token: str
) -> dict[str, str]:
    fqdn = head_service(cluster)
    out = {
        each["name"]: each["value"] for each in ray_container["env"] if "value" in each
    }  # optional Secrets are absent
    if spec["authOptions"]["mode"] == "token":
        out |= _token(token)
    if is_head and spec["autoscalerOptions"]["version"] == "v2":
        out["RAY_enable_autoscaler_v2"] = "true"
    if not is_head:
        out |= {"FQ_RAY_IP": fqdn, "RAY_IP": fqdn.partition(".")[0]}
    return out | {
        "RAY_CLUSTER_NAME": cluster,
        "RAY_CLUSTER_NAMESPACE": NAMESPACE,
        "RAY_CLOUD_INSTANCE_ID": f"{cluster}-{name}",
        "RAY_NODE_TYPE_NAME": "headgroup" if is_head else name,
        "KUBERAY_GEN_RAY_START_CMD": command,
        "RAY_PORT": str(GCS_PORT),
        "RAY_ADDRESS": f"{'127.0.0.1' if is_head else fqdn}:{GCS_PORT}",
        "RAY_USAGE_STATS_KUBERAY_IN_USE": "1",
        "RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE": "1",
    }


def submitter(job: Object, cluster: str, submission_id: str, token: str) -> tuple[str, dict[str, str]]:
    """Command and environment of the pod that submits a RayJob in K8sJobMode."""
    assert job["submissionMode"] == "K8sJobMode"
    address = f"http://{head_service(cluster)}:{DASHBOARD_PORT}"
    runtime_env: Any = json.dumps(yaml.safe_load(job["runtimeEnvYAML"]))
    submit = ["ray", "job", "submit", "--address", address, "--no-wait", "--runtime-env-json", runtime_env]
    command = (
        f"if ! ray job status --address {address} {submission_id} >/dev/null 2>&1 ; "
        f"then {shlex.join([*submit, '--submission-id', submission_id, '--'])} {job['entrypoint'].strip()} ; "
        f"fi ; ray job logs --address {address} --follow {submission_id}"
    )
    environment = {"PYTHONUNBUFFERED": "1", "RAY_DASHBOARD_ADDRESS": address, "RAY_JOB_SUBMISSION_ID": submission_id}
    return command, environment | _token(token)
