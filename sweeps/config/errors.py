"""Where each mistake of a sweep's settings was written: a line of the file, or an option.

Knows where a key stands; knows nothing of what it means.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from search_spaces.mistakes import Mistake

Path = tuple[str, ...]

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([\w\"'-]+(?:\s*\.\s*[\w\"'-]+)*)\s*=")


class ConfigError(ValueError):
    """All mistakes of a sweep's settings, one line each."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


@dataclass(frozen=True, slots=True)
class Source:
    """Where the settings of a sweep were written.

    Attributes:
        name: The sweep file as the person named it, or the objective.
        text: The file's text; empty where there is no file.
        options: Path and name of each setting that was given beside the file, in the order given.
    """

    name: str
    text: str = ""
    options: tuple[tuple[Path, str], ...] = ()

    def to_line(self, mistake: Mistake) -> str:
        """Return a mistake with the place where it was written."""
        return f"{self._locate(mistake.path)}: {mistake.to_line()}"

    def _locate(self, path: Path) -> str:
        for written, option in reversed(self.options):
            shared = min(len(written), len(path))
            if shared and written[:shared] == path[:shared]:
                return option
        line = find_line(self.text, path)
        return self.name if line is None else f"{self.name}:{line}"


def find_line(text: str, path: Path) -> int | None:
    """Return the line of a TOML text that writes a key, or the innermost table around it.

    A reading by line and not by grammar: inside a text of several lines it may name the wrong
    one, and then the key beside it still says what is meant.

    Returns:
        The line, counted from 1; None if not even the key's first name is written.
    """
    header: Path = ()
    found: tuple[int, int | None] = (0, None)
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _HEADER.match(line):
            header = written = _split_key(match[1])
        elif match := _KEY.match(line):
            written = header + _split_key(match[1])
        else:
            continue
        if len(written) > found[0] and written == path[: len(written)]:
            found = (len(written), number)
    return found[1]


def _split_key(key: str) -> Path:
    return tuple(part.strip().strip("\"'") for part in key.split("."))
