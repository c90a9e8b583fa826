"""Everything on the page can be told from what it stands on: the contrast that WCAG 2 asks for."""

import re

import pytest

from dualpath_ray.observability.palette import DARK, LIGHT
from dualpath_ray.ui.page import live_page

TEXT, GRAPHIC = 4.5, 3.0


def luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "card", "track"])
@pytest.mark.parametrize(
    ("colour", "least"),
    [("ink", TEXT), ("soft", TEXT), ("dual", TEXT), ("alarm", TEXT), ("prefill", GRAPHIC), ("decode", GRAPHIC)],
)
def test_words_and_bars_stand_out(colours, ground, colour, least):
    assert contrast(colours[colour], colours[ground]) >= least


def test_words_have_no_colours_but_those():
    style = re.search(r"<style>(.*?)</style>", live_page("n"), re.DOTALL)
    assert style is not None
    used = set(re.findall(r"[{; ]color:\s*var\(--([a-z-]+)\)", style.group(1)))
    assert used <= {"ink", "soft", "dual", "alarm"}


def test_the_page_asks_nobody_else():
    page = live_page("n0nce")
    assert re.findall(r"https?://[^\s'\"]+", page) == ["http://www.w3.org/2000/svg"] * 2, "names of SVG, not addresses"
    assert "{{" not in page and page.count('nonce="n0nce"') == 1
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
