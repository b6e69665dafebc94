"""What the command that starts a study anew needs beside the study's settings.

Reads Optuna's tables: the trials that a person named wait there, and the target and the audit of
the last run are attributes of the study.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage import optuna_reads
from storage.database import open_database
from sweeps.fixed_trials import parse_trial
from sweeps.queued import FIXED_ATTRIBUTE
from sweeps.studies import RUN_ATTRIBUTE


@dataclass(frozen=True, slots=True)
class LastRun:
    """What the last run of a study was told that its settings do not hold.

    Attributes:
        trials: Trials that the study was to have in the end; None: an older study, not stored.
        audit: Share of the trials that it audited; None where none was, or it is not stored.
    """

    trials: int | None = None
    audit: float | None = None


def read_last_run(url: str, study: str) -> LastRun:
    """Return the target and the audit of a study's last run. Does not write."""
    with open_database(url, create=False) as db, db.read() as connection:
        told = optuna_reads.study_attribute(connection, study, RUN_ATTRIBUTE) or {}
    return LastRun(told.get("trials"), told.get("audit") or None)


def name_first_trials(command: str, url: str, study: str) -> str | None:
    """Return a command that starts a study, with ``--try`` for each trial that was named for it.

    Those that a warm start took from another study are named too: that study may change. Does
    not write.

    Args:
        command: As ``reporting.find_command`` returns it.
        url: The database.
        study: Name of the study.

    Returns:
        None where a value cannot be written as an option.
    """
    words = [command]
    for values in list_first_trials(url, study):
        text = ",".join(f"{name}={_write(value)}" for name, value in values.items())
        try:
            is_same = parse_trial(text) == dict(values)
        except ValueError:
            is_same = False
        if not is_same:
            return None
        words += ["--try", shlex.quote(text)]
    return " ".join(words)


def list_first_trials(url: str, study: str) -> list[Mapping[str, Any]]:
    """Return the values of the trials that were named for a study, by number."""
    with open_database(url, create=False) as db, db.read() as connection:
        named = optuna_reads.trial_attributes(connection, study, FIXED_ATTRIBUTE)
    return [values for values in named.values() if values]


def _write(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
