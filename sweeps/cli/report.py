"""``report``: a study as one HTML file."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from sweeps.cli.output import StorageOption, StudyArgument, UsageMistake, console

_DEFAULT = Path("report.html")


def report(
    study: StudyArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="File to write to.")
    ] = _DEFAULT,
    storage: StorageOption = None,
) -> None:
    """Write a study as one HTML file that opens without a network."""
    # Before the study is read: 500 trials take seconds.
    check_place(output, default=_DEFAULT.name)
    from storage import locations
    from sweeps.report.page import report_html

    page = report_html(locations.resolve_url(storage), study).encode()
    write_whole(page, output)
    size = f"{len(page) / 1e6:.1f} MB"
    console().print(f"report of {study} written to {output} ({size})", soft_wrap=True)


def write_whole(content: bytes, output: Path) -> None:
    """Write a file so that nobody ever sees half of it: beside it first, then in its place.

    Raises:
        UsageMistake: If it cannot be written; what was there stays.
    """
    try:
        # The mode of a temporary file is its owner's alone; a report is a file like others.
        mask = os.umask(0)
        os.umask(mask)
        number, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(content)
            Path(name).chmod(0o666 & ~mask)
            Path(name).replace(output)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise UsageMistake(_refusal(output, error.strerror or error)) from None


def check_place(output: Path, *, default: str) -> None:
    """Check that a file can be there: its folder exists, and it is none itself.

    Args:
        output: The file.
        default: A name for it, where a folder was given.

    Raises:
        UsageMistake: If it cannot.
    """
    if output.is_dir():
        raise UsageMistake(_refusal(output, f"a folder; give a file: {output / default}"))
    if not output.parent.is_dir():
        raise UsageMistake(_refusal(output, f"no folder {output.parent}"))


def _refusal(output: Path, reason: object) -> str:
    return f"{output}: cannot be written: {reason}"
