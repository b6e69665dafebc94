"""Starts worker processes, early enough that they import while the data are checked.

A worker needs some seconds until it can train, most of them for torch; the process that checks
the settings, the data and the model needs as long. Where workers can be forked, one process
imports for all (``sweeps.forker``). Knows nothing of what a worker is told.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from types import TracebackType
from typing import IO, Protocol, Self

# glibc gives large blocks back to the system and has each page zeroed anew: with these settings a
# step of Adam on 12,000 word vectors takes 8.5 ms in place of 19 (4 slots, one AMD EPYC core).
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**28),
}
_THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
#: Told to the process that forks, with a worker's standard input and output as file descriptors.
FORK = b"fork"
#: Told by it: ``pid`` of a worker that was forked, ``end`` of one with its exit code.
FORKED, ENDED = "pid", "end"
#: Fewest workers for which one process that imports for all is worth itself.
_MIN_FORKED = 2


class Process(Protocol):
    """A worker process, as ``subprocess.Popen`` is one."""

    pid: int

    @property
    def stdin(self) -> IO[str] | None:
        """Where its orders are written to."""

    @property
    def stdout(self) -> IO[str] | None:
        """Where its events are read from."""

    def wait(self) -> int:
        """Return the exit code, negative for a signal; blocks until it has one."""

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""


class ProcessStarter:
    """Worker processes that wait for their orders; with the block end those that got none."""

    def __init__(self) -> None:
        self._ahead: list[Process] = []
        self._forker: Forker | None = None

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
            close_pipes(process)
        self._ahead.clear()
        if self._forker is not None:
            self._forker.close()

    def start_ahead(self, count: int) -> None:
        """Start what so many processes will be taken from later."""
        if count >= _MIN_FORKED and sys.platform == "linux":
            self._forker = Forker()
        else:
            self._ahead.extend(_start() for _ in range(count))

    def take(self) -> Process:
        """Return a process that waits for its orders: one that was started ahead, or a new one."""
        if self._ahead:
            return self._ahead.pop(0)
        if self._forker is not None:
            try:
                return self._forker.fork()
            except ForkerDied:
                self._forker.close()
                self._forker = None
        return _start()


class ForkerDied(Exception):
    """The process that forks workers has ended."""


class Forker:
    """The process that forks workers: this side of its connection. For one thread."""

    def __init__(self) -> None:
        # Packets, so that a message is read whole or not at all.
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                # -P: a folder called storage/ where the person stands must not shadow ours.
                [sys.executable, "-P", "-m", "sweeps.forker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **MALLOC, **_THREADS},
                pass_fds=[theirs.fileno()],
            )
        self._codes: dict[int, int] = {}

    def fork(self) -> "ForkedProcess":
        """Return a new worker; waits until the imports are done.

        Raises:
            ForkerDied: If the process that forks has ended.
        """
        orders_read, orders_write = os.pipe()
        events_read, events_write = os.pipe()
        try:
            socket.send_fds(self._connection, [FORK], [orders_read, events_write])
            while (words := self._read())[0] != FORKED:
                self._codes[int(words[1])] = int(words[2])
        except (OSError, ForkerDied) as error:
            os.close(orders_write)
            os.close(events_read)
            raise ForkerDied from error
        finally:
            os.close(orders_read)
            os.close(events_write)
        return ForkedProcess(self, int(words[1]), orders_write, events_read)

    def find_code(self, pid: int) -> int:
        """Return the exit code of a worker, waiting for its end.

        Raises:
            ForkerDied: If nobody can tell any more.
        """
        while pid not in self._codes:
            words = self._read()
            self._codes[int(words[1])] = int(words[2])
        return self._codes[pid]

    def close(self) -> None:
        """End the process that forks; workers live on, and nobody knows of their ends."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _read(self) -> list[str]:
        try:
            message = self._connection.recv(64)
        except OSError:  # reset, or closed on this side
            message = b""
        if not message:
            raise ForkerDied
        return message.decode().split()


class ForkedProcess:
    """A worker that was forked: a child of the process that forks, with its pipes here.

    Args:
        forker: Who forked it.
        pid: Its number.
        stdin: File descriptor that its orders are written to.
        stdout: File descriptor that its events are read from.
    """

    def __init__(self, forker: Forker, pid: int, stdin: int, stdout: int) -> None:
        self._forker = forker
        self.pid = pid
        self.stdin: IO[str] | None = os.fdopen(stdin, "w")
        self.stdout: IO[str] | None = os.fdopen(stdout)
        self._code: int | None = None

    def wait(self) -> int:
        """Return the exit code; that of a kill where who could tell has been killed too."""
        if self._code is None:
            try:
                self._code = self._forker.find_code(self.pid)
            except ForkerDied:
                self._code = -signal.SIGKILL
        return self._code

    def kill(self) -> None:
        """Send SIGKILL, unless its end is known."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def close_pipes(process: Process) -> None:
    """Close both pipes of a process that has ended."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _start() -> Process:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "sweeps.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **MALLOC, **_THREADS},
    )
