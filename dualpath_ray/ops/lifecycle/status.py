"""Status of a running system as plain JSON types, and as tables for people. Pure."""

from typing import Any

from dualpath_ray.base.units import format_bytes, format_rate
from dualpath_ray.cluster.status import Sample
from dualpath_ray.observability.columns import columns
from dualpath_ray.observability.format import count, percent


def status_of(before: Sample, now: Sample, name: str) -> dict[str, Any]:
    """Rates are means between two samples."""
    return {
        "system": name,
        "model": now.facts.plan.config.model,
        "read_path": now.scheduler["policy"],
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


def status_text(status: dict[str, Any]) -> str:
    """Tables of nodes, engines, NICs and storage, under a line of the system's own."""
    scheduler, paths = status["scheduler"], status["scheduler"]["num_by_path"]
    decided = ", ".join(f"{count(num)} by the {path} path" for path, num in paths.items())
    head = [
        f"{status['system']}: {status['model']}, read_path={status['read_path']}",
        f"requests: {count(scheduler['num_waiting'])} waiting, {count(scheduler['num_bound'])} under way, "
        f"{count(scheduler['num_decisions'])} placed; hits read: {decided or 'none'}",
    ]
    parts = ["\n".join(head), *(f"problem: {sentence}" for sentence in status["problems"])]
    parts += [_node_table(status["nodes"]), _engine_table(status["engines"]), _nic_table(status["nics"])]
    return "\n\n".join([*parts, _storage_table(status["storage"])])


def _node_table(nodes: list[dict[str, Any]]) -> str:
    header = ("node", "role", "state", "host", "buffer free", "open requests", "writing", "lost", "load failures")
    rows = []
    for node in nodes:
        first = (node["node"], node["role"], node["state"], node["host"])
        if node["state"] == "gone":
            rows.append((*first, "", "", "", "", ""))
            continue
        free = f"{node['free_slots']} of {node['num_slots']} blocks"
        numbers = (count(node[key]) for key in ("open_requests", "writing_blocks", "lost_slots", "load_failures"))
        rows.append((*first, free, *numbers))
    return columns(header, rows)


def _engine_table(engines: list[dict[str, Any]]) -> str:
    header = ("engine", "role", "requests", "tokens to do", "free KV tokens", "tokens done", "computing")
    rows = []
    for engine in engines:
        free = engine["free_hbm_tokens"]
        numbers = (
            count(engine["num_unfinished"]),
            count(engine["unfinished_tokens"]),
            "" if free is None else count(free),
        )
        rows.append(
            (engine["engine"], engine["role"], *numbers, count(engine["tokens"]), f"{engine['compute_s']:.1f} s")
        )
    return columns(header, rows)


def _nic_table(nics: list[dict[str, Any]]) -> str:
    header = ("NIC", "device", "rate", "now", "utilisation", "queue", "bytes")
    rows = []
    for nic in nics:
        rate = nic["rate_bytes_per_s"]
        rows.append(
            (
                nic["nic"],
                nic["device"] or ("emulated" if nic["emulated"] else "none"),
                format_rate(round(rate * 8)) if rate else "not known",
                f"{format_bytes(round(nic['bytes_per_s']))}/s",
                percent(nic["utilisation_ratio"]) if rate else "not known",
                format_bytes(nic["queued_bytes"]),
                format_bytes(nic["bytes"]),
            )
        )
    return columns(header, rows)


def _storage_table(storage: list[dict[str, Any]]) -> str:
    rows = [
        (
            node["name"],
            node["store"],
            node["address"],
            count(node["num_blocks"]),
            f"{format_bytes(node['used_bytes'])} of {format_bytes(node['capacity_bytes'])}",
        )
        for node in storage
    ]
    return columns(("storage", "store", "address", "blocks", "used"), rows)
