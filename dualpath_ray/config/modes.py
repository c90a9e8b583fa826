"""Names of the systems that are compared (sections 7.2, 7.5): each is a few configuration values, not code."""

from typing import Any

from dualpath_ray.base.errors import ConfigError

MODES: dict[str, dict[str, Any]] = {
    "basic": {"scheduler.read_path": "prefill_only", "scheduler.layerwise": False},
    "prefill_only": {"scheduler.read_path": "prefill_only"},
    "round_robin": {"scheduler.read_path": "round_robin"},
    "scheduled": {"scheduler.read_path": "scheduled"},
    "oracle": {"scheduler.read_path": "scheduled", "scheduler.oracle": True},
}


def mode_overrides(name: str) -> dict[str, Any]:
    """Overrides of one compared system; a ``module:attr`` policy compares under its own name.

    Raises: ConfigError listing the names.
    """
    if ":" in name:
        return {"scheduler.read_path": name}
    if name not in MODES:
        raise ConfigError(f"--compare: there is no {name!r}; use {', '.join(MODES)} or module:attr")
    return MODES[name]
