"""A study's beginning: created once, with its settings, and refused if those have changed."""

import importlib.util
import os
import platform
import socket
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np

from objectives.api import Counts, find_fusion_key
from search_spaces.hparams import MODEL, Hparams
from search_spaces.mistakes import Mistakes
from storage import queries, recorder
from storage.database import Database, open_database
from storage.locations import NoSweepError, StorageError
from storage.optuna_mirror import OptunaMirror
from storage.records import HeldStop, Holder, StoredTrial, StudyRow
from sweeps.config.changes import describe_changes
from sweeps.config.errors import ConfigError
from sweeps.config.sampler import SamplerConfig, check_options, is_path
from sweeps.config.settings import SweepConfig
from sweeps.curves import best_epoch
from sweeps.outcomes import ENDED_PAUSED, Outcome
from sweeps.running.first_trials import add_warm_start, read_warm_start
from sweeps.running.sampling import make_sampler, read_sampled
from sweeps.running.trial import Curve, Trial
from sweeps.trainers.messages import Load, Loaded

#: Samplers that need a package of their name beside Optuna: the extra of this name installs it.
_EXTRAS = {"cmaes"}

#: Seconds that the first step of a trainer may take.
FIRST_STEP_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Begun:
    """A study that may be run.

    Attributes:
        uuid: Its key in our tables.
        config: The sweep's settings; a warm start's configurations are among its ``tries``.
        changes: A line for each setting that ``force`` has changed.
        stored: The trials that it has.
    """

    uuid: str
    config: SweepConfig
    changes: tuple[str, ...]
    stored: tuple[StoredTrial, ...]


def make_order(config: SweepConfig) -> Load:
    """Return what the trainers of a sweep are to load."""
    space = config.space
    # A model of another depth may have the dropout that the first one has not.
    is_one_model = not any(name.startswith(MODEL) for name in space.varying)
    return Load(
        objective=config.objective,
        data=config.data,
        label=config.label,
        model=dict(space.first().model),
        device=config.device,
        num_trainers=config.workers,
        precision=config.precision,
        seed=config.seed,
        metric=config.metric,
        step_limit_s=FIRST_STEP_LIMIT_S,
        max_epochs=config.max_epochs,
        needs_dropout=is_one_model and space.get("dropout") not in (None, 0),
    )


def make_holder(now: datetime) -> Holder:
    """Return what others are told of this process, which runs a study."""
    return Holder(host=socket.gethostname(), pid=os.getpid(), since=now)


def check_needs(config: SweepConfig, url: str) -> None:
    """Check what a study needs beside its data; write nothing.

    Raises:
        ConfigError: If the study of ``warm_start`` is unknown or has no score, or if the sampler
            needs a package that is not here.
        StorageError: If the database cannot be used, or another process runs the study.
    """
    _require_packages(config.sampler)
    if config.warm_start is not None:
        read_warm_start(config, url)  # a misspelt name must leave nothing behind
    try:
        db = open_database(url, create=False)
    except NoSweepError:
        return
    with db:
        if queries.find_study(db, config.study) is None or db.find_holder(config.study) is None:
            return
        with db.hold_study(config.study, holder=make_holder(datetime.now().astimezone())):
            return  # its holder ended meanwhile


def prepare(
    db: Database, config: SweepConfig, loaded: Loaded, *, force: bool, now: datetime
) -> Begun:
    """Create the study, which the caller holds, or check that its settings are the sweep's.

    Raises:
        ConfigError: If the study was started with other settings and ``force`` is not given.
    """
    stored = queries.find_study(db, config.study)
    config = _resolve_warm_start(config, db.url, stored)
    facts: dict[str, Any] = {
        "config": config.stored(),
        "class_names": loaded.class_names,
        "data_fingerprint": loaded.fingerprint,
        "versions": loaded.versions,
        "processor": platform.processor() or platform.machine(),
        "data_facts": None if loaded.facts is None else asdict(loaded.facts),
        "preparation": loaded.preparation,
        "targets": loaded.targets,
    }
    if stored is None:
        name, objective, metric = config.study, config.objective, config.metric
        row = StudyRow(str(uuid.uuid4()), name, objective, metric, now, **facts)
        recorder.create_study(db, row)
        return Begun(row.uuid, config, (), ())
    changes = _find_changes(stored, config, loaded)
    if changes and not force:
        raise ConfigError(
            [
                f"study {config.study!r} was started with other settings:",
                *(f"  {change}" for change in changes),
                "take another name with --study NAME, or carry it on with --force",
            ]
        )
    recorder.update_study(db, stored.uuid, **facts)
    recorder.resume_trials(db, stored.uuid)
    found = tuple(queries.stored_trials(db, stored.uuid))
    return Begun(stored.uuid, config, tuple(changes), found)


