"""Writes what a sweep must remember of its trials; with ``study_recorder`` the only door to write.

Each call is one transaction, and a call that is repeated changes nothing: after an error nobody
can know whether the commit happened, so the caller repeats it. Whoever writes a trial shows its
``Claim``; if the trial has been taken over since, nothing is written. Neither asks nor tells
Optuna, and never reads the clock.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, Table, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from storage import encoding
from storage.database import Database
from storage.records import (
    Claim,
    EpochRow,
    FinishedTrial,
    NewTrial,
    Owner,
    TrialResult,
)
from storage.schema import (
    CLASS_SCORES,
    ENDED,
    EPOCH_RECORDS,
    INTERRUPTED,
    STUDIES,
    TRIAL_RESULTS,
)

_TRIAL = TRIAL_RESULTS.c

#: What a new attempt begins without.
_NO_RESULT: dict[str, Any] = {
    **{field.name: None for field in fields(TrialResult)},
    "test_score": None,
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


def begin_trials(
    db: Database,
    *,
    study_uuid: str,
    trials: Sequence[NewTrial],
    owner: Owner,
    now: datetime,
    data_fingerprint: str | None = None,
) -> list[Claim]:
    """Write trials that have no row yet, and return the claim on the first attempt of each.

    Args:
        db: The database.
        study_uuid: The study, which must exist.
        trials: The trials.
        owner: Who trains them.
        now: The present moment, aware.
        data_fingerprint: SHA-256 over the data's arrays.

    Raises:
        LostTrial: If another has begun one of them, or the study is gone. None is written.
    """
    claims = [Claim(study_uuid, each.trial, 1, owner.token) for each in trials]
    numbers = [each.trial for each in trials]
    if not claims:
        return []
    study = select(STUDIES.c.name).where(STUDIES.c.uuid == study_uuid)
    with db.write() as connection:
        name = connection.execute(study.with_for_update(read=True)).scalar()
        if name is None:
            raise LostTrial(numbers)
        common = _NO_RESULT | encoding.owner_columns(owner, now)
        common |= {"study": name, "first_data_epoch": None, "data_fingerprint": data_fingerprint}
        rows = [
            common | asdict(claim) | {"seed": each.seed, "params": encoding.to_json(each.params)}
            for claim, each in zip(claims, trials, strict=True)
        ]
        connection.execute(insert_or_ignore(connection, TRIAL_RESULTS), rows)
        owned = _lock(connection, claims)
        lost = [claim.trial for claim in claims if claim not in owned]
        if lost:
            raise LostTrial(lost)
    return claims


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
        owned = _lock(connection, {row.claim for row in rows})
        values = [encoding.epoch_columns(row) for row in rows if owned.get(row.claim)]
        if values:
            connection.execute(insert_or_ignore(connection, EPOCH_RECORDS), values)
    lost = sorted({row.claim.trial for row in rows if row.claim not in owned})
    if lost:
        raise LostTrial(lost)


def finish_trials(db: Database, finished: Sequence[FinishedTrial], *, now: datetime) -> None:
    """Write how trials ended, once: of two results of one claim the first stays.

    Args:
        db: The database.
        finished: The trials, all of one study.
        now: The present moment, aware.

    Raises:
        LostTrial: If trials are no longer the caller's. The results of the others are written.
    """
    if not finished:
        return
    for each in finished:
        assert each.result.outcome in ENDED, f"{each.result.outcome!r} does not end a trial"
    with db.write() as connection:
        owned = _lock(connection, [each.claim for each in finished])
        for each in finished:
            claim = each.claim
            if not owned.get(claim):
                continue
            values = encoding.result_columns(each.result) | {"finished_at": now}
            connection.execute(update(TRIAL_RESULTS).where(*_is(claim)).values(values))
            key = {"study_uuid": claim.study_uuid, "trial": claim.trial}
            scores = [asdict(score) | key for score in each.class_scores]
            if scores:
                connection.execute(insert(CLASS_SCORES), scores)
    lost = sorted(each.claim.trial for each in finished if each.claim not in owned)
    if lost:
        raise LostTrial(lost)


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


def _lock(connection: Connection, claims: Collection[Claim]) -> dict[Claim, bool]:
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


def insert_or_ignore(connection: Connection, table: Table) -> Executable:
    """Return an insert that leaves the rows that are there as they are."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()
