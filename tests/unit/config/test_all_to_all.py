"""Model-execution traffic in the configuration: who exchanges it, who replays it, and what could do neither."""

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.types import Role
from dualpath_ray.cluster.expert_group import all_to_all_bytes, environment, exchanges
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.fabric import FabricConfig
from dualpath_ray.config.load import parse_cluster
from dualpath_ray.traffic.actor import CnicAt

EMULATED = {"cnic_bps": "2 GB/s"}


def config(decode_nodes: int = 2, **values) -> ClusterConfig:
    return parse_cluster({"prefill_nodes": 1, "decode_nodes": decode_nodes, "model": "toy-llama", **values}, "c.yaml")


@pytest.mark.parametrize(
    ("how", "node", "decode", "prefill"),
    [
        ("auto", {}, "exchanged", "none"),  # a prefill engine alone, whose NIC is real
        ("auto", EMULATED, "replayed", "replayed"),
        ("exchanged", EMULATED, "exchanged", "replayed"),
        ("exchanged", {}, "exchanged", "none"),
        ("replayed", EMULATED, "replayed", "replayed"),
    ],
)
def test_engines_with_peers_exchange_and_emulated_nics_replay(how, node, decode, prefill):
    made = config(engine={"all_to_all_bytes": 100, "all_to_all": how}, node=node)
    for role, expected in ((Role.DECODE, decode), (Role.PREFILL, prefill)):
        assert exchanges(made, role) == (expected == "exchanged")
        assert all_to_all_bytes(made, role) == (0 if expected == "none" else 100)


def test_without_bytes_there_is_none():
    for node in ({}, EMULATED):
        assert not exchanges(config(node=node), Role.DECODE) and all_to_all_bytes(config(node=node), Role.DECODE) == 0


@pytest.mark.parametrize(
    ("engine", "more", "says"),
    [
        ({"all_to_all": "replayed"}, {}, "engine.all_to_all: replayed what? Set engine.all_to_all_bytes, or remove it"),
        ({"all_to_all": "replayed", "all_to_all_bytes": 1}, {}, "set node.cnic_bps, or exchanged"),
        (
            {"all_to_all_bytes": 1},
            {"decode_nodes": 1},
            "engine.all_to_all_bytes are exchanged between engines of a role",
        ),
        (
            {"all_to_all": "exchanged", "all_to_all_bytes": 1},
            {"decode_nodes": 1, "node": EMULATED},
            "engine.all_to_all_bytes are exchanged between engines of a role, of which there is one",
        ),
        ({"all_to_all_bytes": 1, "device": "cuda", "gpus": 0.5}, {}, "engine.gpus: NCCL exchanges"),
    ],
)
def test_traffic_that_nothing_would_carry_is_refused_in_one_sentence(engine, more, says):
    with pytest.raises(ConfigError) as caught:
        config(engine=engine, **more)
    text = str(caught.value)
    assert says in text and text.startswith("c.yaml: ") and "\n" not in text


def test_gloo_and_nccl_are_kept_on_the_compute_nic_and_nccl_in_its_lane():
    assert environment(FabricConfig(), CnicAt("10.0.0.1", None, None)) == {}
    assert environment(FabricConfig(), CnicAt("10.0.0.1", "eth1", None)) == {
        "GLOO_SOCKET_IFNAME": "eth1",
        "NCCL_SOCKET_IFNAME": "=eth1",  # without =, eth10 too
    }
    assert environment(FabricConfig(kind="infiniband"), CnicAt("10.0.0.1", None, "mlx5_1:1")) == {
        "NCCL_IB_SL": "0",
        "NCCL_IB_HCA": "=mlx5_1:1",
    }
    assert environment(FabricConfig(kind="roce"), CnicAt("10.0.0.1", None, None)) == {"NCCL_IB_TC": str(46 * 4 + 2)}
