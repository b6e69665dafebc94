"""The process that imports and loads once and starts local trainers: ``python -m ... local``.

On a CPU trainers are forked from it, so that they share one copy of the data; with CUDA, which
does not survive a fork, they are spawned. It watches them: one whose step takes far longer than
any before is killed. When the coordinator closes the connection, or dies, all end.
"""

import contextlib
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

from objectives.api import DataError
from objectives.places import describe_error
from objectives.references import ObjectiveError
from sweeps.config.errors import ConfigError
from sweeps.trainers import inside, loops
from sweeps.trainers.messages import Broken, Load, Refused, Start, Stop, TrainerEnded

#: A step may take so many times as long as the longest that its trainer has measured: validation,
#: the first step of another model and a busy machine are within it.
STEP_FACTOR = 50.0
#: Seconds below which no step is too long, however short the others are.
LEAST_LIMIT_S = 30.0
_POLL_S = 0.5
#: Seconds between two looks of a trainer that trains at what the coordinator says.
ASK_S = 0.25
#: Seconds between two looks at the trainers beyond which this process was not running.
STANDSTILL_S = 5.0


class Beat:
    """When a trainer last took a step, and how long the next may take, in shared memory.

    Args:
        shared: Two numbers: a moment of the monotonic clock, and seconds.
        first_limit_s: Seconds for the first step.
        least_limit_s: Seconds below which no step is too long.
        is_called: Returns whether the coordinator has a message, or is gone.
    """

    def __init__(
        self,
        shared: Any,
        first_limit_s: float,
        least_limit_s: float,
        is_called: Callable[[], bool] = lambda: False,
    ) -> None:
        self._shared = shared
        self._is_called = is_called
        self._asked = 0.0
        self._limit_s = first_limit_s
        self._least_s = least_limit_s
        self._longest_s = 0.0
        self._last = 0.0

    def begin(self) -> None:
        """Begin to count, as a command arrives."""
        self._last = self._shared[0] = time.monotonic()
        self._shared[1] = self._limit_s

    def __call__(self) -> None:
        """Count a step; raises ``inside.Stopped`` where the coordinator wants an end."""
        now = time.monotonic()
        if now - self._asked > ASK_S:
            self._asked = now
            if self._is_called():
                raise inside.Stopped
        taken = now - self._last
        self._last = self._shared[0] = now
        if taken > self._longest_s:
            self._longest_s = taken
            self._limit_s = max(self._least_s, STEP_FACTOR * taken)
            self._shared[1] = self._limit_s

    def end(self) -> None:
        """Stop counting: the trainer waits for a command."""
        self._shared[1] = math.inf


