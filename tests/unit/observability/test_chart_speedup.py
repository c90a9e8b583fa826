"""The speedup chart: every point is drawn where its rate and speedup say, and said in words."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.units import parse_bps
from dualpath_ray.observability.chart_speedup import speedup_svg

SVG = "{http://www.w3.org/2000/svg}"
RATES = ("10 MB/s", "30 MB/s", "100 MB/s", "2 GB/s")
points = st.lists(st.tuples(st.integers(1_000, 10**13), st.floats(0.1, 20)), max_size=8)


def elements(svg: str, name: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(f"{SVG}{name}"))


def words(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in elements(svg, "text")]


def places(svg: str) -> list[tuple[float, float]]:
    return [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in elements(svg, "circle")]


def test_a_sweep_is_drawn_from_storage_bound_to_compute_bound():
    svg = speedup_svg([(parse_bps(r), s) for r, s in zip(RATES, (1.9, 1.8, 1.4, 1.0), strict=True)], bound=2.0)
    said = words(svg)
    assert {"10", "100", "1000", "storage bound 2.00×", "1.90×", "1.00×"} <= set(said)
    assert "10 MB/s: 1.90×" in [title.text for title in elements(svg, "title")]
    (x10, y10), (x30, _), (x100, _), (_, y2000) = places(svg)
    assert x30 - x10 == pytest.approx((x100 - x10) * 0.4771, abs=0.2), "the axis is logarithmic"
    assert y10 < y2000, "more speedup stands higher"
    bound = next(line for line in elements(svg, "line") if line.attrib["class"] == "bound")
    assert float(bound.attrib["y1"]) < y10 < float(bound.attrib["y1"]) + (y2000 - y10)


@given(points, st.floats(1, 10))
def test_any_points_stay_inside_and_in_order(measured, bound):
    svg = speedup_svg(measured, bound)
    drawn = places(svg)
    width, height = (float(n) for n in re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())
    assert len(drawn) == len(measured)
    assert all(0 < x < width and 0 < y < height for x, y in drawn)
    assert [x for x, _ in drawn] == sorted(x for x, _ in drawn)
    assert len(elements(svg, "path")) == (len(measured) > 1)


def test_it_needs_nothing_from_outside():
    svg = speedup_svg([(parse_bps("10 MB/s"), 1.9)], bound=2.0)
    assert "url(" not in svg and "@import" not in svg and "<script" not in svg
    assert svg.count("http") == 1, "the name of the SVG namespace alone"
