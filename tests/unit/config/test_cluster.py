"""A configuration file: three keys are enough, every mistake is one sentence that names the file and the key."""

from pathlib import Path

import pytest
import yaml

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.hardware import hardware_of
from dualpath_ray.config.load import effective, load_cluster, parse_cluster, read_yaml
from dualpath_ray.config.modes import MODES, mode_overrides
from dualpath_ray.config.section import Section
from dualpath_ray.models.load import load_model

SMALLEST = {"prefill_nodes": 1, "decode_nodes": 2, "model": "toy-llama"}
EXAMPLES = sorted((Path(__file__).parents[3] / "cluster_configs").glob("*.yaml"))


def problem(data, overrides=None) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_cluster(data, "c.yaml", overrides)
    text = str(caught.value)
    assert text.startswith("c.yaml: ") and "\n" not in text and "Value error" not in text
    return text


def test_three_keys_are_enough():
    config = parse_cluster(SMALLEST, "c.yaml")
    assert config.node_names == ["p0", "d0", "d1"]
    assert (config.scheduler.read_path, config.scheduler.layerwise, config.scheduler.oracle) == (
        "scheduled",
        True,
        False,
    )
    assert (config.node.snic, config.node.cnic) == ("auto", ["auto"])
    assert config.node.snic_bps is None and config.storage.verify and config.block_tokens == 64


@pytest.mark.parametrize("missing", SMALLEST)
def test_a_missing_key_is_named(missing):
    data = {k: v for k, v in SMALLEST.items() if k != missing}
    assert problem(data) == f"c.yaml: {missing}: this key is required"


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"prefil_nodes": 1}, "prefil_nodes: there is no such key; `dualpath config show` lists all keys"),
        ({"node": {"nic": "eth1"}}, "node.nic: there is no such key"),
        ({"node": {"snic": "6 MB/s"}}, "node.snic: '6 MB/s' is no name of a network device; write for example eth1"),
        ({"node": {"cnic": ["eth1", ""]}}, "node.cnic.1: '' is no name of a network device"),
        ({"node": {"cnic": ["eth1", "eth2", "eth3"], "gpus": 2}}, "node.cnic names 3 devices for node.gpus: 2"),
        ({"prefill_nodes": 0}, "prefill_nodes: Input should be greater than 0"),
        ({"node": {"snic_bps": "fast"}}, "node.snic_bps: 'fast' is no rate; write for example '400 Gbps' or '6 MB/s'"),
        ({"node": {"pe_buffer_bytes": "-1"}}, "node.pe_buffer_bytes: '-1' is no size"),
        ({"node": {"pe_buffer_bytes": 0}}, "node.pe_buffer_bytes: 0 is not a positive size"),
        ({"node": {"snic_bps": "60 MB/s", "cnic_bps": "6 MB/s"}}, "node.snic_bps must stay below node.gpus"),
        ({"node": {"snic_write_bps": "6 MB/s"}}, "node.snic_write_bps is set but node.snic_bps is not"),
        ({"storage": {"store": "memory"}}, "storage.store: memory lives in one process"),
        ({"storage": {"mounts": {"p7": "/x"}}}, "storage.mounts names 'p7'; the nodes are p0, d0, d1"),
        ({"name": "Not A Name"}, "name: "),
        ({"engine": {"gpus": 1.5}}, "engine.gpus: Input should be less than or equal to 1"),
        ({"engine": {"device": "tpu"}}, "engine.device: Input should be 'cpu' or 'cuda'"),
        ({"transport": "rdt_cuda_ipc"}, "transport: rdt_cuda_ipc moves bytes through a GPU; set engine.device: cuda"),
        ({"engine": {"cnic_loopback": True}}, "engine.cnic_loopback copies to and from a GPU; set engine.device: cuda"),
        (
            {"transport": "rdt_cuda_ipc", "engine": {"device": "cuda", "gpus": 0.005}},
            "engine.gpus: transport rdt_cuda_ipc takes 0.01 of a GPU of it; set more",
        ),
        ({"node": {"snic_bps": float("inf")}}, "node.snic_bps: inf is no rate"),
        ({"node": {"pe_buffer_bytes": float("nan")}}, "node.pe_buffer_bytes: nan is no size"),
        ({"scheduler": None}, "scheduler: "),
    ],
    ids=str,
)
def test_a_mistake_is_named(extra, says):
    assert says in problem({**SMALLEST, **extra})


