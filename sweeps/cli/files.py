"""Files that commands write: frames, pages and sweep files; each whole or not at all."""

import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from sweeps.cli.console import UsageMistake
from sweeps.read.words import is_missing

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["table", "csv", "json", "parquet"]

_SUFFIXES: dict[str, Format] = {".csv": "csv", ".json": "json", ".parquet": "parquet"}


def choose_format(wanted: Format | None, output: Path | None) -> Format:
    """Return the given format, else that of the file's suffix, else ``table``.

    Raises:
        UsageMistake: If a file is to have a format that files do not have.
    """
    if output is None:
        return wanted or "table"
    kind = wanted or _SUFFIXES.get(output.suffix.lower())
    if kind is None:
        raise UsageMistake(
            f"{output}: unknown suffix; give one of {', '.join(_SUFFIXES)}, or --format"
        )
    if kind == "table":
        raise UsageMistake("--format table is for the terminal; give csv, json or parquet with -o")
    return kind


def write_frame(frame: "pd.DataFrame", kind: Format, *, output: Path | None) -> None:
    """Write a frame, exact and with its own column names, to a file or to standard output.

    Raises:
        UsageMistake: If the file cannot be written, or a terminal would get binary data.
    """
    content = _encode(frame, kind)
    if output is not None:
        write_whole(content, output)
    elif kind == "parquet" and sys.stdout.isatty():
        raise UsageMistake("parquet is binary: write it to a file with -o FILE")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def write_whole(content: bytes, output: Path) -> None:
    """Write a file beside its place and move it there, so that nobody ever reads half of it.

    Raises:
        UsageMistake: If it cannot be written; the file that was there stays.
    """
    check_place(output)
    try:
        number, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(content)
            # mkstemp lets the owner alone read it; others may read any other file of this user.
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)
            Path(name).replace(output)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise _cannot_write(output, error.strerror or error) from None


def write_new(text: str, path: Path) -> None:
    """Write a file that does not exist yet.

    Raises:
        UsageMistake: If it exists, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageMistake(f"{path} exists; take another name") from None
    except OSError as error:
        raise _cannot_write(path, error.strerror or error) from None


def check_place(output: Path) -> None:
    """Raise a UsageMistake if no file can be there, before the work for it is done."""
    if output.is_dir():
        raise _cannot_write(output, "it is a folder; name a file in it")
    if not output.parent.is_dir():
        raise _cannot_write(output, f"no folder {output.parent}")


def to_json(value: Any) -> Any:
    """Return the value as JSON has it: null for a missing or infinite number, ISO for a moment."""
    if isinstance(value, Mapping):
        return {str(name): to_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    if is_missing(value) or (isinstance(value, float) and math.isinf(value)):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value


def _encode(frame: "pd.DataFrame", kind: Format) -> bytes:
    if kind == "csv":
        return cast(str, frame.to_csv(index=False)).encode()
    if kind == "parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    # Not DataFrame.to_json: it rounds to 15 digits.
    rows = to_json(frame.to_dict(orient="records"))
    return (json.dumps(rows, indent=2, ensure_ascii=False) + "\n").encode()


def _cannot_write(path: Path, reason: object) -> UsageMistake:
    return UsageMistake(f"{path}: cannot be written: {reason}")
