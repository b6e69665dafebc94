"""The second thread of a worker: does its bookkeeping in order, and counts what that costs."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class WritingThread:
    """One thread; calls are made in the order in which they were handed over.

    As a context manager it ends with the block; calls that have not begun by then are dropped.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bookkeeping")
        self.busy_s = 0.0
        """Processor seconds of all calls so far; exact while no call is being made."""
        self.waited_s = 0.0
        """Seconds in which the other thread waited for this one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._executor.shutdown(cancel_futures=True)

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Hand a call over; returns at once."""

        def count() -> T:
            started = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.busy_s += time.thread_time() - started

        return self._executor.submit(count)

    def wait(self, future: "Future[T]") -> T:
        """Return what a call returned, or raise what it raised, once it is done."""
        started = time.perf_counter()
        try:
            return future.result()
        finally:
            self.waited_s += time.perf_counter() - started
