"""Reads what is remembered; the only door to read our tables. Nothing here writes.

The first half is for people: it takes a URL and a study's name, and raises ``StorageError`` if the
database cannot be opened and ``UnknownStudyError`` if it has no such study; ``frames`` describes
its DataFrames. The second half is for a coordinator and takes an open ``Database``.
"""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from sqlalchemy import ColumnElement, Connection, Select, Table, Text, func, select
from sqlalchemy import type_coerce as coerce

from storage import frames, schema
from storage.database import Database, StorageError, open_database
from storage.records import StoredTrial, StudyRow
from storage.schema import (
    BEST_EPOCHS,
    EPOCH_RECORDS,
    INTERRUPTED,
    PAUSED,
    PREDICTIONS,
    RANKED,
    STUDIES,
    TRIAL_RESULTS,
)

if TYPE_CHECKING:
    import pandas as pd

RankBy = Literal["best", "last", "tail"]

_TRIAL = TRIAL_RESULTS.c
_EPOCH = EPOCH_RECORDS.c
_UNFINISHED = _TRIAL.outcome.is_(None) | _TRIAL.outcome.in_((INTERRUPTED, PAUSED))


class UnknownStudyError(StorageError):
    """There is no study of this name; the line offers the nearest one."""


class UnknownTrialError(StorageError):
    """The study has no trial of this number."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A study at one moment; everything that is read through it belongs together."""

    row: StudyRow
    _connection: Connection

    def results(self) -> "pd.DataFrame":
        """Return one row a trial (``frames.RESULTS``), ranked by the best epoch."""
        view = BEST_EPOCHS.c
        so_far = {"best_epoch": "epoch", "best_score": "score", "best_val_loss": "val_loss"}
        so_far["epochs_run"] = "epochs_run"
        columns = {name: dtype for name, dtype in frames.RESULTS.items() if name != "rank"}
        shown = [
            view[so_far.get(name, name)] if name in so_far or name not in _TRIAL else _TRIAL[name]
            for name in columns
        ]
        same = (view.study_uuid == _TRIAL.study_uuid) & (view.trial == _TRIAL.trial)
        query = select(*map(_shown, shown)).select_from(TRIAL_RESULTS.join(BEST_EPOCHS, same))
        return rank(frames.to_frame(self._mine(TRIAL_RESULTS, query), columns))

    def curves(self) -> "pd.DataFrame":
        """Return one row an epoch of each trial (``frames.CURVES``), by trial and epoch."""
        return self._frame(EPOCH_RECORDS, frames.CURVES)

    def class_scores(self) -> "pd.DataFrame":
        """Return one row a class of each trial that ended with an epoch."""
        return self._frame(schema.CLASS_SCORES, frames.CLASS_SCORES)

    def best_epochs(self) -> "pd.DataFrame":
        """Return each trial at its best epoch so far (``frames.EPOCHS``), by number."""
        return self._frame(BEST_EPOCHS, frames.EPOCHS)

    def confusions(self) -> dict[int, list[list[int]]]:
        """Return counts by true and predicted class at the best epoch, by trial."""
        found = select(_TRIAL.trial, _TRIAL.confusion).where(_TRIAL.confusion.is_not(None))
        return dict(map(tuple, self._mine(TRIAL_RESULTS, found)))

    def predictions(self) -> dict[int, bytes]:
        """Return the predicted class of each validation example, a byte, of the best trials."""
        kept = select(PREDICTIONS.c.trial, PREDICTIONS.c.predictions)
        return dict(map(tuple, self._mine(PREDICTIONS, kept)))

    def trial(self, number: int) -> dict[str, Any]:
        """Return the trial's row of ``trial_results``, JSON decoded; UnknownTrialError if none."""
        query = select(TRIAL_RESULTS).where(_TRIAL.study_uuid == self.row.uuid)
        found = self._connection.execute(query.where(_TRIAL.trial == number)).mappings()
        row = found.one_or_none()
        if row is None:
            numbers = self._mine(TRIAL_RESULTS, select(_TRIAL.trial))
            last = numbers[-1][0] if numbers else None
            known = "it has no trial yet" if last is None else f"trials count from 0 to {last}"
            raise UnknownTrialError(f"study {self.row.name!r} has no trial {number}; {known}")
        return dict(row)

    def study_names(self) -> frozenset[str]:
        """Return the names of all studies of the database."""
        return frozenset(self._connection.execute(select(STUDIES.c.name)).scalars())

    def _frame(self, table: Table, columns: Mapping[str, str]) -> "pd.DataFrame":
        query = select(*(_shown(table.c[name]) for name in columns))
        return frames.to_frame(self._mine(table, query), columns)

    def _mine(self, table: Table, query: Select[Any]) -> Sequence[Any]:
        """Return the study's rows, by the table's key."""
        mine = query.where(table.c.study_uuid == self.row.uuid).order_by(*table.primary_key)
        return self._connection.execute(mine).all()


