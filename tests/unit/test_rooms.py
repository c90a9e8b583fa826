"""The rooms of ARCHITECTURE.md: which may import which, and where time, threads, torch and Ray may stand. Read, not run."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "dualpath_ray"
NAME = PACKAGE.name

_PURE = {"base", "models", "workload", "kv", "storage", "transport", "traffic", "scheduler"}
_CLUSTER = _PURE | {"config", "observability", "engine"}
_ALL = _CLUSTER | {"cluster", "ui", "ops", "simulator", "planning", "bench", "examples"}
MAY_IMPORT: dict[str, set[str]] = {
    "base": set(),
    "config": {"base"},
    "models": {"base"},
    "observability": {"base"},
    "workload": {"base"},
    "kv": {"base"},
    "storage": {"base", "kv"},
    "transport": {"base", "kv"},
    "traffic": {"base", "kv", "storage", "transport"},
    "scheduler": {"base"},
    "engine": {"base", "kv", "traffic", "scheduler"},
    "cluster": _CLUSTER,
    "ui": _CLUSTER | {"cluster"},
    "ops": _CLUSTER | {"cluster"},
    "simulator": _PURE | {"config", "observability"},
    "planning": _PURE | {"config", "observability", "simulator"},
    "bench": _ALL,
    "cli": _ALL,
    # Each shows one port: of the rooms that own the ports it may use what a user's own module would.
    "examples": {"base", "kv", "storage", "transport", "scheduler"},
}
# Of these a room sees the port alone; its actor.py opens the adapter that the configuration names.
PORTS_ONLY = {"traffic": {"storage": "storage.port", "transport": "transport.port"}}
ACTOR_MAY_ALSO_IMPORT = {"config", "observability"}  # the thin shells, not what decides

# ``import torch``: anywhere in engine/, elsewhere only inside functions, for the number of threads.
TORCH_ROOMS = {"engine"}
TORCH_IN_FUNCTIONS = {"ops", "bench"}
TORCH_ADAPTERS = {"transport/rdt.py", "transport/rdt_cuda_ipc.py"}  # Ray's tensor channels take torch's tensors
# ``import ray``: actor.py files, cluster/, and an adapter that rides on Ray, named here when there is one.
RAY_ROOMS = {"cluster"}
RAY_ADAPTERS = {"transport/collective.py", "transport/rdt.py", "transport/rdt_cuda_ipc.py", "bench/transport_ray.py"}
RAY_IN_FUNCTIONS = {"observability/ray_export.py", "observability/otel.py", "observability/ray_timeline.py"}
# What decides gets time as an argument. Not pure by their nature: the shells, and what waits on a socket or maps memory.
PURE_ROOMS = {"traffic", "scheduler", "kv", "planning"}
PURE_FILES = {"storage/index.py", "storage/shards.py", "ui/access.py", "ui/history.py", "ui/view.py"}
IMPURE_FILES = {"actor.py", "core_runner.py", "link.py", "segment.py"}
EFFECTS = {"time", "threading", "ray", "torch", "queue", "socket", "asyncio", "multiprocessing", "concurrent", "random"}


@dataclass(frozen=True)
class Import:
    """One import of one module: ``name`` in full, ``room`` and ``file`` of whoever imports."""

    file: str
    room: str
    name: str
    line: int
    in_function: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_actor(self) -> bool:
        return self.file.endswith("/actor.py")


def imports_of(source: str, file: str) -> Iterator[Import]:
    """Every import of a module, wherever it stands; relative ones and names given as text are found too."""
    parts = file.split("/")
    room = parts[0] if len(parts) > 1 else ""

    def visit(node: ast.AST, in_function: bool) -> Iterator[Import]:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = ".".join([NAME, *parts[:-1]][: len(parts) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (start, node.module) if part)
            # "from dualpath_ray import storage" imports a room
            names = [f"{module}.{alias.name}" for alias in node.names] if module == NAME else [module]
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(("import_module", "__import__"))
            and node.args
        ):
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                names = [first.value]
        for name in names:
            yield Import(file, room, name, getattr(node, "lineno", 0), in_function)
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    return visit(ast.parse(source), False)


@cache
def every_import() -> tuple[Import, ...]:
    files = sorted(PACKAGE.rglob("*.py"))
    return tuple(i for path in files for i in imports_of(path.read_text(), path.relative_to(PACKAGE).as_posix()))


def forbidden_room(found: Import) -> bool:
    if found.top != NAME or not found.room:  # the package itself hands out the public API, lazily
        return False
    module = found.name.removeprefix(NAME).lstrip(".")
    target = module.partition(".")[0]
    port = PORTS_ONLY.get(found.room, {}).get(target)
    if port and not found.is_actor and module != port:
        return True
    if target in ("", "__version__", found.room):
        return False
    allowed = MAY_IMPORT[found.room] | (ACTOR_MAY_ALSO_IMPORT if found.is_actor else set())
    return target not in allowed


def forbidden_torch(found: Import) -> bool:
    if found.top != "torch" or found.room in TORCH_ROOMS or found.file in TORCH_ADAPTERS:
        return False
    return not (found.in_function and found.room in TORCH_IN_FUNCTIONS)


def forbidden_ray(found: Import) -> bool:
    if found.top != "ray" or found.is_actor or found.room in RAY_ROOMS or found.file in RAY_ADAPTERS:
        return False
    return not (found.in_function and found.file in RAY_IN_FUNCTIONS)


def forbidden_effect(found: Import) -> bool:
    pure = found.room in PURE_ROOMS and found.file.rpartition("/")[2] not in IMPURE_FILES
    return (pure or found.file in PURE_FILES) and found.top in EFFECTS


RULES = [forbidden_room, forbidden_torch, forbidden_ray, forbidden_effect]


def test_every_room_is_known():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= set(MAY_IMPORT), "a new room: say in MAY_IMPORT what it may import"
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py"}, "every module stands in a room"


@pytest.mark.parametrize("forbidden", RULES)
def test_nothing_imports_what_it_may_not(forbidden):
    assert [str(found) for found in every_import() if forbidden(found)] == []


@pytest.mark.parametrize("init", sorted(PACKAGE.glob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_the_init_of_a_room_is_empty(init):
    assert init.read_text() == "", "a room that imports its modules makes every importer pay for all of them"


@pytest.mark.parametrize(
    ("forbidden", "file", "source"),
    [
        (forbidden_room, "scheduler/core.py", "from dualpath_ray.kv.keys import ROOT"),
        (forbidden_room, "base/units.py", "def f():\n    from dualpath_ray import config"),
        (forbidden_room, "kv/keys.py", "from ..storage import port"),
        (forbidden_room, "cluster/plan.py", "import importlib\nimportlib.import_module('dualpath_ray.simulator.run')"),
        (forbidden_room, "traffic/core.py", "import dualpath_ray.observability.summary"),
        (forbidden_room, "traffic/core.py", "from dualpath_ray.storage.local import LocalBlockStore"),
        (forbidden_room, "planning/links.py", "from dualpath_ray.cluster.plan import make_plan"),
        (forbidden_room, "traffic/hops.py", "from dualpath_ray.planning.links import NodeLinks"),
        (forbidden_torch, "cluster/plan.py", "def f():\n    import torch"),
        (forbidden_torch, "ops/profile.py", "import torch.nn as nn"),
        (forbidden_ray, "engine/group.py", "import ray"),
        (forbidden_ray, "storage/client.py", "from ray.util import queue"),
        (forbidden_ray, "observability/ray_export.py", "from ray.util import metrics"),
        (forbidden_effect, "traffic/nic.py", "from time import monotonic"),
        (forbidden_effect, "scheduler/core.py", "def f():\n    import threading"),
    ],
)
def test_the_rules_are_not_blind(forbidden, file, source):
    assert any(forbidden(found) for found in imports_of(source, file))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("traffic/actor.py", "import time, threading, ray\nfrom dualpath_ray.config import cluster"),
        ("traffic/context.py", "from dualpath_ray.transport.port import CopyBatch"),
        ("traffic/link.py", "import socket, time"),
        ("kv/segment.py", "import mmap"),
        ("ops/profile.py", "def f():\n    import torch"),
        ("observability/ray_export.py", "def f():\n    from ray.util import metrics"),
        ("engine/model.py", "import torch\nfrom . import toy"),
        ("cluster/api.py", "from dualpath_ray import __version__\nimport ray"),
    ],
)
def test_what_the_rules_allow(file, source):
    assert not [str(found) for found in imports_of(source, file) for forbidden in RULES if forbidden(found)]


HEAVY = ("ray", "torch", "transformers", "pyarrow")


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        (NAME, HEAVY),
        (f"{NAME}.cli.main", HEAVY),
        # What the driver and the scheduler's process import: torch and transformers take them four seconds, for nothing.
        (f"{NAME}.ops.rollout, {NAME}.cluster.system", ("torch", "transformers")),
    ],
)
def test_import_is_light(module, heavy):
    code = f"import sys, {module}; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
