"""``doctor``: what is installed, what it runs on, and whether the database is sound."""

import importlib.util
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from storage.database import check_integrity
from storage.locations import StorageError, resolve_url
from sweeps.cli.console import console
from sweeps.read.words import clean

PACKAGES = ("sweeps", "search_spaces", "objectives", "storage")
DISTRIBUTION = "bestepoch"

_ROOT = Path(__file__).parent.parent.parent
_LIBRARIES = (
    DISTRIBUTION,
    "torch",
    "optuna",
    "optuna-dashboard",
    "sqlalchemy",
    "pandas",
    "pydantic",
    "rich",
    "typer",
)


class Finding(NamedTuple):
    """What was looked at, what was found, and whether that is wrong."""

    name: str
    text: str
    is_wrong: bool = False


def doctor(*, storage: str | None) -> None:
    """Print a line for each thing that was looked at."""
    findings = [
        Finding("python", platform.python_version()),
        *map(_find_library, _LIBRARIES),
        _find_device(),
        Finding("cores", f"{_count_cores()} of {os.cpu_count()} may be used"),
        *(find_package(name, root=_ROOT) for name in PACKAGES),
        _check_database(storage),
    ]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text, is_wrong in findings:
        mark = Text("WRONG", style="bold red") if is_wrong else Text("ok")
        table.add_row(mark, name, clean(text))
    printer = console()
    printer.print(table)
    wrong = sum(each.is_wrong for each in findings)
    printer.print("nothing is wrong" if wrong == 0 else f"wrong: {wrong}")
    raise typer.Exit(1 if wrong else 0)


def find_package(name: str, *, root: Path) -> Finding:
    """Say whether a top-level package is ours: other distributions have the same names.

    Args:
        name: The package.
        root: The folder that holds our packages.
    """
    what, spec = f"package {name}", importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return Finding(what, "not found; install bestepoch again", is_wrong=True)
    others = sorted({*metadata.packages_distributions().get(name, [])} - {DISTRIBUTION})
    whose, advice = ", ".join(others), "use an environment of its own"
    if Path(spec.origin).resolve() != (root / name / "__init__.py").resolve():
        by = f" from {whose}" if others else ""
        text = f"another package{by} hides ours: {spec.origin}; {advice}"
        return Finding(what, text, is_wrong=True)
    if others:
        return Finding(what, f"{whose} installs this name too; {advice}", is_wrong=True)
    return Finding(what, str(Path(spec.origin).parent))


def _find_library(name: str) -> Finding:
    try:
        return Finding(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, f"missing; install it with: pip install {name}", is_wrong=True)


def _find_device() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:  # what is broken is what a doctor is asked about
        return Finding("device", f"torch cannot be imported: {error}", is_wrong=True)
    if not torch.cuda.is_available():
        return Finding("device", "cpu (no CUDA device)")
    name, number = torch.cuda.get_device_name(0), torch.cuda.device_count()
    return Finding("device", f"{number} x {name}")


def _count_cores() -> int | None:
    # A container or taskset may allow fewer than the machine has; macOS cannot say.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _check_database(storage: str | None) -> Finding:
    try:
        return Finding("database", check_integrity(resolve_url(storage)))
    except StorageError as error:
        return Finding("database", str(error), is_wrong=True)
