"""The figures of `bench isolation`: pairs of windows, each beside its own without KV."""

from dualpath_ray.bench.isolation import LANES, ONE_LANE, Window, make_rows, said

WITHOUT = Window(0.05, 0.001, 0.0015, 2e8, 0.0)
WITH = Window(0.051, 0.0015, 0.002, 1.9e8, 1.5e8)


def test_a_ratio_is_the_median_of_the_pairs_own_ratios():
    slow = Window(0.1, 0.001, 0.0015, 2e8, 0.0)  # a machine that was busy during one pair
    rows = make_rows("timed-8l-5ms", LANES, [(WITHOUT, WITH), (slow, Window(0.102, 0.0015, 0.002, 1.9e8, 1.5e8))])
    loaded = next(row for row in rows if "output token" in row.name and row.setting.startswith("KV"))
    assert abs(loaded.over_no_kv - 1.02) < 1e-9 and loaded.at_most == 1.02


def test_only_lanes_of_their_own_and_timed_models_have_a_bound():
    assert all(row.at_most is None for row in make_rows("timed-8l-5ms", ONE_LANE, [(WITHOUT, WITH)]))
    assert all(row.at_most is None for row in make_rows("toy-llama", LANES, [(WITHOUT, WITH)]))


def test_a_figure_is_a_line():
    rows = make_rows("timed-8l-5ms", LANES, [(WITHOUT, WITH)])
    assert said(rows[1]) == (
        "timed-8l-5ms, time per output token, KV, own lanes: 51.00 ms, 1.020 of that without KV (at most 1.02)"
    )
    assert said(rows[-1]) == "timed-8l-5ms, KV throughput, KV, own lanes: 150 MB/s"
