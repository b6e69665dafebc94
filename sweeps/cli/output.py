"""What all commands share: the console, lines to paste, short numbers, and files of tables."""

import io
import json
import math
import os
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from rich.console import Console, RenderableType

from objectives.metric_names import DEFAULT_METRIC, label_metric
from storage import locations
from sweeps.read.words import clean, is_missing

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["table", "csv", "json", "parquet"]

STORAGE_HELP = "Database URL or SQLite file. (BESTEPOCH_STORAGE, else bestepoch.db here)"
StorageOption = Annotated[
    str | None, typer.Option("--storage", metavar="URL", help=STORAGE_HELP, show_default=False)
]
FormatOption = Annotated[
    Format | None,
    typer.Option("--format", help="What to write; -o's suffix decides if not given."),
]
OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="File to write to.")
]
StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="Name of the study.")]

_SUFFIXES: dict[str, Format] = {".csv": "csv", ".json": "json", ".parquet": "parquet"}


class UsageMistake(ValueError):
    """A mistake on the command line: one line."""


@dataclass(slots=True)
class Invocation:
    """How the command was called.

    Attributes:
        args: What follows ``bestepoch``.
        debug: Whether tracebacks are shown.
    """

    args: tuple[str, ...]
    debug: bool = False


def stop_without_reader(show: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a call that shows an event, and that stops the run once nobody reads the output.

    It stops as after SIGTERM: what has ended is kept, and nothing more is shown.
    """

    def guarded(event: Any) -> None:
        try:
            show(event)
        except (BrokenPipeError, SystemExit):  # of which rich makes the latter
            with open(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), 1)
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                raise KeyboardInterrupt from None  # nothing has begun that could be stopped
            signal.raise_signal(signal.SIGTERM)

    return guarded


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints texts as they are: names may hold brackets."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def command_line(*words: object, storage: str | None = None) -> str:
    """Return a ``bestepoch`` command to paste; ``storage`` as it was given, password masked."""
    given = [*words, "--storage", storage] if storage else [*words]
    return shlex.join(["bestepoch", *(locations.redact(str(word)) for word in given)])


def find_metric(config: Mapping[str, Any]) -> str:
    """Return what people call the score of a study with these settings."""
    return clean(label_metric(config.get("metric", DEFAULT_METRIC)))


def paste(command: str, storage: str | None) -> str:
    """Return a command of ``sweeps.config.commands`` with ``storage`` as it was given."""
    return command_line(*shlex.split(command)[1:], storage=storage)


def choose_format(wanted: Format | None, output: Path | None) -> Format:
    """Return the format: as told, else by the file's suffix, else a table for people."""
    if wanted is not None:
        return wanted
    if output is None:
        return "table"
    if output.suffix.lower() not in _SUFFIXES:
        known = ", ".join(_SUFFIXES)
        raise UsageMistake(f"{output}: unknown suffix; give one of {known}, or --format")
    return _SUFFIXES[output.suffix.lower()]


def write_frame(frame: "pd.DataFrame", kind: Format, *, output: Path | None) -> None:
    """Write a frame, exact and with its own column names, to a file or to standard output.

    Raises:
        UsageMistake: If the file cannot be written, or a terminal would get binary data.
    """
    content = _encode(frame, kind)
    if output is not None:
        save(content, output)
    elif kind == "parquet" and sys.stdout.isatty():
        raise UsageMistake("parquet is binary: write it to a file with -o FILE")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def save_text(lines: Sequence[RenderableType], output: Path, *, width: int = 120) -> None:
    """Write what a terminal would show to a file, as plain text."""
    text = io.StringIO()
    plain = Console(file=text, width=width, highlight=False, markup=False, emoji=False)
    for line in lines:
        plain.print(line, soft_wrap=isinstance(line, str))
    save(text.getvalue().encode(), output)


def save(content: bytes, output: Path) -> None:
    """Write a file.

    Raises:
        UsageMistake: If it cannot be written.
    """
    try:
        output.write_bytes(content)
    except OSError as error:
        reason = error.strerror or error
        raise UsageMistake(f"{output}: cannot be written: {reason}") from None


def _encode(frame: "pd.DataFrame", kind: Format) -> bytes:
    if kind == "csv":
        return cast(str, frame.to_csv(index=False)).encode()
    if kind == "parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    # Not DataFrame.to_json: it rounds to 15 digits.
    rows = [
        {name: None if _has_no_json(value) else value for name, value in row.items()}
        for row in frame.to_dict(orient="records")
    ]
    text = json.dumps(rows, indent=2, ensure_ascii=False, default=_plain)
    return (text + "\n").encode()


def _has_no_json(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, float) and math.isinf(value))


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value.item()


def read_trial(text: str) -> int:
    """Return the number of a trial, or say what it must be."""
    if not text.isdecimal():
        raise typer.BadParameter(f"must be a whole number from 0, got {text!r}")
    return int(text)
