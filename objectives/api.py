"""The contract between the trainer and the sweep, without torch.

``sweeps`` decides which trial trains, for how long, and which epoch was its best; it sees only
the names in this file. Shapes: N examples, L tokens or steps, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from search_spaces.hparams import LINE_SEARCHES, Hparams

#: Most classes for which predictions are counted pair by pair (true class, predicted class).
MAX_MATRIX_CLASSES = 50

#: Most labels of examples that may have several: a prediction is a bit for each.
MAX_LABELS = 63

#: Names of the objectives that ship with the project.
OBJECTIVES = ("relation-cnn", "tabular-mlp", "sequence-rnn")


class DataError(ValueError):
    """A data file is not what was expected; the message names file, row and what is wrong."""


@dataclass(frozen=True, slots=True)
class Split:
    """One part of a data set.

    Attributes:
        inputs: The arguments of the model's ``forward``, each (N, ...). ``load`` may return
            anything with a length and items in an array's place, such as a ``numpy.memmap`` or a
            ``torch.utils.data.Dataset``, which need not fit into memory.
        targets: Class of each example, (N,) int64 in [0, C); or a distribution over the classes
            for each (a soft label), (N, C) float32, non-negative and with the sum 1; or which of
            C labels each example has, (N, C) bool, several or none. Scores take the likeliest
            class of a distribution for the true one, the earliest on ties.
        lengths: Real steps of each example, (N,) int64, or None where nothing is padded. If
            given, inputs of two or more axes are (N, L, ...), padded at the end; batches are
            trimmed to their longest example and ``forward`` gets the lengths, (B,), last.
    """

    inputs: tuple[npt.NDArray[Any], ...]
    targets: npt.NDArray[np.int64] | npt.NDArray[np.float32] | npt.NDArray[np.bool_]
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
        preparation: How the inputs were made of the columns of a file, in the types of JSON; it
            is stored with the study, so that new rows can be treated alike.
        notes: Sentences for the person about the data, said once when a run begins.
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    extras: Mapping[str, Any] = field(default_factory=dict)
    preparation: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


#: ``augment(inputs, generator)``: the model's inputs of a training batch, changed at random.
Augment = Callable[[tuple[Any, ...], Any], tuple[Any, ...]]


class Objective(Protocol):
    """A data set and a model.

    One that has ``augment`` too gets each training batch on its device, once for all trials, with
    a ``torch.Generator`` that depends on the study's seed, the epoch and the step alone. It
    returns the inputs that the models get; validation is never augmented.
    """

    name: str

    def load(self, source: Path | None, *, label: str = "label") -> Data:
        """Return the data set in ``source``, or the one that ships with the project.

        Args:
            source: A data file, or None.
            label: Column of the file that holds the classes.

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


