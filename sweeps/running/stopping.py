"""Why a trial ends: the stall rule, divergence, and pruners that compare running bests.

Pure functions of curves of numbers; knows neither how they were trained nor where they are
stored.
"""

import math
import statistics
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.config.pruner import PrunerConfig
from sweeps.curves import best_epoch, epochs_since_best, running_best
from sweeps.outcomes import CHANCE_EPOCHS, CHANCE_FACTOR, Outcome

#: Complete trials that the rule of ``prune_patience`` needs at an epoch before it speaks.
MIN_PEERS = 5
#: Pruners that end a trial that is behind its finished peers.
COMPARING = ("median", "percentile")


@dataclass(frozen=True, slots=True)
class Decision:
    """The end of a trial.

    Attributes:
        outcome: Why it ends.
        reason: The same as a sentence for people.
    """

    outcome: Outcome
    reason: str


class Peers:
    """The running bests of the finished trials that others are compared with.

    Each curve is carried forward from its last epoch to ``max_epochs``: a trial that stalled early
    has that score at every later epoch, and a sweep in which every trial stalls still has a
    median.

    Args:
        max_epochs: The last epoch that a trial of the study can have.
    """

    def __init__(self, max_epochs: int) -> None:
        self._max_epochs = max_epochs
        self._known: set[int] = set()
        # By epoch, in order of the score.
        self._complete: list[list[float]] = [[] for _ in range(max_epochs)]

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, trial_number: int) -> bool:
        return trial_number in self._known

    def add(self, trial_number: int, scores: Sequence[float]) -> None:
        """Take in a finished trial whose outcome is one of ``PEER_OUTCOMES``.

        Diverged trials stay out, although they are COMPLETE in Optuna: their lowest score would
        drag the median down. A trial without any score, or one that is known already, changes
        nothing.
        """
        bests = running_best(scores)[: self._max_epochs]
        if trial_number in self or not bests or math.isnan(bests[-1]):
            return
        self._known.add(trial_number)
        bests += [bests[-1]] * (self._max_epochs - len(bests))
        for own, each in zip(self._complete, bests, strict=True):
            if not math.isnan(each):
                insort(own, each)

    def bests_at(self, epoch: int) -> list[float]:
        """Return the running bests at an epoch, from 1, of the complete trials."""
        return self._complete[epoch - 1]

    def find_median(self, epoch: int) -> float | None:
        """Return the median running best at an epoch; None with fewer than ``MIN_PEERS``."""
        bests = self.bests_at(epoch)
        return statistics.median(bests) if len(bests) >= MIN_PEERS else None


def is_pruned(config: PrunerConfig, scores: Sequence[float], peers: Peers) -> bool:
    """Return whether a pruner ends a trial at its last epoch.

    ``median`` and ``percentile`` are Optuna's ``PercentilePruner`` on running bests, with epochs
    that count from 1; ``halving`` pauses trials instead (``rungs``).
    """
    bests = running_best(scores)
    if config.name not in COMPARING or not bests or math.isnan(bests[-1]):
        return False  # Optuna's pruners end a trial that has no score yet.
    epoch, best = len(bests), bests[-1]
    percentile = 50.0 if config.name == "median" else config.percentile
    if epoch <= config.n_warmup_epochs or len(peers) < max(1, config.n_startup_trials):
        return False
    others = peers.bests_at(epoch)
    return bool(others) and best < float(np.percentile(others, 100.0 - percentile))


