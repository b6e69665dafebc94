"""Writes a study's note and figures into Optuna's pages while its sweep runs, and at its end.

By optuna-dashboard's public calls alone: of three figures of 27 kB each they take 24 ms of many
short transactions (SQLite, 2 cores), and a writer of ours waits for 8 ms of them at most.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Thread
from types import TracebackType
from typing import Self

from sweeps.running.events import Event, Note

#: Seconds to the first write, which also imports what the last one needs while trials train, and
#: between two later ones: reading and judging 500 trials takes seconds of a processor.
FIRST_S, INTERVAL_S = 10.0, 180.0


class NoteWriter:
    """Writes the note of one study while it runs; use it in a ``with`` block.

    An error is one ``Note`` to the person, and never the sweep's.

    Args:
        url: The database.
        study: Name of the study.
        on_event: Called with the note of an error, in the thread that calls ``poll``.
        now: Returns seconds.
    """

    def __init__(
        self,
        url: str,
        study: str,
        on_event: Callable[[Event], None],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._study = study
        self._on_event = on_event
        self._now = now
        self._next = now() + FIRST_S
        self._thread: Thread | None = None
        self._has_run = False
        self._problem: str | None = None
        self._told: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wait()

    def add(self, event: Event) -> None:
        """Take note of an event: a run in which no trial does anything writes nothing."""
        self._has_run = self._has_run or not isinstance(event, Note)

    def poll(self) -> None:
        """Begin to write if it is time, in a thread; returns at once."""
        if self._thread is not None and not self._thread.is_alive():
            self._wait()
        if self._has_run and self._thread is None and self._now() >= self._next:
            self._next = self._now() + INTERVAL_S
            self._thread = Thread(target=self._write, name="note")
            self._thread.start()

    def finish(self) -> None:
        """Write for the last time, unless the run had nothing to do."""
        self._wait()
        if self._has_run:
            self._write()
            self._wait()

    def _write(self) -> None:
        try:
            write_note(self._url, self._study, now=datetime.now(UTC))
        except Exception as error:
            self._problem = " ".join(str(error).split()) or type(error).__name__

    def _wait(self) -> None:
        """Wait for the writing to end; say what went wrong, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._problem is not None and self._problem != self._told:
            self._told = self._problem
            self._on_event(Note(f"the dashboard's note was not written: {self._problem}"))
        self._problem = None


def write_note(url: str, study: str, *, now: datetime) -> None:
    """Write a study's note and figures into Optuna's tables, over those of before.

    Args:
        url: The database.
        study: Name of the study.
        now: The present moment, UTC.

    Raises:
        StorageError: If the database cannot be opened, or has no such study.
    """
    import optuna
    import optuna_dashboard

    from storage.database import open_database
    from storage.optuna_mirror import optuna_storage
    from sweeps.analysis.summary import summarise
    from sweeps.read.study import Study
    from sweeps.views import note

    summary = summarise(Study.read(url, study))
    text, figures = note.note_text(summary, now=now), note.note_figures(summary)
    with open_database(url, create=False) as db:
        copy = optuna.load_study(study_name=study, storage=optuna_storage(db))
        optuna_dashboard.save_note(copy, text)
        for name, figure in figures.items():
            optuna_dashboard.save_plotly_graph_object(copy, figure, graph_object_id=name)
