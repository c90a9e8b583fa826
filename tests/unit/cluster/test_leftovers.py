"""Temporary directories: short enough for Ray's sockets, and gone with their process."""

import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dualpath_ray.cluster.leftovers import sweep_dead, temporary_dir
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import Segment, segment_path, sweep

LONGEST_SESSION = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"


@pytest.mark.parametrize("parent", ["short", "long"])
def test_rays_directory_leaves_room_for_its_sockets(
    parent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if parent == "long":
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = temporary_dir("ray")
    try:
        longest_pid = len(str(4194304)) - len(str(os.getpid()))
        assert len(str(made)) + longest_pid + len(LONGEST_SESSION) <= 107
    finally:
        made.rmdir()


def test_what_a_dead_process_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = temporary_dir("store")
    dead = tmp_path / mine.name.replace(f"-{os.getpid()}-", "-4194305-")
    elsewhere = tmp_path / f"dp-store-zzzzzzz-{os.getpid()}-abcdefgh"  # of another namespace: not ours to judge
    for path in (dead, elsewhere):
        path.mkdir()
    sweep_dead()
    assert sorted(tmp_path.iterdir()) == sorted([mine, elsewhere])


def test_segments_go_when_all_processes_of_their_system_are_gone() -> None:
    """A system that lost one traffic manager lives: no segment of it goes."""
    lives, gone = (f"test-{os.getpid()}-{secrets.token_hex(4)}" for _ in range(2))
    made_by_dead = (
        "import sys; from dualpath_ray.kv.layout import KvLayout; from dualpath_ray.kv.segment import Segment, segment_path\n"
        "for system in sys.argv[1:]: Segment.create(segment_path(system, 'd0'), KvLayout(1, 16, 8), 1, 0, 'test')"
    )
    subprocess.run([sys.executable, "-c", made_by_dead, lives, gone], check=True, timeout=60)
    mine = Segment.create(segment_path(lives, "p0"), KvLayout(1, 16, 8), 1, 0, "test")
    try:
        sweep_dead()
        assert segment_path(lives, "d0").exists() and segment_path(lives, "p0").exists()
        assert not segment_path(gone, "d0").exists()
    finally:
        os.close(mine.fd)
        sweep(lives)