@contextmanager
def snapshot(db: Database, study: str) -> Iterator[Snapshot]:
    """Open a study to read; raises UnknownStudyError if there is none of this name."""
    with db.read() as connection:
        row = _find_study(connection, study)
        if row is None:
            names = select(STUDIES.c.name).order_by(STUDIES.c.name)
            raise _unknown_study(study, list(connection.execute(names).scalars()), db.where)
        yield Snapshot(row, connection)


@contextmanager
def _open(url: str, study: str) -> Iterator[Snapshot]:
    with open_database(url, create=False) as db, snapshot(db, study) as found:
        yield found


def studies(url: str) -> "pd.DataFrame":
    """Return one row a study (``frames.STUDIES``), oldest first; the best trial of ``results``."""
    mine = _TRIAL.study_uuid == STUDIES.c.uuid
    best = (
        select(_TRIAL.trial, _TRIAL.best_score)
        .where(mine, _TRIAL.outcome.in_(RANKED), _TRIAL.best_score.is_not(None))
        .order_by(*schema.BEST_FIRST)
        .limit(1)
    )
    trials = select(func.count()).select_from(TRIAL_RESULTS).where(mine)
    query = select(
        *(STUDIES.c[name] for name in ("name", "uuid", "objective", "metric", "created_at")),
        trials.scalar_subquery(),
        trials.where(_UNFINISHED).scalar_subquery(),
        best.with_only_columns(_TRIAL.trial).scalar_subquery(),
        best.with_only_columns(_TRIAL.best_score).scalar_subquery(),
    ).order_by(STUDIES.c.created_at, STUDIES.c.name)
    with open_database(url, create=False) as db, db.read() as connection:
        return frames.to_frame(connection.execute(query).all(), frames.STUDIES)


def best_epochs(url: str, study: str) -> "pd.DataFrame":
    """Return ``Snapshot.best_epochs``; leave out ``diverged`` and ``failed`` before ranking."""
    with _open(url, study) as found:
        return found.best_epochs()


def curves(url: str, study: str) -> "pd.DataFrame":
    """Return ``Snapshot.curves``."""
    with _open(url, study) as found:
        return found.curves()


def class_scores(url: str, study: str) -> "pd.DataFrame":
    """Return ``Snapshot.class_scores``."""
    with _open(url, study) as found:
        return found.class_scores()


def results(url: str, study: str, by: RankBy = "best") -> "pd.DataFrame":
    """Return one row a trial (``frames.RESULTS``), the highest score first.

    ``by`` says which: at the best epoch, at the last, or the mean of the last 5. Of equal scores
    the one with the lower validation loss at its best epoch comes first, then the earlier trial.
    Ranked are trials that stalled, exhausted their epochs or fell behind, if they have a score.
    Below them and without a rank: trials that have not ended, the highest score so far first, and
    then diverged and failed ones by number, whatever they reached.
    """
    if by not in get_args(RankBy):
        raise ValueError(f"by must be one of {', '.join(get_args(RankBy))}, got {by!r}")
    with _open(url, study) as found:
        return rank(found.results(), f"{by}_score")


