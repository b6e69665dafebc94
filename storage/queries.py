"""Reads what is remembered; the only door to read our tables. Nothing here writes.

The first half is for people and takes a URL and a study's name; its DataFrames are described in
``frames.py``. The second half is for the engine and takes an open ``Database``.
"""

import difflib
import json
import math
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args

from sqlalchemy import ColumnElement, Connection, Select, TableClause, func, select

from storage import frames
from storage.database import Database, StorageError, open_database
from storage.records import EndedTrial, StudyRow, UnfinishedTrial
from storage.schema import (
    BEST_EPOCHS,
    CLASS_SCORES,
    ENDED,
    EPOCH_RECORDS,
    INTERRUPTED,
    LANE_SLOTS,
    LAST_EPOCHS,
    RANKED,
    STUDIES,
    TRIAL_RESULTS,
)

if TYPE_CHECKING:
    import pandas as pd

RankBy = Literal["best", "last", "tail"]

_TRIAL = TRIAL_RESULTS.c
_EPOCH = EPOCH_RECORDS.c
#: The epochs that count: those of the last attempt.
_OF_LAST_ATTEMPT = (
    (_EPOCH.study_uuid == _TRIAL.study_uuid)
    & (_EPOCH.trial == _TRIAL.trial)
    & (_EPOCH.attempt == _TRIAL.attempt)
)
_UNFINISHED = _TRIAL.outcome.is_(None) | (_TRIAL.outcome == INTERRUPTED)
# SQLite allows 32766 values in a statement, older builds 999.
_TRIALS_A_QUERY = 500


class UnknownStudyError(StorageError):
    """There is no study of this name; the line offers the nearest one."""


class UnknownTrialError(StorageError):
    """The study has no trial of this number."""


def studies(url: str) -> "pd.DataFrame":
    """Return one row a study (``frames.STUDIES``), oldest first. Does not write.

    Of trials that share the best score the best one is that which reached it first, as in
    ``results``.

    Raises:
        StorageError: If the database cannot be opened.
    """
    mine = _TRIAL.study_uuid == STUDIES.c.uuid
    best = (
        select(_TRIAL.trial, _TRIAL.best_score)
        .where(mine, _TRIAL.outcome.in_(RANKED), _TRIAL.best_score.is_not(None))
        .order_by(_TRIAL.best_score.desc(), _TRIAL.best_epoch, _TRIAL.trial)
        .limit(1)
    )
    trials = select(func.count()).select_from(TRIAL_RESULTS).where(mine)
    query = select(
        STUDIES.c.name,
        STUDIES.c.uuid,
        STUDIES.c.objective,
        STUDIES.c.created_at,
        trials.scalar_subquery(),
        trials.where(_UNFINISHED).scalar_subquery(),
        best.with_only_columns(_TRIAL.trial).scalar_subquery(),
        best.with_only_columns(_TRIAL.best_score).scalar_subquery(),
    ).order_by(STUDIES.c.created_at, STUDIES.c.name)
    with open_database(url, create=False) as db, db.read() as connection:
        return frames.to_frame(connection.execute(query).all(), frames.STUDIES)


def best_epochs(url: str, study: str) -> "pd.DataFrame":
    """Return each trial at its best epoch so far (``frames.EPOCHS``), by number. Does not write.

    Every outcome is present: leave out ``diverged`` and ``failed`` before ranking.

    Raises:
        StorageError: If the database cannot be opened.
        UnknownStudyError: If there is no such study.
    """
    return _view_frame(url, study, BEST_EPOCHS)


def last_epochs(url: str, study: str) -> "pd.DataFrame":
    """Return each trial at its last epoch so far (``frames.EPOCHS``), by number. Does not write.

    Raises:
        StorageError: If the database cannot be opened.
        UnknownStudyError: If there is no such study.
    """
    return _view_frame(url, study, LAST_EPOCHS)


def curves(url: str, study: str) -> "pd.DataFrame":
    """Return one row an epoch of each trial's last attempt (``frames.CURVES``). Does not write.

    Ordered by trial and epoch; trials without an epoch are absent.

    Raises:
        StorageError: If the database cannot be opened.
        UnknownStudyError: If there is no such study.
    """
    query = (
        select(*(_EPOCH[name] for name in frames.CURVES))
        .join(TRIAL_RESULTS, _OF_LAST_ATTEMPT)
        .order_by(_EPOCH.trial, _EPOCH.epoch)
    )
    return _study_frame(url, study, query, _EPOCH.study_uuid, frames.CURVES)


def class_scores(url: str, study: str) -> "pd.DataFrame":
    """Return one row a class of each ended trial (``frames.CLASS_SCORES``). Does not write.

    Ordered by trial and class index; trials that ended without an epoch are absent.

    Raises:
        StorageError: If the database cannot be opened.
        UnknownStudyError: If there is no such study.
    """
    scores = CLASS_SCORES.c
    query = select(*(scores[name] for name in frames.CLASS_SCORES))
    query = query.order_by(scores.trial, scores.class_index)
    return _study_frame(url, study, query, scores.study_uuid, frames.CLASS_SCORES)


