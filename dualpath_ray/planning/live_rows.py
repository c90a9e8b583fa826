"""What the paper says of pools of NICs, measured live by ``dualpath bench pool``."""

import json
from pathlib import Path

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.planning.rows import Row

# Figure 8's equal pairs: (configuration, mode) over (configuration, mode).
_PAIRS = ((("1P1D", "scheduled"), ("2P1D", "prefill_only")), (("1P1D", "prefill_only"), ("1P2D", "prefill_only")))


def live_rows(path: Path) -> list[Row]:
    """Rows of the storage-bound rate, which is the one at which all three systems ran.

    Raises: ConfigError naming ``--live`` when the file is missing or is no result of that benchmark.
    """
    try:
        rows = json.loads(path.read_text())["rows"]
        rate = next(row["snic_bps"] for row in rows if row["config"] == "2P1D")
        jct = {(row["config"], row["mode"]): row["jct_s"] for row in rows if row["snic_bps"] == rate}
        return [
            Row("live", f"JCT, {' '.join(a)} over {' '.join(b)}, smollm2-135m", 1.0, jct[a] / jct[b], "live", "x")
            for a, b in _PAIRS
        ]
    except OSError as error:
        raise ConfigError(
            f"--live: {path} cannot be read: {error.strerror or error}; `dualpath bench pool` makes one"
        ) from error
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise ConfigError(f"--live: {path} is no pool.json of `dualpath bench pool`") from error
