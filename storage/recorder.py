"""Writes what a sweep must remember; the only door to write our tables.

Each call is one transaction, and a call that is repeated changes nothing: after an error nobody
can know whether the commit happened, so the caller repeats it. Whoever writes a trial shows its
``Claim``; if the trial has been taken over since, nothing is written. Neither asks nor tells
Optuna, and never reads the clock.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, Table, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from storage import encoding
from storage.database import Database, check_study_name
from storage.records import Claim, ClassScore, EpochRow, Owner, TrialResult
from storage.schema import (
    CLASS_SCORES,
    ENDED,
    EPOCH_RECORDS,
    INTERRUPTED,
    LANE_SLOTS,
    STUDIES,
    TRIAL_RESULTS,
)

_TRIAL = TRIAL_RESULTS.c

#: What a new attempt begins without.
_NO_RESULT: dict[str, Any] = {
    **{field.name: None for field in fields(TrialResult)},
    "test_macro_f1": None,
    "finished_at": None,
    "told": False,
}


class LostTrial(Exception):
    """Trials are no longer the caller's: taken over, ended by another, or deleted.

    Attributes:
        trials: Their numbers. None of their rows was written.
    """

    def __init__(self, trials: Sequence[int]) -> None:
        super().__init__(trials)
        self.trials = tuple(trials)

    def __str__(self) -> str:
        return f"trials {list(self.trials)} belong to another worker now, or are gone"


def create_study(
    db: Database,
    *,
    study_uuid: str,
    name: str,
    objective: str,
    config: Mapping[str, Any],
    now: datetime,
    class_names: Sequence[str] | None = None,
    data_fingerprint: str | None = None,
) -> None:
    """Write the study; one that is there stays as it is. The caller holds the study's lock.

    Another study of this name has lost its Optuna study (deleted in the dashboard, say): it
    keeps its rows under the name ``NAME~`` and the first 8 characters of its UUID.

    Raises:
        StorageError: If the name is not one of a study.
    """
    row = {
        "uuid": study_uuid,
        "name": check_study_name(name),
        "objective": objective,
        "created_at": now,
        "config": encoding.to_json(config),
        "class_names": None if class_names is None else encoding.to_json(list(class_names)),
        "data_fingerprint": data_fingerprint,
    }
    of_this_name = select(STUDIES.c.uuid).where(STUDIES.c.name == name)
    with db.write() as connection:
        orphan = connection.execute(of_this_name.where(STUDIES.c.uuid != study_uuid)).scalar()
        if orphan is not None:
            new_name = f"{name}~{orphan[:8]}"
            study = update(STUDIES).where(STUDIES.c.uuid == orphan)
            connection.execute(study.values(name=new_name))
            trials = update(TRIAL_RESULTS).where(_TRIAL.study_uuid == orphan)
            connection.execute(trials.values(study=new_name))
        connection.execute(_insert_or_ignore(connection, STUDIES), row)


def update_study_config(
    db: Database,
    *,
    study_uuid: str,
    config: Mapping[str, Any],
    class_names: Sequence[str] | None = None,
    data_fingerprint: str | None = None,
) -> None:
    """Write the study's settings; class names and fingerprint too where given.

    A study that does not exist is left so.
    """
    values: dict[str, Any] = {"config": encoding.to_json(config)}
    if class_names is not None:
        values["class_names"] = encoding.to_json(list(class_names))
    if data_fingerprint is not None:
        values["data_fingerprint"] = data_fingerprint
    with db.write() as connection:
        connection.execute(update(STUDIES).where(STUDIES.c.uuid == study_uuid).values(values))


def begin_trial(
    db: Database,
    *,
    study_uuid: str,
    trial: int,
    owner: Owner,
    seed: int,
    params: Mapping[str, Any],
    now: datetime,
    data_fingerprint: str | None = None,
) -> Claim:
    """Write a trial that has no row yet, and return the claim on its first attempt.

    Args:
        db: The database.
        study_uuid: The study, which must exist.
        trial: Optuna's trial number, from 0.
        owner: Who trains it.
        seed: 0 to 2^63 - 1.
        params: ``Hparams.to_params()``: JSON values, finite.
        now: The present moment, aware.
        data_fingerprint: SHA-256 over the data's arrays.

    Raises:
        LostTrial: If another has begun it, or the study is gone.
    """
    claim = Claim(study_uuid, trial, 1, owner.token)
    study = select(STUDIES.c.name).where(STUDIES.c.uuid == study_uuid)
    with db.write() as connection:
        name = connection.execute(study.with_for_update(read=True)).scalar()
        if name is None:
            raise LostTrial([trial])
        row = _NO_RESULT | encoding.owner_columns(owner, now) | asdict(claim)
        row |= {
            "study": name,
            "seed": seed,
            "first_data_epoch": None,
            "params": encoding.to_json(params),
        }
        row |= {"data_fingerprint": data_fingerprint}
        connection.execute(_insert_or_ignore(connection, TRIAL_RESULTS), row)
        _lock_claim(connection, claim)
    return claim


def restart_trial(
    db: Database, *, study_uuid: str, trial: int, attempt: int, owner: Owner, now: datetime
) -> Claim:
    """Take over an unfinished trial, and return the claim on its next attempt.

    Seed, hyperparameters and first data epoch stay; the attempt's results are cleared, and the
    epochs of earlier attempts are kept but no longer shown.

    Args:
        db: The database.
        study_uuid: The study.
        trial: Optuna's trial number.
        attempt: The attempt that the caller read: of two callers who read the same, one wins.
        owner: Who trains it now.
        now: The present moment, aware.

    Raises:
        LostTrial: If another has taken it over since, or it has ended, or is gone.
    """
    claim = Claim(study_uuid, trial, attempt + 1, owner.token)
    take = update(TRIAL_RESULTS).where(
        _TRIAL.study_uuid == study_uuid,
        _TRIAL.trial == trial,
        _TRIAL.attempt == attempt,
        _TRIAL.outcome.is_(None) | (_TRIAL.outcome == INTERRUPTED),
    )
    with db.write() as connection:
        values = _NO_RESULT | encoding.owner_columns(owner, now) | {"attempt": claim.attempt}
        connection.execute(take.values(values))
        _lock_claim(connection, claim)
    return claim


def set_first_data_epoch(db: Database, *, claim: Claim, first_data_epoch: int) -> None:
    """Write how many data epochs the trial's lane had trained when it entered; the first stays.

    Raises:
        LostTrial: If the trial is no longer the caller's.
    """
    with db.write() as connection:
        _lock_claim(connection, claim)
        unset = update(TRIAL_RESULTS).where(*_is(claim), _TRIAL.first_data_epoch.is_(None))
        connection.execute(unset.values(first_data_epoch=first_data_epoch))


def record_epochs(db: Database, rows: Sequence[EpochRow]) -> None:
    """Write the epochs of all slots of a lane in one insert; of an epoch the first row stays.

    An empty list writes nothing. Rows of a trial that has ended are left out.

    Raises:
        LostTrial: If trials are no longer the caller's. The rows of the others are written.
    """
    if not rows:
        return
    with db.write() as connection:
        owned = _lock_running(connection, {row.claim for row in rows})
        values = [encoding.epoch_columns(row) for row in rows if owned.get(row.claim)]
        if values:
            connection.execute(_insert_or_ignore(connection, EPOCH_RECORDS), values)
    lost = sorted({row.claim.trial for row in rows if row.claim not in owned})
    if lost:
        raise LostTrial(lost)


def record_slots(
    db: Database,
    *,
    study_uuid: str,
    owner: Owner,
    lane: Mapping[str, Any],
    slots: int,
    step_seconds: Mapping[int, float],
    now: datetime,
) -> None:
    """Write how many slots a worker gave to a lane, and the times that decided it.

    Args:
        db: The database.
        study_uuid: The study.
        owner: The worker; of one lane its first measurement stays.
        lane: What the lane's trials share, JSON values.
        slots: The choice.
        step_seconds: Seconds a training step a trial, by slots.
        now: The present moment, aware.
    """
    row = {
        "study_uuid": study_uuid,
        "token": owner.token,
        "lane": encoding.to_json(lane),
        "device": owner.device,
        "slots": slots,
        "step_seconds": encoding.to_json(step_seconds),
        "measured_at": now,
    }
    with db.write() as connection:
        connection.execute(_insert_or_ignore(connection, LANE_SLOTS), row)


def finish_trial(
    db: Database,
    *,
    claim: Claim,
    result: TrialResult,
    class_scores: Sequence[ClassScore] = (),
    now: datetime,
) -> None:
    """Write how the trial ended, once: of two results of one claim the first stays.

    Args:
        db: The database.
        claim: Whose result it is.
        result: How it ended.
        class_scores: Scores of each class at the best epoch; empty if there was no epoch.
        now: The present moment, aware.

    Raises:
        LostTrial: If the trial is no longer the caller's; nothing is written.
    """
    assert result.outcome in ENDED, f"{result.outcome!r} does not end a trial"
    values = encoding.result_columns(result) | {"finished_at": now}
    key = {"study_uuid": claim.study_uuid, "trial": claim.trial}
    scores = [asdict(score) | key for score in class_scores]
    with db.write() as connection:
        if _lock_claim(connection, claim) is not None:
            return
        connection.execute(update(TRIAL_RESULTS).where(*_is(claim)).values(values))
        if scores:
            connection.execute(insert(CLASS_SCORES), scores)


def mark_told(db: Database, *, study_uuid: str, trials: Collection[int]) -> None:
    """Write that Optuna knows these trials. Anyone may: telling is a reconciler's work.

    Trials that have not ended, or are gone, are left as they are.
    """
    if not trials:
        return
    told = update(TRIAL_RESULTS).where(
        _TRIAL.study_uuid == study_uuid, _TRIAL.trial.in_(trials), _TRIAL.outcome.in_(ENDED)
    )
    with db.write() as connection:
        connection.execute(told.values(told=True))


def interrupt_trials(
    db: Database,
    *,
    study_uuid: str,
    token: str,
    reason: str,
    trials: Collection[int] | None = None,
) -> None:
    """Release the owner's running trials, so that the next run takes them up at once.

    Args:
        db: The database.
        study_uuid: The study.
        token: The owner's; trials of others are left as they are.
        reason: Why, in a sentence.
        trials: Only these; None means all that the owner still runs.
    """
    mine = update(TRIAL_RESULTS).where(
        _TRIAL.study_uuid == study_uuid, _TRIAL.token == token, _TRIAL.outcome.is_(None)
    )
    if trials is not None:
        mine = mine.where(_TRIAL.trial.in_(trials))
    values = {"outcome": INTERRUPTED, "reason": encoding.printable(reason), "token": None}
    with db.write() as connection:
        connection.execute(mine.values(values))


def delete_study(db: Database, *, study_uuid: str) -> tuple[str, ...]:
    """Delete our rows of the study, and return its weights files, which the caller deletes.

    Optuna's own rows are the caller's, through Optuna. A study that does not exist: nothing.
    """
    files = select(_TRIAL.weights_file).where(
        _TRIAL.study_uuid == study_uuid, _TRIAL.weights_file.is_not(None)
    )
    with db.write() as connection:
        # The study first: who begins a trial meanwhile either comes before or finds no study.
        connection.execute(
            select(STUDIES.c.uuid).where(STUDIES.c.uuid == study_uuid).with_for_update()
        )
        weights = tuple(connection.execute(files.order_by(_TRIAL.trial)).scalars())
        for table in (CLASS_SCORES, EPOCH_RECORDS, TRIAL_RESULTS, LANE_SLOTS):
            connection.execute(delete(table).where(table.c.study_uuid == study_uuid))
        connection.execute(delete(STUDIES).where(STUDIES.c.uuid == study_uuid))
    return weights


def _is(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    return (
        _TRIAL.study_uuid == claim.study_uuid,
        _TRIAL.trial == claim.trial,
        _TRIAL.attempt == claim.attempt,
        _TRIAL.token == claim.token,
    )


def _lock_claim(connection: Connection, claim: Claim) -> str | None:
    """Keep others from the trial until the commit, and return its outcome."""
    query = select(_TRIAL.outcome).where(*_is(claim)).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise LostTrial([claim.trial])
    outcome: str | None = row.outcome
    return outcome


def _lock_running(connection: Connection, claims: Collection[Claim]) -> dict[Claim, bool]:
    """Keep others from these trials; for each one still owned say whether it runs."""
    studies = {claim.study_uuid for claim in claims}
    assert len(studies) == 1, f"a lane trains one study, got {sorted(studies)}"
    key = (_TRIAL.study_uuid, _TRIAL.trial, _TRIAL.attempt, _TRIAL.token)
    query = (
        select(*key, _TRIAL.outcome)
        .where(
            _TRIAL.study_uuid == studies.pop(), _TRIAL.trial.in_([each.trial for each in claims])
        )
        # One order for all writers, or two could wait for each other.
        .order_by(_TRIAL.trial)
        .with_for_update()
    )
    found = {Claim(*row[:4]): row.outcome is None for row in connection.execute(query)}
    return {claim: found[claim] for claim in claims if claim in found}


def _insert_or_ignore(connection: Connection, table: Table) -> Executable:
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()
