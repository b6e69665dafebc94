"""The second thread: order, errors, and what it counts."""

import threading
import time

import pytest

from sweeps.writing_thread import WritingThread


def test_calls_are_made_in_order_and_in_one_thread() -> None:
    made: list[tuple[int, int]] = []
    with WritingThread() as thread:
        futures = [
            thread.submit(lambda i=i: made.append((i, threading.get_ident()))) for i in range(7)
        ]
        for future in futures:
            thread.wait(future)
    assert [number for number, _ in made] == list(range(7))
    assert {ident for _, ident in made} != {threading.get_ident()}
    assert len({ident for _, ident in made}) == 1


def test_error_of_a_call_is_raised_where_it_is_waited_for() -> None:
    with WritingThread() as thread:
        future = thread.submit(int, "seven")
        with pytest.raises(ValueError, match="seven"):
            thread.wait(future)


def test_processor_time_and_waiting_are_counted_apart() -> None:
    blocked = threading.Event()

    def spin() -> None:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass

    with WritingThread() as thread:
        idle = thread.submit(blocked.wait, 60)
        threading.Timer(0.1, blocked.set).start()
        assert thread.wait(idle)
        assert thread.waited_s > 0.05
        assert thread.busy_s < 0.05  # to wait costs no processor time
        thread.wait(thread.submit(spin))
    assert thread.busy_s >= 0.05


def test_calls_that_have_not_begun_are_dropped_at_the_end() -> None:
    begun, go = threading.Event(), threading.Event()
    late: list[int] = []

    def first() -> None:
        begun.set()
        go.wait(60)

    with WritingThread() as thread:
        thread.submit(first)
        begun.wait(60)
        thread.submit(late.append, 1)
        threading.Timer(0.1, go.set).start()
    assert late == []
