"""What a trial's scores show: oscillating, improving, diminishing returns, collapse, converged.

Each rule takes a ``TrialCurve`` and returns a ``Finding``, or None where its curve does not show
it. Its thresholds stand above it, with where they come from.
"""

import math
from dataclasses import dataclass

import numpy as np

from sweeps.analysis.findings import (
    LOWER_RATE,
    Finding,
    TrialCurve,
    Verdict,
    loss_scale,
    score_error,
)
from sweeps.analysis.loss_fall import LossFall
from sweeps.analysis.loss_rules import UNDERFIT_EXPLAINED, ask_for_more_steps
from sweeps.analysis.noise import epoch_noise, epochs_to_best, finite, moving_median
from sweeps.analysis.trends import (
    MIN_EPOCHS,
    Gain,
    allow_for_noise,
    count_from_best,
    fit_slope,
    predict_gain,
)
from sweeps.outcomes import Outcome

#: Standard errors of a score that its swings must exceed, as a standard deviation.
SWING_ERRORS = 1.5
#: Falls of more than a standard error that make a swing: a steep rise has none.
MIN_FALLS = 2
# Of 1000 stable trials one is called oscillating by chance: the normal quantile of 0.999.
_SWING_QUANTILE = 3.0902
#: Standard errors of the slope of the last half that a rise must have.
RISE_ERRORS = 2.0
#: Standard errors of the score that twice the epochs must promise on average.
MATERIAL_ERRORS = 1.0
#: Macro-F1 that they must promise on average, however small the error: less is worth no epoch.
MATERIAL_GAIN = 0.005
#: The same for the low end of the prediction, over the number of epochs: few tell little. Of drawn
#: converged trials of 8 to 10 epochs both call 5 % improving, of those that improve 96 %; half an
#: error on average and a low end above 0, as it was, 16 and 98 % (bench_verdicts.py).
MATERIAL_LOW_ERRORS = 1.0
#: Late gain an epoch over the early one, below which returns have diminished.
DIMINISHED_SHARE = 0.05
#: Epochs that one standard error of the score must cost by then.
DIMINISHED_EPOCHS = 50
#: Epochs at the end in which a class must have had no right prediction.
COLLAPSE_EPOCHS = 5


@dataclass(frozen=True, slots=True)
class Rise:
    """How a score rises at the end of a trial.

    Attributes:
        gain: What twice the epochs would add to the best epoch's score.
        least: What they add to its smooth line at least, with 95 % probability.
        early: Largest rise an epoch, over a tenth of the epochs in the first half.
        late: Rise an epoch in the last half, as a straight line.
        error: Standard error of the score, NaN where the classes' examples are not known.
        epochs: Epochs that it was measured on.
        is_sure: Whether it rises for sure: two standard errors of the slope, and the prediction
            of its smooth line is above 0 with 95 % probability.
    """

    gain: Gain
    least: float
    early: float
    late: float
    error: float
    epochs: int
    is_sure: bool

    @property
    def is_diminished(self) -> bool:
        """Whether it goes on rising, at a small part of the early pace and at a high price."""
        is_slow = self.late < DIMINISHED_SHARE * self.early
        return self.is_sure and is_slow and self.late * DIMINISHED_EPOCHS < self.error

    @property
    def is_promising(self) -> bool:
        """Whether twice the epochs add more on average than the score's error, and 0.005."""
        error = 0.0 if math.isnan(self.error) else self.error
        return self.gain.expected > max(MATERIAL_ERRORS * error, MATERIAL_GAIN)

    @property
    def is_unclear(self) -> bool:
        """Whether it is promising and not sure: noise hides what it does."""
        # Without an error (of a running trial beside none that ended) nothing is hidden by it.
        is_hidden = self.is_promising and not math.isnan(self.error)
        return is_hidden and not self.is_material and not self.is_diminished

    @property
    def is_material(self) -> bool:
        """Whether it goes on rising, by more than the score's error in twice the epochs."""
        error = 0.0 if math.isnan(self.error) else self.error
        is_enough = self.is_promising and self.least > MATERIAL_LOW_ERRORS * error / self.epochs
        return self.is_sure and not self.is_diminished and is_enough


