"""What a sweep writes for the dashboard while it runs: its study's note and figures.

The coordinator's process writes, in a thread of its own; the dashboard writes nothing. Knows not
what the note says: ``analysis.study_note`` does.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from sweeps.running.events import EpochDone, Event, Note

#: Seconds between two writes of a study's note and figures.
INTERVAL_S = 30.0
#: A dashboard that is open reads all figures anew every few seconds.
MAX_FIGURE_BYTES = 100_000

# Reading 500 trials of 200 epochs and judging their curves takes 2 s of a processor; so long a
# work is done more seldom, and costs at most 2 % of one.
_REST = 50.0


class StudyNotes:
    """Writes the note of one study while it runs; use it in a ``with`` block.

    An error is one ``Note`` to the person, told once, and never the sweep's.

    Args:
        url: The database.
        study: Name of the study.
        on_event: Called with the note of an error, in the thread that calls ``poll``.
        now: Returns seconds.
        busy: Returns processor seconds of the thread that calls it.
    """

    def __init__(
        self,
        url: str,
        study: str,
        on_event: Callable[[Event], None],
        *,
        now: Callable[[], float] = time.monotonic,
        busy: Callable[[], float] = time.thread_time,
    ) -> None:
        self._url = url
        self._study = study
        self._on_event = on_event
        self._now = now
        self._busy = busy
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="notes")
        self._writing: Future[None] | None = None
        self._rests_until = now() + INTERVAL_S
        self._is_due = False
        self._has_run = False
        self._has_imported = False
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._executor.shutdown(cancel_futures=True)

    def add(self, event: Event) -> None:
        """Take note of an event: whatever trials do makes the note old."""
        if isinstance(event, Note):
            return
        self._is_due = self._has_run = True
        if isinstance(event, EpochDone) and not self._has_imported:
            # While the trainers train, or a short sweep would end the later by the imports.
            self._has_imported = True
            self._executor.submit(_import_ahead)

    def poll(self) -> None:
        """Begin to write if it is time; returns at once."""
        if self._writing is not None and self._writing.done():
            self._settle()
        if self._is_due and self._writing is None and self._now() >= self._rests_until:
            self._begin()

    def finish(self) -> None:
        """Write for the last time, unless the run had nothing to do.

        Whenever the time before was: at the end of a budget trials fall behind without an event.
        """
        if self._writing is not None:
            self._settle()
        if self._has_run:
            self._begin()
            self._settle()

    def _begin(self) -> None:
        self._is_due = False
        self._writing = self._executor.submit(self._write)

    def _write(self) -> None:
        began, busy = self._now(), self._busy()
        try:
            write_note(self._url, self._study, now=datetime.now(UTC))
        finally:
            self._rests_until = began + max(INTERVAL_S, _REST * (self._busy() - busy))

    def _settle(self) -> None:
        """Wait for the writing to end; say what went wrong."""
        assert self._writing is not None
        error = self._writing.exception()
        self._writing = None
        if error is not None:
            text = " ".join(str(error).split()) or type(error).__name__
            text = f"the dashboard's note was not written: {text}"
            if text not in self._told:
                self._told.add(text)
                self._on_event(Note(text))


def write_note(url: str, study: str, *, now: datetime) -> None:
    """Write a study's note and figures into Optuna's tables, over those of before.

    Args:
        url: The database.
        study: Name of the study.
        now: The present moment, UTC.

    Raises:
        StorageError: If the database cannot be opened, or has no such study.
    """
    from storage import queries
    from storage.database import open_database
    from storage.optuna_mirror import OptunaMirror
    from sweeps.analysis import study_note
    from sweeps.analysis.report_facts import gather
    from sweeps.reporting import read_study

    data = read_study(url, study)
    facts = gather(data)
    text = study_note.note_text(data, facts, now=now)
    figures = study_note.note_figures(data, facts)
    for name, figure in figures.items():
        size = len(figure.to_json())
        assert size < MAX_FIGURE_BYTES, f"figure {name} has {size} bytes"
    with open_database(url, create=False) as db:
        uuid = queries.study_settings(url, study).uuid
        OptunaMirror(db, study, uuid).write_note(text, figures)


def _import_ahead() -> None:
    import optuna_dashboard
    from plotly.graph_objects import Figure  # plotly imports what is asked for

    from sweeps import reporting
    from sweeps.analysis import report_facts, study_note

    assert all((optuna_dashboard, Figure, reporting, report_facts, study_note))
