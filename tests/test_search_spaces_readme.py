"""The reference of the sweep file: its tables of hyperparameters and settings are the code's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from pydantic_core import PydanticUndefined

import search_spaces
from search_spaces.hparams import OPTIMIZERS, RATED, ROWS, SCHEDULES, Row
from search_spaces.presets import ARGUMENTS
from sweeps.config.settings import SweepConfig

README = (Path(search_spaces.__file__).parent / "README.md").read_text()
SIGNS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


def describe_kind(row: Row) -> str:
    """Return what the values can be: ``number > 0``, ``"gru" or "lstm"``."""
    schema: dict[str, Any] = TypeAdapter(row.kind).json_schema()
    schema = next((one for one in schema.get("anyOf", ()) if one["type"] != "null"), schema)
    if "enum" in schema:
        return " or ".join(f"`{name}`" for name in schema["enum"])
    word = {"number": "number", "integer": "whole number", "boolean": "true or false"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in SIGNS.items() if key in schema]
    return f"{word[schema['type']]} {', '.join(limits)}".strip()


def describe_owners(row: Row) -> str:
    names = [
        sorted(owners) if len(owners) < len(everything) else []
        for owners, everything in ((row.optimizers, OPTIMIZERS), (row.schedules, SCHEDULES))
    ]
    if names[0] == sorted(RATED):
        names[0] = ["all but armijo"]
    return ", ".join(names[0] + names[1]) or "all"


def describe_default(row: Row) -> str:
    if row.default is None:
        return "-"
    return f"`{str(row.default).lower() if isinstance(row.default, bool) else row.default}`"


def make_table() -> list[str]:
    lines = ["| hyperparameter | values | default | trials of | |", "|---|---|---|---|---|"]
    for name, row in ROWS.items():
        unit = f", in {row.unit}" if row.unit else ""
        cells = (f"`{name}`", describe_kind(row) + unit, describe_default(row))
        lines.append(
            f"| {' | '.join(cells)} | {describe_owners(row)} | {row.meaning.replace('``', '`')} |"
        )
    return lines


def make_arguments() -> list[str]:
    lines = ["| `[space.model]` of | argument | values | default | |", "|---|---|---|---|---|"]
    for objective, rows in ARGUMENTS.items():
        for name, row in rows.items():
            cells = (f"`{objective}`", f"`{name}`", describe_kind(row), describe_default(row))
            lines.append(f"| {' | '.join(cells)} | {row.meaning} |")
    return lines


def make_settings() -> list[str]:
    lines = ["| setting | default | |", "|---|---|---|"]
    for name, field in SweepConfig.model_fields.items():
        if field.description is not None:
            default = "-" if field.default in (PydanticUndefined, None, ()) else field.default
            text = " ".join(field.description.split()).replace("``", "`")
            cells = (f"`{field.alias or name}`", f"`{default}`" if default != "-" else default)
            lines.append(f"| {' | '.join(cells)} | {text} |")
    return lines


@pytest.mark.parametrize("make", [make_table, make_arguments, make_settings])
def test_reference_is_what_the_code_says(make: Callable[[], list[str]]) -> None:
    table = "\n".join(make())
    assert table in README, table
