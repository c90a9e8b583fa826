"""Timelines: bytes are conserved however the samples lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.observability.run_record import NicSample
from dualpath_ray.observability.timeline import bin_edges_s, busy_s, by_nic, moved_bytes, utilisation

steps = st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1e9)), min_size=1, max_size=40)


def samples_of(steps, start_s=0.0):
    samples, time_s, moved = [NicSample(start_s, "p0/snic/in", 0.0, 0.0, 0)], start_s, 0.0
    for passed, nbytes in steps:
        time_s, moved = time_s + passed, moved + nbytes
        samples.append(NicSample(time_s, "p0/snic/in", moved, moved / 1e9, 0))
    return samples


@given(steps, st.floats(0.01, 3), st.randoms())
def test_bytes_are_conserved_for_any_spacing_and_order(steps, bin_s, random):
    samples = samples_of(steps)
    shuffled = list(samples)
    random.shuffle(shuffled)
    edges = bin_edges_s(-1.0, samples[-1].time_s + 1.0, bin_s)
    moved = moved_bytes(shuffled, edges)
    assert len(moved) == len(edges) - 1 and (moved >= 0).all()
    assert moved.sum() == pytest.approx(samples[-1].moved_bytes, rel=1e-6, abs=1e-3)


@given(steps, st.floats(0.01, 3), st.none() | st.floats(1, 1e10))
def test_utilisation_is_a_share(steps, bin_s, rate):
    samples = samples_of(steps)
    used = utilisation(samples, rate, bin_edges_s(0.0, samples[-1].time_s, bin_s))
    assert (used >= 0).all() and (used <= 1).all()


def test_by_hand():
    samples = samples_of([(1.0, 10.0), (3.0, 0.0), (1.0, 5.0)])
    assert moved_bytes(samples, bin_edges_s(0.0, 5.0, 1.0)).tolist() == [10.0, 0.0, 0.0, 0.0, 5.0]
    assert moved_bytes(samples, bin_edges_s(0.0, 5.0, 2.0)).tolist() == [10.0, 0.0, 5.0]
    assert utilisation(samples, 20.0, bin_edges_s(0.0, 5.0, 1.0)).tolist() == [0.5, 0, 0, 0, 0.25]
    assert busy_s(samples, np.array([0.0, 5.0])).tolist() == pytest.approx([15e-9])


def test_a_counter_that_starts_anew_moves_nothing_backwards():
    samples = [NicSample(float(i), "x", moved, 0.0, 0) for i, moved in enumerate([0.0, 10.0, 2.0, 5.0])]
    assert moved_bytes(samples, bin_edges_s(0.0, 3.0, 1.0)).tolist() == [10.0, 2.0, 3.0]


def test_without_two_samples_nothing_is_known_to_have_moved():
    assert moved_bytes([NicSample(0.0, "x", 9.0, 0.0, 0)], bin_edges_s(0.0, 2.0, 1.0)).tolist() == [0.0, 0.0]


@given(st.floats(0, 1e6), st.floats(0, 100), st.floats(0.1, 10))
def test_edges_cover_the_whole_time(start, length, bin_s):
    edges = bin_edges_s(start, start + length, bin_s)
    assert edges[0] == start and edges[-1] >= start + length - 1e-6 and len(edges) >= 2


def test_samples_are_grouped_by_direction_and_sorted():
    groups = by_nic([NicSample(2.0, "a", 1, 0, 0), NicSample(1.0, "b", 1, 0, 0), NicSample(1.0, "a", 0, 0, 0)])
    assert [s.time_s for s in groups["a"]] == [1.0, 2.0] and set(groups) == {"a", "b"}