def open_copy(db: Database, begun: Begun) -> OptunaMirror:
    """Return Optuna's copy of a study.

    Raises:
        StorageError: If Optuna has another study of this name; of a new one nothing is left then.
    """
    try:
        return OptunaMirror(db, begun.config.study, begun.uuid)
    except StorageError:
        if not begun.stored:
            recorder.delete_study(db, begun.uuid)
        raise


def restore_trials(begun: Begun) -> list[Trial]:
    """Return the trials that a study has.

    Where a pruner pauses trials, those that were left behind or cut short are paused again: a
    larger budget goes on with them.
    """
    return [_restore(begun.config, each) for each in begun.stored]


def _restore(config: SweepConfig, stored: StoredTrial) -> Trial:
    hparams = Hparams.model_validate(dict(stored.params))
    outcome = None if stored.outcome is None else Outcome(stored.outcome)
    ended_as = None
    if outcome in ENDED_PAUSED and config.pruner.name == "halving":
        ended_as, outcome = outcome, Outcome.PAUSED
    trained = len(stored.scores)
    segments = list(stored.segments)
    if segments:  # the last one's length is written when it ends
        start, before = segments[-1][0], sum(epochs for _, epochs in segments[:-1])
        segments[-1] = (start, trained - before)
    held = None
    if stored.would_stop_outcome is not None and stored.would_stop_epoch is not None:
        stop = (stored.would_stop_outcome, stored.would_stop_epoch, stored.would_stop_score)
        held = HeldStop(stored.trial, *stop)
    return Trial(
        number=stored.trial,
        seed=stored.seed,
        hparams=hparams,
        sampled=read_sampled(config.space, hparams),
        key=find_fusion_key(hparams),
        curve=Curve(
            list(stored.train_losses),
            list(stored.val_losses),
            list(stored.scores),
            list(stored.seconds),
            best_epoch(stored.scores),
            None
            if stored.confusion is None
            else Counts.of_matrix(np.array(stored.confusion, dtype=np.int64)),
        ),
        outcome=None if outcome is Outcome.INTERRUPTED else outcome,
        segments=segments,
        path=stored.path or "",
        kills=stored.kills,
        held=held,
        state_file=stored.state_file,
        state_epochs=stored.state_epochs,
        has_weights=stored.weights_file is not None,
        stored=frozenset(stored.params),
        ended_as=ended_as,
    )


def _resolve_warm_start(config: SweepConfig, url: str, stored: StudyRow | None) -> SweepConfig:
    """Return the settings with a warm start's configurations among the named trials.

    Those of the study's first run stay: the other study may go on, and its best may change.
    """
    if config.warm_start is None:
        return config
    if stored is not None and stored.config.get("warm_start") == config.warm_start:
        more = [dict(values) for values in stored.config.get("try", ())]
    else:
        more = [values for values, _, _ in read_warm_start(config, url)]
    return config.model_copy(update={"tries": tuple(add_warm_start(config.tries, more))})


def _find_changes(stored: StudyRow, config: SweepConfig, loaded: Loaded) -> Sequence[str]:
    changes = describe_changes(stored.config, config.stored())
    if stored.data_fingerprint not in (None, loaded.fingerprint):
        changes.append("data: the contents have changed")
    return changes


def _require_packages(config: SamplerConfig) -> None:
    """Check that what the sampler needs is installed.

    Raises:
        ConfigError: If it is not; the line names the extra that installs it.
    """
    if is_path(config.name):
        try:
            check_options(config.name, config.options)
            make_sampler(config, 0)
        except Mistakes as error:
            raise ConfigError(f"sampler: {one.to_line()}" for one in error.items) from None
        except (TypeError, ValueError) as error:
            raise ConfigError([f"sampler: {config.name} cannot be made: {error}"]) from None
    if config.name in _EXTRAS and importlib.util.find_spec(config.name) is None:
        raise ConfigError(
            [
                f"sampler {config.name!r} needs the package {config.name}, which is not "
                f"installed: pip install 'bestepoch[{config.name}]'"
            ]
        )
