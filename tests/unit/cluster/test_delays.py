"""Delays: in order of time, from one thread, none after the end."""

import threading

from dualpath_ray.cluster.delays import Delays


def test_calls_come_in_order_of_their_times() -> None:
    delays, called, over = Delays(), [], threading.Event()
    for name, delay_s in (("c", 0.3), ("a", 0.0), ("b", 0.1)):
        delays.after(delay_s, lambda name=name: called.append((name, threading.current_thread().name)))
    delays.after(0.4, over.set)
    assert over.wait(30)
    assert called == [("a", "delays"), ("b", "delays"), ("c", "delays")]


def test_none_comes_after_the_end() -> None:
    delays, called = Delays(), threading.Event()
    delays.after(0.2, called.set)
    delays.close()
    assert not called.wait(0.5)
