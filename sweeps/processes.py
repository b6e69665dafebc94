"""Starts worker processes, early enough that they import while the data are checked.

A worker needs some seconds until it can train, most of them for torch; the process that checks
the settings, the data and the model needs as long. Knows nothing of what a worker is told.
"""

import os
import subprocess
import sys
from types import TracebackType
from typing import Self

# glibc gives large blocks back to the system and has each page zeroed anew: with these settings a
# step of Adam on 12,000 word vectors takes 8.5 ms in place of 19 (4 slots, one AMD EPYC core).
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**28),
}
_THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Process = subprocess.Popen[str]


class ProcessStarter:
    """Worker processes that wait for their orders; with the block end those that got none."""

    def __init__(self) -> None:
        self._ahead: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._ahead:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        self._ahead.clear()

    def start_ahead(self, count: int) -> None:
        """Start so many processes that will be taken later."""
        self._ahead.extend(_start() for _ in range(count))

    def take(self) -> Process:
        """Return a process that waits for its orders: one that was started ahead, or a new one."""
        return self._ahead.pop(0) if self._ahead else _start()


def _start() -> Process:
    return subprocess.Popen(
        # -P: a folder called storage/ where the person stands must not shadow ours.
        [sys.executable, "-P", "-m", "sweeps.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **MALLOC, **_THREADS},
    )