def test_all_mistakes_are_named_at_once():
    text = problem({"model": "toy-llama", "decode_nodes": "many", "colour": "red"})
    assert all(key in text for key in ("prefill_nodes: this key", "decode_nodes: ", "colour: there is no such key"))


def test_overrides_win_and_leave_the_rest_alone():
    data = {**SMALLEST, "scheduler": {"layerwise": False, "read_path": "round_robin"}}
    before = yaml.safe_dump(data)
    overrides = {"scheduler.read_path": "prefill_only", "block_tokens": 16, "seed": None, "node.snic_bps": "6 MB/s"}
    config = parse_cluster(data, "c.yaml", overrides)
    assert (config.scheduler.read_path, config.scheduler.layerwise) == ("prefill_only", False)
    assert (config.block_tokens, config.seed, config.node.snic_bps) == (16, 0, 48_000_000)
    assert yaml.safe_dump(data) == before
    assert "scheduler.colour: there is no such key" in problem(SMALLEST, {"scheduler.colour": "red"})


def test_effective_values_say_where_they_came_from():
    data = {**SMALLEST, "node": {"snic_bps": "6 MB/s"}}
    rows = effective(parse_cluster(data, "c.yaml"), data, "c.yaml")
    by_key = {key: (value, source) for key, value, source in rows}
    assert len(by_key) == len(rows)
    assert by_key["model"] == ("toy-llama", "c.yaml")
    assert by_key["node.snic_bps"] == (48_000_000, "c.yaml")
    assert by_key["node.gpus"] == (1, "default") and by_key["scheduler.read_path"] == ("scheduled", "default")
    assert [key for key, _, source in rows if source == "c.yaml"] == [*SMALLEST, "node.snic_bps"]


def test_every_key_has_a_description():
    def walk(model):
        for name, field in model.model_fields.items():
            if isinstance(field.default, Section):
                walk(type(field.default))
            else:
                assert field.description, name

    walk(ClusterConfig)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"prefill_nodes: [1", "no valid YAML"),
        (b"\xff\xfe\x00", "no valid YAML"),
        (b"model: a\nnode: {gpus: 1}\nmodel: b\n", "the key model is there twice, on line 1 and on line 3"),
        (b"node:\n  gpus: 1\n  gpus: 2\n", "the key gpus is there twice, on line 2 and on line 3"),
        (b"model: {{ MODEL }}\n", "no valid YAML"),
        (b"- 1\n- 2\n", "expected keys and values"),
        (b"", "expected keys and values"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path, text, says):
    path = tmp_path / "c.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_cluster(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="c.yaml: No such file or directory; name a file such as cluster_configs"):
        read_yaml(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_yaml(tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_modes_are_configuration(mode):
    config = parse_cluster({**SMALLEST, "scheduler": {"oracle": True}}, "c.yaml", mode_overrides(mode))
    assert config.scheduler.oracle == (mode == "oracle")
    assert config.scheduler.layerwise == (mode != "basic")
    assert config.scheduler.read_path == {"basic": "prefill_only", "oracle": "scheduled"}.get(mode, mode)


def test_a_policy_of_ones_own_is_a_mode():
    assert mode_overrides("my.module:policy") == {"scheduler.read_path": "my.module:policy", "scheduler.oracle": False}
    with pytest.raises(ConfigError, match="--compare: there is no 'fastest'; use basic, prefill_only"):
        mode_overrides("fastest")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_files_are_right(path):
    config = load_cluster(path)
    if config.hardware:  # simulated only
        assert load_model(config.model) and hardware_of(config, str(path))
    else:
        assert config.model == "smollm2-135m" and config.block_tokens == 16
    assert path.stem.endswith(f"{config.prefill_nodes}p{config.decode_nodes}d")


def test_devices_of_compute_nics_are_one_or_a_list():
    assert parse_cluster({**SMALLEST, "node": {"cnic": "mlx5_0", "gpus": 8}}, "c.yaml").node.cnic == ["mlx5_0"]
    each = parse_cluster({**SMALLEST, "node": {"cnic": ["ib0", "ib1"], "gpus": 2}}, "c.yaml")
    assert each.node.cnic == ["ib0", "ib1"]
