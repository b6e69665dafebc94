"""A trial's result from its curve: the facts that the tables keep. Pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from objectives.api import EpochReport
from objectives.training.metrics import class_scores
from storage.records import Claim, ClassScore, EpochRow, TrialResult
from sweeps.audit import HeldStop
from sweeps.curves import best_epoch, epochs_to_fraction, tail_mean
from sweeps.stopping import Decision, optuna_state_and_value

#: Most classes whose confusion matrix is stored: 50 are about 6 kB a trial, 1000 would be 2 MB.
MAX_CONFUSION_CLASSES = 50


@dataclass(slots=True)
class Curve:
    """What a trial has done so far, epoch 1 first, and the confusion matrix of its best epoch."""

    train_losses: list[float] = field(default_factory=list)
    val_losses: list[float] = field(default_factory=list)
    macro_f1s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    best_confusion: npt.NDArray[np.int64] | None = None

    def add(self, report: EpochReport, macro_f1: float) -> bool:
        """Take in an epoch; return whether it is the new best (the earliest of equals is)."""
        self.train_losses.append(report.train_loss)
        self.val_losses.append(report.val_loss)
        self.macro_f1s.append(macro_f1)
        self.seconds += report.seconds
        is_best = best_epoch(self.macro_f1s) == len(self.macro_f1s)
        if is_best:
            self.best_confusion = report.confusion
        return is_best

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the highest macro-F1, from 1; None if there is none."""
        return best_epoch(self.macro_f1s)

    @property
    def best_macro_f1(self) -> float | None:
        """The highest macro-F1; None if there is none."""
        epoch = self.best_epoch
        return None if epoch is None else self.macro_f1s[epoch - 1]


def epoch_row(claim: Claim, report: EpochReport) -> EpochRow:
    """Return the row of an epoch that did not fail."""
    scores = class_scores(report.confusion)
    # Predictions of a model whose loss is not a number are class 0 by accident of argmax.
    is_sound = bool(np.isfinite(report.val_loss))
    return EpochRow(
        claim=claim,
        epoch=report.epoch,
        train_loss=report.train_loss,
        val_loss=report.val_loss,
        macro_f1=scores.macro_f1 if is_sound else float("nan"),
        class_f1=tuple(float(f1) for f1 in scores.f1),
        learning_rate=report.learning_rate,
        grad_norm=report.grad_norm,
        seconds=report.seconds,
    )


def trial_result(
    decision: Decision,
    curve: Curve,
    *,
    held: HeldStop | None = None,
    weights_file: str | None = None,
    weights_sha256: str | None = None,
) -> TrialResult:
    """Return how a trial ended; a diverged trial keeps its real best epoch, but not as value."""
    best, curve_best = curve.best_epoch, curve.best_macro_f1
    told = optuna_state_and_value(decision.outcome, curve_best)
    epochs = len(curve.macro_f1s)
    return TrialResult(
        outcome=decision.outcome.value,
        reason=decision.reason,
        value=None if told is None else told[1],
        best_epoch=best,
        best_macro_f1=curve_best,
        last_epoch=epochs or None,
        last_macro_f1=curve.macro_f1s[-1] if epochs else None,
        tail_macro_f1=tail_mean(curve.macro_f1s) if epochs else None,
        best_val_loss=None if best is None else curve.val_losses[best - 1],
        epochs_run=epochs,
        epochs_to_95=epochs_to_fraction(curve.macro_f1s, 0.95),
        epochs_to_99=epochs_to_fraction(curve.macro_f1s, 0.99),
        seconds=curve.seconds,
        weights_file=weights_file,
        weights_sha256=weights_sha256,
        confusion=_best_confusion(curve),
        would_stop_outcome=None if held is None else held.outcome.value,
        would_stop_epoch=None if held is None else held.epoch,
        would_stop_macro_f1=None if held is None else held.macro_f1,
    )


def best_class_scores(curve: Curve, class_names: Sequence[str]) -> tuple[ClassScore, ...]:
    """Return the scores of each class at the best epoch; empty if there is none."""
    if curve.best_confusion is None:
        return ()
    scores = class_scores(curve.best_confusion)
    return tuple(
        ClassScore(
            class_index=i,
            class_name=name,
            precision=float(scores.precision[i]),
            recall=float(scores.recall[i]),
            f1=float(scores.f1[i]),
            support=int(scores.support[i]),
        )
        for i, name in enumerate(class_names)
    )


def _best_confusion(curve: Curve) -> tuple[tuple[int, ...], ...] | None:
    counts = curve.best_confusion
    if counts is None or len(counts) > MAX_CONFUSION_CLASSES:
        return None
    return tuple(tuple(row) for row in counts.tolist())


def last_best(curve: Curve) -> float:
    """Return the running best at the last epoch; NaN if there is none."""
    best = curve.best_macro_f1
    return math.nan if best is None else best
