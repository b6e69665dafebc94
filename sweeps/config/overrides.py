"""Settings and trials as a person writes them on the command line."""

import re
import tomllib
from collections.abc import Sequence
from typing import Any

#: A part up to its comma; a quoted value may hold commas.
_PART = re.compile(r"""((?:[^,=]*=)?\s*(?:"(?:\\.|[^"\\])*"|'[^']*')?[^,]*),""")
#: Tables that may be named in a word: ``--set sampler=random``.
_NAMED_TABLES = ("sampler", "pruner")


def read_override(override: str) -> tuple[tuple[str, ...], Any]:
    """Return the path and the value of ``key.path=value``.

    Raises:
        ValueError: If it changes nothing.
    """
    key, is_assignment, raw = override.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not is_assignment or not all(path):
        raise ValueError("expected key=value, such as space.dropout=0.5")
    value = parse_value(raw)
    if value == {}:
        raise ValueError(
            "an empty table changes nothing, since tables are merged key by key; set the keys of "
            f"{key.strip()} that are to change"
        )
    if value == raw and path[0] == "space" and len(parts := _split_commas(raw)) > 1:
        value = [parse_value(part.strip()) for part in parts]
    return path, value


def nest(path: Sequence[str], value: Any) -> dict[str, Any]:
    """Return a value in the tables of its path."""
    if len(path) == 1 and path[0] in _NAMED_TABLES and isinstance(value, str):
        value = {"name": value}
    for name in reversed(path):
        value = {name: value}
    nested: dict[str, Any] = value
    return nested


def parse_trial(text: str) -> dict[str, Any]:
    """Return the values of ``learning_rate=0.001,optimizer=adam``; each is TOML, or else a text.

    Raises:
        ValueError: If a part assigns nothing, or a name comes twice.
    """
    values: dict[str, Any] = {}
    for part in _split_commas(text):
        name, is_assignment, raw = (piece.strip() for piece in part.partition("="))
        if not is_assignment or not name or not raw:
            raise ValueError(f"expected name=value,name=value, got {part.strip()!r}")
        if name in values:
            raise ValueError(f"names {name} twice")
        values[name] = parse_value(raw)
    return values


def parse_value(raw: str) -> Any:
    """Return a value of the command line: TOML, or else the text itself."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return raw


def _split_commas(text: str) -> list[str]:
    """Split a text at its commas, but for those inside a quoted value."""
    return _PART.findall(f"{text},")