def confusions(url: str, study: str) -> "pd.DataFrame":
    """Return each confusion matrix at the best epoch (``frames.CONFUSIONS``), by trial.

    Absent are trials without an epoch, with over 50 classes, or of an older bestepoch. Does not
    write.

    Raises:
        StorageError: If the database cannot be opened.
        UnknownStudyError: If there is no such study.
    """
    query = select(*(_TRIAL[name] for name in frames.CONFUSIONS))
    query = query.where(_TRIAL.confusion.is_not(None)).order_by(_TRIAL.trial)
    return _study_frame(url, study, query, _TRIAL.study_uuid, frames.CONFUSIONS)


def results(url: str, study: str, by: RankBy = "best") -> "pd.DataFrame":
    """Return one row a trial (``frames.RESULTS``), the highest score first. Does not write.

    Of trials that share the best score the one that reached it first comes first.

    Ranked are trials that stalled, exhausted their epochs or fell behind, if they have a score:
    what each reached is a fact, however its trial ended. Below them and without a rank: trials
    that have not ended, the highest score so far first, and then diverged and failed ones by
    number, whatever they reached.

    Args:
        url: The database.
        study: Name of the study.
        by: Score that ranks: at the best epoch, at the last, or the mean of the last 5.

    Raises:
        ValueError: If ``by`` is none of these.
        StorageError: If the database cannot be opened.
        UnknownStudyError: If there is no such study.
    """
    if by not in get_args(RankBy):
        raise ValueError(f"by must be one of {', '.join(get_args(RankBy))}, got {by!r}")
    view = BEST_EPOCHS.c
    shown: dict[str, ColumnElement[Any]] = {
        name: _TRIAL[name] if name in _TRIAL else view[name]
        for name in frames.RESULTS
        if name != "rank"
    }
    shown |= {"best_epoch": view.epoch, "best_score": view.score}
    shown |= {"epochs_run": view.epochs_run}
    same = (view.study_uuid == _TRIAL.study_uuid) & (view.trial == _TRIAL.trial)
    query = select(*shown.values()).select_from(TRIAL_RESULTS.join(BEST_EPOCHS, same))
    query = query.order_by(_TRIAL.trial)
    columns = {name: dtype for name, dtype in frames.RESULTS.items() if name != "rank"}
    frame = _study_frame(url, study, query, _TRIAL.study_uuid, columns)
    score = frame[f"{by}_score"].where(frame["outcome"].isin(RANKED))
    rank = score.rank(method="min", ascending=False).astype("Int64")
    frame.insert(0, "rank", rank)
    is_unfinished = frame["outcome"].isna() | (frame["outcome"] == INTERRUPTED)
    so_far = -frame["best_score"].where(is_unfinished)
    arrival = frame["best_epoch"].where((rank.notna() & (by == "best")) | so_far.notna())
    keys = frame.assign(has_ended=~is_unfinished, so_far=so_far, arrival=arrival)
    order = ["rank", "has_ended", "so_far", "arrival", "trial"]
    # Ranked trials have all ended, so the second key moves none of them.
    keys = keys.sort_values(order, na_position="last", ignore_index=True)
    return keys[list(frame.columns)]


def trial(url: str, study: str, number: int) -> dict[str, Any]:
    """Return the trial's row of ``trial_results``, JSON decoded. Does not write.

    Raises:
        StorageError: If the database cannot be opened.
        UnknownStudyError: If there is no such study.
        UnknownTrialError: If the study has no trial of this number.
    """
    with open_database(url, create=False) as db, db.read() as connection:
        uuid = _known_study(connection, study, db.where).uuid
        query = select(TRIAL_RESULTS).where(_TRIAL.study_uuid == uuid, _TRIAL.trial == number)
        row = connection.execute(query).mappings().one_or_none()
        if row is None:
            highest = select(func.max(_TRIAL.trial)).where(_TRIAL.study_uuid == uuid)
            last = connection.execute(highest).scalar()
            known = "it has no trial yet" if last is None else f"trials count from 0 to {last}"
            raise UnknownTrialError(f"study {study!r} has no trial {number}; {known}")
    decoded = {name: json.loads(row[name]) for name in ("params", "versions")}
    return dict(row) | decoded


def study_settings(url: str, study: str) -> StudyRow:
    """Return the study's settings. Does not write.

    Raises:
        StorageError: If the database cannot be opened.
        UnknownStudyError: If there is no such study.
    """
    with open_database(url, create=False) as db, db.read() as connection:
        return _known_study(connection, study, db.where)


def lane_slots(url: str, study: str) -> "pd.DataFrame":
    """Return one row a lane that a worker timed (``frames.LANE_SLOTS``). Does not write.

    Raises:
        StorageError: If the database cannot be opened.
        UnknownStudyError: If there is no such study.
    """
    query = select(*(LANE_SLOTS.c[name] for name in frames.LANE_SLOTS))
    query = query.order_by(LANE_SLOTS.c.measured_at, LANE_SLOTS.c.token, LANE_SLOTS.c.lane)
    return _study_frame(url, study, query, LANE_SLOTS.c.study_uuid, frames.LANE_SLOTS)


