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
    scores: list[float] = field(default_factory=list)
    seconds: float = 0.0
    best_confusion: npt.NDArray[np.int64] | None = None

    def add(self, report: EpochReport, score: float) -> bool:
        """Take in an epoch; return whether it is the new best (the earliest of equals is)."""
        self.train_losses.append(report.train_loss)
        self.val_losses.append(report.val_loss)
        self.scores.append(score)
        self.seconds += report.seconds
        is_best = best_epoch(self.scores) == len(self.scores)
        if is_best:
            self.best_confusion = report.confusion
        return is_best

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the highest macro-F1, from 1; None if there is none."""
        return best_epoch(self.scores)

    @property
    def best_score(self) -> float | None:
        """The highest macro-F1; None if there is none."""
        epoch = self.best_epoch
        return None if epoch is None else self.scores[epoch - 1]


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
        score=scores.score if is_sound else float("nan"),
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
    best, curve_best = curve.best_epoch, curve.best_score
    told = optuna_state_and_value(decision.outcome, curve_best)
    epochs = len(curve.scores)
    return TrialResult(
        outcome=decision.outcome.value,
        reason=decision.reason,
        value=None if told is None else told[1],
        best_epoch=best,
        best_score=curve_best,
        last_epoch=epochs or None,
        last_score=curve.scores[-1] if epochs else None,
        tail_score=tail_mean(curve.scores) if epochs else None,
        best_val_loss=None if best is None else curve.val_losses[best - 1],
        epochs_run=epochs,
        epochs_to_95=epochs_to_fraction(curve.scores, 0.95),
        epochs_to_99=epochs_to_fraction(curve.scores, 0.99),
        seconds=curve.seconds,
        weights_file=weights_file,
        weights_sha256=weights_sha256,
        confusion=_best_confusion(curve),
        would_stop_outcome=None if held is None else held.outcome.value,
        would_stop_epoch=None if held is None else held.epoch,
        would_stop_score=None if held is None else held.score,
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
    best = curve.best_score
    return math.nan if best is None else best
