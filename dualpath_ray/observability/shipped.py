"""The files of dashboards and alerts that the package ships. Pure but for reading them."""

import json
from importlib.resources import files

from dualpath_ray.observability.dashboard import FILE_NAME, dashboard

ALERTS_NAME = "dualpath_alerts.yml"
_RUNBOOK = "runbook_url: docs/"


def dashboard_json() -> str:
    """As it stands in ``grafana/``."""
    return json.dumps(dashboard(), indent=1) + "\n"


def shipped_dashboard() -> str:
    """The file, which a test keeps equal to ``dashboard_json``."""
    return (files(__package__) / "grafana" / FILE_NAME).read_text()


def alert_rules(docs: str | None = None) -> str:
    """Rules for Prometheus.

    Args: docs: address of the folder that holds troubleshooting.md; None: as in the repository, ``docs/...``.
    """
    text = (files(__package__) / "prometheus" / "alerts.yml").read_text()
    return text if docs is None else text.replace(_RUNBOOK, f"runbook_url: {docs.rstrip('/')}/")
