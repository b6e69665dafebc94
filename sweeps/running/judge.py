"""Judges trials at the end of each epoch: scores, the rules that end a trial, and the audit."""

import math
from collections.abc import Sequence

from objectives.api import EpochReport
from objectives.metrics import Metric
from sweeps.config import SweepConfig
from sweeps.outcomes import PEER_OUTCOMES, Outcome
from sweeps.running.audit import find_held_stop, is_audited, make_audit_rule
from sweeps.running.stopping import Decision, Peers, StopRule
from sweeps.running.trial import Trial


class Judge:
    """The rules of a study, and the trials that others are compared with. For one thread.

    Args:
        config: The sweep's settings.
        metric: The study's score.
        num_classes: Classes of the data.
    """

    def __init__(self, config: SweepConfig, metric: Metric, num_classes: int) -> None:
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

    def score(self, report: EpochReport) -> float:
        """Return the score of an epoch; NaN where the loss is none.

        Predictions of a model whose loss is not a number are class 0 by accident of argmax.
        """
        return self._metric.score(report.counts) if math.isfinite(report.val_loss) else math.nan

    def decide(self, trial: Trial) -> Decision | None:
        """Return why a trial ends at its last epoch, or None if it goes on."""
        curve = trial.curve
        rule = self._rule if trial.held is None else self._audit_rule
        decision = rule.decide(
            curve.train_losses, curve.val_losses, scores=curve.scores, peers=self._peers
        )
        if decision is None:
            return None
        self._compare(trial.number, decision.outcome, curve.scores, is_held=trial.held is not None)
        return self._hold_back(trial, decision)

    def remember(self, trial: Trial, outcome: Outcome, num_epochs: int) -> None:
        """Compare others with a trial that ended in an earlier run.

        Args:
            trial: The trial.
            outcome: Why it ended, or would have ended without the audit: the audit must not
                decide over other trials.
            num_epochs: Epochs that it had by then.
        """
        self._compare(trial.number, outcome, trial.curve.scores[:num_epochs], is_held=False)

    def _compare(
        self, number: int, outcome: Outcome, scores: Sequence[float], *, is_held: bool
    ) -> None:
        if is_held:
            return  # compared already, at the epoch at which it would have ended
        if outcome in PEER_OUTCOMES:
            self._peers.add(number, scores)
        elif outcome is Outcome.BEHIND:
            self._peers.add_behind(number, scores)

    def _hold_back(self, trial: Trial, decision: Decision) -> Decision | None:
        """Return the decision, or None where the audit lets the trial run on."""
        config = self._config
        if not is_audited(config.seed, trial.number, share=config.audit):
            return decision
        held = find_held_stop(decision, trial.curve.scores, max_epochs=config.max_epochs)
        if held is None:
            return decision
        trial.held = held
        return None
