"""The rows of a study as Python sees them, and the one list of their fields.

A field with a comment is a column: ``schema`` makes the tables from these annotations, and
``frames`` the dtypes. The others have tables of their own. Scores are those of the study's metric,
losses nats an example; NaN may be given, and reads as NULL in SQL.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

#: Version of the tables, one more with each change of a column; another one is refused.
VERSION = 9


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study's settings."""

    uuid: Annotated[str, "UUID of the study, also in Optuna's user attribute bestepoch:uuid"]
    name: Annotated[str, "name of the study, as in Optuna"]
    objective: Annotated[str, "what is trained: a shipped objective's name, or FILE:CLASS"]
    metric: Annotated[str, "what a score is: macro-f1, accuracy, f1:CLASS, ..."]
    created_at: Annotated[datetime, "when the study was created, UTC"]
    config: Annotated[Mapping[str, Any], "settings of the sweep, a JSON object"]
    class_names: Annotated[tuple[str, ...] | None, "classes by index, a JSON list"] = None
    data_fingerprint: Annotated[str | None, "SHA-256 over the data's arrays"] = None
    versions: Annotated[Mapping[str, str] | None, "of the libraries, a JSON object"] = None
    processor: Annotated[str | None, "processor that trained last, by its vendor's name"] = None
    data_facts: Annotated[
        Mapping[str, Any] | None, "sizes, class shares, target entropy, a JSON object"
    ] = None
    preparation: Annotated[
        Mapping[str, Any] | None, "how features were made of a file's columns, a JSON object"
    ] = None
    targets: Annotated[bytes | None, "class of each validation example; null: over 256"] = None


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that runs a study."""

    host: Annotated[str, "name of the machine of the process that runs the study"]
    pid: Annotated[int, "its process number there"]
    since: Annotated[datetime, "since when it runs the study, UTC"]


@dataclass(frozen=True, slots=True)
class NewTrial:
    """A trial that begins; ``params`` is ``Hparams.to_params()``."""

    trial: Annotated[int, "number of the trial, from 0"]
    seed: Annotated[int, "seed of the weights and the dropout masks, 0 to 2^63 - 1"]
    params: Annotated[Mapping[str, Any], "hyperparameters, a JSON object"]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where and in which order of the data a trial has been trained so far."""

    trial: int
    path: Annotated[str, "code that trains it: plain or stacked; null: not placed yet"]
    device: Annotated[str, "device that trained it last, such as cpu or cuda:0"]
    segments: Annotated[
        tuple[tuple[int, int], ...],
        "JSON list of pairs: data epoch of its lane at an entry, and epochs trained from there",
    ]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a trial's state is, to go on from; nowhere once it has ended."""

    trial: int
    state_file: Annotated[str | None, "its state, in the weights folder; null: none is kept"]
    state_epochs: Annotated[int | None, "epochs that it had trained then"]


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one trial did in one epoch."""

    trial: int
    epoch: Annotated[int, "epoch of the trial, from 1"]
    train_loss: Annotated[float, "mean training loss with dropout, nats an example; null: NaN"]
    val_loss: Annotated[float, "mean validation loss, nats an example; null: NaN"]
    score: Annotated[float, "validation score; null: NaN"]
    class_f1: Annotated[tuple[float, ...], "validation F1 by class index, a JSON list"]
    learning_rate: Annotated[float, "of the last step; for armijo the mean accepted step"]
    grad_norm: Annotated[float, "mean L2 norm of the gradient over the steps; null: NaN"]
    seconds: Annotated[float, "wall-clock share of the trial in this epoch, seconds"]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Scores of a class at the best epoch."""

    class_index: Annotated[int, "index of the class, from 0"]
    class_name: Annotated[str, "name of the class"]
    precision: Annotated[float, "validation precision at the best epoch, 0 to 1"]
    recall: Annotated[float, "validation recall at the best epoch, 0 to 1"]
    f1: Annotated[float, "validation F1 at the best epoch, 0 to 1"]
    support: Annotated[int, "validation examples of the class"]


@dataclass(frozen=True, slots=True)
class TrialEnd:
    """How a trial ended, or what it has done while it is ``paused``; None: there was no epoch."""

    trial: int
    outcome: Annotated[
        str, "why it ended; paused: may be promoted; interrupted: goes on; null: waits or trains"
    ]
    reason: Annotated[str, "the outcome in a sentence"]
    value: Annotated[float | None, "what Optuna is told; null for failed trials"] = None
    best_epoch: Annotated[int | None, "epoch of the highest score, from 1, earliest"] = None
    best_score: Annotated[float | None, "validation score at the best epoch"] = None
    last_epoch: Annotated[int | None, "last epoch that was trained, from 1"] = None
    last_score: Annotated[float | None, "validation score at the last epoch"] = None
    tail_score: Annotated[float | None, "mean validation score of the last 5 epochs"] = None
    best_val_loss: Annotated[float | None, "validation loss at the best epoch, nats"] = None
    epochs_run: Annotated[int | None, "epochs trained"] = None
    epochs_to_95: Annotated[int | None, "first epoch with 95 % of the best score, from 1"] = None
    epochs_to_99: Annotated[int | None, "first epoch with 99 % of the best score, from 1"] = None
    seconds: Annotated[float | None, "wall-clock share of the trial, seconds"] = None
    confusion: Annotated[
        tuple[tuple[int, ...], ...] | None,
        "validation examples by true and predicted class, best epoch, JSON rows; null: over 50",
    ] = None
    class_scores: tuple[ClassScore, ...] = ()


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a trial's best epoch, and its predictions of the validation examples then.

    ``predictions`` is the class of each, a byte; None: over 256 classes. Without a file: what was
    written is of an epoch that is the best one no more.
    """

    trial: int
    weights_file: Annotated[str | None, "best epoch's weights, in the weights folder"]
    weights_sha256: Annotated[str | None, "SHA-256 of that file, hexadecimal"]
    predictions: bytes | None = None


@dataclass(frozen=True, slots=True)
class HeldStop:
    """The end that an audited trial would have had."""

    trial: int
    would_stop_outcome: Annotated[str, "stalled or behind: an audited trial's"]
    would_stop_epoch: Annotated[int, "epoch at which it would have stopped"]
    would_stop_score: Annotated[float | None, "its best score up to that epoch"]


@dataclass(frozen=True, slots=True)
class StoredTrial:
    """A trial as a coordinator finds it; curves are by epoch, from 1, NaN where none was."""

    trial: int
    seed: int
    params: dict[str, Any]
    outcome: str | None
    segments: tuple[tuple[int, int], ...]
    path: str | None
    device: str | None
    state_file: str | None
    state_epochs: int | None
    weights_file: str | None
    kills: int
    value: float | None
    confusion: tuple[tuple[int, ...], ...] | None
    would_stop_outcome: str | None
    would_stop_epoch: int | None
    would_stop_score: float | None
    train_losses: tuple[float, ...]
    val_losses: tuple[float, ...]
    scores: tuple[float, ...]
    seconds: tuple[float, ...]
