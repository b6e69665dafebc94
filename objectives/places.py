"""Where a person's code raised: the line that is theirs, among those of torch and ours."""

import os
import sysconfig
import traceback
from pathlib import Path

_PACKAGES = Path(__file__).parent.parent
#: Where no line is the person's: the interpreter's library, installed packages, and ours.
_FOREIGN = (
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    *(str(_PACKAGES / name) + os.sep for name in ("sweeps", "objectives", "storage")),
    str(_PACKAGES / "search_spaces") + os.sep,
    "<",
)


def find_line(error: BaseException) -> str | None:
    """Return ``file:line`` of the innermost line that is the person's, or None."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not _is_foreign(frame.filename):
            return f"{show_path(Path(frame.filename))}:{frame.lineno}"
    return None


def _is_foreign(path: str) -> bool:
    # An environment may borrow another's packages.
    return path.startswith(_FOREIGN) or "site-packages" in path or "dist-packages" in path


def find_caller() -> str | None:
    """Return ``file:line`` of the innermost line being run that is the person's, or None."""
    for frame, number in traceback.walk_stack(None):
        if not _is_foreign(frame.f_code.co_filename):
            return f"{show_path(Path(frame.f_code.co_filename))}:{number}"
    return None


def describe_error(error: BaseException) -> str:
    """Return one line for people: the kind, the first line of the text, and in brackets where."""
    text = str(error).strip().splitlines()
    line = find_line(error)
    place = "" if line is None else f" ({line})"
    return f"{type(error).__name__}: {text[0] if text else 'no message'}{place}"


def show_path(path: Path) -> str:
    """Return a path as a person in the current folder would write it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
