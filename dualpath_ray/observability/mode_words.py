"""What a compared system is, in a few words."""

from collections.abc import Sequence

from dualpath_ray.observability.run_record import RunRecord


def mode_note(run: RunRecord) -> str:
    """``single path``, ``dual path``, ``no I/O charged``, with what is switched off."""
    if run.oracle:
        words = ["no I/O charged"]
    elif run.read_path == "prefill_only":
        words = ["single path"]
    elif run.read_path == "round_robin":
        words = ["dual path, in turns"]
    else:
        words = ["dual path"]
    words += [] if run.layerwise else ["not layerwise"]
    words += [] if run.quota else ["no quota"]
    return ", ".join(words)


def mode_colour(run: RunRecord) -> str:
    """Class of ``chart.css`` for bars of a run."""
    if run.oracle:
        return "hollow"
    return "dual" if run.read_path == "scheduled" else "plain"


def single_path(runs: Sequence[RunRecord]) -> RunRecord | None:
    """The single-path run that others are compared with: as layerwise as the dual path, if there is one such."""
    candidates = [run for run in runs if run.read_path == "prefill_only" and not run.oracle]
    dual = next((run for run in runs if run.read_path == "scheduled" and not run.oracle), None)
    alike = [run for run in candidates if dual is None or run.layerwise is dual.layerwise]
    return next(iter(alike + candidates), None)


def shape(run: RunRecord) -> str:
    """``1P2D``: prefill and decode nodes."""
    return f"{run.prefill_nodes}P{run.decode_nodes}D"
