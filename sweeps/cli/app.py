"""Calls the command that a person typed, and turns its errors into one line each."""

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer

from search_spaces.mistakes import is_utf8
from storage.locations import StorageError, redact
from sweeps.cli.commands import app
from sweeps.cli.console import Invocation, UsageMistake, console
from sweeps.config.errors import ConfigError
from sweeps.read.words import clean


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit: 0 done, 1 no result, 2 a person's mistake, 130 interrupted.

    Args:
        args: What follows ``bestepoch``; None: the arguments of this process.
    """
    invocation = Invocation(tuple(sys.argv[1:] if args is None else args))
    try:
        for arg in invocation.args:
            if not is_utf8(arg):
                raise UsageMistake(f"{arg!a}: is not UTF-8 text; give the file another name")
        # Not standalone: Click would show a mistake as a page of usage in a box.
        code = app(
            args=list(invocation.args),
            prog_name="bestepoch",
            obj=invocation,
            standalone_mode=False,
        )
    except Exception as error:
        if invocation.debug:
            raise
        lines, code = _explain(error)
        printer = console(stderr=True)
        for line in lines:
            # Soft: a terminal wraps by itself, and a log keeps one line a mistake.
            printer.print(redact(clean(line)), soft_wrap=True)
        sys.exit(code)
    if args is None and "torch" in sys.modules:
        # The interpreter's end with torch in it takes half a second.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)
    sys.exit(code or 0)


def _explain(error: Exception) -> tuple[Sequence[str], int]:
    """Return the lines for the person, and the exit code."""
    # Not at the top: it imports NumPy, for which help must not wait.
    from objectives.api import DataError
    from objectives.references import ObjectiveError

    if isinstance(error, ConfigError):
        return error.lines, 2
    if isinstance(error, DataError | ObjectiveError | StorageError | UsageMistake):
        return str(error).splitlines(), 2
    if isinstance(error, typer.Abort):
        return ("interrupted",), 130
    if isinstance(error, typer.TyperException):
        return _explain_usage(error), 2
    text = str(error).strip().splitlines()
    name = type(error).__name__
    first = f"unexpected {name}: {text[0]}" if text else f"unexpected {name}"
    return (first, "see where it came from with: bestepoch --debug COMMAND ..."), 1


def _explain_usage(error: typer.TyperException) -> Sequence[str]:
    """Return one line for a mistake on the command line, none where help was shown instead."""
    # Typer exports neither the class of a missing parameter nor that of an unknown option.
    option = getattr(error, "option_name", None)
    if option is not None and (setting := _find_setting(option, error)) is not None:
        return (f"{option}: no such option; give --set {setting}=VALUE",)
    parameter = getattr(error, "param", None)
    if parameter is None:
        text = " ".join(error.format_message().split())
        return (text,) if text else ()
    name = parameter.opts[0]
    if not name.startswith("-"):
        name = parameter.metavar or parameter.name.upper()
    if hasattr(error, "param_type"):
        command: Any = getattr(error, "ctx", None)
        return (f"{name} is missing; see: {command.command_path} --help",)
    return (f"{name}: {_explain_value(error)}",)


def _explain_value(error: typer.TyperException) -> str:
    """Return what is wrong with a value; limits and types are checked by Pydantic."""
    from pydantic import ValidationError

    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return error.message
    (found, *_) = cause.errors()
    text = found["msg"]
    return f"{text[0].lower()}{text[1:]}, got {found['input']}"


def _find_setting(option: str, error: typer.TyperException) -> str | None:
    """Return the key of a sweep file that an unknown option of ``run`` is meant for, or None."""
    from sweeps.config.settings import SweepConfig

    command: Any = getattr(error, "ctx", None)
    name = option.removeprefix("--").replace("-", "_")
    is_of_run = command is not None and command.info_name == "run"
    return name if is_of_run and name in SweepConfig.model_fields else None
