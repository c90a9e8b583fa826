"""A model's shape from a file: the fields of a known model, every mistake one sentence that names file and key."""

from dataclasses import asdict

import pytest
import yaml

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.models.known import KNOWN, known_model
from dualpath_ray.models.load import load_model

OWN = {**asdict(known_model("ds-27b")), "name": "own"}


def write(tmp_path, data) -> str:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_model_can_be_written_to_a_file_and_read_again(tmp_path, name):
    assert load_model(name) is known_model(name)
    assert load_model(write(tmp_path, asdict(known_model(name)))) == known_model(name)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hidden": None}, "hidden: this key is required"),
        ({"colour": "red"}, "colour: there is no such key; the keys are name, num_layers, hidden,"),
        ({"heads": 0}, "heads: Input should be greater than 0"),
        ({"heads": "many"}, "heads: Input should be a valid integer"),
        ({"kv_layers": 31}, "kv_layers: 31 of 30 layers"),
        ({"moe_layers": 31}, "moe_layers: 31 of 30 layers"),
        ({"moe_layers": 0}, "moe_layers, routed_experts, experts_per_token and expert_parameters go together"),
        ({"experts_per_token": 73}, "experts_per_token: 73 of 72 routed_experts"),
        ({"total_parameters": 10**9}, "total_parameters: fewer than active_parameters and the other experts"),
        ({"active_parameters": 10**9}, "active_parameters: fewer than the experts of a token have"),
    ],
    ids=str,
)
def test_a_mistake_is_named(tmp_path, changes, says):
    path = write(tmp_path, {key: value for key, value in {**OWN, **changes}.items() if value is not None})
    with pytest.raises(ConfigError) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"{path}: {says}") and "\n" not in str(caught.value)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(
        ConfigError, match=r"model no-such: unknown shape; known are deepseek-v3, .*path of a YAML file"
    ):
        load_model("no-such")
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file or directory; name a YAML file with the shape"):
        load_model(str(tmp_path / "none.yaml"))
