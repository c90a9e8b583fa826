"""The text of every file, as it was reviewed. ``UPDATE_GOLDEN=1 pytest tests/unit/ops/fabric/test_golden.py`` rewrites it."""

import os
import subprocess
from pathlib import Path

import pytest

from dualpath_ray.base.nic_devices import HostDevices
from dualpath_ray.ops.fabric.files import fabric_files, is_ours
from tests.unit.ops.fabric.cases import HOST, cluster

GOLDEN = Path(__file__).parent / "golden"
CASES = {
    "infiniband": fabric_files(cluster("infiniband"), HOST),
    "infiniband-auto": fabric_files(cluster("infiniband", ["auto"]), HostDevices()),
    "roce": fabric_files(cluster("roce"), HOST),
    "roce-elsewhere": fabric_files(cluster("roce"), HostDevices()),  # written where the devices are not
}


@pytest.mark.parametrize("case", CASES)
def test_every_file_is_as_it_was_reviewed(case):
    folder = GOLDEN / case
    if os.environ.get("UPDATE_GOLDEN"):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for file in CASES[case]:
            (folder / file.name).write_text(file.text)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {file.name: file.text for file in CASES[case]}


@pytest.mark.parametrize("case", CASES)
def test_every_file_is_known_as_ours_and_scripts_are_of_a_shell(case):
    for path in sorted((GOLDEN / case).iterdir()):
        assert is_ours(path)
        if path.suffix == ".sh":
            subprocess.run(["sh", "-n", path], check=True)


@pytest.mark.parametrize("case", CASES)
def test_a_script_has_one_command_a_line(case):
    for file in CASES[case]:
        if file.name.endswith(".sh"):
            commands = [line for line in file.text.splitlines() if line and not line.startswith("#")]
            assert not [line for line in commands if line.endswith("\\") or line.startswith(" ")]
