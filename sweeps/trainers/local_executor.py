"""The executor ``local``: trainers on this machine, seen from the coordinator.

It starts one process of its own, which loads the data and starts the trainers (``local``), and
holds a connection to that and to each trainer. A process that dies is an event, never an error.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn, Self

from objectives.api import DataError
from objectives.interrupts import hold_interrupts
from objectives.references import ObjectiveError
from sweeps.config.errors import ConfigError
from sweeps.trainers.executor import ExecutorError, ParentEnded, Report
from sweeps.trainers.messages import (
    Broken,
    Command,
    Load,
    Loaded,
    Refused,
    Start,
    Stop,
    TrainerEnded,
)

# glibc gives large blocks back to the system and has each page zeroed anew: with these settings a
# step of Adam on 12,000 word vectors takes 8.5 ms in place of 19 (4 slots, one AMD EPYC core).
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**28),
}
_THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_GRACE_S = 5.0


class LocalExecutor:
    """Trainers on this machine; see ``Executor``.

    The process that loads the data starts at once and imports torch meanwhile. For one thread.
    """

    def __init__(self) -> None:
        self._trainers: dict[int, Connection] = {}
        self._is_lost = False
        self._start_parent()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def parent_pid(self) -> int:
        """Number of the process that loads the data."""
        return self._process.pid

    def load(self, order: Load) -> Loaded:
        """Load the data; waits until that is done.

        Raises:
            ConfigError: If a device, a precision or a class that was asked for is not here.
            DataError: If the data are not what the objective reads.
            ObjectiveError: If the objective or its model cannot be used.
            ExecutorError: If the process died, or met an error of another kind.
        """
        try:
            self._control.send(order)
            answer = self._control.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise ExecutorError(f"the process that loads the data died ({how})") from None
        if isinstance(answer, Loaded):
            return answer
        _raise(answer)

    def restart(self, order: Load) -> Loaded:
        """Start the process that loads the data anew, without trainers, and load."""
        self.close()
        self._start_parent()
        return self.load(order)

    def start(self, index: int, device: str) -> None:
        """Start a trainer; its end is reported if that fails."""
        ours, theirs = Pipe()
        with suppress(OSError):  # the parent's death is reported
            socket.send_fds(self._descriptors, [b"c"], [theirs.fileno()])
            self._control.send(Start(index, device))
        theirs.close()
        self._trainers[index] = ours

    def send(self, index: int, command: Command | Stop) -> None:
        """Give a trainer a command; the end of one that has died is reported, not raised."""
        with suppress(OSError):
            self._trainers[index].send(command)

    def wait(self, timeout_s: float) -> list[Report]:
        """Return what has been reported by now, waiting for something up to a time.

        All that a trainer said before its end comes before its end.
        """
        if self._is_lost:
            return []
        owners = {one: index for index, one in self._trainers.items() if not one.closed}
        ready = wait([self._control, *owners], timeout=timeout_s)
        reports: list[Report] = []
        for one in ready:
            if one is not self._control:
                reports += self._read(owners[one])  # type: ignore[index]
        if self._control in ready:
            try:
                while self._control.poll():
                    message = self._control.recv()
                    assert isinstance(message, TrainerEnded), f"unexpected {message}"
                    reports += self._read(message.index)
                    self._trainers.pop(message.index).close()
                    reports.append((message.index, message))
            except (EOFError, OSError):
                self._is_lost = True
                reports += [each for index in list(self._trainers) for each in self._read(index)]
                reports.append(ParentEnded())
        return reports

    def close(self) -> None:
        """End all processes."""
        self._control.close()
        self._descriptors.close()
        for connection in self._trainers.values():
            with suppress(OSError):
                connection.close()
        if not self._trainers:
            self._process.kill()  # it imports or loads, and would not notice for a while
        self._trainers.clear()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start_parent(self) -> None:
        self._control, control = Pipe()
        self._descriptors, descriptors = socket.socketpair()
        passed = [control.fileno(), descriptors.fileno()]
        with control, descriptors, hold_interrupts():
            self._process = subprocess.Popen(
                # -P: a folder called storage/ where the person stands must not shadow ours.
                [sys.executable, "-P", "-m", "sweeps.trainers.local", *map(str, passed)],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **MALLOC, **_THREADS},
                pass_fds=passed,
            )
        self._is_lost = False

    def _read(self, index: int) -> Iterator[Report]:
        """Yield all that a trainer has said and that was not read yet."""
        connection = self._trainers[index]
        try:
            while not connection.closed and connection.poll():
                yield index, connection.recv()
        except (EOFError, OSError):
            connection.close()  # its end is reported by the process above


def _raise(answer: Any) -> NoReturn:
    if isinstance(answer, Broken):
        raise ExecutorError(answer.reason)
    assert isinstance(answer, Refused), f"unexpected {answer}"
    if answer.kind == "config":
        raise ConfigError(list(answer.lines))
    kind = DataError if answer.kind == "data" else ObjectiveError
    raise kind("\n".join(answer.lines))
