"""The live display and the closing table, on terminals and anything else."""

import io

import pytest
from rich.console import Console

from dualpath_ray.observability.closing import closing_table, closing_text, print_closing
from dualpath_ray.observability.live import LiveDisplay
from dualpath_ray.observability.live_panel import Frame, panel
from dualpath_ray.observability.summary import summarize

NICS = {"d0/snic/in": (0.5, 0), "p0/cnic0/out": (0.1, 10), "p0/snic/in": (1.0, 3_000_000), "p0/snic/out": (0.0, 0)}


def show(display, mode="scheduled", turns=3):
    display.update(mode, 1, 8, turns, 96, 12, 4.5, 20.0, NICS)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_without_a_terminal_a_plain_line_every_ten_seconds():
    now = 0.0
    out = io.StringIO()
    with LiveDisplay(out, clock=lambda: now) as display:
        for turns in range(31):
            now = float(turns)
            show(display, turns=turns)
    lines = out.getvalue().splitlines()
    assert [line.split(", ")[2] for line in lines] == ["0/96 turns", "10/96 turns", "20/96 turns", "30/96 turns"]
    assert all(line.isascii() and "\x1b" not in line for line in lines)
    assert "SNIC reads p0 100% (2.9 MiB wait), d0 50%" in lines[0]


def test_the_last_state_of_every_run_is_printed_once():
    out = io.StringIO()
    with LiveDisplay(out, clock=lambda: 0.0) as display:
        for mode in ("prefill_only", "scheduled"):
            for turns in (1, 2, 96):
                show(display, mode, turns)
    lines = out.getvalue().splitlines()
    assert [(line.split(":")[0], line.split(", ")[2]) for line in lines] == [
        (mode, turns) for mode in ("prefill_only", "scheduled") for turns in ("1/96 turns", "96/96 turns")
    ]


def test_a_terminal_gets_a_panel_that_goes_away(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("LINES", "30")
    out = Terminal()
    with LiveDisplay(out) as display:
        show(display)
    assert "p0/snic/in" in out.getvalue() and out.getvalue().endswith("\n")


@pytest.mark.parametrize("columns", ["1", "20", "41"])
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_narrow_or_dumb_terminal_breaks_nothing(monkeypatch, columns, term):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", columns)
    with LiveDisplay(Terminal()) as display:
        show(display)
        show(display, turns=96)


def test_an_error_passes_through_and_the_terminal_is_given_back(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with pytest.raises(RuntimeError, match="boom"), LiveDisplay(out) as display:
        show(display)
        raise RuntimeError("boom")
    assert "\x1b[?25h" in out.getvalue()  # the cursor is back


@pytest.mark.parametrize(("encoding", "ascii_only"), [("utf-8", False), ("ascii", True)])
def test_the_panel_fits_and_speaks_the_encoding(encoding, ascii_only):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, width=50, height=8, force_terminal=True, color_system=None)
    nics = {f"p{i}/snic/in": (i / 20, 0) for i in range(20)}
    console.print(panel(Frame("scheduled", 1, 8, 3, 96, 12, 4.5, 20.0, nics), console))
    stream.seek(0)
    lines = stream.read().splitlines()
    assert len(lines) <= 8 and all(len(line) <= 50 for line in lines)
    assert all(line.isascii() for line in lines) is ascii_only


def test_the_closing_table_has_a_column_a_run(made_comparison):
    summary = summarize(made_comparison())
    table = closing_table(summary)
    assert [str(column.header) for column in table.columns[1:]] == ["prefill_only", "scheduled", "oracle"]
    text = closing_text(summary)
    assert (
        text.isascii()
        and "Job completion time" in text
        and text.splitlines()[0].split()
        == [
            "prefill_only",
            "scheduled",
            "oracle",
        ]
    )
    out = io.StringIO()
    print_closing(summary, out)
    assert out.getvalue() == text + "\n"
