"""A process that imports once what every worker needs, and forks a worker when told to.

Importing torch takes a second of a processor; workers that are forked afterwards have it at once,
and share its memory. Run as ``python -m sweeps.forker SOCKET`` by ``sweeps.processes``, on Linux
and for workers without a GPU alone: CUDA does not survive a fork once it is initialized. It has
one thread and has opened nothing, so that nothing is torn in two.
"""

import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
import traceback

from sweeps import worker
from sweeps.processes import ENDED, FORK, FORKED


def main(connection: socket.socket) -> None:
    """Fork workers and tell of their ends until the parent closes the connection or dies."""
    # Ctrl-C reaches every process of the terminal: the parent alone acts on it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # A worker's end interrupts the wait: its signal is written into this pipe.
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    worker.import_ahead()
    # What is imported lives for ever: not to be looked through, and copied, by each worker.
    gc.collect()
    gc.freeze()
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj == woken:
                    os.read(woken, 4096)
                    _tell_ends(connection)
                    continue
                message, pipes, _, _ = socket.recv_fds(connection, 64, 2)
                if message != FORK:
                    return
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    selector.close()
                    connection.close()
                    _work(pipes)
                for pipe in pipes:
                    os.close(pipe)
                _tell(connection, f"{FORKED} {pid}")


def _work(pipes: list[int]) -> None:
    """Be a worker whose standard input and output are these; never return."""
    code = 1
    try:
        for number, pipe in enumerate(pipes):
            os.dup2(pipe, number)
            os.close(pipe)
        code = worker.main()
    except BaseException:
        traceback.print_exc()
    finally:
        worker.leave(code)


def _tell_ends(connection: socket.socket) -> None:
    """Tell the parent of each worker that has ended since."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(connection, f"{ENDED} {pid} {os.waitstatus_to_exitcode(status)}")


def _tell(connection: socket.socket, text: str) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the parent has died
        connection.send(text.encode())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
