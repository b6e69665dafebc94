"""Rows as Python sees them: what the recorder takes, and what the engine's reads return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that trains an attempt, and on what.

    Attributes:
        token: UUID that nobody else has; one for a worker's life, or one for an attempt.
        host: Name of the machine.
        pid: Process number there.
        process_started: When that process began, seconds since 1970: pids are used again.
        device: Device that trains, such as ``cpu`` or ``cuda:0``.
        versions: Versions of the libraries, by name.
    """

    token: str
    host: str
    pid: int
    process_started: float
    device: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write one attempt of a trial, good until another takes the trial over."""

    study_uuid: str
    trial: int
    attempt: int
    token: str


@dataclass(frozen=True, slots=True)
class NewTrial:
    """A trial that begins.

    Attributes:
        trial: Optuna's trial number, from 0.
        seed: 0 to 2^63 - 1.
        params: ``Hparams.to_params()``: JSON values, finite.
    """

    trial: int
    seed: int
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EpochRow:
    """What one trial did in one epoch. NaN and infinite numbers may be given; NaN reads as NULL.

    Attributes:
        claim: Whose epoch it is.
        epoch: Epoch of the attempt, from 1.
        train_loss: Mean training loss, nats an example.
        val_loss: Mean validation loss, nats an example.
        score: Validation macro-F1, 0 to 1.
        class_f1: Validation F1 of each class by index, 0 to 1.
        learning_rate: Rate of the epoch's last step; for armijo the mean accepted step.
        grad_norm: Mean L2 norm of the gradient.
        seconds: Wall-clock share of the trial.
    """

    claim: Claim
    epoch: int
    train_loss: float
    val_loss: float
    score: float
    class_f1: tuple[float, ...]
    learning_rate: float
    grad_norm: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Scores of a class at the best epoch, 0 to 1 or NaN, and its validation examples."""

    class_index: int
    class_name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How a trial ended; the units are those of ``trial_results``. None: there was no epoch.

    Attributes:
        outcome: One of ``schema.ENDED``.
        reason: The outcome in a sentence.
        value: What Optuna is told; None for failed trials.
        confusion: Validation examples by true class (rows) and predicted class at the best epoch.
        would_stop_outcome: What an audited trial would have ended with; None: it was not audited,
            or nothing would have stopped it.
        would_stop_epoch: Epoch at which it would have been stopped.
        would_stop_score: Its best validation macro-F1 up to that epoch.
    """

    outcome: str
    reason: str
    value: float | None = None
    best_epoch: int | None = None
    best_score: float | None = None
    last_epoch: int | None = None
    last_score: float | None = None
    tail_score: float | None = None
    best_val_loss: float | None = None
    epochs_run: int | None = None
    epochs_to_95: int | None = None
    epochs_to_99: int | None = None
    seconds: float | None = None
    weights_file: str | None = None
    weights_sha256: str | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None
    would_stop_outcome: str | None = None
    would_stop_epoch: int | None = None
    would_stop_score: float | None = None


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study's settings.

    Attributes:
        uuid: UUID of the study.
        name: Name of the study.
        objective: What is trained.
        created_at: When it was created, aware, UTC.
        config: Settings of the sweep.
        class_names: Names of the classes by index, or None while no data was loaded.
        data_fingerprint: SHA-256 over the data's arrays, or None while no data was loaded.
    """

    uuid: str
    name: str
    objective: str
    created_at: datetime
    config: dict[str, Any]
    class_names: tuple[str, ...] | None
    data_fingerprint: str | None


@dataclass(frozen=True, slots=True)
class FinishedTrial:
    """An attempt that has ended.

    Attributes:
        claim: Whose it is.
        result: How it ended.
        class_scores: Scores of each class at the best epoch; empty if there was no epoch.
    """

    claim: Claim
    result: TrialResult
    class_scores: Sequence[ClassScore]


@dataclass(frozen=True, slots=True)
class UnfinishedTrial:
    """A trial that runs, or whose worker was stopped or has died.

    Attributes:
        trial: Optuna's trial number.
        attempt: Attempt that was begun last, from 1.
        token: Token of the owner; None if it has released the trial.
        host: Machine of the owner.
        pid: Process number of the owner there.
        process_started: When that process began, seconds since 1970.
        outcome: None or ``interrupted``.
        seed: Seed of the trial.
        params: Hyperparameters, as ``Hparams.to_params()`` gave them.
        first_data_epoch: Data epochs its lane had trained when it entered; None: never entered.
    """

    trial: int
    attempt: int
    token: str | None
    host: str
    pid: int
    process_started: float
    outcome: str | None
    seed: int
    params: dict[str, Any]
    first_data_epoch: int | None


@dataclass(frozen=True, slots=True)
class EndedTrial:
    """A trial that has ended, and the curve of its last attempt.

    Attributes:
        trial: Optuna's trial number.
        outcome: One of ``schema.ENDED``.
        reason: The outcome in a sentence.
        value: What Optuna is told; None for failed trials.
        would_stop_outcome: What an audited trial would have ended with; None: see ``TrialResult``.
        would_stop_epoch: Epoch at which it would have been stopped.
        score: Validation macro-F1 per epoch, epoch 1 first; NaN where there was none.
    """

    trial: int
    outcome: str
    reason: str
    value: float | None
    would_stop_outcome: str | None
    would_stop_epoch: int | None
    score: tuple[float, ...]
