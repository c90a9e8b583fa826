"""Why a request went where it went: the inputs of its decision, and the decision taken again from them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.scheduler.decision_log import from_record, replay
from dualpath_ray.scheduler.inter_engine import balance_threshold
from dualpath_ray.scheduler.records import view_from_json
from dualpath_ray.scheduler.state import DecodeLoad, FetchLimits, NodeLoad, PrefillLoad

FILE_NAME = "decisions.jsonl"


def explain(request_id: str, results_dir: Path) -> str:
    """Text about every decision on a request.

    Args:   request_id: or the start of it, when only one request starts so.
    Raises: ConfigError naming the file when there is no such request, more than one, or no intact file.
    """
    path = results_dir / FILE_NAME
    records = read_decisions(path)
    return "\n\n".join(describe_decision(record) for record in _find(records, request_id, path))


def read_decisions(path: Path) -> list[dict[str, Any]]:
    """The records of a file, one a line. Raises: ConfigError naming file and line."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; run `dualpath rollout` first, or name its results with --out"
        ) from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            record["request_id"], record["inputs"]["request"]  # noqa: B018  (a record has both)
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{path}: line {number} is no decision; run `dualpath rollout` again") from None
        records.append(record)
    return records


def _find(records: Sequence[dict[str, Any]], request_id: str, path: Path) -> list[dict[str, Any]]:
    ids = list(dict.fromkeys(record["request_id"] for record in records))
    found = [request_id] if request_id in ids else [i for i in ids if i.startswith(request_id)]
    if len(found) == 1:
        return [record for record in records if record["request_id"] == found[0]]
    if found:
        raise ConfigError(f"request {request_id}: {len(found)} requests start so: {_some(found)}")
    raise ConfigError(f"request {request_id}: not in {path}, which has {_some(ids) or 'none'}")


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def describe_decision(record: dict[str, Any]) -> str:
    """One decision: request, decode side, prefill side, read side, and whether its inputs lead there again."""
    mode = record.get("mode", "")
    record = {key: value for key, value in record.items() if key != "mode"}
    limits = FetchLimits(**record["inputs"]["limits"])
    lines = [
        f"request {record['request_id']}, attempt {record['attempt']}: decision {record['seq']}"
        + (f" of the run {mode}" if mode else ""),
        *_request_lines(record["inputs"]["request"]),
        *_decode_lines(record, limits),
        *_prefill_lines(record, limits),
        *_read_lines(record),
        _replay_line(record),
    ]
    return "\n".join(lines)


def _request_lines(request: dict[str, Any]) -> list[str]:
    return [
        f"  prompt {request['prompt_tokens']} tokens, {request['hit_tokens']} of them a hit; at most "
        f"{request['max_new_tokens']} new tokens, {request['num_samples']} sample(s); trajectory {request['trajectory_id']}"
    ]


def _decode_lines(record: dict[str, Any], limits: FetchLimits) -> list[str]:
    inputs = record["inputs"]
    loads = [load for load in view_from_json(inputs["decode"]).engines if isinstance(load, DecodeLoad)]
    unfinished = sum(load.unfinished_tokens for load in loads)
    threshold = balance_threshold(inputs["fitting_tokens"], unfinished, len(loads), limits)
    groups = ", ".join(f"{group} {tokens}" for group, tokens in inputs["groups"].items())
    rows: list[Sequence[object]] = [
        ["engine", "seq_e", "tok_e", "free HBM", ""],
        *(
            [
                load.engine_id,
                load.num_unfinished,
                load.unfinished_tokens,
                load.free_hbm_tokens,
                _chosen(load.engine_id, record["decode_engine"]),
            ]
            for load in loads
        ),
    ]
    return [
        "",
        f"decode group {record['decode_group']}: least total tok_e of {groups}",
        f"decode engine: Z = {limits.imbalance} x mean tok_e = {threshold:.0f} tokens, with {inputs['fitting_tokens']} "
        "tokens of requests that fit; under Z least seq_e wins, else least tok_e",
        *_table(rows),
    ]


def _prefill_lines(record: dict[str, Any], limits: FetchLimits) -> list[str]:
    rows: list[Sequence[object]] = [["engine", "class", "tok_e", "read_q", ""]]
    for view in map(view_from_json, record["inputs"]["prefill"]):
        node = view.node
        for load in view.engines:
            assert isinstance(load, PrefillLoad)
            chosen = _chosen(load.engine_id, record["prefill_engine"])
            rows.append(
                [load.engine_id, _class_of(load, node, limits), load.unfinished_tokens, node.read_queue_tokens, chosen]
            )
    return [
        "",
        f"prefill engine: alpha = {limits.short_read_queue_tokens} tokens of read queue, "
        f"beta = {limits.max_unfinished_tokens} unfinished tokens; short queues first, then least tok_e",
        *_table(rows),
    ]


def _class_of(load: PrefillLoad, node: NodeLoad, limits: FetchLimits) -> str:
    """Class of a prefill engine (section 6.1)."""
    if load.unfinished_tokens > limits.max_unfinished_tokens:
        return "overloaded (> beta)"
    short = node.read_queue_tokens <= limits.short_read_queue_tokens
    return "short queue (<= alpha)" if short else "long queue (> alpha)"


def _read_lines(record: dict[str, Any]) -> list[str]:
    inputs = record["inputs"]
    prefill = next(group for group in inputs["prefill"] if group["group_id"] == record["prefill_group"])
    rows: list[Sequence[object]] = [["side", "node", "read_q", "read so far", "can read", ""]]
    for side, group in (("pe", prefill), ("de", inputs["decode"])):
        node = view_from_json(group).node
        can_read = "yes" if node.can_read else "no"
        chosen = _chosen(side, record["read_path"])
        rows.append([side, node.node_id, node.read_queue_tokens, f"{node.read_bytes} B", can_read, chosen])
    return ["", f"read side {record['read_path']}, by {inputs['policy']}: {record['reason']}", *_table(rows)]


def _replay_line(record: dict[str, Any]) -> str:
    try:
        again = replay(record)
    except (ValueError, ConfigError) as error:
        return f"\nreplay: not possible: {error}"
    logged = from_record(record)
    if again.without_inputs() == logged.without_inputs():
        return "\nreplay: the same inputs give the same decision"
    return (
        f"\nreplay: the same inputs give ANOTHER decision: {again.prefill_engine}, {again.decode_engine}, "
        f"read side {again.read_path.value} ({again.reason})"
    )


def _chosen(name: str, chosen: str) -> str:
    return "<- chosen" if name == chosen else ""


def _table(rows: Iterable[Sequence[object]]) -> list[str]:
    text = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    return ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in text]
