"""The commands, and what becomes of their errors."""

import difflib
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from search_spaces.mistakes import is_utf8
from storage.locations import StorageError, redact
from sweeps.cli import (
    compare,
    curves,
    diagnose,
    doctor,
    new,
    quit_at_once,
    report,
    run,
    serve,
    show,
    studies,
    weights,
)
from sweeps.cli.output import Invocation, UsageMistake, console
from sweeps.read.words import clean


class _Commands(TyperGroup):
    """The commands; Typer alone would make an exit without a line of Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        if signal.getsignal(signal.SIGINT) is quit_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Abort from None


app = typer.Typer(
    cls=_Commands,
    help="Hyperparameter sweeps for PyTorch classifiers, compared by their best epoch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib import metadata

        typer.echo(f"bestepoch {metadata.version('bestepoch')}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks, and what a run trains next and why.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    context.obj.debug = debug
    if debug:
        logging.basicConfig(format="%(asctime)s %(message)s")
        logging.getLogger("bestepoch").setLevel(logging.DEBUG)


app.command("run")(run.run)
app.add_typer(new.app, name="new")
app.command("list")(studies.list_studies)
app.command("results")(studies.results)
app.command("show")(show.show)
app.command("weights")(weights.weights)
app.command("diagnose")(diagnose.diagnose)
app.command("curves")(curves.curves)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("dashboard")(serve.dashboard)
app.command("delete")(studies.delete)
app.command("doctor")(doctor.doctor)


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
        # As in a worker: the interpreter's end with torch in it takes half a second.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)
    sys.exit(code or 0)


def _explain(error: Exception) -> tuple[Sequence[str], int]:
    """Return the lines for the person, and the exit code."""
    from objectives.api import DataError
    from objectives.references import ObjectiveError
    from sweeps.config.errors import ConfigError

    if isinstance(error, ConfigError):
        return error.lines, 2
    if isinstance(error, DataError | ObjectiveError | StorageError | UsageMistake):
        return str(error).splitlines(), 2
    if isinstance(error, typer.Abort):
        return ("interrupted",), 130
    if hasattr(error, "format_message"):  # what the parser of the command line raises
        return _explain_usage(error), 2
    text = str(error).strip().splitlines()
    name = type(error).__name__
    first = f"unexpected {name}: {text[0]}" if text else f"unexpected {name}"
    return (first, "see where it came from with: bestepoch --debug COMMAND ..."), 1


def _explain_usage(error: Any) -> Sequence[str]:
    """Return one line for a mistake on the command line, none where help was shown instead."""
    text = " ".join(error.format_message().split())
    setting = _find_setting(error)
    if setting is not None:
        return (f"--{setting.replace('_', '-')}: no such option; give --set {setting}=VALUE",)
    parameter = getattr(error, "param", None)
    if parameter is None or not text:
        return (text,) if text else ()
    option = parameter.opts[0]
    name = option if option.startswith("-") else parameter.metavar or parameter.name.upper()
    if text.startswith("Missing"):
        return (f"{name} is missing; see: {error.ctx.command_path} --help",)
    *_, reason = re.sub(r"^Invalid value for '[^']*': ", "", text).split("Value error, ")
    return (f"{name}: {reason[0].lower()}{reason[1:]}{_suggest(reason)}{_name_value(error)}",)


def _name_value(error: Any) -> str:
    """Return the value that is outside its limits; the parser names every other wrong one."""
    from pydantic import ValidationError

    cause = error.__cause__
    if not isinstance(cause, ValidationError) or "than" not in cause.errors()[0]["type"]:
        return ""
    return f", got {cause.errors()[0]['input']}"


def _suggest(reason: str) -> str:
    """Return the nearest of the names that the parser lists for a wrong one, "" without any."""
    found = re.match(r"'(.*?)' is not one of ('.*')", reason)
    if found is None:
        return ""
    names = re.findall(r"'(.*?)'", found[2])
    nearest = difflib.get_close_matches(found[1].lower().replace("-", "_"), names, n=1, cutoff=0.5)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""


def _find_setting(error: Any) -> str | None:
    """Return the key of a sweep file that an unknown option of ``run`` is meant for, or None."""
    from sweeps.config.settings import SweepConfig

    if type(error).__name__ != "NoSuchOption" or error.ctx.info_name != "run":
        return None
    name = str(error.option_name).removeprefix("--").replace("-", "_")
    return name if name in SweepConfig.model_fields else None
