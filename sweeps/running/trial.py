"""A trial of a running study: its curve, its place, and what is remembered of its end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from objectives.api import Counts, EpochReport, FusionKey, find_fusion_key
from objectives.metrics import class_scores
from search_spaces.hparams import Hparams
from storage.records import ClassScore, EpochRecord, HeldStop, TrialEnd
from sweeps.curves import epochs_to_fraction, tail_mean
from sweeps.outcomes import Outcome
from sweeps.running.sampling import Known, Sampled
from sweeps.running.seeds import trial_seed
from sweeps.running.stopping import Decision

#: Times that a trial may take its trainer's process with it.
MAX_KILLS = 3


@dataclass(slots=True)
class Curve:
    """What a trial has done so far, epoch 1 first, and the counts of its best epoch."""

    train_losses: list[float] = field(default_factory=list)
    val_losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    """The epoch with the highest score, from 1, the earliest; None if there is none."""
    best_counts: Counts | None = None

    def add(self, report: EpochReport, score: float) -> bool:
        """Take in an epoch; return whether it is the new best (the earliest of equals is)."""
        self.train_losses.append(report.train_loss)
        self.val_losses.append(report.val_loss)
        self.seconds.append(report.seconds)
        best = self.best_score
        is_best = not math.isnan(score) and (best is None or score > best)
        self.scores.append(score)
        if is_best:
            self.best_epoch, self.best_counts = len(self.scores), report.counts
        return is_best

    @property
    def best_score(self) -> float | None:
        """The highest score; None if there is none."""
        epoch = self.best_epoch
        return None if epoch is None else self.scores[epoch - 1]

    @property
    def best_val_loss(self) -> float | None:
        """The validation loss at the best epoch; None if there is none."""
        epoch = self.best_epoch
        return None if epoch is None else self.val_losses[epoch - 1]


@dataclass(slots=True)
class Trial:
    """A trial of the study, ended or not.

    Attributes:
        number: Its number.
        seed: Seed of its weights and masks.
        hparams: What it is trained with.
        sampled: The same as Optuna knows it.
        key: Its fusion key.
        curve: What it has done.
        outcome: Why it ended, or that it is paused; None: it waits or trains.
        segments: The clock of its lane at each entry, and the epochs that it trained from there.
        path: How its lane is trained, ``plain`` or ``stacked``.
        trainer: The trainer that has it, or None.
        lane: The lane that has it, or None.
        kills: Processes that died of it.
        alone_until: Its process died while it trained this epoch: it trains alone until it has
            passed it. None: it may train beside others.
        held: The end that its audit has held back.
        ending: Its end, while its weights are being written.
        state_file: The file with its state, in the weights folder; None: none has been written.
        state_epochs: Epochs that it had trained then.
        has_weights: Whether the weights of its best epoch have been written.
        ended_as: How an earlier run ended it while it was paused; None: it did not, or this run
            has gone on with it.
        is_promoted: Whether it was paused, and has had no epoch since.
        is_entering: Whether it has had no epoch in its lane yet.
        stored: Names of the hyperparameters that are stored, an own loop's; None: all.
    """

    number: int
    seed: int
    hparams: Hparams
    sampled: Sampled
    key: FusionKey
    curve: Curve = field(default_factory=Curve)
    outcome: Outcome | None = None
    segments: list[tuple[int, int]] = field(default_factory=list)
    path: str = ""
    trainer: int | None = None
    lane: int | None = None
    kills: int = 0
    alone_until: int | None = None
    held: HeldStop | None = None
    ending: Decision | None = None
    state_file: str | None = None
    state_epochs: int | None = None
    has_weights: bool = False
    ended_as: Outcome | None = None
    is_promoted: bool = False
    is_entering: bool = False
    stored: frozenset[str] | None = None

    def to_params(self) -> dict[str, Any]:
        """Return its hyperparameters as they are stored; of an own loop those of its space."""
        params = self.hparams.to_params()
        return {name: params[name] for name in params if name in (self.stored or params)}

    @property
    def has_ended(self) -> bool:
        """Whether it can train no more in this run."""
        return self.outcome not in (None, Outcome.PAUSED)

    @property
    def epochs(self) -> int:
        """Epochs that it has had."""
        return len(self.curve.scores)

    def as_known(self, lowest: float) -> Known | None:
        """Return the trial as a sampler sees it; None of a trial that failed.

        Args:
            lowest: The lowest score that there is: that of a diverged trial.
        """
        end = self.outcome if self.ending is None else self.ending.outcome
        if end is Outcome.FAILED:
            return None
        if end is Outcome.DIVERGED:
            return Known(self.number, self.sampled, lowest)
        best = self.curve.best_score
        return Known(self.number, self.sampled, lowest if best is None and self.epochs else best)

    def note_clock(self, data_epoch: int) -> None:
        """Take in that its lane trained it at a clock: a segment begins, or goes on."""
        start, epochs = self.segments[-1] if self.segments else (data_epoch, 0)
        if start + epochs == data_epoch:
            self.segments[-1:] = [(start, epochs + 1)]
        else:
            self.segments.append((data_epoch, 1))

    def leave_trainer(self) -> None:
        """Forget its place: it has none any more."""
        self.trainer = self.lane = None


def new_trial(
    number: int,
    study_seed: int,
    hparams: Hparams,
    sampled: Sampled,
    *,
    stored: frozenset[str] | None = None,
) -> Trial:
    """Return a trial that has not been trained."""
    seed = trial_seed(study_seed, number)
    return Trial(number, seed, hparams, sampled, find_fusion_key(hparams), stored=stored)


def to_record(trial: int, report: EpochReport, score: float) -> EpochRecord:
    """Return the record of an epoch that did not fail."""
    return EpochRecord(
        trial=trial,
        epoch=report.epoch,
        train_loss=report.train_loss,
        val_loss=report.val_loss,
        score=score,
        class_f1=tuple(class_scores(report.counts).f1.tolist()),
        learning_rate=report.learning_rate,
        grad_norm=report.grad_norm,
        seconds=report.seconds,
    )


class Trained(Protocol):
    """A trial that has a curve, whoever trains it."""

    @property
    def number(self) -> int:
        """Its number."""

    @property
    def curve(self) -> Curve:
        """What it has done."""


def to_end(
    trial: Trained, decision: Decision, class_names: Sequence[str], *, lowest: float
) -> TrialEnd:
    """Return how a trial ended; a diverged trial keeps its real best epoch, but not as value."""
    curve = trial.curve
    best_score, epochs = curve.best_score, len(curve.scores)
    values = {
        Outcome.DIVERGED: lowest,
        Outcome.FAILED: None,
    }
    value = values.get(decision.outcome, lowest if best_score is None else best_score)
    counts = curve.best_counts
    matrix = None if counts is None else counts.matrix
    return TrialEnd(
        trial=trial.number,
        outcome=decision.outcome.value,
        reason=decision.reason,
        value=value,
        best_epoch=curve.best_epoch,
        best_score=best_score,
        last_epoch=epochs or None,
        last_score=curve.scores[-1] if epochs else None,
        tail_score=tail_mean(curve.scores) if epochs else None,
        best_val_loss=curve.best_val_loss,
        epochs_run=epochs,
        epochs_to_95=epochs_to_fraction(curve.scores, 0.95),
        epochs_to_99=epochs_to_fraction(curve.scores, 0.99),
        seconds=sum(curve.seconds),
        confusion=None if matrix is None else tuple(tuple(row) for row in matrix.tolist()),
        class_scores=_best_class_scores(counts, class_names),
    )


def _best_class_scores(
    counts: Counts | None, class_names: Sequence[str]
) -> tuple[ClassScore, ...]:
    """Return the scores of each class at the best epoch; empty if there is none."""
    if counts is None:
        return ()
    scores = class_scores(counts)
    names = class_names or [str(i) for i in range(len(counts.support))]
    return tuple(
        ClassScore(
            class_index=i,
            class_name=name,
            precision=float(scores.precision[i]),
            recall=float(scores.recall[i]),
            f1=float(scores.f1[i]),
            support=int(scores.support[i]),
        )
        for i, name in enumerate(names)
    )
