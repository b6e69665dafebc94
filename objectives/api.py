"""The contract between the trainer and the sweep, without torch.

``sweeps`` decides which trial trains, for how long, and which epoch was its best; it sees only
the names in this file. Shapes: N examples, L tokens or steps, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from search_spaces.hparams import Hparams

#: Names of the objectives that ship with the project.
OBJECTIVES = ("relation-cnn", "tabular-mlp", "sequence-rnn")


class DataError(ValueError):
    """A data file is not what was expected; the message names file, row and what is wrong."""


@dataclass(frozen=True, slots=True)
class Split:
    """One part of a data set.

    Attributes:
        inputs: The arguments of the model's ``forward``, each (N, ...).
        targets: Class of each example, (N,) int64 in [0, C); or a distribution over the classes
            for each (a soft label), (N, C) float32, non-negative and with the sum 1. Scores take
            the likeliest class of a distribution for the true one, the earliest on ties.
        lengths: Real steps of each example, (N,) int64, or None where nothing is padded. If
            given, inputs of two or more axes are (N, L, ...), padded at the end; batches are
            trimmed to their longest example and ``forward`` gets the lengths, (B,), last.
    """

    inputs: tuple[npt.NDArray[Any], ...]
    targets: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """A data set: what ``Objective.load`` returns and ``Objective.build_model`` gets.

    Attributes:
        train: Examples that are trained on.
        validation: Examples whose macro-F1 decides the best epoch.
        test: Examples that a sweep never touches.
        class_names: Names of the C classes, by index.
        extras: What the model needs besides (vocabulary size, word vectors).
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    extras: Mapping[str, Any] = field(default_factory=dict)


class Objective(Protocol):
    """A data set and a model."""

    name: str

    def load(self, source: Path | None) -> Data:
        """Return the data set in ``source``, or the one that ships with the project.

        Raises:
            DataError: If the file is not what the objective reads.
        """

    def build_model(self, data: Data, **model: Any) -> Any:
        """Return a fresh ``nn.Module``: initial weights drawn from torch's default generator.

        Its ``forward`` takes a batch of ``Split.inputs`` and returns logits, (B, C), or for two
        classes one of the second class, (B, 1).
        """


@dataclass(frozen=True, slots=True)
class FusionKey:
    """What must be equal for two trials to be trained by one program.

    Attributes:
        batch_size: Training examples a step.
        model: Arguments of ``build_model``, sorted; they decide the tensors' shapes.
        code_path: How a step is taken: "gradient", or "armijo", whose steps take more passes.
    """

    batch_size: int
    model: tuple[tuple[str, Any], ...]
    code_path: str


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What one trial did in one epoch; a failure is a value, never a raise.

    Attributes:
        slot: The slot that the trial holds.
        epoch: The trial's own epoch, from 1.
        train_loss: Mean loss a training example, with dropout, weighted and smoothed as trained.
        val_loss: Mean cross-entropy a validation example, unweighted, without dropout.
        confusion: Counts on validation, rows the true class, columns the predicted one, (C, C).
        learning_rate: The rate of the epoch's last step; for armijo the mean accepted step, one
            that was not taken counting as 0.
        grad_norm: Mean over the epoch's steps of the gradient's L2 norm, before clipping.
        seconds: Wall-clock share of this trial in the epoch, training and validation.
        error: Why the trial cannot go on (an exception of its own), or None.
    """

    slot: int
    epoch: int
    train_loss: float
    val_loss: float
    confusion: npt.NDArray[np.int64]
    learning_rate: float
    grad_norm: float
    seconds: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SlotChoice:
    """How many slots a lane gets, and what was measured for it.

    Attributes:
        slots: The choice, 1 or more.
        step_s: Slots, and seconds a training step a trial with so many, in the order measured.
    """

    slots: int
    step_s: tuple[tuple[int, float], ...]


class Lane(Protocol):
    """Trials that are trained by one program, one slot each; all see the same batches.

    Not thread-safe: one thread owns a lane. A trial's reports depend on its seed, its
    hyperparameters and the data epoch at which it entered, never on its slot or its neighbours.
    """

    data_epoch: int
    """Data epochs trained so far; decides the order of the next epoch's batches."""
    max_slots: int | None
    """1 if the model cannot be fused, else None: as many as memory holds."""
    note: str | None
    """One line that says why the lane has one slot, or is slower than others; or None."""

    def admit(self, slot: int, seed: int, hparams: Hparams) -> None:
        """Give a trial the slot; its first epoch is the lane's next. The slot must be free."""

    def train_epoch(self) -> list[EpochReport]:
        """Train and validate every slot for one epoch; reports in the order of admission."""

    def keep_best(self, slot: int) -> None:
        """Keep the slot's present weights as its best epoch's."""

    def save_best(self, slot: int, path: Path) -> str:
        """Write the kept weights as safetensors, atomically; return the file's SHA-256."""

    def release(self, slot: int) -> None:
        """Free the slot."""


class Trainer(Protocol):
    """A data set on a device, and the lanes that are opened on it."""

    class_names: tuple[str, ...]
    fingerprint: str
    """SHA-256 over the arrays of the data set: equal if and only if the data are."""

    def fusion_key(self, hparams: Hparams) -> FusionKey:
        """Return the key of the lane that may train these hyperparameters."""

    def open_lane(self, key: FusionKey, data_epoch: int) -> Lane:
        """Return an empty lane whose clock stands at ``data_epoch`` (0: nothing trained)."""

    def choose_slots(
        self, key: FusionKey, hparams: Hparams, *, most: int, num_workers: int
    ) -> SlotChoice:
        """Return how many slots cost a trial of this lane least, by timing a few steps.

        Args:
            key: The lane's.
            hparams: Those of its first trial.
            most: Most slots that could be filled.
            num_workers: Processes that share the device's memory.
        """
