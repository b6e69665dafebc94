"""Trains a trial again from its record, for the weights of its best epoch.

On the machine that trained it, the same weights; elsewhere the last bits may differ, so what the
weights predict is compared with what was stored.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from objectives.api import find_fusion_key
from search_spaces.hparams import Hparams
from storage import queries, recorder
from storage.database import Database, open_database
from storage.locations import StorageError
from storage.records import StudyRow, Weights
from sweeps.config.errors import ConfigError
from sweeps.config.settings import SweepConfig
from sweeps.running.study import make_holder
from sweeps.running.sweep import make_order
from sweeps.running.weights import call_trainer, write_weights
from sweeps.trainers.executor import LocalExecutor
from sweeps.trainers.messages import Loaded, Place


class ReproductionError(StorageError):
    """A trial cannot be trained again to what it was; the message says why."""


def find_weights(
    url: str, study: str, number: int, *, on_start: Callable[[str], None] | None = None
) -> Path:
    """Return the file with the weights of a trial's best epoch; it is trained again if need be.

    Args:
        url: The database.
        study: Name of the study.
        number: Number of the trial.
        on_start: Called with a line before it is trained again, which may take long.

    Raises:
        ConfigError: If the data have changed since.
        ReproductionError: If it has no score, cannot be trained, or predicts something else now.
        StorageError: If the database cannot be opened, knows no such trial, or the study runs.
    """
    row, settings = queries.trial(url, study, number), queries.study_settings(url, study)
    with open_database(url, create=False) as db:
        if row["weights_file"] is not None:
            path: Path = db.weights_dir / row["weights_file"]
            if path.exists():
                return path
        if row["best_epoch"] is None:
            why = "has no score" if row["outcome"] else "has not ended"
            raise ReproductionError(f"trial {number} of study {study!r} {why}: no weights")
        with db.hold_study(study, holder=make_holder(datetime.now(UTC))):
            if on_start is not None:
                epochs = sum(epochs for _, epochs in row["segments"])
                on_start(f"trial {number} is trained again, {epochs} epoch{'s'[: epochs > 1]}")
            return _train_again(db, settings, row)


def _train_again(db: Database, settings: StudyRow, row: dict[str, Any]) -> Path:
    config = SweepConfig.from_stored({**settings.config, "workers": 1})
    hparams, number = Hparams.model_validate(dict(row["params"])), int(row["trial"])
    segments = tuple((start, epochs) for start, epochs in row["segments"])
    place = Place(number, row["seed"], hparams.to_params(), segments, row["best_epoch"])
    name = f"{settings.name}-{settings.uuid[:8]}/trial-{number}.safetensors"
    with LocalExecutor() as executor:
        loaded = executor.load(make_order(config))
        _check_data(settings, loaded)
        executor.start(0, loaded.devices[0])
        free_since = {0: time.monotonic()}
        written = write_weights(
            lambda command: call_trainer(executor, command, free_since),
            1,
            find_fusion_key(hparams),
            [place],
            lambda trial: db.weights_dir / name,
        )
    if written is None:
        raise ReproductionError(f"trial {number}: its process died")
    placed, saved = written
    for _, reason in placed.refused:
        raise ReproductionError(f"trial {number}: {reason}")
    ((_, counts),) = placed.best_counts
    was, now = row["confusion"], counts.matrix
    if was is not None and now is not None and now.tolist() != [list(each) for each in was]:
        (db.weights_dir / name).unlink(missing_ok=True)
        raise ReproductionError(
            f"trial {number} predicts something else now: it was trained on "
            f"{settings.processor} with torch {(settings.versions or {}).get('torch')}"
        )
    weights = [Weights(each.trial, name, each.sha256, each.predictions) for each in saved]
    recorder.record(db, settings.uuid, weights=weights, now=datetime.now(UTC))
    return db.weights_dir / name


def _check_data(settings: StudyRow, loaded: Loaded) -> None:
    if settings.data_fingerprint not in (None, loaded.fingerprint):
        raise ConfigError(["data: the contents have changed since the study was run"])
