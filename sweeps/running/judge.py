"""Judges trials at the end of each epoch: what ends or pauses them, and whom the audit spares.

The audit lets a random share of trials run on where they would have been stopped: what stopping
costs cannot be seen in trials that it stopped.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from objectives.api import EpochReport
from objectives.metrics import Metric
from storage.records import HeldStop
from sweeps.config.pruner import PrunerConfig
from sweeps.config.settings import SweepConfig
from sweeps.outcomes import PEER_OUTCOMES, Outcome
from sweeps.running.rungs import Rungs
from sweeps.running.seeds import audit_draw
from sweeps.running.stopping import Decision, Peers, StopRule, describe_best
from sweeps.running.trial import Trial

#: Ends that the audit holds back; a diverged or failed trial has no epochs worth having.
AUDITED = frozenset({Outcome.STALLED, Outcome.BEHIND})


def is_audited(seed: int, trial: int, *, share: float) -> bool:
    """Return whether a trial is one of those that run on.

    A function of the study's seed and the trial's number, so that a study that is run again audits
    the same trials, and a larger share audits those of a smaller one too.
    """
    return audit_draw(seed, trial) < share


def waits_at_first(config: SweepConfig) -> bool:
    """Return whether trials wait for each other at the first rung; not against the clock."""
    return config.max_minutes is None


class Judge:
    """The rules of a study, and the trials that others are compared with. For one thread.

    ``num_validation`` examples, if they are known, give the standard error of a score. A loss that
    is NaN was not told where losses may be lacking.
    """

    def __init__(
        self,
        config: SweepConfig,
        metric: Metric,
        num_classes: int,
        num_validation: int | None,
        *,
        may_lack_losses: bool = False,
    ) -> None:
        self._config = config
        self._metric = metric
        self._peers = Peers(config.max_epochs)
        self._rule = StopRule(
            max_epochs=config.max_epochs,
            patience=config.patience,
            prune_patience=config.prune_patience,
            min_delta=config.min_delta,
            num_classes=num_classes,
            pruner=config.pruner,
            label=metric.label,
            may_lack_losses=may_lack_losses,
        )
        never, no_pruner = config.max_epochs + 1, PrunerConfig(name="none")
        # Of a trial whose end was held back only divergence and the last epoch are the end.
        self._audit_rule = replace(
            self._rule, patience=never, prune_patience=never, pruner=no_pruner
        )
        self.rungs: Rungs | None = None
        """The trials by their rungs; None: the pruner has none."""
        self.spared: set[int] = set()
        """Audited trials that wait at the first rung, and go on from it however they compare."""
        if config.pruner.name == "halving":
            self.rungs = Rungs(
                config.pruner.min_epochs,
                config.pruner.reduction_factor,
                config.max_epochs,
                num_validation=num_validation,
                is_first_exact=waits_at_first(config),
            )

    def score(self, report: EpochReport) -> float:
        """Return the score of an epoch; NaN where the loss is none.

        Predictions of a model whose loss is not a number are class 0 by accident of argmax.
        """
        if report.score is not None:  # an own loop's, whose loss may not be told
            return math.nan if math.isinf(report.val_loss) else report.score
        return self._metric.score(report.counts) if math.isfinite(report.val_loss) else math.nan

    def decide(self, trial: Trial) -> Decision | None:
        """Return why a trial ends at its last epoch, or None if it does not."""
        curve = trial.curve
        rule = self._rule if trial.held is None else self._audit_rule
        decision = rule.decide(
            curve.train_losses, curve.val_losses, scores=curve.scores, peers=self._peers
        )
        if decision is None:
            return None
        if trial.held is None:  # others are compared with it as it would have ended
            self._add_peer(trial.number, decision.outcome, curve.scores)
        return None if self.hold_back(trial, decision.outcome) else decision

    def pause(self, trials: Sequence[Trial], *, is_first_held: bool = False) -> list[Trial]:
        """Return which trials of an epoch that was trained together are to pause.

        ``trials`` are all of them, those that end at it included: the others are compared with
        them. While the first rung is held, all pause there.
        """
        if self.rungs is None:
            return []
        judged = {each.number: each for each in trials if each.held is None}
        scores = {number: each.curve.scores for number, each in judged.items()}
        paused = []
        for number in self.rungs.judge(scores, is_first_held=is_first_held):
            trial = judged[number]
            waits = is_first_held and trial.epochs == self._config.pruner.min_epochs
            if trial.ending is not None or trial.has_ended:
                self.rungs.leave(number)
            elif waits:
                # It is not stopped: it is compared once the others have come to its rung.
                paused.append(trial)
                if self._is_audited(trial):
                    self.spared.add(number)
            elif self.hold_back(trial, Outcome.BEHIND):
                self.rungs.leave(number)
            else:
                paused.append(trial)
        return paused

    def explain_pause(self, trial: Trial) -> str:
        """Return why a trial pauses, for people."""
        assert self.rungs is not None, "a trial pauses at a rung"
        return f"{self.rungs.lag(trial.number)}; {describe_best(trial.curve.scores)}"

    def remember(self, trial: Trial) -> None:
        """Take in a trial of an earlier run.

        Others are compared with an audited one as though it had ended where it would have: the
        audit must not decide over them.
        """
        held, scores = trial.held, trial.curve.scores
        if held is not None:
            scores = scores[: held.would_stop_epoch]
            self._add_peer(trial.number, Outcome(held.would_stop_outcome), scores)
        elif trial.outcome is not None and trial.has_ended:
            self._add_peer(trial.number, trial.outcome, scores)
        if self.rungs is not None:
            # An audited one goes on, whatever its rung says.
            is_paused = trial.outcome is Outcome.PAUSED and held is None
            self.rungs.restore(trial.number, scores, is_paused=is_paused)
            is_first = trial.epochs == self._config.pruner.min_epochs
            if is_paused and is_first and self._is_audited(trial):
                self.spared.add(trial.number)

    def hold_back(self, trial: Trial, outcome: Outcome) -> bool:
        """Return whether the audit lets a trial run on that would stop at its last epoch.

        The trial remembers the end that is held back; ``behind``: it would pause, or end.
        """
        has_epochs = trial.epochs < self._config.max_epochs
        if outcome not in AUDITED or not has_epochs or not self._is_audited(trial):
            return False
        best = trial.curve.best_score
        trial.held = HeldStop(trial.number, outcome.value, trial.epochs, best)
        return True

    def _is_audited(self, trial: Trial) -> bool:
        return is_audited(self._config.seed, trial.number, share=self._config.audit)

    def _add_peer(self, number: int, outcome: Outcome, scores: Sequence[float]) -> None:
        if outcome in PEER_OUTCOMES:
            self._peers.add(number, scores)
