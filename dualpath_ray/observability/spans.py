"""Lengths of time covered by overlapping spans. Pure."""

from collections.abc import Iterable


def union_s(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds during which at least one span is open.

    Args:    spans: (start, stop) in seconds of one clock, in any order, overlapping as they like.
    Returns: the length of their union; a span that ends before it starts counts for nothing.
    """
    total, covered_until = 0.0, float("-inf")
    for start, stop in sorted(spans):
        if stop > covered_until:
            total += stop - max(start, covered_until)
            covered_until = stop
    return total
