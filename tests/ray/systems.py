"""Systems, workloads and checks that the tests of this folder share."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dualpath_ray.cluster.client import Client
from dualpath_ray.cluster.plan import make_plan
from dualpath_ray.cluster.rollout import Rollout
from dualpath_ray.cluster.system import System, start_system
from dualpath_ray.config.load import parse_cluster
from dualpath_ray.engine.verify import PlainModel, check_all
from dualpath_ray.observability.run_record import RunRecord, TokenCheck
from dualpath_ray.workload.trajectory import Trajectory, Turn

CONTEXT = 512
BASE: dict[str, Any] = {"prefill_nodes": 1, "decode_nodes": 1, "model": "toy-llama", "block_tokens": 16}


@contextmanager
def running(overrides: dict[str, Any] | None = None, **kwargs: Any) -> Iterator[tuple[System, Client]]:
    """A system and a client of it."""
    config = parse_cluster(BASE, "test", overrides)
    with start_system(make_plan(config, "test", CONTEXT), **kwargs) as system:
        client = Client(system)
        yield system, client
        client.close()


def trajectories(num: int = 4, turns: int = 5, first: int = 120, append: int = 30, gen: int = 3) -> list[Trajectory]:
    """Agents whose contexts share a prefix of 32 tokens: the same system prompt."""
    rng = np.random.default_rng(7)
    shared = rng.integers(16, 500, 32)
    out = []
    for index in range(num):
        start = np.concatenate([shared, rng.integers(16, 500, first - 32 + index)]).astype(np.int32)
        later = [rng.integers(16, 500, append + index).astype(np.int32) for _ in range(turns - 1)]
        out.append(Trajectory(f"t{index}", tuple(Turn(ids, gen) for ids in [start, *later])))
    return out


def roll_out(system: System, client: Client, work: list[Trajectory], mode: str = "test") -> RunRecord:
    return Rollout(system, client, work, lambda progress: None).run(mode)


def check(system: System, record: RunRecord) -> TokenCheck:
    engine = system.plan.config.engine
    plain = PlainModel(system.plan.description, system.plan.config.seed, kv_dtype=engine.stored_dtype)
    return TokenCheck(*check_all(plain, record.contexts, record.generated_spans, {}))


def leftovers(system_name: str) -> list[str]:
    """Files and processes that still carry the system's name."""
    files = [str(p) for p in Path("/dev/shm").glob(f"dualpath.{system_name}*")]
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return files + [line for line in processes.splitlines() if system_name in line]
