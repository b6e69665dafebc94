"""How a trial stands in Optuna's copy."""

from collections.abc import Sequence

from storage.optuna_mirror import Ending, MirrorTrial
from sweeps.curves import best_epoch
from sweeps.outcomes import Outcome
from sweeps.running.trial import Trial


def to_mirror(trial: Trial) -> MirrorTrial:
    """Return a trial as Optuna's copy has it."""
    sampled = trial.sampled
    return MirrorTrial(trial.number, dict(sampled.params), dict(sampled.distributions))


def make_ending(outcome: Outcome, value: float | None, scores: Sequence[float]) -> Ending:
    """Return how a trial's end stands in Optuna's copy.

    Stalled and exhausted trials, and those cut short, are COMPLETE with their best epoch's score,
    diverged ones too with the lowest score; trials behind are PRUNED.

    Args:
        outcome: Why it ended.
        value: What Optuna is told.
        scores: Score per epoch; epoch 1 first.
    """
    from optuna.trial import TrialState

    states = {Outcome.BEHIND: TrialState.PRUNED, Outcome.FAILED: TrialState.FAIL}
    best = best_epoch(scores)
    return Ending(
        states.get(outcome, TrialState.COMPLETE),
        value,
        len(scores),
        None if best is None else scores[best - 1],
    )