def find_fusion_key(hparams: Hparams) -> FusionKey:
    """Return the key of the lane that may train these hyperparameters."""
    code_path = hparams.optimizer if hparams.optimizer in LINE_SEARCHES else "gradient"
    return FusionKey(hparams.batch_size, tuple(sorted(hparams.model.items())), code_path)


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each class was seen, predicted and right in validation, (C,) each.

    Attributes:
        right: Examples of the class that were predicted as such.
        support: Examples of the class.
        predicted: Predictions of the class.
        matrix: Rows the true class, columns the predicted one, (C, C); None above
            ``MAX_MATRIX_CLASSES``.
    """

    right: npt.NDArray[np.int64]
    support: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    matrix: npt.NDArray[np.int64] | None = None

    @classmethod
    def none(cls) -> "Counts":
        """Return the counts of no class: an own loop that tells a score has no others."""
        return cls(*(np.zeros(0, np.int64) for _ in range(3)))

    @classmethod
    def of_matrix(cls, matrix: npt.NDArray[np.int64]) -> "Counts":
        """Return the counts of a confusion matrix, (C, C)."""
        return cls(np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0), matrix)


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What must be known of a data set to judge a score and a loss on it.

    Attributes:
        num_train: Examples that are trained on.
        num_validation: Examples of validation.
        train_shares: Share of each class in the training targets, (C,) values that sum to 1; of
            each label among the examples, where these may have several.
        target_entropy: Mean entropy of a training target, in nats: 0 where each is one class. No
            mean cross-entropy of these examples can be lower.
    """

    num_train: int
    num_validation: int
    train_shares: tuple[float, ...]
    target_entropy: float


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What one trial did in one epoch; a failure is a value, never a raise.

    Attributes:
        slot: The slot that the trial holds.
        epoch: The trial's own epoch, from 1.
        train_loss: Mean loss a training example, with dropout, weighted and smoothed as trained.
        val_loss: Mean cross-entropy a validation example, unweighted, without dropout.
        counts: What was right and what was predicted on validation, by class.
        learning_rate: The rate of the epoch's last step; for armijo the mean accepted step, one
            that was not taken counting as 0.
        grad_norm: Mean over the epoch's steps of the gradient's L2 norm, before clipping.
        seconds: Wall-clock share of this trial in the epoch, training and validation.
        error: Why the trial cannot go on (an exception of its own), or None.
        score: The score, where a person's own loop tells it; else it is made of ``counts``.
        is_last: Whether a person's own loop has ended by itself.
    """

    slot: int
    epoch: int
    train_loss: float
    val_loss: float
    counts: Counts
    learning_rate: float
    grad_norm: float
    seconds: float
    error: str | None = None
    score: float | None = None
    is_last: bool = False


class TrialState(Protocol):
    """All that a trial needs to go on where it stopped, as if it never had: a copy of its row."""

    @property
    def epochs(self) -> int:
        """Epochs that the trial has trained."""


class Lane(Protocol):
    """Trials that are trained by one program, one slot each; all see the same batches.

    Not thread-safe: one thread owns a lane. A trial's reports depend on its seed, its
    hyperparameters and the data epochs in which it trained, never on its slot, its neighbours or
    how often it stood still.
    """

    data_epoch: int
    """Data epochs trained so far; decides the order of the next epoch's batches."""
    max_slots: int | None
    """1 if company makes no trial cheaper, else None: as many as memory holds."""
    note: str | None
    """One line that says why the lane has one slot, or is slower than others; or None."""
    path: Literal["plain", "stacked"]
    """The module as it is, slot by slot, or all slots at once. The two differ in the last bits,
    so a trial keeps its path."""

    @property
    def row_bytes(self) -> int:
        """Bytes of the device that one more slot takes, apart from a step's activations."""

    def place(
        self, slot: int, seed: int, hparams: Hparams, state: TrialState | None = None
    ) -> None:
        """Give a trial the slot; its next epoch is the lane's next. The slot must be free.

        Args:
            slot: Any number that no other trial of the lane has.
            seed: The trial's.
            hparams: Of the lane's fusion key.
            state: Where the trial goes on, from a lane of the same key; None: it begins.
        """

    def drop(self, slot: int) -> None:
        """Free the slot."""

    def train_epoch(self) -> list[EpochReport]:
        """Train and validate every slot for one epoch; reports in the order of placing."""

    def keep_best(self, slot: int) -> None:
        """Keep the slot's present weights and validation predictions as its best epoch's."""

    def save_best(self, slot: int, path: Path) -> str:
        """Write the kept weights as safetensors, atomically; return the file's SHA-256."""

    def best_predictions(self, slot: int) -> npt.NDArray[Any]:
        """Return the predicted class of each validation example in the kept epoch, (N,).

        One byte each, uint8, up to 256 classes.
        """

    def copy_states(self, slots: Sequence[int]) -> dict[int, TrialState]:
        """Return copies of all that trials are, what ``keep_best`` kept included, by their slots.

        The slots must be taken.
        """
