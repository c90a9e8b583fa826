"""Splits: none is forgotten, and what stands for a large one has nearly its ratio."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.planning.split import FINER, MOST_NODES, Split, all_splits, coarse, finer, model_of, nearest

nodes = st.integers(2, 400)


@settings(deadline=None)
@given(nodes)
def test_every_split_is_there_once(num_nodes):
    splits = all_splits(num_nodes)
    assert len(set(splits)) == num_nodes - 1
    assert all(s.nodes == num_nodes and min(s.prefill_nodes, s.decode_nodes) >= 1 for s in splits)


@settings(deadline=None)
@given(nodes)
def test_a_small_cluster_is_simulated_itself_and_a_large_one_by_a_few_splits(num_nodes):
    splits = coarse(num_nodes)
    assert set(splits) <= set(all_splits(num_nodes))
    if num_nodes <= MOST_NODES:
        assert splits == all_splits(num_nodes)
        assert all(model_of(split) == split and not finer(num_nodes, split) for split in splits)
    else:
        assert len(splits) == MOST_NODES - 1


@settings(deadline=None)
@given(st.builds(Split, st.integers(1, 200), st.integers(1, 200)), st.sampled_from([MOST_NODES, FINER * MOST_NODES]))
def test_a_model_is_small_and_has_nearly_the_ratio(split, most):
    model = model_of(split, most)
    assert model.nodes <= most and min(model.prefill_nodes, model.decode_nodes) >= 1
    share, small = split.prefill_nodes / split.nodes, model.prefill_nodes / model.nodes
    assert abs(share - small) <= 1 / most
    if split.prefill_nodes == 2 * split.decode_nodes:  # a small cluster has this ratio
        assert small == share


@settings(deadline=None)
@given(st.integers(MOST_NODES + 1, 400), st.data())
def test_what_is_finer_lies_between_a_split_and_its_neighbours(num_nodes, data):
    splits = coarse(num_nodes)
    best = data.draw(st.sampled_from(splits))
    for split in finer(num_nodes, best):
        assert split != best and split.nodes == num_nodes
        assert abs(split.prefill_nodes - best.prefill_nodes) <= num_nodes / MOST_NODES / FINER + 1


@pytest.mark.parametrize("num_nodes", [1, 0, -3])
def test_fewer_than_two_nodes_are_no_cluster(num_nodes):
    with pytest.raises(ConfigError, match=f"--nodes: {num_nodes} is too few"):
        all_splits(num_nodes)


def test_the_papers_largest_system_is_simulated_as_its_smaller_one():
    assert model_of(Split(48, 96)) == Split(2, 4)
    assert str(Split(48, 96)) == "48P96D"


def test_the_nearest_of_those_that_fit_stands_in():
    fit = [Split(4, 15), Split(8, 11)]
    assert nearest(Split(2, 17), fit) == Split(4, 15) and nearest(Split(16, 3), fit) == Split(8, 11)
    assert nearest(Split(6, 13), fit) == Split(4, 15), "the first of two that are as near"
