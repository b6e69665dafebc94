"""Judges trials at the end of each epoch: scores, what ends or pauses a trial, and the audit."""

import math
from collections.abc import Sequence

from objectives.api import EpochReport
from objectives.metrics import Metric
from sweeps.config.settings import SweepConfig
from sweeps.outcomes import PEER_OUTCOMES, Outcome
from sweeps.running.audit import find_held_stop, is_audited, make_audit_rule
from sweeps.running.rungs import Rungs
from sweeps.running.stopping import Decision, Peers, StopRule, describe_best
from sweeps.running.trial import Trial


def make_rungs(config: SweepConfig, num_validation: int) -> Rungs | None:
    """Return the empty rungs of a sweep whose pruner is ``halving``, else None."""
    pruner = config.pruner
    if pruner.name != "halving":
        return None
    return Rungs(
        pruner.min_epochs,
        pruner.reduction_factor,
        config.max_epochs,
        num_validation=num_validation,
    )


class Judge:
    """The rules of a study, and the trials that others are compared with. For one thread.

    Args:
        config: The sweep's settings.
        metric: The study's score.
        num_classes: Classes of the data.
        num_validation: Examples that scores are taken over.
    """

    def __init__(
        self, config: SweepConfig, metric: Metric, num_classes: int, num_validation: int
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
        )
        self._audit_rule = make_audit_rule(self._rule)
        self.rungs = make_rungs(config, num_validation)
        """The trials by their rungs; None: the pruner has none."""

    def score(self, report: EpochReport) -> float:
        """Return the score of an epoch; NaN where the loss is none.

        Predictions of a model whose loss is not a number are class 0 by accident of argmax.
        """
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
        self._compare(trial.number, decision.outcome, curve.scores, is_held=trial.held is not None)
        return None if self.hold_back(trial, decision.outcome) else decision

    def pause(self, trials: Sequence[Trial], *, is_first_held: bool = False) -> list[Trial]:
        """Return which trials of an epoch that was trained together are to pause.

        Args:
            trials: All of them, those that end at it included: the others are compared with them.
            is_first_held: Whether all pause at the first rung.
        """
        if self.rungs is None:
            return []
        judged = {each.number: each for each in trials if each.held is None}
        scores = {number: each.curve.scores for number, each in judged.items()}
        paused = []
        for number in self.rungs.judge(scores, is_first_held=is_first_held):
            has_ended = judged[number].ending is not None or judged[number].has_ended
            # Who only waits for others is not stopped: ``promote`` asks again once they are there.
            waits = is_first_held and len(scores[number]) == self._config.pruner.min_epochs
            if has_ended or (not waits and self.hold_back(judged[number], Outcome.BEHIND)):
                self.rungs.leave(number)
            else:
                paused.append(judged[number])
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
            self._compare(trial.number, Outcome(held.would_stop_outcome), scores, is_held=False)
        elif trial.outcome is not None and trial.has_ended:
            self._compare(trial.number, trial.outcome, scores, is_held=False)
        if self.rungs is not None:
            # An audited one goes on, whatever its rung says.
            is_paused = trial.outcome is Outcome.PAUSED and held is None
            self.rungs.restore(trial.number, scores, is_paused=is_paused)

    def _compare(
        self, number: int, outcome: Outcome, scores: Sequence[float], *, is_held: bool
    ) -> None:
        if outcome in PEER_OUTCOMES and not is_held:  # else compared where it would have ended
            self._peers.add(number, scores)

    def hold_back(self, trial: Trial, outcome: Outcome) -> bool:
        """Return whether the audit lets a trial run on that would stop at its last epoch."""
        config = self._config
        if not is_audited(config.seed, trial.number, share=config.audit):
            return False
        held = find_held_stop(
            trial.number, outcome, trial.curve.scores, max_epochs=config.max_epochs
        )
        trial.held = held or trial.held
        return held is not None
