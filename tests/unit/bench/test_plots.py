"""Pictures of results: what is drawn is what the rows say."""

import json
import re
from pathlib import Path

import pytest

from dualpath_ray.bench.pages import all_pictures
from dualpath_ray.bench.plots import PLOTS, pictures
from dualpath_ray.observability.chart_lines import lines_chart

RESULTS = Path(__file__).parents[3] / "docs" / "benchmarks"


def rate(name, size, gbps, limit=50.0):
    return {
        "name": name,
        "block_bytes": size,
        "bytes_per_s": gbps * 1e9,
        "limit_name": "one large copy",
        "limit_bytes_per_s": limit * 1e9,
    }


def test_the_committed_pictures_are_those_of_the_committed_results():
    drawn = all_pictures(RESULTS)
    assert drawn and {name: (RESULTS / name).read_text() for name in drawn} == drawn
    known = {f"{stem}-" for stem in PLOTS}
    assert {p.name for p in RESULTS.glob("*.svg") if any(p.name.startswith(k) for k in known)} == set(drawn)


def test_a_line_for_each_way_and_the_limit_dashed():
    rows = [rate("kernel, to the device", size, gbps) for size, gbps in ((65536, 40.0), (16384, 20.0))]
    rows.append(rate("kernel, to the host", 16384, 99.0))
    [(name, title, svg)] = pictures("h2d-x", {"rows": rows})
    assert name == "h2d-x-1.svg" and "by size of a block" in title
    assert "kernel: 16 KiB 20, 64 KiB 40" in svg and "one large copy: 16 KiB 50, 64 KiB 50" in svg
    assert len(re.findall("stroke-dasharray:5 4", svg)) == 1 and "99" not in svg.partition("</title>")[0]


def test_each_model_gets_a_picture_and_one_point_is_none():
    step = {"limit_s": 0.5, "graph_s": 1.0, "launched_s": 2.0}
    rows = [{"name": "a", "batch": 1, **step}, {"name": "a", "batch": 4, **step}, {"name": "b", "batch": 1, **step}]
    [(_, title, svg)] = pictures("decode-x", {"rows": rows})
    assert title == "Decode of a" and "recorded graph: 1 1, 4 4" in svg
    assert pictures("unknown", {"rows": rows}) == []


@pytest.mark.parametrize("ends", [(5.0, 5.0, 5.0), (10.0, 0.0, 0.1, 0.2), (10.0, 10.0, 9.9, 0.0)])
def test_names_do_not_touch_and_stay_in_the_picture(ends):
    lines = {f"line {i}": [(1.0, 1.0), (2.0, y)] for i, y in enumerate(ends)}
    chart = lines_chart({1.0: "1", 2.0: "2"}, lines)
    heights = sorted(float(y) for y in re.findall(r'<text x="664" y="([-\d.]+)"', str(chart.body)))
    assert len(heights) == len(ends)
    assert all(b - a >= 14.9 for a, b in zip(heights, heights[1:], strict=False)) and heights[-1] <= chart.height


def test_a_result_without_the_numbers_is_named(tmp_path):
    from dualpath_ray.base.errors import ConfigError

    (tmp_path / "decode-x.json").write_text(json.dumps({"rows": [{"name": "a", "batch": 1}]}))
    with pytest.raises(ConfigError, match=r"decode-x\.json"):
        all_pictures(tmp_path)
