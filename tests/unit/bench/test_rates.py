"""Rates beside a limit: ratios are taken within a round, and a benchmark of the store runs from end to end."""

import json
from collections import Counter
from itertools import pairwise, permutations

import pytest

from dualpath_ray.bench.rates import Sample, in_rounds, rate_row
from dualpath_ray.cli.main import run


def test_ratios_are_of_the_same_round():
    slow_machine = [Sample(100, 1.0, 0.1), Sample(100, 10.0, 0.1), Sample(100, 1.0, 0.1)]
    limits = [Sample(100, 0.5, 0.0), Sample(100, 5.0, 0.0), Sample(100, 0.5, 0.0)]
    row = rate_row("x", 100, slow_machine, "limit", limits)
    assert row.ratio_to_limit == pytest.approx(0.5)
    assert row.bytes_per_s == 100 and row.limit_bytes_per_s == 200
    assert row.cpu_s_per_gb == pytest.approx(1e6)


def order_of(names, rounds):
    """What is measured in each round, one letter a way."""
    order = []
    ways = {name: lambda name=name: order.append(name) or Sample(1, 1.0, 0.0) for name in names}
    found = in_rounds(ways, rounds)
    assert {name: len(samples) for name, samples in found.items()} == dict.fromkeys(names, rounds)
    return ["".join(order[i : i + len(names)]) for i in range(0, len(order), len(names))]


def test_every_way_is_measured_once_a_round_after_each_of_the_others():
    rounds = order_of("abcd", 16)
    assert all(sorted(each) == list("abcd") for each in rounds)
    assert {pair for each in rounds for pair in pairwise(each)} == set(permutations("abcd", 2))
    assert rounds == order_of("abcd", 16), "a second run measures in the same order"


def test_of_two_ways_each_goes_first_as_often_as_the_other():
    assert Counter(order_of("ab", 10)) == {"ab": 5, "ba": 5}


def test_the_benchmark_of_the_store_reads_what_it_says(tmp_path, capsys):
    flags = ["--block-sizes", "64 KiB", "--total", "1 MiB", "--rounds", "1", "--path", str(tmp_path)]
    assert run(["bench", "storage", *flags, "--json", "--out", str(tmp_path / "out")]) == 0
    result = json.loads(capsys.readouterr().out)
    names = {row["name"] for row in result["rows"]}
    assert {"local, verified", "local, not verified", "local, written", "verification"} <= names
    for row in result["rows"]:
        assert row["bytes_per_s"] > 0 and row["limit_bytes_per_s"] > 0 and row["ratio_to_limit"] > 0
    assert json.loads((tmp_path / "out" / "storage.json").read_text())["rows"] == result["rows"]
    assert not list(tmp_path.glob("bench-*")), "nothing is left on the disk"
