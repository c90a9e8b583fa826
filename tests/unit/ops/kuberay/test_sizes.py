"""What pods need, and what ``dualpath kuberay`` says of settings that do not give it."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.types import Role
from dualpath_ray.cli.main import run
from dualpath_ray.cluster.plan import make_plan
from dualpath_ray.config.load import parse_cluster
from dualpath_ray.ops.kuberay.needs import pod_needs
from dualpath_ray.ops.kuberay.quantity import format_quantity, parse_quantity
from dualpath_ray.ops.kuberay.settings import parse_settings, shortfalls
from dualpath_ray.ops.kuberay.sizes import sizes
from tests.kuberay.manifests import CLUSTERS, FOLDER, WHY_NOT, cluster_spec, container, groups, render
from tests.ray.nodes import ROOT

SHAPES = {"cpu-demo": "smollm2-135m", "h100-ib": "random-qwen2.5-7b", "h100-roce": "random-qwen2.5-7b"}
TOY = {"prefill_nodes": 2, "decode_nodes": 3, "model": "toy-llama", "engine": {"cpus": 1.5}, "node": {"gpus": 2}}


def settings_of(cluster: str) -> Path:
    return FOLDER / "overlays" / cluster / "settings.yaml"


def toy_needs(**values):
    return pod_needs(make_plan(parse_cluster({**TOY, **values}, "x.yaml"), "x.yaml"), weight_bytes=10**9)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_the_settings_of_every_overlay_are_enough_and_no_waste(cluster):
    found = sizes(settings_of(cluster), SHAPES[cluster])
    assert found.short == [] and found.settings is not None
    for role in ("prefill", "decode"):
        given, need = getattr(found.settings, role), found.needs[role]
        assert parse_quantity(given.resources.limits["memory"], "") < 2 * need.memory_bytes
        assert parse_quantity(given.shm, "") < 1.4 * need.shm_bytes
        assert given.replicas == need.pods


@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_manifests_have_the_sizes_of_the_settings(cluster):
    settings = yaml.safe_load(settings_of(cluster).read_text())
    for name, group in groups(cluster_spec(render(f"overlays/{cluster}"))).items():
        given = settings[name]
        assert container(group)["resources"] == given["resources"]
        assert container(group)["image"] == settings["image"]
        volumes = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}
        shm = parse_quantity(volumes["shm"]["emptyDir"]["sizeLimit"], name)
        assert shm < parse_quantity(given["resources"]["limits"]["memory"], name)
        assert volumes.get("models", settings["models"]) == settings["models"]
        if name != "head":
            assert (group["replicas"], group["resources"]) == (given["replicas"], given["ray"])
            assert group["maxReplicas"] == given.get("maxReplicas", given["replicas"])
        if name == "storage":
            assert volumes["nvme"] == settings["nvme"]
        if name in ("head", "storage"):
            assert shm >= sizes(settings_of(cluster), SHAPES[cluster]).needs[name].shm_bytes
        else:
            assert shm == parse_quantity(given["shm"], name)


def test_a_pod_holds_the_buffer_of_its_node_and_no_second_one():
    plan = make_plan(parse_cluster(TOY, "x.yaml"), "x.yaml")
    needs = pod_needs(plan, weight_bytes=10**9)
    assert [need.pods for need in needs.values()] == [1, 2, 3, 1]
    for role in Role:
        assert plan.buffer_bytes(role) < needs[role].shm_bytes < needs[role].memory_bytes - 2 * 10**9
        assert needs[role].ray_cpus == 3 and needs[role].cpus > 3
        assert needs[role].gpus == needs[role].hugepage_bytes == 0
    assert needs["head"].ray_cpus == needs["storage"].ray_cpus == 0


@given(cpus=st.floats(0.51, 100), engines=st.integers(1, 16))
def test_two_nodes_never_fit_on_the_cpus_of_a_pod(cpus, engines):
    needs = toy_needs(engine={"cpus": cpus}, node={"gpus": engines})
    assert engines * cpus <= needs["prefill"].ray_cpus < 2 * engines * cpus


@pytest.mark.parametrize(("share", "gpus"), [(1, 2), (0.5, 1), (0.3, 1), (0.6, 2)])
def test_engines_on_gpus_need_whole_ones(share, gpus):
    needs = toy_needs(engine={"device": "cuda", "cpus": 1, "gpus": share})
    assert [needs[role].gpus for role in needs] == [0, gpus, gpus, 0]
    assert needs["prefill"].hugepage_bytes > 0


def test_decode_engines_without_a_gpu_keep_their_kv_in_memory():
    little, much = (
        toy_needs(engine={"cpus": 1, "hbm_kv_bytes": size})["decode"].memory_bytes for size in (2**20, 2**30)
    )
    assert much - little == pytest.approx(2 * (2**30 - 2**20), rel=0.01)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("prefill.shm", "256Mi", "prefill.shm: buffer and object store of a pod take"),
        ("decode.resources.limits.memory", "1G", "decode.resources.limits.memory: a pod needs"),
        ("decode.resources.limits.cpu", "1", "decode.resources.limits.cpu: a pod needs 65 CPUs; write at least"),
        ("prefill.resources.limits.nvidia~com/gpu", 4, "prefill.resources.limits: a pod needs 8 GPUs"),
        ("prefill.resources.limits.hugepages-2Mi", "1Gi", "hugepages-2Mi: UCX takes up to 2.2 GiB"),
        ("prefill.replicas", 1, "prefill.replicas: the system has 2 prefill nodes, and each is a pod"),
        ("decode.maxReplicas", 1, "decode.maxReplicas: the autoscaler may not go below 2 pods"),
        ("storage.replicas", 1, "storage.replicas: the system has 2 storage nodes"),
        ("prefill.ray.CPU", "128", "prefill.ray.CPU: Ray may give out the 64 CPUs of one node"),
        ("decode.ray.CPU", "63", "decode.ray.CPU: Ray may give out the 64 CPUs of one node"),
        ("storage.ray.CPU", "1", "storage.ray.CPU: Ray may give out the 0 CPUs of one node"),
        ("head.resources.limits.memory", "1Gi", "head.resources.limits.memory: a pod needs"),
    ],
)
def test_a_size_that_is_too_small_is_one_sentence(path, value, says):
    data = yaml.safe_load(settings_of("h100-ib").read_text())
    needs = sizes(settings_of("h100-ib"), SHAPES["h100-ib"]).needs
    *sections, key = (part.replace("~", ".") for part in path.split("."))
    target = data
    for section in sections:
        target[section] = dict(target[section])  # two groups share one mapping
        target = target[section]
    target[key] = value
    (sentence,) = shortfalls(parse_settings(data, Path("s.yaml")), needs, "s.yaml")
    assert sentence.startswith("s.yaml: ") and says in sentence


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"replica": 1}, "replica: there is no such key; the keys are apiVersion, kind, "),
        ({"image": None}, "image: Input should be a valid string"),
        ({"system": "- 1"}, "system: expected keys and values such as 'prefill_nodes: 1'"),
        ({"system": "a: ["}, "system: no valid YAML"),
        ({"system": "{prefill_nodes: 0, decode_nodes: 1, model: toy-llama}"}, "system: prefill_nodes: "),
        ({"system": "{prefill_nodes: 1, decode_nodes: 1, model: toy-llama}"}, "system: engine.cpus: unset"),
        (
            {"system": "{prefill_nodes: 1, decode_nodes: 1, model: /models/x}"},
            "system: model: /models/x is not on this",
        ),
        (
            {"system": "{prefill_nodes: 1, decode_nodes: 1, model: toy-llama, engine: {cpus: 0.5}}"},
            "two nodes of 0.5 fit",
        ),
        ({"head": {"resources": {"limits": {"cpu": "2", "memory": "4 GB"}}}}, "memory: '4 GB' is no quantity"),
    ],
)
def test_bad_settings_are_one_sentence_that_names_file_and_key(tmp_path, capsys, changed, says):
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(settings_of("cpu-demo").read_text()), **changed}))
    assert run(["kuberay", str(file), *([] if "system" in changed else ["--model", "toy-llama"])]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"dualpath: {file}: ") and says in said


def test_what_is_printed_can_stand_in_the_settings(tmp_path, capsys):
    """And is enough there; anything less is not."""
    file = tmp_path / "settings.yaml"
    assert run(["kuberay", str(settings_of("h100-ib")), "--model", SHAPES["h100-ib"]]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    data = yaml.safe_load(settings_of("h100-ib").read_text())
    for group, values in printed.items():
        data[group] = {**data[group], **values}
    file.write_text(yaml.safe_dump(data))
    assert run(["kuberay", str(file), "--model", SHAPES["h100-ib"]]) == 0
    data["decode"]["shm"] = "200Gi"
    file.write_text(yaml.safe_dump(data))
    capsys.readouterr()
    assert run(["kuberay", str(file), "--model", SHAPES["h100-ib"]]) == 1
    assert f"{file}: decode.shm: " in capsys.readouterr().err


def test_the_guide_shows_what_is_printed(capsys):
    assert run(["kuberay", str(settings_of("cpu-demo"))]) == 0
    assert f"```text\n{capsys.readouterr().out}```" in (ROOT / "docs" / "kubernetes.md").read_text()


def test_a_configuration_alone_is_sized_too(tmp_path, capsys):
    file = tmp_path / "system.yaml"
    file.write_text(yaml.safe_dump(TOY))
    assert run(["kuberay", str(file)]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["prefill"]["ray"] == {"CPU": "3"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", 0.5),
        ("8", 8),
        (3, 3),
        ("4Gi", 2**32),
        ("1.5Mi", 1.5 * 2**20),
        ("2G", 2e9),
        ("7Ti", 7 * 2**40),
        (".5", 0.5),
    ],
)
def test_quantities(text, value):
    assert parse_quantity(text, "x") == pytest.approx(value)


@pytest.mark.parametrize("count", [1, 2**28, 2**28 + 1, 2**30, 5 * 2**30 - 1])
def test_a_size_is_rounded_up_to_a_quarter_of_a_gibibyte(count):
    assert 0 <= parse_quantity(format_quantity(count), "x") - count < 2**28
