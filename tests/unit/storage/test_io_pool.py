import threading
from concurrent.futures import wait

import pytest

from dualpath_ray.storage.io_pool import IoPool


def test_work_is_begun_in_order_and_its_results_come_back():
    begun = []
    pool = IoPool("io", 1, 1)
    futures = [pool.submit(lambda i=i: begun.append(i) or i, 1) for i in range(100)]
    assert [f.result(10) for f in futures] == begun == list(range(100))
    pool.close()


def test_no_more_is_in_flight_than_the_depth_and_all_of_it_is():
    pool = IoPool("io", 3, 3)
    lock, reached = threading.Lock(), threading.Event()
    now = most = 0

    def work():
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now == 3:
                reached.set()
        assert reached.wait(10)
        with lock:
            now -= 1

    done, _ = wait([pool.submit(work, 1) for _ in range(30)], 20)
    assert len(done) == 30 and most == 3
    assert all(f.exception() is None for f in done)
    pool.close()


def test_a_failure_is_heard_of_and_ends_nothing_else():
    pool = IoPool("io", 1, 4)

    def fail():
        raise OSError("gone")

    failed, after = pool.submit(fail, 1), pool.submit(lambda: 7, 1)
    with pytest.raises(OSError, match="gone"):
        failed.result(10)
    assert after.result(10) == 7
    pool.close()


def test_what_waits_when_it_closes_is_cancelled_and_so_is_what_comes_later():
    pool = IoPool("io", 1, 1)
    begun, go_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        return go_on.wait(10)

    first, waiting = pool.submit(work, 1), pool.submit(lambda: 1, 1)
    assert begun.wait(10)
    threading.Timer(0.05, go_on.set).start()
    pool.close()
    assert first.result(10) is True
    assert waiting.cancelled() and pool.submit(lambda: 1, 1).cancelled()
