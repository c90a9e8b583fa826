"""Table 1 of the paper: what agrees agrees to the last digit that the paper prints, what does not is known."""

import pytest

from dualpath_ray.models.known import known_model
from dualpath_ray.planning.table1 import APPEND_TOKENS, CONTEXT_TOKENS, PAPER, gb_per_pflop_row, table1

AGREE = {"qwen2.5-32b", "gpt-oss-120b", "qwen3-235b-a22b"}
DEVIATE = {"deepseek-v3.2": (0.00, 0.04), "deepseek-v3": (-0.20, -0.22)}


def test_the_rows_are_the_papers():
    rows = table1()
    assert [(row.model, row.paper_low, row.paper_high) for row in rows] == list(PAPER)
    assert {row.model for row in rows} == AGREE | set(DEVIATE)


@pytest.mark.parametrize("row", table1(), ids=lambda row: row.model)
def test_ours_beside_the_papers(row):
    if row.model in AGREE:
        assert (round(row.low), round(row.high)) == (row.paper_low, row.paper_high)
    else:
        found = (row.low_deviation_ratio, row.high_deviation_ratio)
        assert found == pytest.approx(DEVIATE[row.model], abs=0.01)


def test_a_row_of_any_model():
    row = gb_per_pflop_row(known_model("ds-660b"))
    assert [context for context, _ in row] == list(CONTEXT_TOKENS) and APPEND_TOKENS == 429
    ratios = [ratio for _, ratio in row]
    assert ratios == sorted(ratios) and ratios[1] == pytest.approx(22, rel=0.05)  # "about 22" at 32K (section 3)
