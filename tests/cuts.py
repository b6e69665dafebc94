"""A process that ends before a statement of SQL, without a process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event


class Killed(BaseException):
    """Stands for a process that ends before a statement."""


@contextmanager
def cut_before(number: int) -> Iterator[None]:
    """Raise ``Killed`` before the statement of this number, from 1, of any database."""
    count = 0

    def before(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise Killed

    event.listen(Engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", before)