@dataclass(frozen=True, slots=True)
class StopRule:
    """When a trial ends; asked at each epoch's end.

    Attributes:
        max_epochs: Epochs after which a trial is exhausted.
        patience: Epochs without a rise above ``min_delta`` after which a trial has stalled.
        prune_patience: The same for a trial whose running best is below its peers' median; equal
            to ``patience``: no such rule, because a stall goes first.
        min_delta: Smallest rise that counts, in points of the score.
        num_classes: Classes of the data set; guessing has the loss ln(num_classes), in nats. 0:
            unknown, no loss is too high.
        pruner: What may end a trial that is behind.
        label: The score's name for people.
        may_lack_losses: Whether a loss that is NaN was not told; else it is a divergence.
    """

    max_epochs: int
    patience: int
    prune_patience: int
    min_delta: float
    num_classes: int
    pruner: PrunerConfig
    label: str = "macro-F1"
    may_lack_losses: bool = False

    def decide(
        self,
        train_losses: Sequence[float],
        val_losses: Sequence[float],
        *,
        scores: Sequence[float],
        peers: Peers,
    ) -> Decision | None:
        """Return why the trial ends at its last epoch, or None if it goes on.

        Diverged goes first, then stalled, exhausted and behind: a trial that peaked and then
        stalled keeps its best epoch and can win, however it compares with others. Optuna's
        pruners would store it PRUNED at its last score (optuna/optuna#2575, #3168).
        """
        epochs = len(scores)
        assert epochs == len(train_losses) == len(val_losses), "curves of different lengths"
        if epochs == 0:
            return None
        divergence = self._find_divergence(train_losses, val_losses)
        if divergence is not None:
            return Decision(Outcome.DIVERGED, divergence)
        waited = epochs_since_best(scores, self.min_delta)
        if waited >= self.patience:
            return Decision(Outcome.STALLED, self._describe_stall(scores, waited))
        if epochs >= self.max_epochs:
            reason = f"reached epoch {epochs}, the last one; {describe_best(scores)}"
            return Decision(Outcome.EXHAUSTED, reason)
        behind = self._find_lag(scores, waited, peers=peers)
        return None if behind is None else Decision(Outcome.BEHIND, behind)

    def _find_divergence(
        self, train_losses: Sequence[float], val_losses: Sequence[float]
    ) -> str | None:
        for name, losses in (("training", train_losses), ("validation", val_losses)):
            is_untold = self.may_lack_losses and math.isnan(losses[-1])
            if not math.isfinite(losses[-1]) and not is_untold:
                return f"the {name} loss is {losses[-1]} at epoch {len(losses)}"
        # Of training alone: an overfit model is sure of its errors, so its validation loss may
        # be far above chance with a good score.
        limit = CHANCE_FACTOR * math.log(self.num_classes) if self.num_classes else math.inf
        last = train_losses[-CHANCE_EPOCHS:]
        if len(last) < CHANCE_EPOCHS or not min(last) > limit:
            return None
        return (
            f"the training loss was above {limit:.3g}, {CHANCE_FACTOR:g} times that of guessing, "
            f"for {CHANCE_EPOCHS} epochs; {last[-1]:.3g} at epoch {len(train_losses)}"
        )

    def _describe_stall(self, scores: Sequence[float], waited: int) -> str:
        by = f" by more than {self.min_delta:g}" if self.min_delta else ""
        return f"{self.label} has not risen{by} for {waited} epochs; {describe_best(scores)}"

    def _find_lag(self, scores: Sequence[float], waited: int, *, peers: Peers) -> str | None:
        if self.pruner.name not in COMPARING:
            return None
        epoch, best = len(scores), running_best(scores)[-1]
        median = peers.find_median(epoch)
        if waited >= self.prune_patience and median is not None and best < median:
            return (
                f"{self._describe_stall(scores, waited)}, below {median:.4f}, the median of "
                f"{len(peers)} complete trials at epoch {epoch}"
            )
        if not is_pruned(self.pruner, scores, peers):
            return None
        return f"the pruner {self.pruner.name} ended it at epoch {epoch}; {describe_best(scores)}"


def describe_best(scores: Sequence[float]) -> str:
    """Return the best score of a curve and its epoch, for people."""
    epoch = best_epoch(scores)
    return "no score" if epoch is None else f"best {scores[epoch - 1]:.4f} at epoch {epoch}"
