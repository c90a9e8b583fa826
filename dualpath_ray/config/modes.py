"""Names of the systems that are compared (sections 7.2, 7.5): each is a few configuration values, not code."""

from typing import Any

from dualpath_ray.base.errors import ConfigError

MODES: dict[str, dict[str, Any]] = {
    "basic": {"scheduler.read_path": "prefill_only", "scheduler.layerwise": False, "scheduler.oracle": False},
    "prefill_only": {"scheduler.read_path": "prefill_only", "scheduler.oracle": False},
    "round_robin": {"scheduler.read_path": "round_robin", "scheduler.oracle": False},
    "scheduled": {"scheduler.read_path": "scheduled", "scheduler.oracle": False},
    "oracle": {"scheduler.read_path": "scheduled", "scheduler.oracle": True},
}


def mode_overrides(name: str) -> dict[str, Any]:
    """Overrides of one compared system; a ``module:attr`` policy compares under its own name.

    Raises: ConfigError listing the names.
    """
    if ":" in name:
        return {"scheduler.read_path": name, "scheduler.oracle": False}
    if name not in MODES:
        raise ConfigError(f"--compare: there is no {name!r}; use {', '.join(MODES)} or module:attr")
    return MODES[name]
