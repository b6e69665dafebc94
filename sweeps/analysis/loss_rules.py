"""What a trial's losses show: diverged, rate too high, overfit, underfit.

Each rule takes a ``TrialCurve`` and returns a ``Finding``, or None where its curve does not show
it. Its thresholds stand above it, with where they come from.
"""

import math
from statistics import median

import numpy as np

from sweeps.analysis.findings import Finding, TrialCurve, Verdict, loss_scale, score_error
from sweeps.analysis.noise import epoch_noise, finite, moving_median
from sweeps.analysis.trends import fit_slope
from sweeps.stopping import CHANCE_EPOCHS, CHANCE_FACTOR, Outcome

#: Share of what was learned that must be lost again.
RISE_SHARE = 0.1
#: Times the loss's noise between epochs that the lowest of the last epochs must be above it.
RISE_NOISES = 2.0
#: Prechelt's generalization loss: validation loss over its smallest, minus 1.
OVERFIT_RISE = 0.05
#: Share of the loss of guessing that it must rise by: 0.002 to 0.006 nats is no overfitting.
OVERFIT_SHARE = 0.02
#: Epochs after the smallest validation loss before anything is said of it.
OVERFIT_EPOCHS = 3
#: Times the loss's noise between epochs that its rise must be.
OVERFIT_NOISES = 3.0
#: Standard errors by which a score must fall to be called falling.
FALL_ERRORS = 2.0
#: Pseudo R2 of the training loss below which a model has not fitted its data.
UNDERFIT_EXPLAINED = 0.2
#: Share of the loss's scale that as many more epochs may still take off, if it is flat.
FLAT_SHARE = 0.1


def find_divergence(curve: TrialCurve) -> Finding | None:
    """Find a loss that is not a number, or far above chance at the end.

    Definition: the last training or validation loss is NaN or infinite (the database has null for
    both), or the training loss was above 3 times ln(C) in the last 3 epochs; the limits are those
    that end a trial (``sweeps.stopping``). A trial whose outcome is ``diverged`` has.
    """
    if not curve.epochs:
        return None
    losses = {"training": curve.train_losses, "validation": curve.val_losses}
    broken = [name for name, values in losses.items() if not math.isfinite(values[-1])]
    limit = CHANCE_FACTOR * math.log(len(curve.supports)) if len(curve.supports) > 1 else math.inf
    tail = curve.train_losses[-CHANCE_EPOCHS:]
    is_far = len(tail) == CHANCE_EPOCHS and min(tail) > limit
    if not (broken or is_far or curve.outcome == Outcome.DIVERGED.value):
        return None
    evidence = f"the training loss is {tail[-1]:.3g} at epoch {curve.epochs}"
    if broken:
        evidence = f"the {' and '.join(broken)} loss is not finite at epoch {curve.epochs}"
    advice = "Lower the learning rate, clip the gradient (clip_norm = 1) or warm up."
    numbers = {"epoch": float(curve.epochs), "train_loss": tail[-1], "limit": limit}
    return Finding(Verdict.DIVERGED, evidence, advice, numbers)


def find_rate_too_high(curve: TrialCurve) -> Finding | None:
    """Find a training loss that fell, rose again and stayed up.

    Definition, on the median of three epochs: from its smallest value, at least 3 epochs before
    the end, the loss has risen by a tenth of what it had fallen (from guessing, or from its first
    epoch if that is higher) and by twice its noise between epochs, and the last fifth of the
    epochs, at least 3, stays above that. Gradient descent with a rate that is too large raises
    the training loss (Bengio 2012, "Practical recommendations for gradient-based training of deep
    architectures", section 3.1.1); Adam's steps grow when a small average of squares meets a large
    gradient (Reddi, Kale and Kumar 2018), recurrent networks have such gradients (Pascanu, Mikolov
    and Bengio 2013, who clip them). Dropout and new batches are noise and do not stay up.
    """
    losses = finite(curve.train_losses)
    if len(losses) < 6 or len(losses) < curve.epochs:
        return None
    smooth = moving_median(losses)
    lowest = int(smooth.argmin())
    if lowest > len(losses) - 1 - 3:
        return None
    low = float(smooth[lowest])
    scale = loss_scale(curve)
    start = max(float(losses[0]), 0.0 if scale is None else scale.guessing)
    length = max(3, round(len(losses) / 5))
    tail = float(smooth[-length:].min())
    if tail - low <= max(RISE_SHARE * (start - low), RISE_NOISES * epoch_noise(losses)):
        return None
    evidence = (
        f"the training loss fell to {low:.3g} at epoch {lowest + 1}, rose and has not been below "
        f"{tail:.3g} since epoch {len(losses) - length + 1}"
    )
    advice = (
        "Lower the learning rate, or let a schedule lower it (plateau, cosine); then try "
        "clip_norm = 1 and a beta1 of 0.9."
    )
    numbers = {"lowest_epoch": lowest + 1.0, "lowest_loss": low, "tail_loss": tail}
    return Finding(Verdict.RATE_TOO_HIGH, evidence, advice, numbers)


