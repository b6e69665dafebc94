"""The command ``bestepoch``: the only package that prints."""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit: 0 done, 1 no result, 2 a person's mistake, 130 interrupted.

    Args:
        args: What follows ``bestepoch``; None: the arguments of this process, which ends.
    """
    if args is None:
        # The imports take a third of a second, in which Ctrl-C would be a page of them.
        signal.signal(signal.SIGINT, quit_at_once)
        sys.unraisablehook = _keep_interrupt
    try:
        from sweeps.cli import app

        app.main(args)
    except KeyboardInterrupt:
        quit_at_once()
    finally:
        if args is None:
            # What is to be said has been said, and the interpreter's end takes a moment.
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _keep_interrupt(unraisable: Any) -> None:
    """Send Ctrl-C again where Python has lost it: in a callback, such as a weak reference's."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        import threading

        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


def quit_at_once(*_: Any) -> NoReturn:
    """Say that the command was interrupted, and end: nothing has begun, or all is done."""
    os.write(sys.stderr.fileno(), b"interrupted\n")
    os._exit(130)
