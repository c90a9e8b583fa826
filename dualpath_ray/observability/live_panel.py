"""The panel of the live display: progress, tokens per second and a bar for every direction of a NIC."""

from dataclasses import dataclass
from typing import Any

from dualpath_ray.base.units import format_bytes
from dualpath_ray.observability.format import count, seconds

_LONGEST_BAR = 40


@dataclass(frozen=True, slots=True)
class Frame:
    """One state of a rollout."""

    mode: str
    trajectories_done: int
    trajectories_total: int
    turns_done: int
    turns_total: int
    generated_tokens: int
    tokens_per_s: float  # generated
    elapsed_s: float
    nics: dict[str, tuple[float, int]]  # direction -> (utilisation ratio, queued bytes)


def panel(frame: Frame, console: Any) -> Any:
    """A rich renderable that fits the console; storage NICs come first, the rest as far as there is room."""
    from rich.console import Group
    from rich.text import Text

    fancy = console.encoding.lower().startswith("utf")
    full, empty = ("━", "─") if fancy else ("=", "-")
    label_width = max([len(name) for name in frame.nics], default=0)
    bar_width = max(6, min(_LONGEST_BAR, console.width - max(12, label_width) - 24))
    head = Text()
    head.append(frame.mode, style="bold")
    done = f"{count(frame.turns_done)}/{count(frame.turns_total)} turns"
    trajectories = f"{count(frame.trajectories_done)}/{count(frame.trajectories_total)} trajectories"
    head.append(f"  {done}, {trajectories}, {frame.tokens_per_s:.1f} tokens/s, {seconds(frame.elapsed_s)}")
    share = frame.turns_done / frame.turns_total if frame.turns_total else 0.0
    lines = [head, _bar("turns", share, "", "green", max(12, label_width), bar_width, full, empty)]
    ordered = sorted(frame.nics, key=display_order)
    room = max(1, console.height - 5)
    for name in ordered[:room]:
        ratio, queued = frame.nics[name]
        colour = "cyan" if "/snic" in name else "blue"
        waits = f"{format_bytes(queued)} wait" if queued else ""
        lines.append(_bar(name, ratio, waits, colour, max(12, label_width), bar_width, full, empty))
    if len(ordered) > room:
        lines.append(Text(f"and {len(ordered) - room} more", style="dim"))
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis" if fancy else "crop"
    return Group(*lines)


def _bar(
    name: str, ratio: float, note: str, colour: str, label_width: int, bar_width: int, full: str, empty: str
) -> Any:
    from rich.text import Text

    filled = round(bar_width * min(1.0, max(0.0, ratio)))
    line = Text()
    line.append(name.ljust(label_width) + " ")
    line.append(full * filled, style=colour)
    line.append(empty * (bar_width - filled), style="dim")
    line.append(f" {ratio:4.0%}")
    if note:
        line.append(f" {note}", style="dim")
    return line


def display_order(name: str) -> tuple[int, bool, str]:
    """Storage reads, storage writes, then compute NICs; prefill nodes before decode nodes."""
    storage = "/snic" in name
    kind = 0 if storage and name.endswith("/in") else 1 if storage else 2
    return kind, not name.startswith("p"), name
