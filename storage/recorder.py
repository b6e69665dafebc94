"""Writes what a study must remember; the only door to write our tables.

Only the process that holds the study writes it (``Database.hold_study``). Each call is one
transaction, and a call that is repeated changes nothing: after an error nobody can know whether
the commit happened, so the caller repeats it. Knows no Optuna, and never reads the clock: ``now``
is aware. ``record`` of 32 epochs takes 0.5 ms, of 128 1.5, ``begin_trials`` of 16 0.4
(``tests/benchmarks/bench_bookkeeping.py``, SQLite, 10 to 3,000 trials, EPYC).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from storage import schema
from storage.database import Database
from storage.locations import check_study_name, redact
from storage.records import (
    Checkpoint,
    EpochRecord,
    HeldStop,
    NewTrial,
    Placed,
    StudyRow,
    TrialEnd,
    Weights,
)
from storage.schema import EPOCH_RECORDS, PREDICTIONS, STUDIES, TRIAL_RESULTS

#: Best trials of a study whose predictions are kept.
MAX_PREDICTIONS = 50

_TRIAL = TRIAL_RESULTS.c


def create_study(db: Database, study: StudyRow) -> None:
    """Write a study; one of this UUID stays as it is. No other study may have its name."""
    check_study_name(study.name)
    with db.write() as connection:
        connection.execute(_insert(connection.dialect.name, STUDIES), _row(study))


def update_study(db: Database, study_uuid: str, **changes: Any) -> None:
    """Write fields of ``StudyRow``, such as ``config`` or ``processor``, over the study's."""
    with db.write() as connection:
        connection.execute(update(STUDIES).where(STUDIES.c.uuid == study_uuid), changes)


def delete_study(db: Database, study_uuid: str) -> tuple[str, ...]:
    """Delete our rows of a study, and return its weights files, which the caller deletes."""
    files = select(_TRIAL.weights_file).where(_TRIAL.study_uuid == study_uuid)
    with db.write() as connection:
        found = connection.execute(files.order_by(_TRIAL.trial)).scalars()
        weights = tuple(name for name in found if name is not None)
        # The rows of its trials go with it.
        connection.execute(delete(STUDIES).where(STUDIES.c.uuid == study_uuid))
    return weights


def begin_trials(
    db: Database, study_uuid: str, trials: Sequence[NewTrial], *, now: datetime
) -> None:
    """Write trials that begin; those that are there stay as they are."""
    if not trials:
        return
    with db.write() as connection:
        named = select(STUDIES.c.name).where(STUDIES.c.uuid == study_uuid)
        name = connection.execute(named).scalar_one()
        common = {"study": name, "study_uuid": study_uuid, "kills": 0, "started_at": now}
        rows = [_row(each) | common for each in trials]
        connection.execute(_insert(connection.dialect.name, TRIAL_RESULTS), rows)


def record(
    db: Database,
    study_uuid: str,
    *,
    placed: Sequence[Placed] = (),
    epochs: Sequence[EpochRecord] = (),
    held: Sequence[HeldStop] = (),
    stopped: Sequence[TrialEnd] = (),
    weights: Sequence[Weights] = (),
    checkpoints: Sequence[Checkpoint] = (),
    now: datetime,
) -> None:
    """Write what an answer of a trainer brought, all or nothing; what is there is written over.

    Args:
        db: The database.
        study_uuid: The study.
        placed: Trials that train: whatever was said of their end is true no more.
        epochs: An epoch a trial.
        held: Ends that an audit has held back.
        stopped: Trials that are paused, or have ended.
        weights: Weights that were written. Predictions are kept of the study's best
            ``MAX_PREDICTIONS`` trials.
        checkpoints: States that were written, or that are there no more.
        now: The present moment, aware.
    """
    if not (placed or epochs or held or stopped or weights or checkpoints):
        return
    with db.write() as connection:
        goes_on = dict.fromkeys(schema.column_names(TrialEnd)) | {"finished_at": None}
        _update_trials(
            connection, study_uuid, [(each.trial, goes_on | _row(each)) for each in placed]
        )
        _upsert(
            connection, study_uuid, EPOCH_RECORDS, [(each.trial, _row(each)) for each in epochs]
        )
        for some in (held, weights, checkpoints):
            _update_trials(connection, study_uuid, [(each.trial, _row(each)) for each in some])
        if stopped:
            _stop_trials(connection, study_uuid, stopped, now)
        stale = [each.trial for each in weights if each.weights_file is None]
        if stale:
            is_stale = PREDICTIONS.c.trial.in_(stale)
            connection.execute(
                delete(PREDICTIONS).where(PREDICTIONS.c.study_uuid == study_uuid, is_stale)
            )
        predicted = [
            (each.trial, {"predictions": each.predictions})
            for each in weights
            if each.predictions is not None
        ]
        if predicted:
            _upsert(connection, study_uuid, PREDICTIONS, predicted)
            _prune_predictions(connection, study_uuid)


