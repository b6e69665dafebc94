"""Writes the weights of trials that do not train, from their states or by training them again.

On the machine that trained a trial, training it again gives the same weights; elsewhere the last
bits may differ, so what the weights predict is compared with what was stored.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from objectives.api import FusionKey, find_fusion_key
from search_spaces.hparams import Hparams
from storage import queries, recorder
from storage.database import Database, open_database
from storage.locations import StorageError
from storage.records import StudyRow, Weights
from sweeps.config.errors import ConfigError
from sweeps.config.settings import SweepConfig
from sweeps.running.study import make_holder, make_order
from sweeps.trainers.choose import open_executor
from sweeps.trainers.executor import Executor, ParentEnded
from sweeps.trainers.messages import Answer, Command, Place, Save

_POLL_S = 0.2
#: Gives a trainer a command and waits for its answer; None: it died of it.
Call = Callable[[Command], Answer | None]


class ReproductionError(StorageError):
    """A trial cannot be trained again to what it was; the message says why."""


def write_weights(
    call: Call, lane: int, key: FusionKey, places: Sequence[Place], path_of: Callable[[int], Path]
) -> tuple[Answer, Answer] | None:
    """Write the weights of the best epochs of trials of one key, in a lane of their own.

    Returns:
        The answers to the placing (who was refused, and whom memory had no room for) and to the
        writing; None: the trainer died.
    """
    placed = call(Command(lane, key, 0, place=tuple(places), is_trained=False))
    if placed is None:
        return None
    absent = {*placed.deferred, *(trial for trial, _ in placed.refused)}
    present = tuple(each.trial for each in places if each.trial not in absent)
    save = tuple(Save(trial, path_of(trial)) for trial in present)
    told = Command(lane, key, 0, save=save, drop=present, is_closed=True, is_trained=False)
    done = call(told)
    return None if done is None else (placed, done)


def call_trainer(
    executor: Executor, command: Command, free_since: dict[int, float]
) -> Answer | None:
    """Let the first free trainer do something, and wait for it; None: none is left that could.

    Trainers that die are taken out of ``free_since``.
    """
    index = min(free_since, default=None)
    if index is None:
        return None
    executor.send(index, command)
    while True:
        for report in executor.wait(_POLL_S):
            if isinstance(report, ParentEnded):
                free_since.clear()
                return None
            if isinstance(report[1], Answer):
                return report[1]
            free_since.pop(report[0], None)
            if report[0] == index:
                return None


def find_weights(
    url: str, study: str, number: int, *, on_start: Callable[[str], None] | None = None
) -> Path:
    """Return the file with the weights of a trial's best epoch; it is trained again if need be.

    That may take long, so ``on_start`` is called with a line before.

    Raises:
        ConfigError: If the data have changed since.
        ReproductionError: If it has no score, cannot be trained, or predicts something else now.
        StorageError: If the database cannot be opened, knows no such trial, or the study runs.
    """
    row, settings = queries.trial(url, study, number), queries.study_settings(url, study)
    damage = ""
    with open_database(url, create=False) as db:
        if row["weights_file"] is not None:
            path: Path = db.weights_dir / row["weights_file"]
            if is_sound(path, row["weights_sha256"]):
                return path
            damage = f": {path} is damaged" if path.exists() else ""
        if row["best_epoch"] is None:
            lack = "has no score" if row["outcome"] else "has not ended"
            raise ReproductionError(f"trial {number} of study {study!r} {lack}: no weights")
        with db.hold_study(study, holder=make_holder(datetime.now(UTC))):
            if on_start is not None:
                epochs = sum(epochs for _, epochs in row["segments"])
                plural = "s"[: epochs > 1]
                on_start(f"trial {number} is trained again, {epochs} epoch{plural}{damage}")
            return _train_again(db, settings, row)


def is_sound(path: Path, sha256: str | None) -> bool:
    """Return whether a file of weights is there and is the one that was written."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        return not sha256 or hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _train_again(db: Database, settings: StudyRow, row: dict[str, Any]) -> Path:
    config = SweepConfig.from_stored({**settings.config, "workers": 1})
    hparams, number = Hparams.model_validate(dict(row["params"])), int(row["trial"])
    segments = tuple((start, epochs) for start, epochs in row["segments"])
    place = Place(number, row["seed"], hparams.to_params(), segments, row["best_epoch"])
    name = f"{settings.name}-{settings.uuid[:8]}/trial-{number}.safetensors"
    with open_executor() as executor:
        loaded = executor.load(make_order(config))
        if settings.data_fingerprint not in (None, loaded.fingerprint):
            raise ConfigError(["data: the contents have changed since the study was run"])
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
    for _, reason in (*placed.refused, *saved.unsaved):
        raise ReproductionError(f"trial {number}: {reason}")
    ((_, counts),) = placed.best_counts
    was, now = row["confusion"], counts.matrix
    if was is not None and now is not None and now.tolist() != [list(each) for each in was]:
        (db.weights_dir / name).unlink(missing_ok=True)
        raise ReproductionError(
            f"trial {number} predicts something else now: it was trained on "
            f"{settings.processor} with torch {(settings.versions or {}).get('torch')}"
        )
    weights = [Weights(each.trial, name, each.sha256, each.predictions) for each in saved.saved]
    recorder.record(db, settings.uuid, weights=weights, now=datetime.now(UTC))
    return db.weights_dir / name
