"""What metrics cost: a pair's ratios, and CPU seconds by process."""

import os
import subprocess
import sys
import time

import pytest

from dualpath_ray.bench import metrics
from dualpath_ray.config.load import parse_cluster
from dualpath_ray.observability.run_record import RunRecord


def run(num_turns, actors_s, every_s):
    record = RunRecord("scheduled", "scheduled", True, True, False, 1, 1, 100.0, 110.0)
    record.turns, record.cpu_s = [None] * num_turns, actors_s
    return record, every_s


def test_ratios_are_of_a_turn():
    pair = metrics._pair({"off": run(10, 4.0, 8.0), "on": run(20, 8.4, 16.8)})
    assert pair["cpu_ratio"] == pytest.approx(1.05) and pair["actors_cpu_ratio"] == pytest.approx(1.05)
    assert (pair["off_cpu_s_per_turn"], pair["on_cpu_s_per_turn"]) == (0.8, pytest.approx(0.84))


def test_children_count():
    with subprocess.Popen([sys.executable, "-c", "import time\nwhile time.process_time() < 30: pass"]) as child:
        try:
            before = metrics.cpu_s_by_process()
            deadline = time.monotonic() + 20
            while (now := metrics.cpu_s_by_process())[child.pid] - before.get(child.pid, 0.0) < 0.05:
                assert time.monotonic() < deadline
            assert now[os.getpid()] >= before[os.getpid()] > 0
        finally:
            child.kill()


def test_the_two_settings_differ_in_what_is_told_alone():
    system = {"prefill_nodes": 1, "decode_nodes": 1, "model": "toy-llama"}
    off, on = (parse_cluster(system, "c.yaml", metrics.SETTINGS[name]) for name in ("off", "on"))
    assert off.observability != on.observability == parse_cluster(system, "c.yaml").observability
    assert not off.observability.metrics and not off.observability.state_line_s
    assert off.model_copy(update={"observability": on.observability}) == on
