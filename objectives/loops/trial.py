"""A trial of a person's own training loop: what the loop is given, and what it tells.

Knows neither torch nor who decides whether the trial goes on. Shapes: N validation examples, C
classes.
"""

import enum
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from objectives.api import Counts, EpochReport
from objectives.metric_names import DEFAULT_METRIC
from objectives.metrics import count_predictions, make_metric
from search_spaces.mistakes import suggest_names


class LoopError(ValueError):
    """The loop uses its trial in a wrong way; one line with the way out."""


class TrialPaused(BaseException):
    """Ends the loop of a trial that is paused; it goes on later from its checkpoint.

    No ``Exception``, so that a loop's own ``except Exception`` does not stop it.
    """


class Order(enum.Enum):
    """What a trial does after an epoch."""

    GO_ON = "go on"
    STOP = "stop"
    PAUSE = "pause"


class Follower(Protocol):
    """Decides after each epoch of a trial whether it goes on."""

    def take(self, trial: "OwnTrial", report: EpochReport) -> Order:
        """Take in an epoch and return what the trial does next."""


@runtime_checkable
class Stateful(Protocol):
    """What a checkpoint can hold: modules, optimizers, schedulers, scalers of gradients."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Take a state over."""


class OwnTrial:
    """A trial of a person's own training loop.

    Args:
        params: Hyperparameters by the names of the space.
        follower: Decides after each epoch whether the trial goes on.
        number: Number of the trial, from 0.
        seed: Seed of the trial; the loop may seed its own generators with it.
        device: Where to train, such as ``cpu`` or ``cuda:0``.
        max_epochs: Epochs after which the trial ends.
        metric: The score; with ``record(score=...)`` a name for people.
        class_names: Names of the classes by index; empty: they are known by their indices.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        follower: Follower,
        *,
        number: int = 0,
        seed: int = 0,
        device: str = "cpu",
        max_epochs: int,
        metric: str = DEFAULT_METRIC,
        class_names: Sequence[str] = (),
    ) -> None:
        self.params: Mapping[str, Any] = _Params(params)
        self.number = number
        self.seed = seed
        self.device = device
        self.max_epochs = max_epochs
        self.class_names = tuple(class_names)
        self.parts: tuple[Stateful, ...] = ()
        """What ``checkpoint`` was given."""
        self.targets: npt.NDArray[np.int64] | None = None
        """True classes of the last epoch, (N,); None where the loop tells a score alone."""
        self.predictions: npt.NDArray[np.int64] | None = None
        """Predicted classes of the last epoch, (N,)."""
        self.epochs_done = 0
        self._follower = follower
        self._metric = metric
        self._state: Mapping[str, Any] | None = None
        self._hidden: Stateful | None = None
        self._records: list[_Record] = []
        self._is_open = False
        self._began = 0.0

    def epochs(self) -> Iterator[int]:
        """Yield the epochs of the trial, from 1, until it has stalled or is to stop.

        Raises:
            LoopError: If an epoch passed without ``record``.
            TrialPaused: If the trial is paused; the caller of the loop catches it.
        """
        while self.epochs_done < self.max_epochs:
            self._is_open, self._began = True, time.perf_counter()
            yield self.epochs_done + 1
            if not self._records:
                raise LoopError(
                    f"epoch {self.epochs_done + 1} ended without trial.record(...); call it once "
                    "an epoch, inside the loop over trial.epochs()"
                )
            order = self._close_epoch()
            if order is Order.PAUSE:
                raise TrialPaused
            if order is Order.STOP:
                return

    def record(
        self,
        targets: Any = None,
        predictions: Any = None,
        *,
        score: float | None = None,
        train_loss: float | None = None,
        val_loss: float | None = None,
    ) -> None:
        """Tell what came of an epoch; called for each batch of validation, it puts them together.

        Tensors, arrays and lists will do.

        Args:
            targets: True class of each validation example, (N,), whole numbers from 0.
            predictions: Predicted class of each, (N,).
            score: A score of one's own in place of these; higher is better.
            train_loss: Mean training loss of the epoch; NaN or infinite: the trial has diverged.
            val_loss: Mean validation loss of these examples; the same.

        Raises:
            LoopError: If there is neither a score nor targets and predictions that fit together.
        """
        if not self._is_open:
            raise LoopError("trial.record(...) belongs inside the loop over trial.epochs()")
        if (targets is None) != (predictions is None):
            raise LoopError("trial.record(targets, predictions) takes both, or neither and score=")
        if targets is None and score is None:
            raise LoopError("trial.record(...) needs targets and predictions, or score=")
        classes: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
        if targets is not None:
            classes = (self._read(targets, "targets"), self._read(predictions, "predictions"))
            if len(classes[0]) != len(classes[1]):
                raise LoopError(
                    f"trial.record(...): {len(classes[0])} targets and {len(classes[1])} "
                    "predictions; each example has one of each"
                )
        own = None if score is None else _to_float(score)
        self._records.append(_Record(classes, own, _to_loss(train_loss), _to_loss(val_loss)))

    def checkpoint(self, *parts: Stateful) -> None:
        """Name what a pause must keep: model, optimizer, scheduler, ...; call it before the loop.

        Where the trial goes on after a pause, their states are restored now. Without a checkpoint
        a paused trial that goes on is trained again from its first epoch.

        Raises:
            LoopError: If a part has no ``state_dict``, or the loop has begun.
        """
        if self._is_open:
            raise LoopError("trial.checkpoint(...) belongs before the loop over trial.epochs()")
        for part in parts:
            if not isinstance(part, Stateful):
                raise LoopError(
                    f"trial.checkpoint(...): {type(part).__name__} has no state_dict and "
                    "load_state_dict; give the model, the optimizer, the scheduler"
                )
        self.parts = parts
        if self._state is not None:
            for part, state in zip(parts, self._state["parts"], strict=True):
                part.load_state_dict(state)
            if self._hidden is not None:
                self._hidden.load_state_dict(self._state["hidden"])
            self.epochs_done = self._state["epochs"]

    def restore(self, state: Mapping[str, Any], *, hidden: Stateful | None = None) -> None:
        """Let ``checkpoint`` restore a state.

        Args:
            state: A table of ``epochs``, ``parts`` and ``hidden``.
            hidden: Restored after the parts: the generators of random numbers.
        """
        self._state, self._hidden = state, hidden

    def end(self) -> None:
        """Take in the last epoch of a loop that has left ``epochs`` by itself."""
        if self._records:
            self._close_epoch(is_last=True)

    def _close_epoch(self, *, is_last: bool = False) -> Order:
        records, self._records = self._records, []
        self._is_open = False
        self.epochs_done += 1
        report = self._make_report(records, time.perf_counter() - self._began)
        return self._follower.take(self, replace(report, is_last=is_last))

    def _make_report(self, records: "Sequence[_Record]", seconds: float) -> EpochReport:
        parts = [each.classes for each in records if each.classes is not None]
        counts, score = Counts.none(), records[-1].score
        if parts:
            self.targets = np.concatenate([targets for targets, _ in parts])
            self.predictions = np.concatenate([predictions for _, predictions in parts])
            largest = max(int(self.targets.max()), int(self.predictions.max()))
            num_classes = len(self.class_names) or max(largest + 1, 2)
            counts = count_predictions(self.targets, self.predictions, num_classes=num_classes)
            if score is None:
                names = self.class_names or tuple(map(str, range(num_classes)))
                score = make_metric(self._metric, names).score(counts)
        return EpochReport(
            slot=self.number,
            epoch=self.epochs_done,
            train_loss=_mean(records, "train_loss"),
            val_loss=_mean(records, "val_loss"),
            counts=counts,
            learning_rate=self._find_rate(),
            grad_norm=np.nan,
            seconds=seconds,
            score=score,
        )

    def _find_rate(self) -> float:
        """Return the learning rate of the first optimizer of the checkpoint, NaN without one."""
        for part in self.parts:
            groups = getattr(part, "param_groups", None)
            if groups:
                return float(groups[0]["lr"])
        return float("nan")

    def _read(self, given: Any, name: str) -> npt.NDArray[np.int64]:
        values = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
        if values.ndim != 1:
            way_out = "; take the argmax of each row" if values.ndim == 2 else ""
            raise LoopError(
                f"trial.record(...): {name} must be one class an example, (N,), got shape "
                f"{values.shape}{way_out}"
            )
        if not len(values):
            raise LoopError(f"trial.record(...): {name} are empty")
        whole = values.astype(np.int64)
        most = len(self.class_names) or None
        if not np.array_equal(whole, values) or whole.min() < 0:
            raise LoopError(f"trial.record(...): {name} must be whole numbers from 0")
        if most is not None and whole.max() >= most:
            raise LoopError(
                f"trial.record(...): {name} has class {whole.max()}, and class_names has {most}"
            )
        return whole


class _Record:
    """What one call of ``record`` told."""

    __slots__ = ("classes", "score", "train_loss", "val_loss")

    def __init__(
        self,
        classes: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None,
        score: float | None,
        train_loss: float,
        val_loss: float,
    ) -> None:
        self.classes = classes
        self.score = score
        self.train_loss = train_loss
        self.val_loss = val_loss


class _Params(dict[str, Any]):
    """Hyperparameters by name; a name that is missing is answered with those that are there."""

    def __missing__(self, name: str) -> Any:
        raise LoopError(f"trial.params has no {name!r}; {suggest_names(name, list(self))}")


def _mean(records: Sequence[_Record], name: str) -> float:
    """Return the mean of a loss over the validation examples of each call."""
    weights = [1 if each.classes is None else len(each.classes[0]) for each in records]
    return float(np.average([getattr(each, name) for each in records], weights=weights))


def _to_float(value: Any) -> float:
    return float(value.detach() if hasattr(value, "detach") else value)


def _to_loss(value: Any) -> float:
    """Return a loss: infinite where it is no number, NaN where it was not told."""
    if value is None:
        return np.nan
    loss = _to_float(value)
    return np.inf if np.isnan(loss) else loss
