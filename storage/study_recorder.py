"""Writes what a study is: its settings, its lanes' slots, its end.

As in ``recorder``, each call is one transaction, and a call that is repeated changes nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update

from storage import encoding
from storage.database import Database, check_study_name
from storage.recorder import insert_or_ignore
from storage.records import Owner
from storage.schema import CLASS_SCORES, EPOCH_RECORDS, LANE_SLOTS, STUDIES, TRIAL_RESULTS

_TRIAL = TRIAL_RESULTS.c


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
        connection.execute(insert_or_ignore(connection, STUDIES), row)


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
        connection.execute(insert_or_ignore(connection, LANE_SLOTS), row)


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
