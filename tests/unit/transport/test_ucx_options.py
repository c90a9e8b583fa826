"""The variables of marks are options of UCX's RDMA transports, by UCX's own tables: these need no device."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dualpath_ray.base.types import TrafficClass
from dualpath_ray.config.fabric import FabricConfig

# UCX prints what its transports would take from the environment, as its tool ucx_info does, which NIXL does not bring.
PRINT = """
import ctypes, sys
libraries = [ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL) for path in sys.argv[1:]]
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
known, values = ctypes.byref(ctypes.c_void_p.in_dll(libraries[0], "ucs_config_global_list")), 1
libraries[0].ucs_config_parser_print_all_opts(out, b"UCX_", values, known, None)
libc.fflush(out)
"""


def options(**environment: str) -> dict[str, str]:
    found = importlib.util.find_spec("nixl_cu13") or importlib.util.find_spec("nixl_cu12")
    if found is None or found.origin is None:
        pytest.skip("nixl is not installed (make setup EXTRAS=dev,nixl)")
    package = Path(found.origin).parent
    folder = package.with_name(f"{package.name}.libs")
    patterns = ("libucs-*", "libuct-*", "libibverbs-*", "libmlx5-*", "ucx/libuct_ib.so*", "ucx/libuct_ib_mlx5.so*")
    libraries = [str(path) for pattern in patterns for path in folder.glob(pattern)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UCX_")} | environment
    command = [sys.executable, "-c", PRINT, *libraries]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("UCX_"))


@pytest.mark.parametrize(("kind", "option"), [("infiniband", "SL"), ("roce", "TRAFFIC_CLASS")])
def test_every_rdma_transport_of_ucx_takes_the_value_of_a_mark(kind, option):
    unset = options()
    names = [f"UCX_{each}_{option}" for each in ("RC_VERBS", "UD_VERBS", "RC_MLX5", "UD_MLX5")]
    for traffic_class in (TrafficClass.KV_CACHE, TrafficClass.KV_URGENT):
        mark = FabricConfig(kind=kind).marks[traffic_class]
        found = options(**{mark.variable: mark.value})
        changed = {name: value for name, value in found.items() if value != unset[name]}
        assert changed == dict.fromkeys(names, mark.value)


def test_ucx_cannot_mark_what_it_sends_over_tcp():
    """Should it learn to, classes can be told apart there, too."""
    words = ("TOS", "DSCP", "TRAFFIC_CLASS")
    tcp = [name for name in options() if name.startswith("UCX_TCP_")]
    assert tcp and not [name for name in tcp if any(word in name for word in words)]
