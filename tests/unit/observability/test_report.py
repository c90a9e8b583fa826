"""The report and the figure: whole, alone, and safe with any text."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.observability.figure import compare_svg
from dualpath_ray.observability.markup import Markup, tag
from dualpath_ray.observability.path_choices import count_choices
from dualpath_ray.observability.report import render_report
from dualpath_ray.observability.run_record import Comparison, TokenCheck
from dualpath_ray.observability.summary import summarize
from dualpath_ray.observability.ttft_parts import ttft_parts_s

NASTY = "<script>alert('x')</script>&\"quoted\""
VOID = {"meta", "br", "hr", "link"}


class Page(HTMLParser):
    """Elements as they open and close, attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.attributes += attributes
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open and self.open.pop() == name, f"</{name}> closes nothing"

    def handle_data(self, data):
        self.words.append(data)


def rendered(comparison):
    return render_report(comparison, summarize(comparison))


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (10, 12)])
def test_every_element_closes_and_ids_are_unique(made_comparison, shape):
    page = Page(rendered(made_comparison(*shape)))
    assert page.open == []
    ids = [value for key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids)) and {"numbers", "snic", "ttft"} <= set(ids)


def test_it_needs_nothing_from_outside(made_comparison):
    text = rendered(made_comparison())
    page = Page(text)
    assert "http://" not in text and "https://" not in text
    assert "url(" not in text and "@import" not in text
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert all(value.startswith("#") for key, value in page.attributes if key in ("src", "href") and value)


def test_all_text_is_escaped(made_comparison):
    comparison = made_comparison()
    comparison.command = comparison.config["model"] = comparison.workload[NASTY] = comparison.versions["x"] = NASTY
    run = comparison.runs[1]
    run.mode = NASTY
    run.turns = [replace(t, reason=NASTY) for t in run.turns]
    text = rendered(comparison)
    assert "<script" not in text
    assert NASTY in "".join(Page(text).words)
    ElementTree.fromstring(compare_svg(comparison, summarize(comparison)))


def test_the_result_is_the_title_and_bad_news_is_not_hidden(made_comparison):
    good, bad = made_comparison(), made_comparison()
    bad.checks[0] = TokenCheck(384, 0, 3)
    bad.runs[1].load_failures = 2
    assert "with the same tokens" in rendered(good) and 'role="alert"' not in rendered(good)
    assert "but the tokens differ" in rendered(bad) and "3 generated tokens differ" in rendered(bad)
    assert "2 block reads failed" in rendered(bad)


def test_pictures_say_in_words_what_they_show(made_comparison):
    page = Page(rendered(made_comparison()))
    assert page.tags.count("svg") == 3
    labels = [value for key, value in page.attributes if key == "aria-label" and value]
    assert any(label.startswith("Storage NIC reads") and "d0 0.0 %" in label for label in labels)


@pytest.mark.parametrize(
    "modes", [("scheduled",), ("oracle",), ("basic", "scheduled"), ("prefill_only", "prefill_only")]
)
def test_any_set_of_modes_renders(made_comparison, modes):
    comparison = made_comparison(modes=modes)
    Page(rendered(comparison))
    ElementTree.fromstring(compare_svg(comparison, summarize(comparison)))


def test_nothing_at_all_renders(made_run):
    for runs in ([], [made_run(turns=[])], [made_run(turns=[], ended_s=1_000_000.0, snic_read_bytes={"p0": 5})]):
        comparison = Comparison(command="", runs=runs)
        Page(rendered(comparison))
        ElementTree.fromstring(compare_svg(comparison, summarize(comparison)))


def test_nics_that_are_not_emulated_show_their_rate(made_comparison):
    comparison = made_comparison()
    for run in comparison.runs:
        run.nic_rates_bytes_per_s = dict.fromkeys(run.nic_rates_bytes_per_s)
    assert "MiB/s" in rendered(comparison)


@given(st.text(), st.text())
def test_text_survives_escaping(content, attribute):
    element = tag("p", content, title=attribute)
    assert element.count("<") == 2 and element.count(">") == 2
    assert tag("i", Markup("<b></b>")) == "<i><b></b></i>"


times = st.floats(0, 100)


@given(times, times, times, times, times, times)
def test_parts_of_the_first_token_are_never_negative_and_add_up(turn, submit, ready, start, end, queued, read):
    record = replace(
        turn,
        submit_s=submit,
        source_ready_s=ready,
        prefill_start_s=start,
        prefill_end_s=end,
        read_queued_s=queued,
        read_s=read,
    )
    parts = ttft_parts_s(record)
    assert min(parts) >= -1e-9
    assert sum(parts) == pytest.approx(max(0.0, end - submit), abs=1e-9)


def test_parts_by_hand(turn):
    assert ttft_parts_s(turn) == pytest.approx((0.1, 0.2, 0.7, 0.25, 0.25))


def test_reasons_that_differ_in_numbers_are_one(turn):
    turns = [replace(turn, read_path="de", reason=f"read queue PE {i}, DE {i * 2} tokens") for i in range(5)]
    choices = count_choices([*turns, turn, replace(turn, hit_tokens=0, reason="no hit")])
    assert (choices.num_pe, choices.num_de, choices.num_without_hit) == (1, 5, 1)
    assert choices.reasons[0] == ("de", "read queue PE n, DE n tokens", 5)
    assert choices.de_ratio == pytest.approx(5 / 6)
    assert count_choices([]).de_ratio is None
