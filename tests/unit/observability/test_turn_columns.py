"""Columns of turns say the same as records of turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.observability.run_record import TurnRecord
from dualpath_ray.observability.turn_columns import MOST_REASONS, STORED, TurnColumns, TurnNames, column, text_column

NAMES = TurnNames(
    trajectory=lambda agent: f"t{agent}",
    engines=["p0/e0", "p0/e1", "d0/e0"],
    block_tokens=16,
    sealed_bytes=1000,
    full_block_bytes=900,
    token_bytes=10,
    charged=True,
)


def values(draw):
    hit = draw(st.integers(0, 20)) * 16
    miss, gen = draw(st.integers(1, 100)), draw(st.integers(1, 50))
    times = sorted(draw(st.lists(st.floats(0, 1e4), min_size=8, max_size=8)))
    second = times[4] + draw(st.floats(0.001, 1)) if gen > 1 else 0.0
    counts = [draw(st.integers(0, 5)), draw(st.integers(0, 5)), hit + miss, miss, hit, gen, 1]
    return [draw(st.booleans()), *times, 0.5, 0.25, second, *counts, draw(st.integers(0, 1)), 2, 30, 40]


rows = st.lists(st.composite(values)(), max_size=6)


@given(rows)
def test_a_record_has_what_was_appended_and_what_follows_from_it(rows):
    columns = TurnColumns(NAMES)
    for row in rows:
        columns.append(row, "because")
    records = list(columns)
    assert len(records) == len(columns) == len(rows)
    for row, record in zip(rows, records, strict=True):
        given = dict(zip(STORED, row, strict=True))
        assert record.read_path == ("de" if given["read_path"] else "pe")
        assert record.reason == "because"
        assert record.trajectory_id == f"t{given['agent']}"
        assert record.prefill_engine == NAMES.engines[given["prefill_engine"]]
        for name in ("submit_s", "finished_s", "prompt_tokens", "hit_tokens", "num_chunks", "cnic_out_bytes"):
            assert getattr(record, name) == given[name]
        assert record.miss_tokens == given["prompt_tokens"] - given["hit_tokens"]
        assert record.ttft_s == given["prefill_end_s"] - given["submit_s"]
        assert record.snic_read_bytes == given["hit_tokens"] // 16 * 1000
        end = given["prompt_tokens"] + given["generated_tokens"] - 1
        assert record.snic_write_bytes == (end // 16 - given["hit_tokens"] // 16) * 1000
        if given["generated_tokens"] == 1:
            assert record.ttst_s == record.tpot_s == 0


@given(rows)
def test_columns_and_records_agree(rows):
    columns = TurnColumns(NAMES)
    for row in rows:
        columns.append(row, "")
    records: list[TurnRecord] = list(columns)
    for name, kind in TurnRecord.__annotations__.items():
        if kind is str:
            assert text_column(columns, name) == text_column(records, name)
        else:
            assert column(columns, name).tolist() == column(records, name).tolist()


def test_slices_and_negative_places():
    columns = TurnColumns(NAMES)
    for turn in range(5):
        columns.append([0, *[0.0] * 11, 1, turn, 20, 4, 16, 3, 1, 0, 2, 0, 0], "")
    assert [record.turn for record in columns[1:4]] == [1, 2, 3]
    assert columns[-1].turn == 4
    with pytest.raises(IndexError):
        columns[5]


def test_the_reasons_of_millions_are_not_kept(monkeypatch):
    monkeypatch.setattr("dualpath_ray.observability.turn_columns.MOST_REASONS", 2)
    assert MOST_REASONS > 2
    columns = TurnColumns(NAMES)
    for turn in range(3):
        columns.append([0, *[0.0] * 11, 1, turn, 20, 4, 16, 3, 1, 0, 2, 0, 0], "long")
    assert columns.text("reason") == ["", "", ""]
