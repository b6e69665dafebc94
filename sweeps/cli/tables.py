"""Tables of the terminal: text to the left, numbers to the right, no lines."""

from collections.abc import Mapping

from rich.table import Table


def new_table(*, gap: int = 2) -> Table:
    """Return a table without columns.

    Args:
        gap: Blanks between two columns.
    """
    return Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")


def add_numbers(table: Table, *headings: str) -> None:
    """Add columns of numbers, which are never cut."""
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")


def add_texts(table: Table, *headings: str, folds: bool = False) -> None:
    """Add columns of text, which are never cut; with ``folds`` they may take several lines."""
    for heading in headings:
        table.add_column(heading, no_wrap=not folds, overflow="fold", vertical="bottom")


def named_values(values: Mapping[str, str]) -> Table:
    """Return a line for each name and its value; long values take several lines."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(name, value)
    return table
