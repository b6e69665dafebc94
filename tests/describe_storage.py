"""Writes the reference of the tables into storage/README.md: ``python tests/describe_storage.py``.

A test compares the page with what this makes of the schema.
"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from storage import frames, schema

README = Path(__file__).parent.parent / "storage" / "README.md"
BEGIN, END = "<!-- made by tests/describe_storage.py -->\n", "<!-- end -->\n"
_SQL: dict[Any, str] = {
    sa.BigInteger: "bigint",
    sa.Boolean: "boolean",
    sa.LargeBinary: "bytes",
    schema.Json: "text, JSON",
    schema.Real: "double",
    schema.UtcDateTime: "timestamp",
}


def describe_tables() -> str:
    """Return a section for the view and each table: columns, types and what they hold."""
    return "\n".join(_describe(each) for each in [schema.BEST_EPOCHS, *_tables()])


def main() -> None:
    """Write the sections over those of before."""
    head, _, rest = README.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    README.write_text(f"{head}{BEGIN}{describe_tables()}{END}{tail}")


def _tables() -> list[sa.Table]:
    order = ("trial_results", "epoch_records", "class_scores", "predictions", "bestepoch_studies")
    first = [schema.METADATA.tables[name] for name in order]
    return [*first, *(each for each in schema.METADATA.sorted_tables if each not in first)]


def _describe(table: sa.Table) -> str:
    kind = "view" if table is schema.BEST_EPOCHS else "table"
    lines = [
        f"### The {kind} `{table.name}`\n",
        f"{table.comment}\n",
        "| column | in SQL | in pandas | what |",
        "|---|---|---|---|",
    ]
    for column in table.c:
        sql = _SQL.get(type(column.type), "text")
        key = ", key" if column.primary_key and kind == "table" else ""
        dtype = frames.find_dtype(column)
        lines.append(f"| `{column.name}` | {sql}{key} | {dtype} | {column.comment} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
