"""The audit of stopping: a random share of trials runs on where it would have been stopped.

What stopping costs cannot be seen in trials that it stopped. Knows curves and decisions; knows
neither lanes nor how it is stored.
"""

from collections.abc import Sequence
from dataclasses import replace

from storage.records import HeldStop
from sweeps.config.pruner import PrunerConfig
from sweeps.curves import best_epoch
from sweeps.outcomes import Outcome
from sweeps.running.seeds import audit_draw
from sweeps.running.stopping import StopRule

#: Ends that the audit holds back; a diverged or failed trial has no epochs worth having.
AUDITED = frozenset({Outcome.STALLED, Outcome.BEHIND})


def is_audited(seed: int, trial: int, *, share: float) -> bool:
    """Return whether a trial is one of those that run on.

    A pure function of the study's seed and the trial's number, so a study that is run again
    audits the same trials, and a larger share audits those of a smaller one too.

    Args:
        seed: Seed of the study.
        trial: Number of the trial.
        share: Share of the trials to audit, in [0, 1); 0: none.
    """
    return audit_draw(seed, trial) < share


def find_held_stop(
    trial: int, outcome: Outcome, scores: Sequence[float], *, max_epochs: int
) -> HeldStop | None:
    """Return what is held back of a stop; None: it stands.

    Args:
        trial: Number of the trial.
        outcome: How it would stop at its last epoch; ``behind``: it would be paused, or end.
        scores: Validation score per epoch so far; epoch 1 first.
        max_epochs: The study's; a trial that stalls there has no further epoch.
    """
    if outcome not in AUDITED or len(scores) >= max_epochs:
        return None
    best = best_epoch(scores)
    score = None if best is None else scores[best - 1]
    return HeldStop(trial, outcome.value, len(scores), score)


def make_audit_rule(rule: StopRule) -> StopRule:
    """Return the rule of a trial whose end was held back: only divergence and the last epoch."""
    never = rule.max_epochs + 1
    return replace(rule, patience=never, prune_patience=never, pruner=PrunerConfig(name="none"))
