"""Learning rates far from the usual ones of their optimizer, where a trial learns nothing.

Its own curve may be flat either way; what is usual tells which.
"""

from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from search_spaces.presets import OWN_SPACE
from sweeps.analysis.findings import (
    LOWER_RATE,
    RAISE_RATE,
    Finding,
    TrialCurve,
    Verdict,
    describe_fit,
    loss_scale,
)
from sweeps.analysis.loss_rules import UNDERFIT_EXPLAINED

if TYPE_CHECKING:
    from sweeps.analysis.sibling_rules import Sibling

#: Times the highest usual rate, above which a rate is to blame for what was not learned.
FAR = 3.0
#: Fewest epochs that anything is said of.
MIN_EPOCHS = 4


def usual_rates(optimizer: str) -> tuple[float, float]:
    """Return the lowest and the highest learning rate of an optimizer's usual range.

    That of the space for objectives of one's own (``presets.OWN_SPACE``).
    """
    usual = OWN_SPACE["learning_rate"]
    own = usual["by_optimizer"].get(optimizer, usual)
    return own["low"], own["high"]


def find_unusual_rate(curve: TrialCurve, own: "Sibling") -> Finding | None:
    """Find a trial that has learned nothing at a rate far above the usual ones.

    Definition: at least 4 epochs; McFadden's pseudo R2 of the training loss is below 0.2 at the
    end, as in ``find_underfit``; and the learning rate is more than 3 times the highest usual one
    of its optimizer. Such steps throw the weights into a flat region in the first epoch, and the
    loss then stays (Pascanu, Mikolov and Bengio 2013, on exploding gradients), or comes down in
    small steps from where it was thrown, as if the rate were too low.

    Args:
        curve: The trial.
        own: The same, as siblings are.
    """
    scale, rate = loss_scale(curve), own.params.get("learning_rate")
    if scale is None or rate is None or curve.epochs < MIN_EPOCHS:
        return None
    optimizer = str(own.params.get("optimizer"))
    low, high = usual_rates(optimizer)
    if own.explained >= UNDERFIT_EXPLAINED or rate <= FAR * high:
        return None
    end = median(curve.train_losses[-3:])
    evidence = (
        f"{describe_fit(end, scale)}; its learning rate, {rate:.3g}, is far above the usual ones "
        f"of {optimizer} ({low:g} to {high:g})"
    )
    advice = f"{LOWER_RATE}: the usual ones of {optimizer} are {low:g} to {high:g}."
    numbers = {"explained": own.explained, "train_loss": end, "rate": rate, "usual_high": high}
    return Finding(Verdict.RATE_TOO_HIGH, evidence, advice, numbers)


def name_usual_rates(finding: Finding, own: "Sibling") -> Finding:
    """Return the finding; its advice to raise a rate below the usual ones names these."""
    optimizer, rate = str(own.params.get("optimizer")), own.params.get("learning_rate")
    low, high = usual_rates(optimizer)
    if rate is None or rate >= low or not finding.advice.startswith(RAISE_RATE):
        return finding
    advice = (
        f"{RAISE_RATE}: the usual ones of {optimizer} are {low:g} to {high:g}, its own is "
        f"{rate:.3g}; it learns, and too little an epoch."
    )
    return replace(finding, advice=advice, option=None)