def ignore_signals() -> None:
    """Ignore what reaches every process of a terminal: the coordinator alone acts on it."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def main(control: Connection, descriptors: socket.socket) -> None:
    """Serve the coordinator until it closes the connection or dies."""
    ignore_signals()
    inside.import_ahead()
    trainers = _Trainers(control, descriptors)
    try:
        while trainers.serve():
            pass
    finally:
        trainers.kill()


class _Trainers:
    """The trainers of this process."""

    def __init__(self, control: Connection, descriptors: socket.socket) -> None:
        self._control = control
        self._descriptors = descriptors
        self._work: inside.Work | loops.LoopWork | None = None
        self._running: dict[int, tuple[Any, Any]] = {}

    def serve(self) -> bool:
        """Serve one message or wait a moment; return False once the coordinator has gone."""
        sentinels = {process.sentinel: index for index, (process, _) in self._running.items()}
        polled = time.monotonic()
        ready = wait([self._control, *sentinels], timeout=_POLL_S if sentinels else None)
        try:
            for one in ready:
                if one is self._control:
                    self._obey(self._control.recv())
                else:
                    self._report_end(sentinels[one])
            # Where this process too has stood still (Ctrl-Z, a frozen container), nobody is stuck.
            stood_still = time.monotonic() - polled > STANDSTILL_S
            for index, (_, shared) in list(self._running.items()):
                if stood_still:
                    shared[0] = time.monotonic()
                self._stop_if_stuck(index)
        except (EOFError, OSError):
            return False
        return True

    def kill(self) -> None:
        """End all trainers at once."""
        for process, _ in self._running.values():
            process.kill()

    def _obey(self, message: Load | Start) -> None:
        if isinstance(message, Load):
            try:
                self._work, loaded = inside.load(message)
            except ConfigError as error:
                self._control.send(Refused("config", tuple(error.lines)))
            except DataError as error:
                self._control.send(Refused("data", tuple(str(error).splitlines())))
            except ObjectiveError as error:
                self._control.send(Refused("objective", tuple(str(error).splitlines())))
            except (Exception, SystemExit) as error:
                self._control.send(Broken(describe_error(error)))
            else:
                self._control.send(loaded)
            return
        _, (descriptor,), _, _ = socket.recv_fds(self._descriptors, 1, 1)
        self._start(message, Connection(descriptor))

    def _start(self, start: Start, connection: Connection) -> None:
        work = self._work
        assert work is not None, "trainers are started once the data are loaded"
        is_forked = _can_fork(start.device)
        context = (
            multiprocessing.get_context("fork")
            if is_forked
            else multiprocessing.get_context("spawn")
        )
        shared = context.RawArray("d", [time.monotonic(), math.inf])
        closes = [self._control, self._descriptors] if is_forked else []
        process = context.Process(
            target=run_trainer, args=(work, start.device, connection, shared, closes)
        )
        process.start()
        connection.close()
        self._running[start.index] = (process, shared)

    def _report_end(self, index: int, how: str | None = None) -> None:
        """Tell the coordinator how a trainer ended."""
        process, _ = self._running.pop(index)
        process.join()
        code = process.exitcode
        if how is None:
            is_signal = code is not None and code < 0
            how = f"signal {signal.Signals(-code).name}" if is_signal else f"exit code {code}"
        self._control.send(TrainerEnded(index, how))

    def _stop_if_stuck(self, index: int) -> None:
        process, shared = self._running[index]
        # The limit first: a command that begins meanwhile writes the moment before the limit.
        limit_s = shared[1]
        began = shared[0]
        if time.monotonic() - began > limit_s:
            process.kill()
            self._report_end(index, f"no step ended in {limit_s:.0f} s")


def run_trainer(
    work: inside.Work | loops.LoopWork,
    device: str,
    connection: Connection,
    shared: Any,
    closes: list[Any],
) -> NoReturn:
    """Be a trainer: obey commands until the coordinator closes the connection; never return."""
    for one in closes:
        one.close()  # or the coordinator's death would not close them for the process above
    ignore_signals()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    code = 1
    try:
        first_s = work.order.step_limit_s
        # Between two steps an own loop may validate, load or write: nobody knows for how long.
        least_s = min(LEAST_LIMIT_S, first_s) if isinstance(work, inside.Work) else first_s
        beat = Beat(shared, first_s, least_s, connection.poll)
        keeper = inside.make_keeper(work, device, beat)
        _obey_all(keeper, connection, beat)
        code = 0
    except (EOFError, BrokenPipeError, ConnectionResetError):
        code = 0  # the coordinator has gone
    except BaseException as error:
        with contextlib.suppress(OSError):
            connection.send(Broken(describe_error(error)))
    finally:
        sys.stderr.flush()
        # Without the interpreter's end, in which torch takes half a second.
        os._exit(code)


def _obey_all(
    keeper: inside.LaneKeeper | loops.LoopKeeper, connection: Connection, beat: Beat
) -> None:
    while True:
        command = connection.recv()
        if isinstance(command, Stop):
            continue  # the epoch had ended
        beat.begin()
        try:
            answer = keeper.obey(command)
        except inside.Stopped:
            answer = keeper.give_up(command, connection.recv().path)
        beat.end()
        connection.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a trainer is a child"
    parent.join()
    os._exit(1)


def _can_fork(device: str) -> bool:
    if not device.startswith("cpu") or sys.platform != "linux":
        return False
    import torch

    # A person's load() may have used the GPU.
    return not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


def _attach(descriptors: list[str], run: Callable[[Connection, socket.socket], None]) -> None:
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a person's print is no output of ours
    run(Connection(int(descriptors[0])), socket.socket(fileno=int(descriptors[1])))


if __name__ == "__main__":
    _attach(sys.argv[1:], main)
    os._exit(0)
