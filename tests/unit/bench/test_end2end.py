"""The main job through each transport: what counts as another token, and a row's ratios."""

from dualpath_ray.bench.end2end import make_row, other_tokens
from dualpath_ray.observability.run_record import RunRecord, TokenCheck


def record(jct_s, generated, moved):
    run = RunRecord("scheduled", "scheduled", True, True, False, 1, 1, 100.0, 100.0 + jct_s)
    run.cnic_bytes = {"p0": {"in": moved, "out": 2 * moved}, "d0": {"in": 2 * moved, "out": moved}}
    run.generated, run.cpu_s = generated, 6.0
    return run


def test_tokens_that_differ_are_counted_one_by_one():
    theirs = {"a": [[1, 2], [3]], "b": [[4]]}
    assert other_tokens(theirs, theirs) == 0
    assert other_tokens({"a": [[1, 9], [9]], "b": [[4]]}, theirs) == 2


def test_a_row_stands_beside_the_default_of_its_mode():
    default, slower = record(10.0, {"a": [[1, 2]]}, 1000), record(20.0, {"a": [[1, 3]]}, 1000)
    row = make_row("sockets, scheduled", slower, TokenCheck(2, 1, 0, num_changed_by_rounding=1), default, 4096)
    assert (row.name, row.limit_name) == ("sockets, scheduled", "auto, scheduled")
    assert (row.jct_over_default, row.ratio_to_limit, row.num_other_tokens) == (2.0, 0.5, 1)
    assert (row.bytes_per_s, row.limit_bytes_per_s) == (150.0, 300.0)
    assert row.cpu_s_per_gb == 2e6 and row.num_changed_by_rounding == 1
    assert make_row("auto", record(10.0, {}, 0), TokenCheck(0, 0, 0), record(10.0, {}, 0), 1).cpu_s_per_gb is None
