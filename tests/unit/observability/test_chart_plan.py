"""The picture of a plan."""

from xml.etree import ElementTree

from dualpath_ray.observability.chart_plan import PlanBars, plan_chart, plan_svg

ROWS = [
    PlanBars("1P2D", "P/D 0.50, in range", [("dual path", 0.8, "0.8"), ("single path", 0.4, "0.4")], best=True),
    PlanBars("2P1D", "P/D 2.00, DE DRAM first", [("dual path", 0.5, "0.5")]),
    PlanBars("3P0D", "does not fit", [], says="no room " * 60),
]


def boxes(svg, kind):
    return [e for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("rect") and e.get("class") == kind]


def test_bars_are_to_one_scale_and_the_best_stands_out():
    svg = plan_svg("Use 1P2D", ROWS, "agents per second")
    dual, plain = boxes(svg, "dual"), boxes(svg, "plain")
    legend = 11.0
    widths = [float(e.get("width")) for e in dual if float(e.get("width")) != legend]
    (single,) = [float(e.get("width")) for e in plain if float(e.get("width")) != legend]
    assert [w / widths[0] for w in (*widths, single)] == [1.0, widths[1] / widths[0], 0.5]
    assert abs(widths[1] / widths[0] - 0.5 / 0.8) < 1e-3
    assert len(boxes(svg, "track")) == 1
    assert "prefers-color-scheme:dark" in svg


def test_words_in_place_of_bars_are_cut_to_the_room():
    chart = plan_chart(ROWS)
    assert "…" in chart.body and "3P0D: no room" in chart.label


def test_what_is_asked_for_is_within_the_picture():
    assert "asked for: 2" in plan_chart(ROWS, wanted=2.0).body
    assert "asked for" not in plan_chart(ROWS).body
    assert plan_chart([]).height > 0
