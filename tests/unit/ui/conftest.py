"""A system's status as ``status_of`` gives it, without a system."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.observability.conftest import made_comparison as made_comparison

MB = 1_000_000


def nic_row(name: str, share: float = 0.0, rate: float | None = 2 * MB, queued: int = 0) -> dict[str, Any]:
    """A direction of a NIC that is busy for this share of the time."""
    return {
        "nic": name,
        "device": None,
        "emulated": True,
        "rate_bytes_per_s": rate,
        "bytes": 10,
        "bytes_per_s": share * (rate or MB),
        "utilisation_ratio": share,
        "queued_bytes": queued,
    }


def make_status(
    prefill: int = 1,
    decode: int = 2,
    read_path: str = "scheduled",
    shares: dict[str, float] | None = None,
    num_decisions: int = 7,
    cnics: int = 1,
    rate: float | None = 2 * MB,
) -> dict[str, Any]:
    """Args: shares: utilisation by direction, such as ``p0/snic/in``; 0 where none is given."""
    nodes = [(f"p{i}", "prefill") for i in range(prefill)] + [(f"d{i}", "decode") for i in range(decode)]
    nics = ["snic", *(f"cnic{i}" for i in range(cnics))]
    told = {"num_slots": 1024, "free_slots": 768, "load_failures": 0}
    return {
        "system": "demo",
        "model": "toy-llama",
        "read_path": read_path,
        "page": None,
        "scheduler": {
            "num_waiting": 1234,
            "num_bound": 5,
            "num_decisions": num_decisions,
            "num_by_path": {"pe": 1, "de": 3},
        },
        "nodes": [{"node": name, "role": role, "host": "10.0.0.1", "state": "up", **told} for name, role in nodes],
        "engines": [
            {"engine": f"{name}/e0", "role": role, "num_unfinished": 2, "unfinished_tokens": 5952}
            for name, role in nodes
        ],
        "nics": [
            nic_row(f"{name}/{nic}/{way}", (shares or {}).get(f"{name}/{nic}/{way}", 0.0), rate)
            for name, _ in nodes
            for nic in nics
            for way in ("in", "out")
        ],
        "storage": [{"name": "storage0", "num_blocks": 3, "used_bytes": 256, "capacity_bytes": 1024}],
        "problems": [],
    }


def make_record(seq: int, path: str = "de", hit_tokens: int | None = 2608) -> dict[str, Any]:
    """A decision as ``newest_decisions`` gives it."""
    return {
        "seq": seq,
        "request_id": f"r-{seq}",
        "read_path": path,
        "reason": "read queue PE 6448, DE 2160 tokens",
        "prefill_engine": "p0/e0",
        "decode_engine": "d1/e0",
        "hit_tokens": hit_tokens,
    }


@pytest.fixture(name="status")
def _status() -> Callable[..., dict[str, Any]]:
    return make_status


@pytest.fixture(name="record")
def _record() -> Callable[..., dict[str, Any]]:
    return make_record