def find_study(db: Database, name: str) -> StudyRow | None:
    """Return the settings of the study of this name, None if there is none. Does not write."""
    with db.read() as connection:
        return _find_study(connection, name)


def unfinished_trials(db: Database, study_uuid: str) -> list[UnfinishedTrial]:
    """Return the trials that have not ended, by number. Does not write.

    Whether an owner is still alive is for the caller to find out; an unknown study has none.
    """
    fields = UnfinishedTrial.__dataclass_fields__
    query = select(*(_TRIAL[name] for name in fields))
    query = query.where(_TRIAL.study_uuid == study_uuid, _UNFINISHED).order_by(_TRIAL.trial)
    with db.read() as connection:
        rows = connection.execute(query).mappings().all()
    return [UnfinishedTrial(**{**row, "params": json.loads(row["params"])}) for row in rows]


def untold_trials(db: Database, study_uuid: str) -> list[EndedTrial]:
    """Return the trials that have ended without Optuna being told, by number. Does not write."""
    with db.read() as connection:
        query = select(_TRIAL.trial).where(
            _TRIAL.study_uuid == study_uuid, _TRIAL.outcome.in_(ENDED), _TRIAL.told.is_(False)
        )
        return _ended_trials(connection, study_uuid, connection.execute(query).scalars())


def finished_curves(
    db: Database, study_uuid: str, *, known: Collection[int] = ()
) -> list[EndedTrial]:
    """Return the trials that have ended and that the caller does not know yet, by number.

    An ended trial never changes, so a worker that passes all that it was given here reads each
    curve once; no clock and no order of commits is involved. Does not write.
    """
    with db.read() as connection:
        ended = (_TRIAL.study_uuid == study_uuid) & _TRIAL.outcome.in_(ENDED)
        # Asked at each epoch, and mostly none is new: 10,000 numbers are read only if one is.
        count = connection.execute(select(func.count()).where(ended)).scalar_one()
        if count == len(known):
            return []
        numbers = connection.execute(select(_TRIAL.trial).where(ended)).scalars()
        new = set(numbers).difference(known)
        return _ended_trials(connection, study_uuid, new)


def _ended_trials(
    connection: Connection, study_uuid: str, trials: Iterable[int]
) -> list[EndedTrial]:
    numbers = sorted(trials)
    ended: list[EndedTrial] = []
    for start in range(0, len(numbers), _TRIALS_A_QUERY):
        some = numbers[start : start + _TRIALS_A_QUERY]
        these = (_TRIAL.study_uuid == study_uuid) & _TRIAL.trial.in_(some)
        epochs = (
            select(_EPOCH.trial, _EPOCH.epoch, _EPOCH.score)
            .join(TRIAL_RESULTS, _OF_LAST_ATTEMPT)
            .where(these)
            .order_by(_EPOCH.trial, _EPOCH.epoch)
        )
        curves_by_trial: dict[int, list[float]] = {number: [] for number in some}
        for number, epoch, score in connection.execute(epochs):
            curve = curves_by_trial[number]
            curve.extend([math.nan] * (epoch - 1 - len(curve)))
            curve.append(math.nan if score is None else score)
        names = [name for name in EndedTrial.__dataclass_fields__ if name != "score"]
        query = select(*(_TRIAL[name] for name in names))
        ended.extend(
            EndedTrial(**row, score=tuple(curves_by_trial[row["trial"]]))
            for row in connection.execute(query.where(these).order_by(_TRIAL.trial)).mappings()
        )
    return ended


def _view_frame(url: str, study: str, view: TableClause) -> "pd.DataFrame":
    query = select(*(view.c[name] for name in frames.EPOCHS)).order_by(view.c.trial)
    return _study_frame(url, study, query, view.c.study_uuid, frames.EPOCHS)


def _study_frame(
    url: str, study: str, query: Select[Any], uuid_column: ColumnElement[Any], columns: Any
) -> "pd.DataFrame":
    with open_database(url, create=False) as db, db.read() as connection:
        uuid = _known_study(connection, study, db.where).uuid
        rows = connection.execute(query.where(uuid_column == uuid)).all()
    return frames.to_frame(rows, columns)


def _find_study(connection: Connection, name: str) -> StudyRow | None:
    row = connection.execute(select(STUDIES).where(STUDIES.c.name == name)).mappings().first()
    if row is None:
        return None
    classes = row["class_names"]
    decoded = {
        "config": json.loads(row["config"]),
        "class_names": None if classes is None else tuple(json.loads(classes)),
    }
    return StudyRow(**{**row, **decoded})


def _known_study(connection: Connection, name: str, where: str) -> StudyRow:
    found = _find_study(connection, name)
    if found is not None:
        return found
    names = list(connection.execute(select(STUDIES.c.name).order_by(STUDIES.c.name)).scalars())
    if not names:
        raise UnknownStudyError(f"{where}: no study {name!r}; the database holds none")
    nearest = difflib.get_close_matches(name, names, n=1)
    guess = f"did you mean {nearest[0]!r}? Known" if nearest else "known"
    raise UnknownStudyError(f"{where}: no study {name!r}; {guess}: {', '.join(names)}")
