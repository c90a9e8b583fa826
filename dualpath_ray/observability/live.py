"""What a rollout shows while it runs: a small panel on a terminal, a plain line now and then anywhere else."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

from dualpath_ray.base.units import format_bytes
from dualpath_ray.observability.live_panel import Frame, display_order, panel

_LEAST_COLUMNS = 40  # narrower than this no panel is legible


class LiveDisplay:
    """A context manager; ``update`` may be called as often as one likes, from one thread.

    Args: stream: where to write, standard output unless given; plain_interval_s: between two plain lines; clock:
        seconds that never decrease.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        plain_interval_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._plain_interval_s = plain_interval_s
        self._clock = clock
        self._live: Any = None
        self._next_line_s = float("-inf")
        self._last: Frame | None = None
        self._last_printed: Frame | None = None

    def __enter__(self) -> Self:
        from rich.console import Console

        console = Console(file=self._stream)
        if console.is_terminal and not console.is_dumb_terminal and console.width >= _LEAST_COLUMNS:
            from rich.live import Live

            self._live = Live(console=console, refresh_per_second=4, transient=True, vertical_overflow="crop")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The panel goes, and one plain line of where it ended stays."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        self._print_last()

    def update(
        self,
        mode: str,
        trajectories_done: int,
        trajectories_total: int,
        turns_done: int,
        turns_total: int,
        generated_tokens: int,
        tokens_per_s: float,
        elapsed_s: float,
        nics: dict[str, tuple[float, int]],
    ) -> None:
        """Show this state.

        Args: tokens_per_s: generated; nics: direction of a NIC (``p0/snic/in``) -> (utilisation ratio, queued bytes).
        """
        frame = Frame(
            mode,
            trajectories_done,
            trajectories_total,
            turns_done,
            turns_total,
            generated_tokens,
            tokens_per_s,
            elapsed_s,
            nics,
        )
        if self._last is not None and self._last.mode != mode:
            self._print_last()
            self._next_line_s = float("-inf")  # a new run shows at once
        self._last = frame
        if self._live is not None:
            self._live.update(panel(frame, self._live.console))
        elif self._clock() >= self._next_line_s:
            self._print_line(frame)

    def _print_last(self) -> None:
        """Where a run ended, unless that was printed already."""
        if self._last is not None and self._last is not self._last_printed:
            self._print_line(self._last)

    def _print_line(self, frame: Frame) -> None:
        self._last_printed = frame
        self._next_line_s = self._clock() + self._plain_interval_s
        if self._live is not None:
            self._live.console.print(plain_line(frame), markup=False, highlight=False, soft_wrap=True)
        else:
            print(plain_line(frame), file=self._stream, flush=True)


def plain_line(frame: Frame) -> str:
    """One line of ASCII: what is done, how fast, and how busy every storage NIC is with reads."""
    busy = [
        f"{name.removesuffix('/snic/in')} {ratio:.0%}" + (f" ({format_bytes(queued)} wait)" if queued else "")
        for name, (ratio, queued) in ((name, frame.nics[name]) for name in sorted(frame.nics, key=display_order))
        if name.endswith("/snic/in")
    ]
    shown = busy[:8] + ([f"{len(busy) - 8} more"] if len(busy) > 8 else [])
    parts = [
        f"{frame.elapsed_s:.0f} s",
        f"{frame.trajectories_done}/{frame.trajectories_total} trajectories",
        f"{frame.turns_done}/{frame.turns_total} turns",
        f"{frame.tokens_per_s:.1f} tokens/s",
    ]
    if shown:
        parts.append("SNIC reads " + ", ".join(shown))
    return f"{frame.mode}: " + ", ".join(parts)
