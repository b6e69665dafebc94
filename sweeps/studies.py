"""A study's beginning: created once, with its settings, and refused if those have changed."""

import uuid
from collections.abc import Sequence
from datetime import datetime

import optuna
from optuna.distributions import check_distribution_compatibility

from storage import queries, study_recorder
from storage.database import Database
from storage.records import StudyRow
from storage.schema import UUID_ATTRIBUTE
from sweeps.config import SweepConfig
from sweeps.config_changes import describe_changes
from sweeps.config_errors import ConfigError
from sweeps.queued import queue_first_trials, read_warm_start
from sweeps.samplers import require_packages

#: Attribute of Optuna's study with what the last run was told: its ``trials`` and its ``audit``.
RUN_ATTRIBUTE = "bestepoch:run"
_SPACE_DRAWS = 64


def prepare(
    db: Database,
    config: SweepConfig,
    *,
    class_names: Sequence[str],
    data_fingerprint: str,
    force: bool,
    now: datetime,
) -> tuple[str, list[str]]:
    """Create the study, or check that its settings are those of the sweep.

    Args:
        db: The database.
        config: The sweep's settings.
        class_names: Names of the data's classes, by index.
        data_fingerprint: SHA-256 over the data.
        force: Carry a study on although its settings have changed.
        now: The present moment, aware.

    Returns:
        The study's UUID, and a line for each setting that ``force`` has changed.

    Raises:
        ConfigError: If the study was started with other settings and ``force`` is not given, if
            it holds choices that Optuna cannot change, if it is not ours, if the study of
            ``warm_start`` is unknown, or if the sampler needs a package that is not here.
    """
    check_needs(config, db.url)
    changes: list[str] = []
    with db.study_lock(config.study):
        storage = db.optuna_storage()
        study = optuna.create_study(
            study_name=config.study, storage=storage, direction="maximize", load_if_exists=True
        )
        study_uuid = study.user_attrs.get(UUID_ATTRIBUTE)
        if study_uuid is None:
            if study.get_trials(deepcopy=False):
                raise ConfigError(
                    [f"study {config.study!r} has trials of another program; take another --study"]
                )
            study_uuid = str(uuid.uuid4())
            study.set_user_attr(UUID_ATTRIBUTE, study_uuid)
        stored = queries.find_study(db, config.study)
        if stored is not None and stored.uuid == study_uuid:
            changes = _changes(stored, config, data_fingerprint)
            if changes and not force:
                raise ConfigError(
                    [
                        f"study {config.study!r} was started with other settings:",
                        *(f"  {change}" for change in changes),
                        "take another name with --study NAME, or carry it on with --force",
                    ]
                )
            _refuse_changed_choices(study, config)
        study_recorder.create_study(
            db,
            study_uuid=study_uuid,
            name=config.study,
            objective=config.objective,
            config=config.settings(),
            now=now,
            class_names=class_names,
            data_fingerprint=data_fingerprint,
        )
        study_recorder.update_study_config(
            db,
            study_uuid=study_uuid,
            config=config.settings(),
            class_names=class_names,
            data_fingerprint=data_fingerprint,
        )
        queue_first_trials(study, config, db.url)
        told = {"trials": config.trials, "audit": config.audit}
        if study.user_attrs.get(RUN_ATTRIBUTE) != told:
            study.set_user_attr(RUN_ATTRIBUTE, told)
    return str(study_uuid), changes


def check_needs(config: SweepConfig, url: str) -> None:
    """Check what a study needs beside its database, which may not exist yet; write nothing.

    Raises:
        ConfigError: If the study of ``warm_start`` is unknown or has no score, or if the sampler
            needs a package that is not here.
    """
    require_packages(config.sampler)
    if config.warm_start is not None:
        read_warm_start(config, url)  # a misspelt name must leave nothing behind


def _changes(stored: StudyRow, config: SweepConfig, data_fingerprint: str) -> list[str]:
    changes = describe_changes(stored.config, config.settings())
    if stored.data_fingerprint not in (None, data_fingerprint):
        changes.append("data: the contents have changed")
    return changes


def _refuse_changed_choices(study: optuna.Study, config: SweepConfig) -> None:
    """Refuse what no ``force`` can do: Optuna freezes a parameter's choices and its scale."""
    known = {}
    for trial in study.get_trials(deepcopy=False):
        known.update(trial.distributions)
    scratch = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(_SPACE_DRAWS):
        drawn = scratch.ask()
        config.space.suggest(drawn)
        for name, distribution in drawn.distributions.items():
            if name not in known:
                continue
            try:
                check_distribution_compatibility(known[name], distribution)
            except ValueError:
                raise ConfigError(
                    [
                        f"study {config.study!r} has trials with other choices or another scale "
                        f"of {name!r}, which a study cannot change: take another --study"
                    ]
                ) from None
