import socket

import pytest

from dualpath_ray.ops.doctor import limits
from dualpath_ray.ops.doctor.check import Level
from dualpath_ray.ops.doctor.limits import judge_locked_memory, port_check, rdma_check, token_check

MIB = 2**20


@pytest.mark.parametrize(
    ("limit", "needed", "by_rdma", "level"),
    [
        (None, 900 * MIB, True, Level.OK),
        (8 * MIB, 900 * MIB, False, Level.OK),
        (8 * MIB, 4 * MIB, True, Level.OK),
        (8 * MIB, 900 * MIB, True, Level.ERROR),
        (8 * MIB, None, True, Level.ERROR),
    ],
)
def test_locked_memory_matters_to_rdma_alone(limit, needed, by_rdma, level):
    found = judge_locked_memory(limit, needed, by_rdma)
    assert found.level is level and bool(found.remedy) is (level is not Level.OK)


def test_rdma_is_a_note_unless_it_is_needed():
    assert rdma_check([], needed=False).level is Level.OK
    assert rdma_check([], needed=True).level is Level.ERROR
    assert "mlx5_0" in rdma_check(["mlx5_0"], needed=True).says


def test_a_port_in_use_is_told(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(limits, "_PORTS", {port: "somebody"})
        assert f"in use: {port} (somebody)" in port_check(starts_ray=True).says
    assert "free" in port_check(starts_ray=True).says


def test_tokens_are_found_and_never_shown(tmp_path):
    assert token_check(False, {}, tmp_path).level is Level.OK
    assert token_check(True, {}, tmp_path).level is Level.WARNING
    assert token_check(True, {"RAY_AUTH_MODE": "disabled"}, tmp_path).level is Level.WARNING
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("hunter2")
    for environment in (
        {},
        {"RAY_AUTH_TOKEN": "hunter2"},
        {"RAY_AUTH_TOKEN_PATH": str(tmp_path / ".ray" / "auth_token")},
    ):
        found = token_check(True, environment, tmp_path)
        assert found.level is Level.OK and "hunter2" not in found.says
