"""``doctor``: what is installed, what it runs on, and whether the database answers."""

import importlib.util
import os
import platform
from importlib import metadata
from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

from sweeps.cli.output import StorageOption, console
from sweeps.read.words import clean

PACKAGES = ("sweeps", "search_spaces", "objectives", "storage")
DISTRIBUTION = "bestepoch"

_ROOT = Path(__file__).parent.parent.parent
_LIBRARIES = (
    "bestepoch",
    "torch",
    "optuna",
    "optuna-dashboard",
    "sqlalchemy",
    "pandas",
    "pydantic",
    "rich",
    "typer",
)

#: What was looked at, what was found, and whether that is wrong.
Finding = tuple[str, str, bool]


def doctor(storage: StorageOption = None) -> None:
    """Check the installation and the database; exit code 1 if something is wrong."""
    findings: list[Finding] = [("python", platform.python_version(), False)]
    findings += [_find_library(name) for name in _LIBRARIES]
    findings += [_find_device(), ("cores", _describe_cores(), False)]
    findings += [find_package(name, root=_ROOT) for name in PACKAGES]
    findings.append(_find_database(storage))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text, is_wrong in findings:
        mark = Text("WRONG", style="bold red") if is_wrong else Text("ok")
        table.add_row(mark, name, clean(text))
    printer = console()
    printer.print(table)
    wrong = sum(is_wrong for _, _, is_wrong in findings)
    printer.print("nothing is wrong" if wrong == 0 else f"wrong: {wrong}")
    raise typer.Exit(1 if wrong else 0)


def find_package(name: str, *, root: Path) -> Finding:
    """Say whether a top-level package is ours: other distributions have the same names.

    Args:
        name: The package.
        root: The folder that holds our packages.
    """
    spec = importlib.util.find_spec(name)
    ours = root / name / "__init__.py"
    others = [
        other
        for other in sorted(set(metadata.packages_distributions().get(name, [])))
        if other != DISTRIBUTION
    ]
    whose = f" from {', '.join(others)}" if others else ""
    if spec is None or spec.origin is None:
        return f"package {name}", "not found; install bestepoch again", True
    if Path(spec.origin).resolve() != ours.resolve():
        text = f"another package{whose} hides ours: {spec.origin}; use an environment of its own"
        return f"package {name}", text, True
    if others:
        text = f"{', '.join(others)} installs this name too; use an environment of its own"
        return f"package {name}", text, True
    return f"package {name}", str(Path(spec.origin).parent), False


def _find_library(name: str) -> Finding:
    try:
        return name, metadata.version(name), False
    except metadata.PackageNotFoundError:
        return name, f"missing; install it with: pip install {name}", True


def _find_device() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return "device", f"torch cannot be imported: {error}", True
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return "device", f"{count} x {torch.cuda.get_device_name(0)}", False
    return "device", "cpu (no CUDA device)", False


def _describe_cores() -> str:
    # A container or taskset may allow fewer than the machine has.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return f"{allowed or os.cpu_count()} of {os.cpu_count()} may be used"


def _find_database(storage: str | None) -> Finding:
    from storage.database import open_database
    from storage.locations import StorageError, redact, resolve_url
    from storage.schema import VERSION

    try:
        url = resolve_url(storage)
        is_file_missing = _is_missing_file(url)
        if is_file_missing:
            return "database", f"{redact(url)}: not there yet; the first run creates it", False
        with open_database(url, create=False) as db:
            return "database", f"{db.where}: answers, tables of version {VERSION}", False
    except StorageError as error:
        return "database", str(error), True


def _is_missing_file(url: str) -> bool:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return False
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return False
    path = Path(parsed.database)
    return path.absolute().parent.is_dir() and not path.exists()