def measure_rise(curve: TrialCurve) -> Rise | None:
    """Return how a score rises at the end; None with fewer than 8 epochs that have one."""
    scores = finite(curve.scores)
    line = predict_gain(scores)
    if line is None:
        return None
    gain = count_from_best(line, scores)
    half = scores[-max(6, len(scores) // 2) :]
    slope, end = fit_slope(half), fit_slope(scores[-max(5, len(scores) // 4) :])
    is_sure = slope.errors_from_zero > RISE_ERRORS and line.low > 0
    # A rise that has turned into a fall is no rise, however long it was.
    is_sure = is_sure and end.errors_from_zero > -RISE_ERRORS
    smooth = moving_median(scores)
    width = max(3, len(scores) // 10)
    first = smooth[: max(len(scores) // 2, width + 1)]
    early = float((first[width:] - first[:-width]).max()) / width
    return Rise(
        gain=allow_for_noise(gain, scores),
        least=gain.low,
        early=early,
        late=slope.per_epoch,
        error=score_error(curve),
        epochs=len(scores),
        is_sure=is_sure,
    )


def find_oscillation(curve: TrialCurve, fall: LossFall | None = None) -> Finding | None:
    """Find swings that are larger than the validation set's own noise.

    Definition: over the last half of the epochs, at least 6, the standard deviation of the score
    around its parabola exceeds 1.5 standard errors of the score, and what chance gives one stable
    trial in 1000 (the chi-square quantile, by Wilson and Hilferty 1931), and it falls at least
    twice from one epoch to the next by more than one such error. The error comes from the
    examples of each class (``macro_f1_error_from_f1``), so a class of 30 examples may swing as 30
    examples do. It is an upper bound of a stable trial's swings: most examples keep their
    prediction. Without the examples of each class nothing is said. Large steps swing around what
    small ones reach (Smith et al. 2018, "Don't decay the learning rate, increase the batch size"),
    and the losses swing with them: where both fall steadily nothing is said.
    """
    if fall is not None and fall.is_steady:
        return None
    error = score_error(curve)
    scores = finite(curve.scores)
    if math.isnan(error) or len(scores) < 6:
        return None
    half = scores[-max(6, len(scores) // 2) :]
    epochs = np.linspace(-1, 1, len(half))
    residuals = half - np.polyval(np.polyfit(epochs, half, 2), epochs)
    free = len(half) - 3
    swing = math.sqrt(float((residuals**2).sum()) / free)
    by_chance = (1 - 2 / (9 * free) + _SWING_QUANTILE * math.sqrt(2 / (9 * free))) ** 1.5
    falls = int((np.diff(half) < -error).sum())
    if swing <= max(SWING_ERRORS, by_chance) * error or falls < MIN_FALLS:
        return None
    low, high = float(half.min()), float(half.max())
    evidence = (
        f"the score swings between {low:.3f} and {high:.3f} in the last {len(half)} epochs, "
        f"standard deviation {swing:.3f}; the validation set's own is {error:.3f}"
    )
    advice = (
        f"{LOWER_RATE}, let a schedule lower it, or raise batch_size; the best epoch of "
        "such a curve is partly luck."
    )
    numbers = {"swing": swing, "sampling_error": error, "low": low, "high": high}
    return Finding(Verdict.OSCILLATING, evidence, advice, numbers)


def find_improvement(curve: TrialCurve, rise: Rise | None) -> Finding | None:
    """Find a score that more epochs would raise.

    Definition: the last half rises (two standard errors of its slope), twice the epochs add more
    than a standard error of the score on average (``predict_gain``), and with 95 % probability
    more than a part of one, an eighth at 8 epochs and the less the more there are; on average it
    is 0.005 or more; and returns have not diminished. Less could not be told from luck: most
    smooth lines that end flat still rise a little in what a short trial has for its last half.
    """
    if rise is None or not rise.is_material:
        return None
    gain = rise.gain
    evidence = (
        f"the score rises by {rise.late:.2g} an epoch; twice the epochs would add "
        f"{gain.expected:.3f} ({gain.low:.3f} to {gain.high:.3f})"
    )
    return ask_for_more_steps(curve, evidence, _rise_numbers(rise))


def find_diminishing_returns(curve: TrialCurve, rise: Rise | None) -> Finding | None:
    """Find a score that still rises, at a price that is hardly worth paying.

    Definition: it rises for sure, the gain an epoch in the last half is below a twentieth of the
    early one, and a standard error of the score costs more than 50 epochs. Learning curves are
    power laws (Hestness et al. 2017; Viering and Loog 2023): the second half of the epochs never
    gives what the first did, so the price decides and not the slope.
    """
    if rise is None or not rise.is_diminished:
        return None
    evidence = (
        f"the score rises by {rise.late:.2g} an epoch, {rise.late / rise.early:.1%} of the early "
        f"{rise.early:.2g}: a standard error ({rise.error:.3f}) costs "
        f"{rise.error / rise.late:.0f} epochs; twice the epochs would add "
        f"{rise.gain.expected:.3f} ({rise.gain.low:.3f} to {rise.gain.high:.3f})"
    )
    advice = "Stop sooner; lower the rate on a plateau (schedule) or enlarge the model instead."
    return Finding(Verdict.DIMINISHING_RETURNS, evidence, advice, _rise_numbers(rise))


def find_collapse(curve: TrialCurve) -> Finding | None:
    """Find classes without one right prediction in the last 5 epochs.

    Definition: an F1 of exactly 0 in each of them, for a class that has validation examples
    (``zero_division=0``). It takes 1 / C off the best macro-F1 that can be had. Rare classes are
    given up where errors on them are cheap (Japkowicz and Stephen 2002, "The class imbalance
    problem"); class weights are the usual answer.
    """
    tail = curve.class_f1s[-COLLAPSE_EPOCHS:]
    if len(tail) < COLLAPSE_EPOCHS:
        return None
    lost = np.flatnonzero((np.nan_to_num(np.array(tail)) == 0).all(axis=0)).tolist()
    lost = [each for each in lost if not curve.supports or curve.supports[each] > 0]
    if not lost:
        return None
    names = [
        curve.name_class(each)
        + (f" ({curve.supports[each]} validation examples)" if curve.supports else "")
        for each in lost
    ]
    evidence = f"in the last {COLLAPSE_EPOCHS} epochs no example was rightly called "
    evidence += " or ".join(names)
    scale = loss_scale(curve)
    explained = math.nan if scale is None else scale.explained(curve.train_losses[-1])
    advice = 'Try class_weights = "balanced"; if that fails, train longer or at another rate.'
    option: str | None = "--set space.class_weights=balanced"
    if explained < UNDERFIT_EXPLAINED:
        advice = (
            "Train longer or at another rate first: it knows hardly more than the shares of the "
            'classes. Then try class_weights = "balanced".'
        )
        option = None
    numbers = {"num_classes_lost": float(len(lost))}
    classes = tuple(curve.name_class(each) for each in lost)
    return Finding(
        Verdict.CLASS_COLLAPSE, evidence, advice, numbers, classes=classes, option=option
    )


def find_convergence(curve: TrialCurve, rise: Rise | None) -> Finding | None:
    """Find a score that is flat to within the noise.

    Definition: at least 8 epochs, neither still improving nor at diminishing returns, and twice
    the epochs promise on average no more than a standard error of the score, or 0.005. It is a
    verdict only where no other is found; ``judge`` sees to that.
    """
    if rise is None or rise.is_material or rise.is_diminished or rise.is_unclear:
        return None
    evidence = _describe_flat(curve, rise)
    advice = _advise_converged(curve, rise)
    return Finding(Verdict.CONVERGED, evidence, advice, _rise_numbers(rise))


def _describe_flat(curve: TrialCurve, rise: Rise) -> str:
    n = curve.last(1 / 3, 3)
    tail = finite(curve.scores[-n:])
    evidence = (
        f"the score is {tail.mean():.3f} in the last {n} epochs" if len(tail) else "no score"
    )
    noise = epoch_noise(curve.scores)
    evidence += (
        f", with noise of {noise:.3f}; twice the epochs would add {rise.gain.expected:.3f} "
        f"({rise.gain.low:.3f} to {rise.gain.high:.3f})"
    )
    return evidence


def _advise_converged(curve: TrialCurve, rise: Rise) -> str:
    """Return what to do about a flat score: fewer epochs only where more promise nothing."""
    error = 0.0 if math.isnan(rise.error) else rise.error
    if rise.is_sure or rise.gain.expected > MATERIAL_GAIN:
        return (
            "It may rise a little more, on average by less than luck gives a score "
            f"({error:.3f}): spend the time on more trials or on other models."
        )
    needed = epochs_to_best(curve.scores)
    if needed is None or needed >= curve.epochs:
        return "Train no longer; spend the time on more trials or on other models."
    return (
        f"Fewer epochs do: it was within the noise of its best by epoch {needed}. Spend the time "
        "on more trials or on other models."
    )


def find_cut_short(curve: TrialCurve) -> Finding | None:
    """Find a trial that left its place to better ones before its 8th epoch.

    Its few epochs were compared with those of others, and show no end of it.
    """
    is_cut = curve.outcome in (Outcome.PAUSED.value, Outcome.BEHIND.value)
    if not is_cut or curve.epochs >= MIN_EPOCHS:
        return None
    how = "is paused" if curve.outcome == Outcome.PAUSED.value else "was ended"
    epochs = f"{curve.epochs} epoch{'' if curve.epochs == 1 else 's'}"
    evidence = f"it {how} behind others after {epochs}, and a trend takes {MIN_EPOCHS}"
    advice = "Others were better at the same epoch; what it would have come to is not known."
    return Finding(Verdict.UNCLEAR, evidence, advice, {"epochs": float(curve.epochs)})


def find_too_short(curve: TrialCurve, rise: Rise | None) -> Finding | None:
    """Find a trial whose trend cannot be told: fewer than 8 epochs, or noise that hides it.

    Definition of the latter: twice the epochs add more than a standard error of the score, and
    0.005, on average, and it is not sure that the score rises at all.
    """
    if curve.epochs < MIN_EPOCHS:
        epochs = f"{curve.epochs} epoch{'' if curve.epochs == 1 else 's'}"
        evidence = f"it has {epochs}, and a trend takes {MIN_EPOCHS}"
        advice = "Read it beside others at the same epoch; a longer trial tells more."
        return Finding(Verdict.TOO_SHORT, evidence, advice, {"epochs": float(curve.epochs)})
    if rise is None or not rise.is_unclear:
        return None
    # What ended it is what a longer one would have to be spared.
    longer, option = {
        Outcome.STALLED.value: ("one with more patience would tell", None),
        Outcome.BEHIND.value: ("others were better, or the budget ended", None),
    }.get(
        curve.outcome or "",
        (
            f"one with max_epochs = {2 * curve.epochs} would tell",
            f"--set max_epochs={2 * curve.epochs}",
        ),
    )
    advice = f"Its noise hides whether it still rises; {longer}."
    numbers = _rise_numbers(rise) | {"epochs": float(curve.epochs)}
    seen = _describe_flat(curve, rise)
    return Finding(Verdict.TOO_SHORT, seen, advice, numbers, option=option)


def _rise_numbers(rise: Rise) -> dict[str, float]:
    return {
        "predicted_gain": rise.gain.expected,
        "predicted_gain_low": rise.gain.low,
        "predicted_gain_high": rise.gain.high,
        "gain_per_epoch": rise.late,
        "early_gain_per_epoch": rise.early,
        "sampling_error": rise.error,
    }
