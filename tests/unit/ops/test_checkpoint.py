"""A rollout that is interrupted anywhere goes on with exactly what had been kept."""

import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster.rollout import FinishedTurn
from dualpath_ray.observability.run_record import NicSample, RunRecord, TurnRecord
from dualpath_ray.ops.checkpoint import Checkpoint, workload_of
from dualpath_ray.ops.results_place import ResultsPlace
from dualpath_ray.workload.trajectory import Trajectory, Turn

NAMES = TurnRecord.__annotations__
WORK = [Trajectory("t0", (Turn(np.arange(4, dtype=np.int32), 2),))]


def turn(number: int, submit_s: float, last_s: float) -> FinishedTurn:
    values = {name: {str: "x", int: 1, float: 0.5}[kind] for name, kind in NAMES.items()}
    record = TurnRecord(**{**values, "trajectory_id": "t0", "turn": number, "submit_s": submit_s})
    return FinishedTurn(record, [number, number + 1], last_s)


def checkpoint(folder: Path, resume: bool, work=WORK, config=None, modes=("a", "b")) -> Checkpoint:
    with closing(ResultsPlace(str(folder))) as place:
        place.make()
        return Checkpoint(place, workload_of(work, config or {"k": 1}, modes), resume)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(parts=st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=4))
def test_what_was_flushed_is_there_again_in_parts(tmp_path, parts):
    """Args: parts: of each process how many turns it kept before each flush."""
    folder, kept, took, working = Path(tempfile.mkdtemp(dir=tmp_path)), [], 0.0, 0
    for part in parts:
        run = checkpoint(folder, resume=True).run("a")
        assert list(run.earlier.turns) == kept and run.earlier.took_s == took and run.earlier.num_parts == working
        new = []
        for size in part:
            some = [
                turn(len(kept) + len(new) + i, 100.0 * len(kept) + i, 100.0 * len(kept) + i + 7) for i in range(size)
            ]
            run.add(some)
            run.flush()
            new += some
        if new:
            took += max(t.last_token_s for t in new) - min(t.record.submit_s for t in new)
            working += 1
        kept += new
    assert list(checkpoint(folder, resume=True).run("a").earlier.turns) == kept
    assert checkpoint(folder, resume=True).run("b").earlier.turns == ()


def test_a_complete_run_comes_back_as_it_was(tmp_path):
    record = RunRecord("a", "scheduled", True, True, False, 1, 2, 10.0, 12.5)
    record.turns, record.samples = [turn(0, 1.0, 2.0).record], [NicSample(1.0, "p0/snic/in", 2.0, 3.0, 4)]
    record.generated_spans, record.contexts, record.generated = {"t0": [(4, 6)]}, {"t0": [1, 2]}, {"t0": [[5, 6]]}
    record.read_spans, record.nic_rates_bytes_per_s = {"p0": [(1.0, 2.0, 3)]}, {"p0/snic/in": None}
    before = checkpoint(tmp_path, resume=True).run("a")
    assert before.record is None
    before.complete(record)
    assert checkpoint(tmp_path, resume=True).run("a").record == record


def test_another_workload_is_refused_and_beginning_anew_forgets(tmp_path):
    run = checkpoint(tmp_path, resume=False).run("a")
    run.add([turn(0, 1.0, 2.0)])
    run.flush()
    longer = [replace(WORK[0], turns=(replace(WORK[0].turns[0], gen_tokens=3),))]
    for other in ({"work": longer}, {"config": {"k": 2}}, {"modes": ("a",)}):
        with pytest.raises(ConfigError, match=rf"^--resume: {tmp_path}/progress is of another workload"):
            checkpoint(tmp_path, resume=True, **other)
    assert len(checkpoint(tmp_path, resume=True).run("a").earlier.turns) == 1
    assert checkpoint(tmp_path, resume=False).run("a").earlier.turns == ()
    checkpoint(tmp_path, resume=True).done()
    assert not (tmp_path / "progress").exists()


def test_what_a_kill_leaves_half_written_is_passed_over(tmp_path):
    run = checkpoint(tmp_path, resume=False).run("a")
    run.add([turn(0, 1.0, 2.0)])
    run.flush()
    for name in (".abc", "run.json.abc", "0001-000001.jsonl.abc"):
        (tmp_path / "progress" / "a" / name).write_text('{"half')
    assert len(checkpoint(tmp_path, resume=True).run("a").earlier.turns) == 1
    (tmp_path / "progress" / "workload.json").unlink()  # as in the middle of being removed
    assert checkpoint(tmp_path, resume=True).run("a").earlier.turns == ()
