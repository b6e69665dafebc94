"""What a sweep writes for the dashboard while it runs: its study's note and figures.

The process that started the workers writes, in a thread of its own, never a worker. The
dashboard itself writes nothing. Knows not what the note says: ``analysis.study_note`` does.
"""

import copy
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from sweeps.events import EpochDone, Event, Note, TrialEnded, TrialStarted

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

#: Seconds between two writes of a study's note and figures.
INTERVAL_S = 30.0
#: A dashboard that is open reads all figures anew every few seconds.
MAX_FIGURE_BYTES = 100_000
#: User attribute of the study: when its note was written, for other runs of the same study.
WRITTEN_AT = "bestepoch:note_written_at"

# Reading 500 trials of 200 epochs and judging their curves takes 2 s of a processor; so long a
# work is done more seldom, and costs at most 2 % of one.
_REST = 50.0


class StudyNotes:
    """Writes the note of one study while trials end; use it in a ``with`` block.

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
        *,
        on_event: Callable[[Event], None],
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
        self._is_due_at_end = False
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
        """Take note of an event: a trial that has ended makes the note old.

        One that has begun is told of at the end of the run, which may come before its own.
        """
        if isinstance(event, TrialEnded):
            self._is_due = True
        elif isinstance(event, TrialStarted):
            self._is_due_at_end = True
        elif isinstance(event, EpochDone) and not self._has_imported:
            # While the workers train, or a short sweep would end the later by the imports; and not
            # before, or they would fall into the moment in which the workers time their lanes.
            self._has_imported = True
            self._executor.submit(_import_ahead)

    def poll(self) -> None:
        """Begin to write if it is time; returns at once."""
        if self._writing is not None and self._writing.done():
            self._settle()
        if self._is_due and self._writing is None and self._now() >= self._rests_until:
            self._begin(is_last=False)

    def finish(self) -> None:
        """Write for the last time, whenever the time before was, if a trial has ended since.

        Or has begun: a run that is interrupted early leaves a note too.
        """
        if self._writing is not None:
            self._settle()
        if self._is_due or self._is_due_at_end:
            self._begin(is_last=True)
            self._settle()

    def _begin(self, *, is_last: bool) -> None:
        self._is_due = False
        self._is_due_at_end = self._is_due_at_end and not is_last
        self._writing = self._executor.submit(self._write, is_last=is_last)

    def _write(self, *, is_last: bool) -> None:
        began, busy = self._now(), self._busy()
        try:
            _write(self._url, self._study, is_last=is_last)
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
                self._on_event(Note(0, text))


def write_note(url: str, study: str, *, now: datetime, min_age_s: float = 0.0) -> bool:
    """Write a study's note and figures into Optuna's tables, over those of before.

    Args:
        url: The database.
        study: Name of the study.
        now: The present moment, UTC.
        min_age_s: Write only if the note of before, of whichever run, is as old, in seconds.

    Returns:
        Whether it was written.

    Raises:
        StorageError: If the database cannot be opened, or has no such study.
    """
    import optuna
    import optuna_dashboard

    from storage import optuna_writes
    from storage.database import open_database
    from sweeps.analysis import study_note
    from sweeps.analysis.report_facts import gather
    from sweeps.reporting import read_study

    with open_database(url, create=False) as db:
        # Two runs of one study write one after the other, or pieces of two notes would mix.
        with db.study_lock(_lock_name(study)):
            stored = optuna.load_study(study_name=study, storage=db.optuna_storage())
            if min_age_s and _age_s(stored.user_attrs.get(WRITTEN_AT), now) < min_age_s:
                return False
            stored.set_user_attr(WRITTEN_AT, now.isoformat(timespec="seconds"))
        data = read_study(url, study)
        facts = gather(data)
        text = study_note.note_text(data, facts, now=now)
        figures = study_note.note_figures(data, facts)
        for name, figure in figures.items():
            size = len(figure.to_json())
            assert size < MAX_FIGURE_BYTES, f"figure {name} has {size} bytes"
        with db.study_lock(_lock_name(study)):
            # Pieces of 2 kB, and a commit each if Optuna wrote them: a dashboard that reads in
            # between would join old ones to new.
            pieces = _Pieces(stored._storage.get_study_system_attrs(stored._study_id))
            draft = copy.copy(stored)
            draft._storage = cast("BaseStorage", pieces)
            optuna_dashboard.save_note(draft, text)
            for name, figure in figures.items():
                optuna_dashboard.save_plotly_graph_object(draft, figure, graph_object_id=name)
            with db.write() as connection:
                optuna_writes.replace_study_attributes(
                    connection, stored._study_id, pieces.written
                )
    return True


class _Pieces:
    """A study's system attributes as ``optuna_dashboard`` writes them, kept for one commit.

    Args:
        before: Those that the study has.
    """

    def __init__(self, before: Mapping[str, Any]) -> None:
        self._before = before
        self.written: dict[str, Any] = {}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return {**self._before, **self.written}

    def set_study_system_attr(self, study_id: int, key: str, value: object) -> None:
        self.written[key] = value


def _import_ahead() -> None:
    import optuna_dashboard
    from plotly.graph_objects import Figure  # plotly imports what is asked for

    from sweeps import reporting
    from sweeps.analysis import report_facts, study_note

    assert all((optuna_dashboard, Figure, reporting, report_facts, study_note))


def _write(url: str, study: str, *, is_last: bool) -> None:
    # A little less than the interval: the clocks of two runs differ by parts of a second.
    min_age_s = 0.0 if is_last else INTERVAL_S - 1.0
    write_note(url, study, now=datetime.now(UTC), min_age_s=min_age_s)


def _lock_name(study: str) -> str:
    """Return the name of a lock beside the study's own, which claims of trials wait for."""
    return f"{study[:120]}.note"


def _age_s(written_at: object, now: datetime) -> float:
    try:
        return (now - datetime.fromisoformat(str(written_at))).total_seconds()
    except (ValueError, TypeError):
        return float("inf")
