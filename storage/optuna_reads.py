"""Reads single attributes of Optuna's studies and trials, where Optuna reads all trials whole.

Only the reading is ours, and a test compares it with Optuna's.
"""

import json
from collections.abc import Sequence
from typing import Any

from optuna.storages._rdb import models
from sqlalchemy import Connection, Select, inspect, select

_STUDIES: Any = models.StudyModel.__table__
_OF_STUDIES: Any = models.StudyUserAttributeModel.__table__
_TRIALS: Any = models.TrialModel.__table__
_OF_TRIALS: Any = models.TrialUserAttributeModel.__table__


def study_attribute(connection: Connection, study: str, key: str) -> Any:
    """Return a user attribute of a study; None where there is none, or no such study."""
    chosen = select(_OF_STUDIES.c.value_json).join(
        _STUDIES, _STUDIES.c.study_id == _OF_STUDIES.c.study_id
    )
    rows = _rows(connection, chosen, study, _OF_STUDIES.c.key, key)
    return json.loads(rows[0][0]) if rows else None


def trial_attributes(connection: Connection, study: str, key: str) -> dict[int, Any]:
    """Return a user attribute of each trial that has it, by number, in that order."""
    chosen = (
        select(_TRIALS.c.number, _OF_TRIALS.c.value_json)
        .join(_TRIALS, _TRIALS.c.trial_id == _OF_TRIALS.c.trial_id)
        .join(_STUDIES, _STUDIES.c.study_id == _TRIALS.c.study_id)
        .order_by(_TRIALS.c.number)
    )
    rows = _rows(connection, chosen, study, _OF_TRIALS.c.key, key)
    return {number: json.loads(value) for number, value in rows}


def _rows(
    connection: Connection, chosen: Select[Any], study: str, column: Any, key: str
) -> Sequence[Any]:
    if not inspect(connection).has_table(_STUDIES.name):
        return []  # ours alone: Optuna's tables come with its first study
    return connection.execute(chosen.where(_STUDIES.c.study_name == study, column == key)).all()
