"""What jobs install on a bare cluster is what the package needs."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_requirements_are_the_packages_dependencies_without_ray():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lines = (ROOT / "jobs" / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [d for d in wanted if not d.startswith("ray[")]
