"""``dualpath trace``: why a request went where it went and what each stage took; and a file for Perfetto. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from dualpath_ray.base.units import format_bytes
from dualpath_ray.cluster.trace import RequestTrace
from dualpath_ray.observability.columns import columns
from dualpath_ray.observability.format import count, seconds
from dualpath_ray.ops.explain import describe_decision

_WORDS = {
    "kv_read": "hit read from storage",
    "kv_in": "cached KV to the prefill node, layer by layer",
    "prefill_layer": "prefill, layer by layer",
    "kv_out": "KV to the decode node, layer by layer",
    "decode_step": "decode steps",
}
_STAGES = (  # (what, begins, ends) of the facts
    ("waited for the hit", "assigned_s", "source_ready_s"),
    ("waited for a prefill batch", "source_ready_s", "prefill_start_s"),
    ("prefill, to the first token", "prefill_start_s", "prefill_end_s"),
    ("last KV to the DE buffer", "prefill_end_s", "prompt_complete_s"),
    ("DE buffer to the decode engine", "prompt_complete_s", "loaded_s"),
    ("decode, until all is stored", "loaded_s", "finished_s"),
)


def trace_text(trace: RequestTrace) -> str:
    """The decision with its inputs, then stages, what was done where, and what was computed again."""
    parts = [describe_decision(trace.decision)]
    if trace.facts is not None:
        parts.append(_stages(trace.facts))
    parts.append(_spans(trace.spans) if trace.spans else "no span of it is kept any more")
    parts.append(_recomputed(trace))
    parts += [f"not all is known: {reason}" for reason in trace.silent]
    return "\n\n".join(parts)


def _stages(facts: dict[str, Any]) -> str:
    rows = [
        (what, seconds(facts[end] - facts[begin])) for what, begin, end in _STAGES if begin in facts and end in facts
    ]
    waits = f"of the wait for the hit, {seconds(facts.get('read_queued_s', 0.0))} were for buffer slots"
    return f"{columns(('stage', 'took'), rows)}\n{waits}"


def _spans(spans: Sequence[dict[str, Any]]) -> str:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for span in spans:
        groups[span["name"], span["place"]].append(span)
    first_s = spans[0]["start_s"]
    rows = []
    for (name, place), some in groups.items():
        begin, end = min(s["start_s"] for s in some), max(s["stop_s"] for s in some)
        nbytes = sum(s["nbytes"] for s in some)
        notes = "; ".join(dict.fromkeys(s["note"] for s in some if s["note"]))
        rows.append(
            (
                _WORDS[name],
                place,
                seconds(begin - first_s),
                seconds(end - first_s),
                count(len(some)),
                format_bytes(nbytes) if nbytes else "",
                notes,
            )
        )
    header = ("what", "where", "from", "to", "times", "bytes", "")
    return f"{columns(header, rows)}\nbytes and times of a batch are those of all its requests"


def _recomputed(trace: RequestTrace) -> str:
    hit = trace.decision["inputs"]["request"]["hit_tokens"] if trace.decision["inputs"] else 0
    if trace.facts is None or "hit_blocks" not in trace.facts:
        return "recomputed: not known, since it has not ended, that is long ago, or who knew it is gone"
    again = hit - trace.facts["hit_blocks"] * trace.block_tokens
    if not again:
        return "recomputed: nothing; every token of the hit was loaded"
    causes = [s["note"].partition("failed: ")[2] for s in trace.spans if "failed: " in s["note"]]
    return f"recomputed: {count(again)} tokens of the hit, since a block was lost: {', '.join(causes) or 'no room'}"


def perfetto(trace: RequestTrace) -> dict[str, Any]:
    """The spans in the format of chrome://tracing, which Perfetto opens: a process a node, a thread a NIC or engine."""
    nodes = sorted({_node(span) for span in trace.spans})
    places = sorted({span["place"] for span in trace.spans})
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": node}} for pid, node in enumerate(nodes)
    ]
    events += [
        {
            "ph": "M",
            "name": "thread_name",
            "pid": nodes.index(place.partition("/")[0]),
            "tid": tid,
            "args": {"name": place},
        }
        for tid, place in enumerate(places)
    ]
    for span in trace.spans:
        layer = f" {span['layer']}" if span["layer"] is not None else ""
        told = {"layer": span["layer"]} if span["layer"] is not None else {}
        told |= {key: span[key] for key in ("nbytes", "note") if span[key]}
        events.append(
            {
                "ph": "X",
                "name": f"{span['name']}{layer}",
                "cat": span["name"],
                "ts": span["start_s"] * 1e6,
                "dur": max(0.0, span["stop_s"] - span["start_s"]) * 1e6,
                "pid": nodes.index(_node(span)),
                "tid": places.index(span["place"]),
                "args": {**told, "requests": len(span["request_ids"])},
            }
        )
    about = {
        key: trace.decision[key] for key in ("request_id", "read_path", "reason", "prefill_engine", "decode_engine")
    }
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}


def _node(span: dict[str, Any]) -> str:
    return str(span["place"].partition("/")[0])
