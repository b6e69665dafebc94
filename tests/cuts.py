"""A process that ends before a statement of SQL, without a process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from storage.database import Database


class Killed(BaseException):
    """Stands for a process that ends before a statement."""


@contextmanager
def cut_before(db: Database, number: int) -> Iterator[None]:
    """Raise ``Killed`` before the statement of this number, from 1."""
    count = 0

    def before(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise Killed

    event.listen(db._engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(db._engine, "before_cursor_execute", before)
