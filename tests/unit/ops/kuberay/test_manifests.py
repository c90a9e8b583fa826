"""The manifests of cluster_configs/kuberay, rendered: valid, consistent, and what the configuration's models call for."""

import re
import shutil
from importlib import metadata

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from dualpath_ray.cluster.placement import ROLE_LABEL
from dualpath_ray.ops.kuberay.needs import OBJECT_STORE_BYTES
from tests.kuberay import schema
from tests.kuberay.manifests import (
    CLUSTERS,
    FOLDER,
    RENDERED,
    WHY_NOT,
    cluster_spec,
    container,
    groups,
    only,
    pod_labels,
    render,
)
from tests.ray.nodes import ROOT

needs_kubectl = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
needs_definitions = pytest.mark.skipif(schema.WHY_NOT is not None, reason=str(schema.WHY_NOT))
every_rendering = pytest.mark.parametrize("name", RENDERED)
KUBERNETES = ("1.32", kubernetes_validate.latest_version())  # whose schemas are used
CUSTOM = ("RayCluster", "RayJob", "PodMonitor")


@needs_kubectl
@needs_definitions
@every_rendering
def test_rays_resources_hold_to_their_definitions(name):
    ours = [each for each in render(name) if each["kind"] in schema.KINDS]
    assert [each["kind"] for each in ours] == ["RayJob" if name.startswith("rollouts") else "RayCluster"]
    assert [problem for each in ours for problem in schema.problems(each)] == []


@needs_kubectl
@needs_definitions
@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("", "enableInTreeAutoscalling"),
        ("headGroupSpec", "rayStartParam"),
        ("workerGroupSpecs.0", "label"),
        ("workerGroupSpecs.2.template.spec", "priorityClasName"),
        ("workerGroupSpecs.1.template.spec.containers.0.securityContext.capabilities", "adds"),
        ("workerGroupSpecs.1.template.spec.volumes.0.emptyDir", "size"),
    ],
)
def test_a_misspelt_field_is_found(name="rollouts/h100-ib", *, path, key):
    job = only(render(name), "RayJob")
    target = job["spec"]["rayClusterSpec"]
    for step in filter(None, path.split(".")):
        target = target[int(step) if step.isdigit() else step]
    target[key] = "x"
    (problem,) = schema.problems(job)
    assert f"'{key}' was unexpected" in problem


@needs_kubectl
@every_rendering
def test_kubernetes_own_objects_hold_to_their_schemas(name):
    objects = render(name)
    ours = [each for each in objects if each["kind"] not in CUSTOM]
    templates = [group["template"] for group in groups(cluster_spec(objects)).values()]
    templates += [each["spec"]["submitterPodTemplate"] for each in objects if each["kind"] == "RayJob"]
    ours += [{"apiVersion": "v1", "kind": "Pod", **template} for template in templates]
    for version in KUBERNETES:
        for each in ours:
            kubernetes_validate.validate(each, version, strict=True)
    ours[0]["metadata"]["nmae"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError, match="nmae"):
        kubernetes_validate.validate(ours[0], KUBERNETES[0], strict=True)


@needs_kubectl
@pytest.mark.parametrize("name", ["overlays/h100-ib", "overlays/h100-roce"])
def test_the_pod_monitor_has_the_fields_that_we_know(name):
    monitor = only(render(name), "PodMonitor")
    jsonschema.validate(monitor, schema.POD_MONITOR)
    ports = {
        port["name"] for group in groups(cluster_spec(render(name))).values() for port in container(group)["ports"]
    }
    assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} <= ports
    monitor["spec"]["podMetricEndpoints"] = []
    with pytest.raises(jsonschema.ValidationError, match="podMetricEndpoints"):
        jsonschema.validate(monitor, schema.POD_MONITOR)


@needs_kubectl
@every_rendering
def test_groups_are_what_the_system_looks_for(name):
    spec = cluster_spec(render(name))
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    found = groups(spec)
    assert list(found) == ["head", "prefill", "decode", "storage"]
    for role, group in found.items():
        assert group.get("labels", {}) == ({} if role == "head" else {ROLE_LABEL: role})
        assert group["rayStartParams"]["object-store-memory"] == str(OBJECT_STORE_BYTES)
        if role != "head":
            # The operator refuses these, which its definition cannot say.
            assert not {"labels", "num-cpus", "num-gpus", "memory", "resources"} & set(group["rayStartParams"])
            assert group["minReplicas"] == group["replicas"] <= group["maxReplicas"]
        assert "restartPolicy" not in group["template"]["spec"]
    assert found["storage"]["maxReplicas"] == found["storage"]["replicas"]


