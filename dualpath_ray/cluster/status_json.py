"""Status of a running system as plain JSON types. Pure."""

from typing import Any

from dualpath_ray.cluster.status import Sample


def status_of(before: Sample, now: Sample, name: str, page: str | None = None) -> dict[str, Any]:
    """Rates are means between two samples. Args: page: address of its live page, where it serves one."""
    return {
        "system": name,
        "model": now.facts.plan.config.model,
        "read_path": now.scheduler["policy"],
        "page": page,
        "scheduler": {
            "num_waiting": now.scheduler["num_waiting"],
            "num_bound": now.scheduler["num_bound"],
            "num_decisions": now.scheduler["num_decisions"],
            "num_by_path": now.scheduler["num_by_path"],
        },
        "nodes": [_node(name, now) for name in now.facts.handles.traffic],
        "engines": [_engine(name, engine, now) for name, engine in now.engines.items()],
        "nics": [row for node in now.nodes for row in _nics(before.nodes.get(node), now.nodes[node])],
        "storage": [
            {key: node[key] for key in ("name", "store", "address", "num_blocks", "used_bytes", "capacity_bytes")}
            for node in now.storage
        ],
        "problems": sorted(now.silent.values()),
    }


def _node(node: str, sample: Sample) -> dict[str, Any]:
    group, told = sample.scheduler["groups"].get(node, {}), sample.nodes.get(node)
    row: dict[str, Any] = {
        "node": node,
        "role": str(sample.facts.handles.role_of(node)),
        "host": sample.hosts.get(node, ""),
        "state": "gone" if told is None else "drained" if group.get("drained") else "up",
    }
    if told is not None:
        keys = ("num_slots", "free_slots", "lost_slots", "open_requests", "writing_blocks", "can_read", "load_failures")
        row |= {key: told[key] for key in keys}
    return row


def _engine(name: str, told: dict[str, Any], sample: Sample) -> dict[str, Any]:
    node = name.partition("/")[0]
    loads = sample.scheduler["groups"].get(node, {}).get("engines", [])
    load: dict[str, Any] = next((load for load in loads if load["engine_id"] == name), {})
    return {
        "engine": name,
        "role": told["role"],
        "num_unfinished": load.get("num_unfinished", 0),
        "unfinished_tokens": load.get("unfinished_tokens", 0),
        "free_hbm_tokens": load.get("free_hbm_tokens"),
        "tokens": told.get("computed_tokens", told.get("generated_tokens", 0)),
        "compute_s": told["compute_s"],
    }


def _nics(before: dict[str, Any] | None, now: dict[str, Any]) -> list[dict[str, Any]]:
    passed_s = now["time_s"] - before["time_s"] if before is not None else 0.0
    rows = []
    for name, nic in now["nics"].items():
        then = before["nics"][name] if before is not None else nic
        busy = (nic["busy_s"] - then["busy_s"]) / passed_s if passed_s > 0 else 0.0
        rows.append(
            {
                "nic": name,
                "device": nic["device"],
                "emulated": nic["emulated"],
                "rate_bytes_per_s": nic["rate_bytes_per_s"],
                "bytes": nic["bytes"],
                "bytes_per_s": (nic["moved_bytes"] - then["moved_bytes"]) / passed_s if passed_s > 0 else 0.0,
                "utilisation_ratio": min(1.0, max(0.0, busy)),
                "queued_bytes": nic["queued_bytes"],
            }
        )
    return rows
