"""Why a trial ends: outcomes, the stall rule, and pruners that compare running bests.

Knows curves of numbers; knows neither how they were trained nor where they are stored. Optuna is
imported when the first pruner is made, so that ``Outcome`` costs nothing to import.
"""

import enum
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeps.config_choices import PrunerConfig
from sweeps.curves import best_epoch, epochs_since_best, running_best
from sweeps.pruners import HalvingPruner, make_scratch_study

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study
    from optuna.trial import TrialState

    Pruner = BasePruner | HalvingPruner

#: Complete trials that the rule of ``prune_patience`` needs at an epoch before it speaks.
MIN_PEERS = 5

#: A training loss above this many times the loss of guessing is far above chance.
CHANCE_FACTOR = 3.0
#: Epochs in a row that the training loss must stay there: a first epoch may be wild and recover.
CHANCE_EPOCHS = 3


class Outcome(enum.Enum):
    """Why a trial ended; the value is what SQL stores."""

    STALLED = "stalled"
    EXHAUSTED = "exhausted"
    BEHIND = "behind"
    DIVERGED = "diverged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


#: Trials that other trials are compared with: those that were trained to the end of their rise.
PEER_OUTCOMES = frozenset({Outcome.STALLED, Outcome.EXHAUSTED})


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

    Has state that must live: an in-memory Optuna study, because a pruner asks a study. A worker
    keeps one for its whole life, in one thread. Each curve is carried forward from its last epoch
    to ``max_epochs``: a trial that stalled early has that score at every later epoch, and a sweep
    in which every trial stalls still has a median.

    Args:
        max_epochs: The last epoch that a trial of the study can have.
    """

    def __init__(self, max_epochs: int) -> None:
        self._max_epochs = max_epochs
        self._bests: dict[int, list[float]] = {}
        self._behind: list[list[float]] = []
        self._study: Study | None = None

    def __len__(self) -> int:
        return len(self._bests)

    def __contains__(self, trial_number: int) -> bool:
        return trial_number in self._bests

    def add(self, trial_number: int, scores: Sequence[float]) -> None:
        """Take in a finished trial whose outcome is one of ``PEER_OUTCOMES``.

        Diverged trials stay out, although they are COMPLETE in Optuna: their 0.0 would drag the
        median down. A trial without any score, or one that is known already, changes nothing.

        Args:
            trial_number: Number of the trial in its study.
            scores: Validation macro-F1 per epoch; epoch 1 first.
        """
        bests = running_best(scores)[: self._max_epochs]
        if trial_number in self or not bests or math.isnan(bests[-1]):
            return
        bests += [bests[-1]] * (self._max_epochs - len(bests))
        self._bests[trial_number] = bests
        if self._study is not None:
            _add_to_study(self._study, bests)

    def add_behind(self, scores: Sequence[float]) -> None:
        """Take in a trial that was found to be behind: ``asha`` and ``hyperband`` compare with it.

        Without those that it has ended, successive halving would keep a share of the survivors
        and never again one of average score. It stays out of the median, as in Optuna.

        Args:
            scores: Validation macro-F1 per epoch up to its end; epoch 1 first.
        """
        self._behind.append(running_best(scores))

    def find_median(self, epoch: int) -> float | None:
        """Return the median running best at an epoch; None with fewer than ``MIN_PEERS``."""
        at_epoch = [bests[epoch - 1] for bests in self._bests.values()]
        known = [best for best in at_epoch if not math.isnan(best)]
        return statistics.median(known) if len(known) >= MIN_PEERS else None

    def is_pruned_by(self, pruner: "Pruner", scores: Sequence[float]) -> bool:
        """Return whether a pruner would end a trial at its last epoch.

        Args:
            pruner: It sees running bests only. Optuna's see those of the complete trials;
                ``asha`` and ``hyperband`` also those of the trials behind that were added.
            scores: Validation macro-F1 per epoch of the running trial; epoch 1 first.
        """
        from optuna.trial import TrialState, create_trial

        bests = running_best(scores)
        if not bests or math.isnan(bests[-1]):
            return False  # Optuna's pruners end a trial that has no score yet.
        if isinstance(pruner, HalvingPruner):
            others = [*self._bests.values(), *self._behind]
            return pruner.is_behind(bests, others, max_epochs=self._max_epochs)
        if self._study is None:
            self._study = make_scratch_study()
            for peer in self._bests.values():
                _add_to_study(self._study, peer)
        trial = create_trial(state=TrialState.RUNNING, intermediate_values=_to_values(bests))
        return bool(pruner.prune(self._study, trial))


@dataclass(frozen=True, slots=True)
class StopRule:
    """When a trial ends; asked at each epoch's end.

    Attributes:
        max_epochs: Epochs after which a trial is exhausted.
        patience: Epochs without a rise above ``min_delta`` after which a trial has stalled.
        prune_patience: The same for a trial whose running best is below its peers' median; equal
            to ``patience``: no such rule, because a stall goes first.
        min_delta: Smallest rise that counts, in macro-F1 points.
        num_classes: Classes of the data set; guessing has the loss ln(num_classes), in nats.
        pruner: What may end a trial that is behind, or None: nothing may.
    """

    max_epochs: int
    patience: int
    prune_patience: int
    min_delta: float
    num_classes: int
    pruner: "Pruner | None"

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

        Args:
            train_losses: Mean training loss per epoch, epoch 1 first.
            val_losses: Mean validation loss per epoch.
            scores: Validation macro-F1 per epoch.
            peers: The finished trials to compare with.
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
            reason = f"reached epoch {epochs}, the last one; {_describe_best(scores)}"
            return Decision(Outcome.EXHAUSTED, reason)
        behind = self._find_lag(scores, waited, peers=peers)
        if behind is None:
            return None
        peers.add_behind(scores)
        return Decision(Outcome.BEHIND, behind)

    def _find_divergence(
        self, train_losses: Sequence[float], val_losses: Sequence[float]
    ) -> str | None:
        for name, losses in (("training", train_losses), ("validation", val_losses)):
            if not math.isfinite(losses[-1]):
                return f"the {name} loss is {losses[-1]} at epoch {len(losses)}"
        # Of training alone: an overfit model is sure of its errors, so its validation loss may
        # be far above chance with a good macro-F1.
        limit = CHANCE_FACTOR * math.log(self.num_classes)
        last = train_losses[-CHANCE_EPOCHS:]
        if len(last) < CHANCE_EPOCHS or min(last) <= limit:
            return None
        return (
            f"the training loss was above {limit:.3g}, {CHANCE_FACTOR:g} times that of guessing, "
            f"for {CHANCE_EPOCHS} epochs; {last[-1]:.3g} at epoch {len(train_losses)}"
        )

    def _describe_stall(self, scores: Sequence[float], waited: int) -> str:
        by = f" by more than {self.min_delta:g}" if self.min_delta else ""
        return f"macro-F1 has not risen{by} for {waited} epochs; {_describe_best(scores)}"

    def _find_lag(self, scores: Sequence[float], waited: int, *, peers: Peers) -> str | None:
        if self.pruner is None:
            return None
        epoch, best = len(scores), running_best(scores)[-1]
        median = peers.find_median(epoch)
        if waited >= self.prune_patience and median is not None and best < median:
            return (
                f"{self._describe_stall(scores, waited)}, below {median:.4f}, the median of "
                f"{len(peers)} complete trials at epoch {epoch}"
            )
        if not peers.is_pruned_by(self.pruner, scores):
            return None
        pruner = self.pruner
        name = pruner.name if isinstance(pruner, HalvingPruner) else type(pruner).__name__
        return f"{name} ended it at epoch {epoch}; {_describe_best(scores)}"


def make_pruner(config: PrunerConfig) -> "Pruner | None":
    """Return the pruner of a sweep's settings; None for "none".

    ``median`` and ``percentile`` see the complete trials of all workers, each carried forward
    from its last epoch. ``asha`` and ``hyperband`` see these and the trials that this worker
    found behind, each to its end.
    """
    if config.name == "none":
        return None
    if config.name in ("asha", "hyperband"):
        assert config.min_epochs is not None, "PrunerConfig fills the settings of its pruner"
        assert config.reduction_factor is not None, "PrunerConfig fills the settings"
        return HalvingPruner(config.name, config.min_epochs, config.reduction_factor)
    from optuna.pruners import MedianPruner, PercentilePruner

    # Our epochs count from 1 and Optuna's steps from 0: after 3 epochs of warm-up, the end of
    # epoch 4 is the first at which a trial may be pruned.
    assert config.n_warmup_epochs is not None, "PrunerConfig fills the settings of its pruner"
    assert config.n_startup_trials is not None, "PrunerConfig fills the settings of its pruner"
    warmup_steps = config.n_warmup_epochs + 1
    if config.name == "median":
        return MedianPruner(n_startup_trials=config.n_startup_trials, n_warmup_steps=warmup_steps)
    assert config.percentile is not None, "PrunerConfig fills the percentile"
    return PercentilePruner(
        config.percentile, n_startup_trials=config.n_startup_trials, n_warmup_steps=warmup_steps
    )


def optuna_state_and_value(
    outcome: Outcome, best_score: float | None
) -> "tuple[TrialState, float | None] | None":
    """Return what Optuna is told of a trial that ended; None: it is told nothing.

    A diverged trial is COMPLETE at 0.0: after FAIL, TPE forgets it and goes back to where it
    diverged. An interrupted one stays RUNNING, so that it can be taken up under its number.

    Args:
        outcome: Why the trial ended.
        best_score: Its best validation macro-F1; None or NaN: it has none, which counts as 0.
    """
    from optuna.trial import TrialState

    score = 0.0 if best_score is None or math.isnan(best_score) else best_score
    told: dict[Outcome, tuple[TrialState, float | None] | None] = {
        Outcome.STALLED: (TrialState.COMPLETE, score),
        Outcome.EXHAUSTED: (TrialState.COMPLETE, score),
        Outcome.BEHIND: (TrialState.PRUNED, score),
        Outcome.DIVERGED: (TrialState.COMPLETE, 0.0),
        Outcome.FAILED: (TrialState.FAIL, None),
        Outcome.INTERRUPTED: None,
    }
    return told[outcome]


def _describe_best(scores: Sequence[float]) -> str:
    epoch = best_epoch(scores)
    return "no score" if epoch is None else f"best {scores[epoch - 1]:.4f} at epoch {epoch}"


def _add_to_study(study: "Study", bests: Sequence[float]) -> None:
    from optuna.trial import TrialState, create_trial

    values = _to_values(bests)
    study.add_trial(
        create_trial(state=TrialState.COMPLETE, value=bests[-1], intermediate_values=values)
    )


def _to_values(bests: Sequence[float]) -> dict[int, float]:
    return {epoch: best for epoch, best in enumerate(bests, start=1) if not math.isnan(best)}