@needs_kubectl
@every_rendering
def test_everything_that_is_named_is_there(name):
    objects = render(name)
    names = {(each["kind"], each["metadata"]["name"]) for each in objects}
    assert len(names) == len(objects)
    assert not {"Settings", "Secret"} & {each["kind"] for each in objects}
    for group in groups(cluster_spec(objects)).values():
        pod, ray_container = group["template"]["spec"], container(group)
        assert ("PriorityClass", pod["priorityClassName"]) in names
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in ray_container["volumeMounts"]} == set(volumes)
        assert all(len(volume) == 2 for volume in volumes.values()), "a volume has a name and one source"
        assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
        assert ("ConfigMap", volumes["system"]["configMap"]["name"]) in names
        if "results" in volumes:
            assert ("PersistentVolumeClaim", volumes["results"]["persistentVolumeClaim"]["claimName"]) in names
        for variable in ray_container["env"]:
            assert "value" in variable or variable["valueFrom"]["secretKeyRef"]["optional"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"]


@needs_kubectl
@every_rendering
def test_selectors_meet_the_pods_they_are_meant_for(name):
    objects = render(name)
    labels = {role: pod_labels(role, group) for role, group in groups(cluster_spec(objects)).items()}

    def selected(selector):
        return {role for role, has in labels.items() if selector.items() <= has.items()}

    spreads = {
        role: group["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]
        for role, group in groups(cluster_spec(objects)).items()
        if role != "head"
    }
    assert all(selected(selector) == {role} for role, selector in spreads.items())
    for each in objects:
        short = each["metadata"]["name"].removeprefix("dualpath").lstrip("-")
        if each["kind"] == "PodDisruptionBudget":
            assert selected(each["spec"]["selector"]["matchLabels"]) == {short}
            replicas = groups(cluster_spec(objects))[short].get("replicas", 1)
            assert 1 <= each["spec"]["minAvailable"] <= replicas
            assert short != "storage" or each["spec"]["minAvailable"] == replicas
        if each["kind"] == "NetworkPolicy":
            expected = {"head"} if short == "head" else set(labels)
            assert selected(each["spec"]["podSelector"]["matchLabels"]) == expected
            opened = {port["port"] for rule in each["spec"]["ingress"] for port in rule.get("ports", [])}
            for role in expected:
                ports = {port["containerPort"] for port in container(groups(cluster_spec(objects))[role])["ports"]}
                assert opened <= ports


@needs_kubectl
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_rollout_runs_on_the_cluster_of_its_overlay(cluster):
    standing, job = render(f"overlays/{cluster}"), render(f"rollouts/{cluster}")
    assert cluster_spec(job) == cluster_spec(standing)
    spec = only(job, "RayJob")["spec"]
    assert spec["shutdownAfterJobFinishes"] and spec["submissionMode"] == "K8sJobMode"
    assert isinstance(yaml.safe_load(spec["runtimeEnvYAML"]), dict)
    (submitter,) = spec["submitterPodTemplate"]["spec"]["containers"]
    assert submitter["image"] == container(cluster_spec(job)["headGroupSpec"])["image"]
    client = spec["submitterPodTemplate"]["metadata"]["labels"]
    rules = only(job, "NetworkPolicy", "dualpath-head")["spec"]["ingress"]
    assert [{"podSelector": {"matchLabels": client}}] in [rule["from"] for rule in rules]
    python, script, config, *flags = spec["entrypoint"].split()
    assert python == "python" and (ROOT / script.removeprefix("/home/ray/dualpath/")).is_file()
    mounts = {mount["mountPath"] for mount in container(cluster_spec(job)["headGroupSpec"])["volumeMounts"]}
    out = flags[flags.index("--out") + 1]
    assert {f"/{path.split('/')[1]}" for path in (config, out)} <= mounts
    others = [[each for each in objects if each["kind"] not in CUSTOM] for objects in (standing, job)]
    assert others[0] == others[1]


@needs_kubectl
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_the_system_of_the_settings_is_mounted_unchanged(cluster):
    settings = yaml.safe_load((FOLDER / "overlays" / cluster / "settings.yaml").read_text())
    assert only(render(f"overlays/{cluster}"), "ConfigMap")["data"] == {"cluster.yaml": settings["system"]}


@needs_kubectl
def test_gcs_fault_tolerance_adds_redis_and_nothing_else():
    plain, tolerant = (cluster_spec(render(f"overlays/{name}")) for name in ("h100-ib", "h100-ib-gcs-ft"))
    redis = tolerant.pop("gcsFaultToleranceOptions")
    assert redis["redisAddress"].endswith(":6379") and "secretKeyRef" in redis["redisPassword"]["valueFrom"]
    assert tolerant == plain


@needs_kubectl
@pytest.mark.parametrize("cluster", ["h100-ib", "h100-roce"])
def test_engines_on_gpus_may_lock_memory_and_nobody_else(cluster):
    for role, group in groups(cluster_spec(render(f"overlays/{cluster}"))).items():
        capabilities = container(group)["securityContext"]["capabilities"]
        assert capabilities == {"drop": ["ALL"], **({"add": ["IPC_LOCK"]} if role in ("prefill", "decode") else {})}


def test_one_version_of_ray():
    dockerfile = (FOLDER / "Dockerfile").read_text()
    (tag,) = re.findall(r"^FROM rayproject/ray:(\S+)$", dockerfile, re.MULTILINE)
    (pinned,) = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    (manifest,) = (
        each["spec"]["rayVersion"] for each in yaml.safe_load_all((FOLDER / "base" / "ray-cluster.yaml").read_text())
    )
    assert tag.partition("-")[0] == pinned == manifest == ray.__version__
    (needed,) = (each for each in metadata.requires("dualpath-ray") or [] if each.startswith("ray["))
    low, high = re.search(r">=([\d.]+)", needed), re.search(r"<([\d.]+)", needed)
    assert low and high

    def parts(version):
        return [int(part) for part in version.split(".")]

    assert parts(low[1]) <= parts(pinned) < parts(high[1])


def test_the_image_copies_what_its_script_installs():
    kept = set(re.findall(r"^!(\S+)$", (FOLDER / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    assert all((ROOT / name).exists() for name in kept)
    assert {"dualpath_ray", "jobs", "cluster_configs", "pyproject.toml", "constraints.txt", "LICENSE", "NOTICE"} <= kept
    assert "install.sh" in (FOLDER / "Dockerfile").read_text()


@needs_kubectl
def test_what_differs_between_clusters_is_changed_in_one_file(tmp_path):
    """Image, NIC resource, NVMe path, model and replicas: everywhere in the job's cluster, and nothing old stays."""
    shutil.copytree(FOLDER, tmp_path / "kuberay")
    file = tmp_path / "kuberay" / "overlays" / "h100-ib" / "settings.yaml"
    text = file.read_text()
    changes = {
        "dualpath-ray:0.1.0-gpu": "ours/dualpath:7",
        "rdma/rdma_shared_device_a: 1": "example.com/hca: 8",
        "/mnt/nvme/dualpath": "/srv/blocks",
        "/models/Qwen2.5-7B": "/models/other",
        "replicas: 2 # one a prefill node\n  maxReplicas: 4": "replicas: 3\n  maxReplicas: 9",
        "prefill_nodes: 2": "prefill_nodes: 3",
    }
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    file.write_text(text)
    objects = render("rollouts/h100-ib", tmp_path / "kuberay")
    found = groups(cluster_spec(objects))
    assert {container(group)["image"] for group in found.values()} == {"ours/dualpath:7"}
    for role in ("prefill", "decode"):
        assert container(found[role])["resources"]["limits"]["example.com/hca"] == 8
    assert (found["prefill"]["replicas"], found["prefill"]["maxReplicas"], found["decode"]["replicas"]) == (3, 9, 2)
    (nvme,) = (volume for volume in found["storage"]["template"]["spec"]["volumes"] if volume["name"] == "nvme")
    assert nvme["hostPath"]["path"] == "/srv/blocks"
    system = yaml.safe_load(only(objects, "ConfigMap")["data"]["cluster.yaml"])
    assert (system["model"], system["prefill_nodes"]) == ("/models/other", 3)
    rendered = yaml.safe_dump_all(objects)
    assert not [old for old in ("dualpath-ray:0.1.0-gpu", "rdma_shared_device_a", "/mnt/nvme") if old in rendered]


@needs_kubectl
def test_the_guide_shows_what_is_applied():
    lines = []
    for each in render("overlays/cpu-demo"):
        group, _, _ = each["apiVersion"].rpartition("/")
        kind = each["kind"].lower() + (f".{group}" if group else "")
        lines.append(f"{kind}/{each['metadata']['name']} created\n")
    assert f"```text\n{''.join(lines)}```" in (ROOT / "docs" / "kubernetes.md").read_text()


@needs_kubectl
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_rays_autoscaler_reads_the_groups_as_they_are_meant(cluster):
    """By the function with which Ray's own autoscaler reads a RayCluster: a pending node of a role finds its group."""
    ray_cluster = only(render(f"overlays/{cluster}"), "RayCluster")
    ray_cluster["metadata"]["namespace"] = "default"  # where it would have been applied
    read = _derive_autoscaling_config_from_ray_cr(ray_cluster)
    kinds = read["available_node_types"]
    assert kinds.pop(read["head_node_type"])["resources"]["CPU"] == 0
    for role, group in groups(ray_cluster["spec"]).items():
        if role == "head":
            continue
        kind, limits = kinds[role], container(group)["resources"]["limits"]
        assert kind["labels"] == {ROLE_LABEL: role}
        assert kind["resources"]["CPU"] == int(group["resources"]["CPU"])
        assert kind["resources"].get("GPU", 0) == limits.get("nvidia.com/gpu", 0)
        assert (kind["min_workers"], kind["max_workers"]) == (group["minReplicas"], group["maxReplicas"])
        assert kind.get("idle_timeout_s", read["idle_timeout_minutes"] * 60) == 600
    assert set(kinds) == {"prefill", "decode", "storage"}
