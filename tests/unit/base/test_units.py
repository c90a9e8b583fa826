"""Units as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.units import (
    align_up,
    bytes_per_s,
    format_bytes,
    format_rate,
    parse_bps,
    parse_bytes,
    parse_bytes_per_s,
    parse_flops,
)


@pytest.mark.parametrize(
    ("text", "bps"),
    [
        ("400 Gbps", 400 * 10**9),
        ("6 MB/s", 48 * 10**6),
        ("6 Mb/s", 6 * 10**6),
        ("6 Mbit/s", 6 * 10**6),
        ("1.5 GB/s", 12 * 10**9),
        ("2 MiB/s", 2 * 2**20 * 8),
        ("100bps", 100),
        (48e6, 48 * 10**6),
        (7, 7),
    ],
)
def test_rates(text, bps):
    assert parse_bps(text) == bps


@pytest.mark.parametrize("text", ["fast", "", "6 MB", "-6 MB/s", "0 bps", 0, -1, None, True, "6 XB/s"])
def test_what_is_no_rate(text):
    with pytest.raises(ValueError, match="rate"):
        parse_bps(text)


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("80 GB", 80 * 10**9), ("512 MiB", 512 * 2**20), ("512Mi", 512 * 2**20), ("1.5k", 1500), ("7", 7), (12, 12)],
)
def test_sizes(text, nbytes):
    assert parse_bytes(text) == nbytes


@pytest.mark.parametrize("text", ["big", "", "6 MB/s", "-1", 0, True, None])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "rate"), [("3.35 TB/s", 3_350 * 10**9), ("400 Gbps", 50 * 10**9), (500_000, 500_000), (2e12, 2 * 10**12)]
)
def test_rates_of_memory(text, rate):
    assert parse_bytes_per_s(text) == rate


@pytest.mark.parametrize("text", ["fast", "80 GB", "0 bps", 0, -1, None, True, float("nan")])
def test_what_is_no_rate_of_memory(text):
    with pytest.raises(ValueError, match="rate"):
        parse_bytes_per_s(text)


@pytest.mark.parametrize(
    ("text", "rate"), [("989.4 TFLOPS", 989_400 * 10**9), ("9 PFLOP/s", 9 * 10**15), ("2 flops", 2), (1e12, 10**12)]
)
def test_rates_of_computing(text, rate):
    assert parse_flops(text) == rate


@pytest.mark.parametrize("text", ["fast", "9 PB/s", "9 PFLOP", "0 TFLOPS", 0, -1, None, True, float("inf")])
def test_what_is_no_rate_of_computing(text):
    with pytest.raises(ValueError, match="rate of computing"):
        parse_flops(text)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 2**30, "3.0 GiB"), (2**50, "1024.0 TiB")]
)
def test_sizes_are_shown(count, text):
    assert format_bytes(count) == text


def test_rates_are_shown():
    assert (format_rate(48e6), format_rate(16e9)) == ("6.0 MB/s", "2.0 GB/s")
    assert bytes_per_s(parse_bps("6 MB/s")) == 6e6


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_align_up(value, to):
    aligned = align_up(value, to)
    assert aligned % to == 0 and value <= aligned < value + to
