"""What a trial shows beside the others of its study: stuck, where they learn.

Its own curve alone is flat, and would be called converged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sweeps.analysis.findings import (
    LOWER_RATE,
    RAISE_RATE,
    Finding,
    TrialCurve,
    Verdict,
    describe_explained,
    describe_fit,
    loss_scale,
    score_error,
)
from sweeps.analysis.loss_fall import FALL_ERRORS, FLAT_SHARE, measure_fall
from sweeps.analysis.loss_rules import IN_SMALL_STEPS, SMALL_STEPS, WORSE_FACTOR
from sweeps.analysis.noise import finite
from sweeps.analysis.trends import fit_slope

#: Standard errors of the score by which others must be better.
STUCK_ERRORS = 5.0
#: Share of what the others explain of the training loss, below which a trial is stuck.
STUCK_SHARE = 0.5
#: Fewest others that learn.
MIN_LEARNERS = 2
#: Share of the loss of guessing that they explain at least.
LEARNED_EXPLAINED = 0.05
#: Times the rate of those that learn, above or below which the rate is to blame.
HIGH_RATE = 3.0


@dataclass(frozen=True, slots=True)
class Sibling:
    """A trial as others of its study are compared with it.

    Attributes:
        trial: Number of the trial.
        best: Its best score.
        explained: Share of the loss of guessing that its training loss explains at the end.
        params: Its hyperparameters, as stored.
    """

    trial: int
    best: float
    explained: float
    params: Mapping[str, Any]


def describe_sibling(curve: TrialCurve, params: Mapping[str, Any]) -> Sibling | None:
    """Return a trial as others are compared with it; None without a score or a sound loss."""
    scale, scores, losses = loss_scale(curve), finite(curve.scores), finite(curve.train_losses)
    if scale is None or not len(scores) or len(losses) < curve.epochs:
        return None
    end = median(losses[-3:].tolist())
    return Sibling(curve.trial, float(scores.max()), scale.explained(end), params)


def find_stuck(curve: TrialCurve, own: Sibling, siblings: Sequence[Sibling]) -> Finding | None:
    """Find a flat trial that has hardly learned what others of its study learn.

    Definition: at least two other trials that have learned (they explain a twentieth or more of
    the loss of guessing) have a best score that is higher by more than 5
    standard errors; the training loss explains less than half of what theirs do (the median of
    McFadden's pseudo R2, which allows for class weights and label smoothing); and it does not
    fall: as many epochs again would take off less than a tenth of the loss's scale, or its slope
    is within two standard errors of 0. It is ``rate too high`` if its learning rate is more than
    3 times the median of those with its optimizer that learn, or if its loss is 1.2 times that of
    a uniform guess and does not fall steadily; else ``underfit``. Too large a rate may throw
    weights into a flat region in the first epoch, after which the loss never falls (Pascanu,
    Mikolov and Bengio 2013, on exploding gradients).

    Args:
        curve: The trial.
        own: The same, as siblings are.
        siblings: Other trials of the study whose rate was neither too high nor too low.
    """
    error, scale = score_error(curve), loss_scale(curve)
    if scale is None or curve.epochs < 6:
        return None
    learners = [
        each
        for each in siblings
        if each.best - own.best > STUCK_ERRORS * error and each.explained >= LEARNED_EXPLAINED
    ]
    if len(learners) < MIN_LEARNERS:
        return None
    theirs = median(each.explained for each in learners)
    slope = fit_slope(curve.train_losses[-curve.last(1 / 2, 5) :])
    further = -slope.per_epoch * curve.epochs / (scale.guessing - scale.perfect)
    is_falling = further > FLAT_SHARE and slope.errors_from_zero < -FALL_ERRORS
    if own.explained >= STUCK_SHARE * theirs or is_falling:
        return None
    best = max(each.best for each in learners)
    end = median(curve.train_losses[-3:])
    fall = measure_fall(curve)
    is_steady = fall is not None and fall.is_steady
    evidence = (
        f"{describe_fit(end, scale)}, and {IN_SMALL_STEPS if is_steady else 'is nearly flat'}; "
        f"that of {len(learners)} better trials is {describe_explained(theirs)}; its best "
        f"the score is {own.best:.3f}, theirs up to {best:.3f}"
    )
    numbers = {"explained": own.explained, "explained_by_others": theirs, "best_of_others": best}
    rate = _find_other_rate(own, learners)
    if rate is not None and own.params["learning_rate"] > rate:
        advice = (
            f"{LOWER_RATE}: those with this optimizer that learn have {rate:.3g} in the middle."
        )
        return Finding(
            Verdict.RATE_TOO_HIGH, evidence, advice, {**numbers, "rate_of_others": rate}
        )
    if end > WORSE_FACTOR * scale.uniform and not is_steady:
        advice = (
            f"{LOWER_RATE}, by 10 times: its loss is above that of a model that knows "
            "nothing, as only too large steps make it."
        )
        return Finding(Verdict.RATE_TOO_HIGH, evidence, advice, numbers)
    advice = "Raise or lower the learning rate, or enlarge the model: the data can be learned."
    if is_steady:
        advice = SMALL_STEPS
    elif rate is not None:
        advice = (
            f"{RAISE_RATE}: those with this optimizer that learn have {rate:.3g} in the middle."
        )
    return Finding(Verdict.UNDERFIT, evidence, advice, numbers)


def _find_other_rate(own: Sibling, learners: Sequence[Sibling]) -> float | None:
    """Return the median rate of those with its optimizer that learn; None if its own is near."""
    optimizer, rate = own.params.get("optimizer"), own.params.get("learning_rate")
    rates = [
        float(each.params["learning_rate"])
        for each in learners
        if each.params.get("optimizer") == optimizer and "learning_rate" in each.params
    ]
    if rate is None or not rates:
        return None
    middle = median(rates)
    is_near = middle <= HIGH_RATE * rate and rate <= HIGH_RATE * middle
    return None if is_near else middle
