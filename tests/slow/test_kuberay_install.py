"""The script that the Dockerfile runs, on what the Dockerfile copies, in an environment that holds torch alone."""

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.kuberay.manifests import FOLDER
from tests.ray.nodes import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def copied(to: Path) -> None:
    """The build's context, as Dockerfile.dockerignore lets it through."""
    for name in re.findall(r"^!(\S+)$", (FOLDER / "Dockerfile.dockerignore").read_text(), re.MULTILINE):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to / name)


def with_what_it_needs(name: str, found: set[str]) -> set[str]:
    """A distribution and those that it requires, of those that are installed here."""
    try:
        required = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return found
    if name.lower() not in found:
        found.add(name.lower())
        for each in required:
            if "extra ==" not in each:
                with_what_it_needs(re.split(r"[^A-Za-z0-9._-]", each, maxsplit=1)[0], found)
    return found


def lend_torch(to: Path) -> None:
    """Links to the files of torch here, for it is large; on a machine with CUDA its libraries are, too."""
    for name in with_what_it_needs("torch", set()):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            source = Path(str(distribution.locate_file(top)))
            if source.exists() and not (to / top).exists():
                (to / top).symlink_to(source)


def test_the_script_installs_a_working_command(tmp_path: Path) -> None:
    project, environment, elsewhere = (tmp_path / name for name in ("project", "venv", "elsewhere"))
    for folder in (project, elsewhere):
        folder.mkdir()
    copied(project)
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    subprocess.run([base, "-m", "venv", environment], check=True, timeout=120)
    (packages,) = environment.glob("lib/python*/site-packages")
    lend_torch(packages)
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    variables |= {"PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}", "MODEL": ""}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=elsewhere, env=variables, capture_output=True, text=True, timeout=800, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    said = run(str(project / "cluster_configs" / "kuberay" / "install.sh"))
    assert "install: torch" not in said, "the one that was there is used"
    assert not (project / "build").exists(), "the sources stay as they were"
    shutil.rmtree(project / "dualpath_ray")  # so that what runs is what was installed
    ours = metadata.version("dualpath-ray")
    assert said.splitlines()[-1] == run("dualpath", "--version").strip() == f"dualpath, version {ours}"
    assert "prefill_nodes" in run("dualpath", "config", "show", str(project / "cluster_configs" / "laptop_1p1d.yaml"))
    script = "import dualpath_ray, ray, torch; print(ray.__version__, dualpath_ray.__file__)"
    version, where = run("python", "-c", script).split()
    assert version == metadata.version("ray") and Path(where).is_relative_to(environment)
    run("python", "-m", "pip", "check")
