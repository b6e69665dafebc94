"""What every command prints with: the console, commands to paste, and wrapped sentences."""

import os
import shlex
import signal
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from storage.locations import redact


class UsageMistake(ValueError):
    """A mistake on the command line: one line for the person."""


@dataclass(slots=True)
class Invocation:
    """How the command was called.

    Attributes:
        args: What follows ``bestepoch``.
        debug: Whether tracebacks are shown.
    """

    args: tuple[str, ...]
    debug: bool = False


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is: names may hold brackets."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def print_wrapped(printer: Console, text: str, *, indent: int = 0) -> None:
    """Print a sentence, wrapped at the console's width, without trailing blanks."""
    printer.print(wrap(text, width=printer.width, first=" " * indent), soft_wrap=True)


def wrap(text: str, *, width: int, first: str = "") -> str:
    """Return the text wrapped between words; later lines are indented as far as ``first``."""
    return textwrap.fill(
        text,
        width=width,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def command_line(*words: object, storage: str | None = None) -> str:
    """Return a ``bestepoch`` command to paste; ``storage`` as it was given, password masked."""
    given = [*words, "--storage", storage] if storage else [*words]
    return shlex.join(["bestepoch", *(redact(str(word)) for word in given)])


def paste(command: str, storage: str | None) -> str:
    """Return a complete ``bestepoch`` command with ``storage`` as it was given."""
    return command_line(*shlex.split(command)[1:], storage=storage)


def print_if_read(show: Callable[[], None]) -> bool:
    """Print, unless nobody reads the output any more; return whether somebody does."""
    try:
        show()
    except (BrokenPipeError, SystemExit):  # rich raises SystemExit for a closed pipe
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
        return False
    return True


def stop_without_reader(show: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrap a function that shows events: the run stops when nobody reads its output any more.

    The run stops as after SIGTERM: what has ended is kept, and nothing more is shown.
    """

    def guarded(event: Any) -> None:
        if not print_if_read(lambda: show(event)):
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                raise KeyboardInterrupt from None  # nothing has begun that could be stopped
            signal.raise_signal(signal.SIGTERM)

    return guarded
