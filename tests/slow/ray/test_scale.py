"""Nodes join and leave while requests are under way: none is lost, and the tokens are the plain model's."""

import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.types import Role
from dualpath_ray.cluster.client import Client
from dualpath_ray.cluster.scale import scale
from dualpath_ray.cluster.system import System
from dualpath_ray.observability.run_record import RunRecord
from tests.ray.systems import check, roll_out, running, trajectories

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
NICS: dict[str, Any] = {"node.snic_bps": "2 MB/s", "node.cnic_bps": "20 MB/s", "engine.cpus": 0.5}


def scaled_under_load(system: System, client: Client, *steps: tuple[int, int]) -> RunRecord:
    """Take the steps while rollouts follow one another; every token of each is checked. Returns: a rollout after the last."""
    records: list[RunRecord] = []
    begun, over = threading.Event(), threading.Event()

    def keep_busy() -> None:
        try:
            while not over.is_set():
                records.append(client.rollout(trajectories(4, 4), lambda p: begun.set() if p.turns_done else None))
        finally:
            begun.set()

    load = threading.Thread(target=keep_busy)
    load.start()
    try:
        for step in steps:
            assert begun.wait(60)
            begun.clear()
            scale(system, *step)
            assert load.is_alive(), "the rollouts failed"
    finally:
        over.set()
        load.join()
    last = client.rollout(trajectories(6, 3))
    for record in (*records, last):
        assert check(system, record).num_wrong == 0
    assert sum(len(record.turns) for record in records) == 16 * len(records)
    return last


def shape(system: System) -> tuple[list[str], list[str]]:
    return system.handles.nodes_of(Role.PREFILL), system.handles.nodes_of(Role.DECODE)


def test_a_decode_node_becomes_a_prefill_node_under_load() -> None:
    with running({**NICS, "decode_nodes": 2}) as (system, client):
        last = scaled_under_load(system, client, (2, 1))
        assert shape(system) == (["p0", "p1"], ["d0"])
        assert {turn.prefill_engine for turn in last.turns} == {"p0/e0", "p1/e0"}
        assert {turn.decode_engine for turn in last.turns} == {"d0/e0"}
        assert not list(Path("/dev/shm").glob(f"dualpath.{system.name}.d1*")), "who left has left nothing behind"


def test_nodes_come_and_go_and_come_again_under_load() -> None:
    with running(NICS) as (system, client):
        last = scaled_under_load(system, client, (2, 2), (1, 1), (1, 2))
        assert shape(system) == (["p0"], ["d0", "d1"])
        assert {turn.decode_engine for turn in last.turns} == {"d0/e0", "d1/e0"}, "a name is given again"


def test_what_cannot_be_is_one_sentence_and_changes_nothing() -> None:
    with running(NICS) as (system, client):
        little_time = system.plan.config.model_copy(update={"startup_timeout_s": 5.0})
        system.plan = replace(system.plan, config=little_time)
        lines: list[str] = []
        for wanted, says in [
            ((0, 1), "^--prefill and --decode: a system needs at least one node of each role"),
            ((9, 9), "^--prefill and --decode: 18 nodes are more than the 12 that this system's scheduler"),
            ((1, 9), "^test: engine.cpus: no Ray node has 0.5 free CPUs of a decode node"),
        ]:
            with pytest.raises(ConfigError, match=says):
                scale(system, *wanted, lines.append)
            assert shape(system) == (["p0"], ["d0"])
            assert len(roll_out(system, client, trajectories(2, 2)).turns) == 4
        (asked,) = [line for line in lines if "asking Ray" in line]
        assert re.search(r"d8: asking Ray for a place \(4 CPUs are needed and \S+ free\): waits up to 5 s", asked)
