"""Mean time to first token of every run, cut into what a turn waits for."""

from dualpath_ray.observability.chart import LABEL_WIDTH, VALUE_WIDTH, WIDTH, Chart, box, text
from dualpath_ray.observability.format import seconds
from dualpath_ray.observability.markup import join
from dualpath_ray.observability.mode_words import mode_note
from dualpath_ray.observability.run_record import Comparison
from dualpath_ray.observability.ttft_parts import TTFT_PARTS, mean_ttft_parts_s

_ROW, _BAR, _TOP = 46.0, 22.0, 34.0
_WHITE_ON = ("wait-engine", "prefill-compute", "read")  # parts dark enough for light words


def ttft_chart(comparison: Comparison) -> Chart:
    """One stacked bar a run, means over all its turns."""
    rows = [(run, mean_ttft_parts_s(run.turns)) for run in comparison.runs]
    longest = max((sum(parts) for _, parts in rows), default=0.0) or 1.0
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    drawn = []
    x = LABEL_WIDTH
    for kind, name, _ in TTFT_PARTS:
        drawn += [box(x, 2, 11, 11, kind, rx=2), text(x + 17, 12, name, "soft")]
        x += 17 + 7.2 * len(name) + 24
    for index, (run, parts) in enumerate(rows):
        y = _TOP + index * _ROW
        drawn += [text(0, y + 13, run.mode, "strong"), text(0, y + 29, mode_note(run), "soft small")]
        x = LABEL_WIDTH
        for (kind, name, _), part in zip(TTFT_PARTS, parts, strict=True):
            width = room * part / longest
            drawn.append(box(x, y + 4, width, _BAR, kind, f"{run.mode}, {name}: {seconds(part)}"))
            words = seconds(part)
            if width > 8 * len(words):
                colour = "on-dark small middle" if kind in _WHITE_ON else "small middle"
                drawn.append(text(x + width / 2, y + 19.5, words, colour))
            x += width
        drawn.append(text(x + 10, y + 20, seconds(sum(parts)), "strong"))
    label = "Mean time to first token. " + "; ".join(
        f"{run.mode} {seconds(sum(parts))}: "
        + ", ".join(f"{name} {seconds(part)}" for (_, name, _), part in zip(TTFT_PARTS, parts, strict=True))
        for run, parts in rows
    )
    return Chart(join(*drawn), _TOP + _ROW * len(rows), label)
