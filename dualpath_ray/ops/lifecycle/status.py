"""Status of a running system as tables for people. Pure."""

from typing import Any

from dualpath_ray.base.units import format_bytes, format_rate
from dualpath_ray.observability.columns import columns
from dualpath_ray.observability.format import count, percent


def status_text(status: dict[str, Any]) -> str:
    """Tables of nodes, engines, NICs and storage, under a line of the system's own."""
    scheduler, paths = status["scheduler"], status["scheduler"]["num_by_path"]
    decided = ", ".join(f"{count(num)} by the {path} path" for path, num in paths.items())
    head = [
        f"{status['system']}: {status['model']}, read_path={status['read_path']}",
        f"requests: {count(scheduler['num_waiting'])} waiting, {count(scheduler['num_bound'])} under way, "
        f"{count(scheduler['num_decisions'])} placed; hits read: {decided or 'none'}",
    ]
    if status["page"]:
        head.append(f"live page: {status['page']}")
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