def rank(results: "pd.DataFrame", by: str = "best_score") -> "pd.DataFrame":
    """Return trials with their ``rank`` by a column, in the order of ``results``.

    The one ranking there is; trials of several studies may be ranked together.
    """
    is_ranked = results["outcome"].isin(RANKED)
    ranks = results[by].where(is_ranked).rank(method="min", ascending=False).astype("Int64")
    frame = results.drop(columns="rank", errors="ignore")
    frame.insert(0, "rank", ranks)
    # CUT_OFF stands in no database, and may stand in a frame: whatever has not ended goes on.
    is_unfinished = ~frame["outcome"].isin(schema.ENDED)
    so_far_score = -frame["best_score"].where(is_unfinished)
    loss = frame["best_val_loss"].where(ranks.notna() | is_unfinished)
    # Ranked trials have all ended, so the second key moves none of them.
    keys = {"has_ended": ~is_unfinished, "so_far": so_far_score, "loss": loss}
    order = ["rank", *keys, "trial"]
    ordered = frame.assign(**keys).sort_values(order, na_position="last", ignore_index=True)
    return ordered[list(frame.columns)]


def trial(url: str, study: str, number: int) -> dict[str, Any]:
    """Return ``Snapshot.trial``."""
    with _open(url, study) as found:
        return found.trial(number)


def study_settings(url: str, study: str) -> StudyRow:
    """Return the study's settings."""
    with _open(url, study) as found:
        return found.row


def find_study(db: Database, name: str) -> StudyRow | None:
    """Return the settings of the study of this name, None if there is none."""
    with db.read() as connection:
        return _find_study(connection, name)


def stored_trials(db: Database, study_uuid: str) -> list[StoredTrial]:
    """Return every trial of a study with its curve, by number."""
    curves = {"train_losses": "train_loss", "val_losses": "val_loss", "scores": "score"}
    curves["seconds"] = "seconds"
    names = [name for name in StoredTrial.__dataclass_fields__ if name not in curves]
    trials = select(*(_TRIAL[name] for name in names)).where(_TRIAL.study_uuid == study_uuid)
    epochs = select(_EPOCH.trial, *(_EPOCH[name] for name in curves.values()))
    epochs = epochs.where(_EPOCH.study_uuid == study_uuid).order_by(_EPOCH.trial, _EPOCH.epoch)
    with db.read() as connection:
        rows = connection.execute(trials.order_by(_TRIAL.trial)).mappings().all()
        epochs_of: dict[int, list[tuple[float, ...]]] = {row["trial"]: [] for row in rows}
        for number, *numbers in connection.execute(epochs):
            epochs_of[number].append(tuple(math.nan if v is None else v for v in numbers))
    found = []
    for row in rows:
        segments = tuple((start, count) for start, count in row["segments"] or ())
        # A trial without an epoch has empty curves.
        columns = list(zip(*epochs_of[row["trial"]], strict=True)) or [()] * len(curves)
        own_curves: dict[str, Any] = dict(zip(curves, columns, strict=True))
        found.append(StoredTrial(**{**row, **own_curves, "segments": segments}))
    return found


def _shown(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the column as a frame shows it: JSON as its text."""
    return coerce(column, Text) if isinstance(column.type, schema.Json) else column


def _find_study(connection: Connection, name: str) -> StudyRow | None:
    row = connection.execute(select(STUDIES).where(STUDIES.c.name == name)).mappings().first()
    if row is None:
        return None
    classes = row["class_names"]
    return StudyRow(**{**row, "class_names": None if classes is None else tuple(classes)})


def _unknown_study(name: str, names: list[str], where: str) -> UnknownStudyError:
    if not names:
        return UnknownStudyError(f"{where}: no study {name!r}; the database holds none")
    nearest = difflib.get_close_matches(name, names, n=1)
    guess = f"did you mean {nearest[0]!r}? Known" if nearest else "known"
    return UnknownStudyError(f"{where}: no study {name!r}; {guess}: {', '.join(names)}")
