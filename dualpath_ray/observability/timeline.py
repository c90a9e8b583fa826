"""From samples of a NIC's counters to what it did in each slice of time. Pure, for any spacing of the samples."""

from collections.abc import Iterable, Sequence

import numpy as np

from dualpath_ray.observability.run_record import NicSample


def bin_edges_s(start_s: float, stop_s: float, bin_s: float) -> np.ndarray:
    """Edges of equal bins that cover [start, stop]; float64 [bins + 1], at least one bin."""
    bins = max(1, int(np.ceil((stop_s - start_s) / bin_s - 1e-9)))
    return start_s + bin_s * np.arange(bins + 1)


def by_nic(samples: Iterable[NicSample]) -> dict[str, list[NicSample]]:
    """Samples of each direction of a NIC, in order of time."""
    groups: dict[str, list[NicSample]] = {}
    for sample in sorted(samples, key=lambda s: (s.time_s, s.moved_bytes)):
        groups.setdefault(sample.nic, []).append(sample)
    return groups


def moved_bytes(samples: Sequence[NicSample], edges_s: np.ndarray) -> np.ndarray:
    """Bytes moved in each bin; between two samples the rate is taken as even.

    Args:    samples: of one direction, in any order; edges_s: ascending, [bins + 1].
    Returns: float64 [bins]. Bins over the whole time of the samples add up to the bytes between first and last. A
        counter that falls has started anew.
    """
    return _spread([(s.time_s, s.moved_bytes) for s in samples], edges_s)


def busy_s(samples: Sequence[NicSample], edges_s: np.ndarray) -> np.ndarray:
    """Seconds that the direction was busy in each bin; float64 [bins]."""
    return _spread([(s.time_s, s.busy_s) for s in samples], edges_s)


def utilisation(samples: Sequence[NicSample], rate_bytes_per_s: float | None, edges_s: np.ndarray) -> np.ndarray:
    """Share of each bin that the direction was in use, 0 to 1: bytes / (rate x bin), or busy seconds without a rate."""
    widths = np.diff(edges_s)
    if rate_bytes_per_s:
        used = moved_bytes(samples, edges_s) / (rate_bytes_per_s * widths)
    else:
        used = busy_s(samples, edges_s) / widths
    return np.clip(used, 0.0, 1.0)


def _spread(points: list[tuple[float, float]], edges_s: np.ndarray) -> np.ndarray:
    if len(points) < 2:
        return np.zeros(len(edges_s) - 1)
    points = sorted(points)
    times = np.array([p[0] for p in points])
    counts = np.array([p[1] for p in points])
    steps = np.diff(counts)
    steps = np.where(steps < 0, counts[1:], steps)
    total = np.concatenate([[0.0], np.cumsum(steps)])
    return np.diff(np.interp(edges_s, times, total))