def find_overfit(curve: TrialCurve) -> Finding | None:
    """Find a validation loss, or a score, that got worse while the training loss fell.

    Definition: the validation loss (median of three epochs) ended more than 5 % above its smallest
    value at least 3 epochs before, and by more than 3 times its noise between epochs: the
    generalization loss of Prechelt (1998, "Early stopping - but when?", GL with alpha = 5); and by
    2 % of the loss of guessing, because a loss near 0 triples easily. Or
    macro-F1 fell over the last half, by two standard errors of the slope and in all by more than
    one of the score. In both cases the training loss fell since then. A validation loss may rise
    alone while the score does not, because the model grows too sure of what it gets wrong (Guo et
    al. 2017, "On calibration of modern neural networks"); the evidence says which it is.
    """
    if curve.epochs < 6 or len(finite(curve.train_losses)) < curve.epochs:
        return None
    if len(finite(curve.val_losses)) < curve.epochs:
        return None
    train, validation = moving_median(curve.train_losses), moving_median(curve.val_losses)
    lowest = int(validation.argmin())
    low, end = float(validation[lowest]), float(np.median(validation[-3:]))
    rise = end / low - 1 if low > 0 else 0.0
    scale = loss_scale(curve)
    is_up = (
        lowest <= curve.epochs - 1 - OVERFIT_EPOCHS
        and rise > OVERFIT_RISE
        and end - low > OVERFIT_SHARE * (0.0 if scale is None else scale.guessing)
        and end - low > OVERFIT_NOISES * epoch_noise(curve.val_losses)
    )
    if not (is_up or _is_falling(curve)):
        return None
    since = lowest if is_up else int(moving_median(finite(curve.macro_f1s), 5).argmax())
    if float(np.median(train[-3:])) >= float(train[since]):
        return None
    fall = _score_fall(curve, since)
    score = f"macro-F1 fell by {fall:.3f}" if fall > 0 else "macro-F1 did not fall"
    evidence = (
        f"since epoch {since + 1} the validation loss went from {validation[since]:.3g} to "
        f"{end:.3g} and the training loss from {train[since]:.3g} to {np.median(train[-3:]):.3g}; "
        f"{score}"
    )
    advice = "More dropout or weight_decay, fewer parameters or more data; epochs do not help."
    if fall <= 0:
        advice = "The loss is too sure of its errors, the score holds: try label_smoothing = 0.1."
    numbers = {"since_epoch": since + 1.0, "val_loss_rise": rise, "macro_f1_fall": fall}
    return Finding(Verdict.OVERFIT, evidence, advice, numbers)


def find_underfit(curve: TrialCurve) -> Finding | None:
    """Find a training loss that is flat and hardly better than guessing.

    Definition: McFadden's pseudo R2 of the training loss, 1 - loss / loss of guessing with the
    shares of the classes, is below 0.2 at the end (McFadden 1979: 0.2 to 0.4 "represent an
    excellent fit"), and at its present slope as many epochs again would take off less than a
    tenth of the scale. Dropout counts against the training loss; class weights and label
    smoothing are allowed for. There is no training score: an epoch records the loss alone.
    """
    scale = loss_scale(curve)
    losses = finite(curve.train_losses)
    if scale is None or len(losses) < 6 or len(losses) < curve.epochs:
        return None
    end = median(losses[-3:].tolist())
    explained = scale.explained(end)
    slope = fit_slope(losses[-curve.last(1 / 2, 5) :]).per_epoch
    further = -slope * curve.epochs / (scale.guessing - scale.perfect)
    if explained >= UNDERFIT_EXPLAINED or further > FLAT_SHARE:
        return None
    evidence = (
        f"the training loss ended at {end:.3g}, where guessing costs {scale.guessing:.3g}: "
        f"{explained:.0%} explained"
    )
    advice = "Raise the learning rate or the model's size, or lower dropout and weight_decay."
    return Finding(Verdict.UNDERFIT, evidence, advice, {"explained": explained, "train_loss": end})


def _is_falling(curve: TrialCurve) -> bool:
    """Return whether macro-F1 fell for sure over the last half, and by more than its error."""
    half = finite(curve.macro_f1s[-curve.last(1 / 2, 6) :])
    slope = fit_slope(half)
    fall, error = -slope.per_epoch * (len(half) - 1), score_error(curve)
    return slope.errors_from_zero < -FALL_ERRORS and (math.isnan(error) or fall > error)


def _score_fall(curve: TrialCurve, since: int) -> float:
    """Return mean macro-F1 around an epoch, counted from 0, minus that of the last epochs.

    Means over a tenth of the epochs, at least 5; 0 where the difference is below the score's
    standard error.
    """
    width = curve.last(1 / 10, 5)
    around = finite(curve.macro_f1s[max(0, since - width // 2) : since + width // 2 + 1])
    after = finite(curve.macro_f1s[-width:])
    if not len(around) or not len(after):
        return 0.0
    fall, error = float(around.mean() - after.mean()), score_error(curve)
    return fall if fall > (0.0 if math.isnan(error) else error) else 0.0
