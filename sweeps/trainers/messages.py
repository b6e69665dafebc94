"""What the coordinator, the process that loads the data, and the trainers say to each other.

Plain facts that cross a pipe, or a Ray call, as pickles. A trainer gets one command and gives one
answer, for one lane; it never hears of a database. Imports neither torch nor Optuna.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from objectives.api import Counts, DataFacts, EpochReport, FusionKey


@dataclass(frozen=True, slots=True)
class Load:
    """Import the objective, load and check its data, try its model: once, for all trainers."""

    objective: str
    data: Path | None
    """The data file; None: the objective's own."""
    label: str
    """Column of the data file that holds the classes."""
    model: Mapping[str, Any]
    """``build_model`` arguments of a first trial, tried on a small batch."""
    device: str
    num_trainers: int | None
    """Trainers that are wanted; None: one a GPU, or one a core."""
    precision: Literal["float32", "tf32"]
    seed: int
    """Decides the order of batches."""
    metric: str
    """Checked against the classes."""
    step_limit_s: float
    """What the first step of a trainer may take; later ones are limited by measured steps."""
    needs_dropout: bool = False
    """Whether trials set a dropout, which a model must have."""
    max_epochs: int = 10**6
    """Epochs after which a trial ends; an own loop may ask."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded."""

    class_names: tuple[str, ...]
    facts: DataFacts | None
    """None of a person's own loop, which has the data to itself."""
    targets: bytes | None
    """True class of each validation example, a byte; None: over 256 classes."""
    fingerprint: str
    """SHA-256 over the data's arrays."""
    devices: tuple[str, ...]
    """A device for each trainer, such as ``cpu`` or ``cuda:0``."""
    versions: Mapping[str, str]
    notes: tuple[str, ...]
    """Sentences for the person."""
    preparation: Mapping[str, Any] | None = None
    """How features were made of the columns of a file, in the types of JSON."""
    is_loop: bool = False
    """A person's own training loop trains: a trial at a time in each trainer."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Something is wrong that the person can mend, one line each."""

    kind: Literal["config", "data", "objective"]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Start:
    """Start trainer ``index``; its connection comes along as a file descriptor."""

    index: int
    device: str


@dataclass(frozen=True, slots=True)
class TrainerEnded:
    """A trainer's process has ended."""

    index: int
    how: str
    """For people: ``signal SIGKILL``, ``exit code 3``, ``no step ended in 30 s``."""


@dataclass(frozen=True, slots=True)
class Place:
    """A trial enters a lane; its number is also that of its slot.

    One that has been trained goes on from its state; what it trained after that, or all of it
    where the state is gone, is trained again from its segments, unseen.
    """

    trial: int
    seed: int
    params: Mapping[str, Any]
    """``Hparams.to_params()``."""
    segments: tuple[tuple[int, int], ...] = ()
    """What it has trained: the clock of its lane at each entry, and epochs from there."""
    best_epoch: int | None = None
    state: Path | None = None
    """The file that has its state; None: none has."""


@dataclass(frozen=True, slots=True)
class Save:
    """Write the weights of a trial's best epoch to a file, and return its best predictions."""

    trial: int
    path: Path


@dataclass(frozen=True, slots=True)
class Command:
    """What a trainer does with one lane, in the order of the fields; trials by their numbers."""

    lane: int
    """One that is new is opened, with its clock at ``data_epoch``."""
    key: FusionKey
    data_epoch: int
    keep: tuple[int, ...] = ()
    """Trials whose last epoch is their best so far."""
    save: tuple[Save, ...] = ()
    checkpoint: Path | None = None
    """File to which the states of the ``checkpointed`` trials are written; None: none."""
    checkpointed: tuple[int, ...] = ()
    drop: tuple[int, ...] = ()
    place: tuple[Place, ...] = ()
    is_closed: bool = False
    is_trained: bool = True
    """Whether an epoch is trained at the end."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Give up the epoch that is being trained; it is answered instead of the command.

    One that comes behind the end of the epoch is not answered.
    """

    path: Path
    """File for the states that the lane's trials had before the epoch."""


@dataclass(frozen=True, slots=True)
class Saved:
    """Weights that were written."""

    trial: int
    sha256: str | None
    """None where an own loop names no checkpoint: there is no file."""
    predictions: bytes | None
    """Predicted class of each validation example at the best epoch; None: over 256 classes, or
    several labels an example."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command."""

    lane: int
    reports: tuple[EpochReport, ...] = ()
    """One a trial; ``slot`` is its number."""
    saved: tuple[Saved, ...] = ()
    unsaved: tuple[tuple[int, str], ...] = ()
    """Trial and reason, where weights could not be written."""
    refused: tuple[tuple[int, str], ...] = ()
    """Trial and reason, where a model could not be built."""
    deferred: tuple[int, ...] = ()
    """Trials that memory has no room for beside the others."""
    path: str = ""
    """``plain`` or ``stacked``; empty where the lane could not be opened."""
    notes: tuple[str, ...] = ()
    max_slots: int | None = None
    """Most trials that the lane can gain from; None: no limit of the model's."""
    seconds: float = 0.0
    """Wall-clock seconds of the epoch."""
    is_written: bool = True
    """Whether the states of the ``checkpointed`` trials were written, if there are any."""
    is_stopped: bool = False
    """Whether the epoch was given up, and the lane with it."""
    kept: tuple[int, ...] = ()
    """Trials whose states before that epoch were written."""
    best_counts: tuple[tuple[int, Counts], ...] = ()
    """What was counted at the best epoch of each trial that entered and has one."""


@dataclass(frozen=True, slots=True)
class Broken:
    """An error that is no trial's and no mistake of the person's, in one line."""

    reason: str
