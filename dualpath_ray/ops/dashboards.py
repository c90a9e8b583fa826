"""``dualpath dashboards``: our Grafana dashboard and alert rules in the folders that a Ray session keeps for both."""

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.observability.dashboard import FILE_NAME, with_our_row
from dualpath_ray.observability.shipped import ALERTS_NAME, alert_rules, shipped_dashboard
from dualpath_ray.ops.results_dir import make_out

_DEFAULT_DASHBOARD = "default_grafana_dashboard.json"  # Ray's own, which its Metrics tab embeds


@dataclass(frozen=True, slots=True)
class Written:
    """A file, what it is for, and whether it was as it should be already."""

    path: Path
    what: str
    unchanged: bool


@dataclass(frozen=True, slots=True)
class RayFolders:
    """Where a Ray session keeps what Grafana and Prometheus read."""

    metrics: Path
    dashboards: Path  # what Ray's provisioning of Grafana names

    @property
    def prometheus_config(self) -> Path:
        return self.metrics / "prometheus" / "prometheus.yml"

    @property
    def rules(self) -> Path:
        return self.metrics / "prometheus" / ALERTS_NAME

    @property
    def grafana_config(self) -> Path:
        return self.metrics / "grafana" / "grafana.ini"


def ray_folders(session: Path | None, environment: Mapping[str, str]) -> RayFolders:
    """Of a session's directory; None: of the latest session of this host.

    Args:   environment: may name Ray's temporary directory, or other folders, as it does for the head.
    Raises: ConfigError when no session with a dashboard is there.
    """
    temporary = environment.get("RAY_TMPDIR") or environment.get("TMPDIR") or "/tmp"
    where = session or Path(temporary) / "ray" / "session_latest"
    output = environment.get("RAY_METRICS_OUTPUT_ROOT")
    metrics = Path(output) if output else where / "metrics"
    provisioning = metrics / "grafana" / "provisioning" / "dashboards" / "default.yml"
    if not provisioning.is_file():
        raise ConfigError(
            f"--session: there is no Ray session with a dashboard at {where}; start Ray's head on this host, or name the "
            "session's directory"
        )
    with _reading(provisioning):
        providers = yaml.safe_load(provisioning.read_text())["providers"]
        return RayFolders(metrics.resolve(), Path(providers[0]["options"]["path"]))


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, IndexError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"--session: {file} is not what Ray writes there: {error!r}") from error


def install(folders: RayFolders, docs: str | None = None) -> list[Written]:
    """Write what is not there yet; may be repeated.

    Args:   docs: as of ``alert_rules``.
    Raises: ConfigError when a folder cannot be written.
    """
    written = [_write(folders.dashboards / FILE_NAME, shipped_dashboard(), "the dashboard DualPath")]
    theirs = folders.dashboards / _DEFAULT_DASHBOARD
    if theirs.is_file():
        with _reading(theirs):
            text = json.dumps(with_our_row(json.loads(theirs.read_text())), indent=4)
        written.append(_write(theirs, text, "Ray's own dashboard, with our row on top: the Metrics tab"))
    written.append(_write(folders.rules, alert_rules(docs), "the alert rules"))
    config = folders.prometheus_config
    if config.is_file():
        with _reading(config):
            text = with_rule_file(config.read_text(), folders.rules)
        written.append(_write(config, text, "Ray's configuration of Prometheus, with the alert rules"))
    return written


def with_rule_file(config: str, rules: Path) -> str:
    """A configuration of Prometheus that reads ``rules``, too. What it says is kept, and its comments where they can be."""
    told: dict[str, Any] = yaml.safe_load(config) or {}
    files = told.get("rule_files")
    if files and str(rules) in files:
        return config
    if not files:
        return config.rstrip("\n") + f"\n\nrule_files:\n- {json.dumps(str(rules))}\n"
    return yaml.safe_dump({**told, "rule_files": [*files, str(rules)]}, sort_keys=False)


def export(out: Path, docs: str | None = None) -> list[Written]:
    """The dashboard and the alert rules into a directory. Raises: ConfigError when it cannot be written."""
    make_out(out)
    return [
        _write(out / FILE_NAME, shipped_dashboard(), "the dashboard DualPath"),
        _write(out / ALERTS_NAME, alert_rules(docs), "the alert rules"),
    ]


def next_steps(folders: RayFolders) -> list[str]:
    """What is left to do where Grafana and Prometheus do not run yet."""
    grafana, prometheus = shlex.quote(str(folders.grafana_config)), shlex.quote(str(folders.prometheus_config))
    return [
        "Grafana takes the dashboards by itself within a minute; started anew: "
        f"grafana server --homepath /usr/share/grafana --config {grafana} web",
        f"Prometheus takes the rules at its start (prometheus --config.file={prometheus}) or at a SIGHUP",
    ]


def _write(path: Path, text: str, what: str) -> Written:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.read_text() == text:
            return Written(path, what, True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(text)
        beside.replace(path)  # Grafana may be reading it
    except OSError as error:
        raise ConfigError(
            f"{path.parent} cannot be written: {error.strerror or error}; use the user that it belongs to, or export DIR"
        ) from error
    return Written(path, what, False)
