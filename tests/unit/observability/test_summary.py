"""Numbers of the summary, by hand and for every record."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.observability.run_record import Comparison, TokenCheck
from dualpath_ray.observability.summary import json_clean, summarize, summarize_run

RATE = 1e6


def compared(*runs, checks=()):
    return summarize(Comparison(command="c", runs=list(runs), checks=list(checks)))


def timed(made_run, mode, jct_s, **more):
    return made_run(mode, started_s=100.0, ended_s=100.0 + jct_s, **more)


def test_a_run_by_hand(made_run, turn):
    second = replace(turn, trajectory_id="t1", ttft_s=2.5, generated_tokens=1, hit_tokens=64, recomputed_tokens=64)
    run = made_run(
        rate=RATE,
        turns=[turn, second],
        snic_read_bytes={"p0": 3_000_000, "d0": 1_000_000},
        snic_write_bytes={"p0": 0, "d0": 7},
        cnic_bytes={"p0": {"in": 1, "out": 2}},
        read_spans={"p0": [(0.0, 2.0, 2_000_000), (1.0, 3.0, 1_000_000)], "d0": [(5.0, 7.0, 1_000_000)]},
        cpu_s=3.0,
        load_failures=1,
    )
    out = summarize_run(run)
    assert out["jct_s"] == pytest.approx(2.0)
    assert out["ttft_s"] == pytest.approx({"p50": 2.0, "p99": 2.49, "mean": 2.0})
    assert out["ttst_s"] == pytest.approx({"p50": 0.2, "p99": 0.2, "mean": 0.2})  # a single token has no second
    assert out["tpot_s"]["p50"] == pytest.approx(0.1)
    assert (out["prompt_tokens"], out["hit_tokens"], out["recomputed_tokens"]) == (2000, 960, 64)
    assert out["hit_ratio"] == pytest.approx(0.48)
    assert (out["num_turns"], out["num_trajectories"], out["generated_tokens"]) == (2, 2, 5)
    assert out["tokens_per_s"] == pytest.approx(2.5)
    assert out["cpu_s_per_turn"] == pytest.approx(1.5)
    assert out["snic_max_over_mean_ratio"] == pytest.approx(1.5)
    assert out["loading_s"] == pytest.approx(5.0)
    assert out["snic_utilisation_ratio"] == pytest.approx(4_000_000 / (2 * RATE * 5.0))
    assert out["snic_busy_while_queued_ratio"] == pytest.approx({"p0": 1.0, "d0": 0.5})
    assert out["snic_write_bytes"] == {"p0": 0, "d0": 7}
    assert out["load_failures"] == 1


def test_on_the_single_path_only_prefill_nodes_are_the_pool(made_run):
    run = made_run(
        "prefill_only",
        prefill=2,
        decode=2,
        rate=RATE,
        read_path="prefill_only",
        snic_read_bytes={"p0": 3_000_000, "p1": 1_000_000, "d0": 0, "d1": 0},
        read_spans={"p0": [(0.0, 3.0, 3_000_000)], "p1": [(0.0, 1.0, 1_000_000)]},
    )
    out = summarize_run(run)
    assert out["snic_max_over_mean_ratio"] == pytest.approx(1.5)
    assert out["snic_utilisation_ratio"] == pytest.approx(4 / 6)
    assert out["snic_busy_while_queued_ratio"]["d0"] is None


def test_without_rates_there_are_no_ratios_of_them(made_run):
    out = summarize_run(made_run(rate=None, snic_read_bytes={"p0": 1, "d0": 1}, read_spans={"p0": [(0.0, 1.0, 1)]}))
    assert out["snic_utilisation_ratio"] is None
    assert out["snic_busy_while_queued_ratio"] == {"p0": None, "d0": None}
    assert out["snic_max_over_mean_ratio"] == 1.0


def test_speedups(made_run):
    single = timed(made_run, "prefill_only", 90.0, read_path="prefill_only")
    basic = timed(made_run, "basic", 100.0, read_path="prefill_only", layerwise=False)
    dual = timed(made_run, "scheduled", 50.0)
    oracle = timed(made_run, "oracle", 9.0, oracle=True)
    out = compared(basic, single, dual, oracle)
    assert out["speedup"] == pytest.approx(1.8)
    assert out["speedup_over_basic"] == pytest.approx(2.0)
    assert out["oracle_jct_ratio"] == pytest.approx(0.1)
    assert out["ideal_speedup"] == 2.0


def test_speedup_needs_the_same_layerwise(made_run):
    basic = timed(made_run, "basic", 100.0, read_path="prefill_only", layerwise=False)
    assert compared(basic, timed(made_run, "scheduled", 50.0))["speedup"] is None
    assert compared(basic, timed(made_run, "scheduled", 50.0, layerwise=False))["speedup"] == pytest.approx(2.0)
    assert compared(timed(made_run, "scheduled", 50.0))["speedup"] is None


def test_repeated_runs_count_by_their_median(made_run):
    single = [timed(made_run, "prefill_only", t, read_path="prefill_only") for t in (100.0, 102.0, 999.0)]
    dual = [timed(made_run, "scheduled", t) for t in (51.0, 50.0, 49.0)]
    assert compared(*single, *dual)["speedup"] == pytest.approx(2.04)


@pytest.mark.parametrize(("prefill", "decode", "ideal"), [(1, 1, 2.0), (1, 2, 3.0), (2, 1, 1.5)])
def test_ideal_speedup_is_all_storage_nics_over_those_of_prefill_nodes(made_run, prefill, decode, ideal):
    assert compared(made_run(prefill=prefill, decode=decode))["ideal_speedup"] == ideal


def test_tokens_are_identical_only_if_every_run_was_checked_and_is(made_run):
    run, good, bad = made_run(), TokenCheck(400, 2, 0), TokenCheck(400, 0, 1)
    assert compared(run, run, checks=[good, good])["tokens_identical"] is True
    assert compared(run, run, checks=[good, bad])["tokens_identical"] is False
    assert compared(run, checks=[TokenCheck(400, 3, 0)])["tokens_identical"] is False  # more than 0.5 % near ties
    unchecked = compared(run, run, checks=[good])
    assert unchecked["tokens_identical"] is None and unchecked["num_tokens_compared"] is None
    assert compared(run, run, checks=[good, good])["num_near_ties"] == 4


def test_runs_that_hit_differently_are_told(made_run, turn):
    assert compared(made_run(), made_run())["hit_tokens_equal"] is True
    assert compared(made_run(), made_run(turns=[replace(turn, hit_tokens=64)]))["hit_tokens_equal"] is False


def test_nothing_at_all_is_still_json():
    out = json.loads(json.dumps(summarize(Comparison(command="", runs=[])), allow_nan=False))
    assert out["runs"] == [] and out["speedup"] is None and out["tokens_identical"] is None


def test_a_run_without_turns_is_still_json(made_run):
    out = compared(made_run(turns=[], ended_s=1_000_000.0))
    json.dumps(out, allow_nan=False)
    assert out["runs"][0]["hit_ratio"] is None and out["runs"][0]["ttft_s"]["p50"] is None


@given(st.recursive(st.none() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_json_clean_leaves_nothing_that_json_does_not_know(value):
    json.dumps(json_clean(value), allow_nan=False)


# A float of seconds cannot tell the ends of a read of a few bytes apart; blocks have kilobytes.
block_bytes = st.just(0) | st.integers(4096, 10**7)
reads = st.lists(st.tuples(st.floats(0, 50), block_bytes), max_size=20)


@given(reads=st.dictionaries(st.sampled_from(["p0", "p1", "d0", "d1"]), reads))
def test_ratios_stay_in_their_bounds(made_run, reads):
    """For every sequence of reads that NICs of this rate can have served in order."""
    spans = {}
    for node, asks in reads.items():
        free, spans[node] = 0.0, []
        for asked, nbytes in sorted(asks):
            free = max(free, asked) + nbytes / RATE
            spans[node].append((asked, free, nbytes))
    totals = {node: sum(n for _, _, n in s) for node, s in spans.items()}
    out = summarize_run(made_run(prefill=2, decode=2, rate=RATE, read_spans=spans, snic_read_bytes=totals))
    balance = out["snic_max_over_mean_ratio"]
    assert balance is None if not sum(totals.values()) else 1.0 <= balance <= 4.0
    assert 0.0 <= out["hit_ratio"] <= 1.0
    for ratio in (out["snic_utilisation_ratio"], *out["snic_busy_while_queued_ratio"].values()):
        assert ratio is None or 0.0 <= ratio <= 1.0 + 1e-9
    assert out["loading_s"] <= sum(done - asked for s in spans.values() for asked, done, _ in s) + 1e-6
