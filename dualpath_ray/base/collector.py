"""Python's cycle collector in a process that keeps many objects and makes no cycles."""

import gc


def calm_collector() -> None:
    """Look for cycles seldom, and never again in what there is now.

    The scheduler's log keeps hundreds of thousands of objects. Looking through them took a quarter of a decision's time
    and, all at once, a tenth of a second in which no fetch was answered.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