def end_paused(
    db: Database, study_uuid: str, ends: Mapping[int, tuple[str, str]], *, now: datetime
) -> None:
    """End paused trials, whose scores are written, by number: outcome and reason."""
    rows = [
        (trial, {"outcome": outcome, "reason": reason, "finished_at": now})
        for trial, (outcome, reason) in ends.items()
    ]
    with db.write() as connection:
        _update_trials(connection, study_uuid, rows)


def set_kills(db: Database, study_uuid: str, kills: Mapping[int, int]) -> None:
    """Write how many trainers have died training each trial, by its number."""
    with db.write() as connection:
        rows = [(trial, {"kills": count}) for trial, count in kills.items()]
        _update_trials(connection, study_uuid, rows)


def interrupt_trials(
    db: Database, study_uuid: str, reason: str, *, trial: int | None = None
) -> None:
    """Mark trials that have not ended as interrupted, all or one; the reason is a sentence."""
    unfinished = update(TRIAL_RESULTS).where(
        _TRIAL.study_uuid == study_uuid, _TRIAL.outcome.is_(None)
    )
    if trial is not None:
        unfinished = unfinished.where(_TRIAL.trial == trial)
    with db.write() as connection:
        connection.execute(unfinished, {"outcome": schema.INTERRUPTED, "reason": reason})


def resume_trials(db: Database, study_uuid: str) -> None:
    """Mark interrupted trials as waiting or running again."""
    is_interrupted = _TRIAL.outcome == schema.INTERRUPTED
    interrupted = update(TRIAL_RESULTS).where(_TRIAL.study_uuid == study_uuid, is_interrupted)
    with db.write() as connection:
        connection.execute(interrupted, {"outcome": None, "reason": None})


def _stop_trials(
    connection: Connection, study_uuid: str, stopped: Sequence[TrialEnd], now: datetime
) -> None:
    for each in stopped:
        assert each.outcome in (schema.PAUSED, *schema.ENDED), f"{each.outcome!r} stops no trial"
    rows = [
        (
            each.trial,
            {
                **_row(each),
                # An exception of a person's code may name a database or a service.
                "reason": redact(each.reason),
                "finished_at": now if each.outcome in schema.ENDED else None,
            },
        )
        for each in stopped
    ]
    _update_trials(connection, study_uuid, rows)
    scores = [(each.trial, _row(score)) for each in stopped for score in each.class_scores]
    _upsert(connection, study_uuid, schema.CLASS_SCORES, scores)


def _prune_predictions(connection: Connection, study_uuid: str) -> None:
    """Delete the predictions of trials that are not among the study's best."""
    stored = PREDICTIONS.c
    same = (stored.study_uuid == _TRIAL.study_uuid) & (stored.trial == _TRIAL.trial)
    ranked = select(stored.trial).join(TRIAL_RESULTS, same).where(stored.study_uuid == study_uuid)
    # Those that pause are ranked once the run ends.
    may_win = _TRIAL.outcome.in_((*schema.RANKED, schema.PAUSED))
    ranked = ranked.where(may_win).order_by(*schema.BEST_FIRST)
    kept = connection.execute(ranked.limit(MAX_PREDICTIONS)).scalars().all()
    others = delete(PREDICTIONS).where(stored.study_uuid == study_uuid, stored.trial.not_in(kept))
    connection.execute(others)


_Rows = Sequence[tuple[int, Mapping[str, Any]]]


def _row(record: object) -> dict[str, Any]:
    names = schema.column_names(type(record))  # type: ignore[arg-type]  # a class is hashable
    return {name: getattr(record, name) for name in names}


def _update_trials(connection: Connection, study_uuid: str, rows: _Rows) -> None:
    """Write columns of trials, the same ones for each."""
    one = update(TRIAL_RESULTS).where(
        _TRIAL.study_uuid == study_uuid, _TRIAL.trial == bindparam("of_trial")
    )
    if rows:
        connection.execute(one, [{"of_trial": trial, **columns} for trial, columns in rows])


def _upsert(connection: Connection, study_uuid: str, table: Table, rows: _Rows) -> None:
    """Write rows of trials, over those that are there."""
    key = {"study_uuid": study_uuid}
    values = [{**columns, **key, "trial": trial} for trial, columns in rows]
    if values:
        connection.execute(_insert(connection.dialect.name, table, is_upsert=True), values)


@cache
def _insert(dialect: str, table: Table, *, is_upsert: bool = False) -> Any:
    """Return an insert; a row that is there stays, or is written over."""
    new: Any = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    keys = list(table.primary_key)
    if not is_upsert:
        return new.on_conflict_do_nothing(index_elements=keys)
    values = {each.name: new.excluded[each.name] for each in table.c if not each.primary_key}
    return new.on_conflict_do_update(index_elements=keys, set_=values)
