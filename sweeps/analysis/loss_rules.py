"""What a trial's losses show: diverged, rate too high, overfit, underfit.

Each rule takes a ``TrialCurve`` and returns a ``Finding``, or None where its curve does not show
it. Its thresholds stand above it, with where they come from.
"""

import math
from collections.abc import Mapping
from statistics import median

import numpy as np

from sweeps.analysis.findings import (
    LOWER_RATE,
    RAISE_RATE,
    Finding,
    LossScale,
    TrialCurve,
    Verdict,
    describe_fit,
    loss_scale,
    score_error,
)
from sweeps.analysis.loss_fall import FALL_ERRORS, FLAT_SHARE, LossFall, is_falling
from sweeps.analysis.noise import Floats, epoch_noise, finite, moving_median
from sweeps.analysis.trends import fit_slope
from sweeps.outcomes import CHANCE_EPOCHS, CHANCE_FACTOR, Outcome

#: Share of what was learned that must be lost again.
RISE_SHARE = 0.1
#: Times the loss's noise between epochs that the lowest of the last epochs must be above it.
RISE_NOISES = 2.0
#: Times its smallest value that a loss must have risen to, to be a spike.
SPIKE_FACTOR = 3.0
#: Share of what was learned that a spike loses.
SPIKE_SHARE = 0.25
#: Share of a spike's rise that is still there at the end, if it has come back in part alone.
SPIKE_LEFT = 0.1
#: Times the loss of a uniform guess, ln C, that no model that learns goes up to.
WORSE_FACTOR = 1.2
#: Share of the loss of guessing that such a loss has come back to explain, if it has recovered.
RECOVERED_EXPLAINED = 0.5
#: Prechelt's generalization loss: validation loss over its smallest, minus 1.
OVERFIT_RISE = 0.05
#: The same where the score fell with it, which says by itself that the fit has got worse.
OVERFIT_RISE_BESIDE_FALL = 0.02
#: Share of the loss of guessing that it must rise by: 0.002 to 0.006 nats is no overfitting.
OVERFIT_SHARE = 0.02
#: Epochs after the smallest validation loss before anything is said of it.
OVERFIT_EPOCHS = 3
#: Times the loss's noise between epochs that its rise must be.
OVERFIT_NOISES = 3.0
#: Pseudo R2 of the training loss below which a model has not fitted its data.
UNDERFIT_EXPLAINED = 0.2
#: Times the validation loss, above which dropout is what keeps the training loss up.
DROPOUT_FACTOR = 1.1
#: What is seen of a loss that falls surely, and by little, and what to do about it.
IN_SMALL_STEPS = "falls at every epoch, in small steps"
SMALL_STEPS = f"{RAISE_RATE}, by 10 times: its loss falls surely, and by little an epoch."


def find_divergence(curve: TrialCurve) -> Finding | None:
    """Find a loss that is not a number, or far above chance at the end.

    Definition: the last training or validation loss is NaN or infinite (the database has null for
    both), or the training loss was above 3 times ln(C) in the last 3 epochs; the limits are those
    that end a trial (``sweeps.running.stopping``). A trial whose outcome is ``diverged`` has.
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
    advice = f"{LOWER_RATE}, clip the gradient (clip_norm = 1) or warm up."
    numbers = {"epoch": float(curve.epochs), "train_loss": tail[-1], "limit": limit}
    return Finding(Verdict.DIVERGED, evidence, advice, numbers)


def find_rate_too_high(curve: TrialCurve) -> Finding | None:
    """Find a training loss that fell and rose again, and stayed up or came back in part alone.

    Definition, on the median of three epochs: from its smallest value, at least 3 epochs before
    the end, the loss has risen by a tenth of what it had fallen (from guessing, or from its first
    epoch if that is higher) and by twice its noise between epochs, or by a quarter in each of all
    epochs after the lowest, at least 4; and the last fifth of the epochs, at least 3, stays above
    that. Or it is a spike: since its smallest value the loss rose
    to 3 times that and lost a quarter of what was learned, and a tenth of that rise is still there
    at the end. Or it rose to 1.2 times the loss of a uniform guess, ln C, by a tenth of that, and
    at the end explains less than half of what guessing costs: a model that has learned nothing
    starts at ln C, and small steps never lead above it. Gradient descent with a rate that is too
    large raises the training loss (Bengio 2012, "Practical recommendations for gradient-based
    training of deep architectures", section 3.1.1); Adam's steps grow when a small average of
    squares meets a large gradient (Reddi, Kale and Kumar 2018), recurrent networks have such
    gradients (Pascanu, Mikolov and Bengio 2013, who clip them). Dropout and new batches are noise:
    it neither stays up nor is it that large.
    """
    losses = finite(curve.train_losses)
    if len(losses) < 6 or len(losses) < curve.epochs:
        return None
    smooth = moving_median(losses)
    scale = loss_scale(curve)
    start = max(float(losses[0]), 0.0 if scale is None else scale.guessing)
    seen = _find_rise(losses, smooth, start) or _find_spike(losses, start)
    seen = seen or _find_worse_than_guessing(losses, smooth, scale)
    if seen is None:
        return None
    evidence, numbers = seen
    advice = (
        f"{LOWER_RATE}, or let a schedule lower it (plateau, cosine); then try "
        "clip_norm = 1 and a beta1 of 0.9."
    )
    return Finding(Verdict.RATE_TOO_HIGH, evidence, advice, numbers)


def _find_rise(
    losses: Floats, smooth: Floats, start: float
) -> tuple[str, dict[str, float]] | None:
    """Return the evidence of a loss that rose and stayed up, and its numbers."""
    lowest = int(smooth.argmin())
    if lowest > len(losses) - 1 - 3:
        return None
    low = float(smooth[lowest])
    length = max(3, round(len(losses) / 5))
    tail = float(smooth[-length:].min())
    if tail - low <= RISE_SHARE * (start - low):
        return None
    if tail - low <= RISE_NOISES * epoch_noise(losses) and not _is_lost(losses, start):
        return None
    # What is told are the epochs' own losses, which a person can look up.
    lowest = int(losses[:-length].argmin())
    low, tail = float(losses[lowest]), float(losses[-length:].min())
    evidence = (
        f"the training loss fell to {low:.3g} at epoch {lowest + 1}, rose and has not been below "
        f"{tail:.3g} since epoch {len(losses) - length + 1}"
    )
    return evidence, {"lowest_epoch": lowest + 1.0, "lowest_loss": low, "tail_loss": tail}


def _is_lost(losses: Floats, start: float) -> bool:
    """Return whether all epochs after the lowest loss, at least 4, lost a quarter of it again.

    In a curve of a few epochs such a rise is most of what their noise is measured from. False
    where less than a fifth of the loss had been learned.
    """
    lowest = int(losses.argmin())
    after, low = losses[lowest + 1 :], float(losses[lowest])
    learned = start - low
    if len(after) <= 3 or learned <= UNDERFIT_EXPLAINED * start:
        return False
    return float(after.min()) - low > SPIKE_SHARE * learned


def _find_spike(losses: Floats, start: float) -> tuple[str, dict[str, float]] | None:
    """Return the evidence of a loss that rose by far and came back in part, and its numbers."""
    lowest = int(losses.argmin())
    if lowest > len(losses) - 1 - 3:
        return None
    low = float(losses[lowest])
    highest = lowest + int(losses[lowest:].argmax())
    peak, end = float(losses[highest]), median(losses[-3:].tolist())
    left = max(SPIKE_LEFT * (peak - low), RISE_NOISES * epoch_noise(losses))
    is_spike = peak > SPIKE_FACTOR * low and peak - low > SPIKE_SHARE * (start - low)
    if not is_spike or end - low <= left:
        return None
    evidence = (
        f"the training loss fell to {low:.3g} at epoch {lowest + 1}, rose to {peak:.3g} by epoch "
        f"{highest + 1} and has come back to {end:.3g} alone"
    )
    numbers = {"lowest_epoch": lowest + 1.0, "lowest_loss": low, "peak_loss": peak}
    return evidence, numbers | {"peak_epoch": highest + 1.0, "end_loss": end}


def _find_worse_than_guessing(
    losses: Floats, smooth: Floats, scale: LossScale | None
) -> tuple[str, dict[str, float]] | None:
    """Return the evidence of a loss that rose above any guess and has not recovered."""
    if scale is None:
        return None
    highest = int(smooth.argmax())
    peak, before = float(smooth[highest]), float(smooth[: highest + 1].min())
    end = median(losses[-3:].tolist())
    has_risen = peak - before > max(RISE_SHARE * scale.uniform, RISE_NOISES * epoch_noise(losses))
    if peak <= WORSE_FACTOR * scale.uniform or not has_risen:
        return None
    if scale.explained(end) >= RECOVERED_EXPLAINED:
        return None
    evidence = (
        f"the training loss rose from {before:.3g} to {peak:.3g} by epoch {highest + 1}, above "
        f"the {scale.uniform:.3g} of a model that knows nothing, and is {end:.3g} at the end"
    )
    numbers = {"risen_loss": peak, "risen_epoch": highest + 1.0, "uniform_loss": scale.uniform}
    return evidence, numbers | {"end_loss": end}


def find_overfit(curve: TrialCurve) -> Finding | None:
    """Find a validation loss that rose while the training loss fell.

    Definition: the validation loss (median of three epochs) ended more than 5 % above its smallest
    value at least 3 epochs before, and by more than 3 times its noise between epochs: the
    generalization loss of Prechelt (1998, "Early stopping - but when?", GL with alpha = 5); and by
    2 % of the loss of guessing, because a loss near 0 triples easily. A rise of 2 % will do where
    the score fell over the last half, by two standard errors of the slope and in all by more than
    one of the score. In both cases the training loss fell since then, and the validation loss does
    not fall again at the end: a score that falls while the validation loss falls is one that
    wanders. A validation loss may rise alone while the score does not, because the model grows too
    sure of what it gets wrong (Guo et al. 2017, "On calibration of modern neural networks"); the
    evidence says which it is.
    """
    if curve.epochs < 6 or len(finite(curve.train_losses)) < curve.epochs:
        return None
    if len(finite(curve.val_losses)) < curve.epochs:
        return None
    train, validation = moving_median(curve.train_losses), moving_median(curve.val_losses)
    since = int(validation.argmin())
    low, end = float(validation[since]), float(np.median(validation[-3:]))
    is_past = since <= curve.epochs - 1 - OVERFIT_EPOCHS
    if not is_past or end - low <= OVERFIT_NOISES * epoch_noise(curve.val_losses):
        return None
    rise = end / low - 1 if low > 0 else 0.0
    if not (_is_far_up(rise, end - low, loss_scale(curve)) or _is_worse(curve, rise)):
        return None
    if float(np.median(train[-3:])) >= float(train[since]) or is_falling(
        curve.val_losses[-min(curve.epochs - since, curve.last(1 / 3, 4)) :]
    ):
        return None
    fall = _score_fall(curve, since)
    score = f"the score fell by {fall:.3f}" if fall > 0 else "the score did not fall"
    evidence = (
        f"since epoch {since + 1} the validation loss went from {low:.3g} to "
        f"{end:.3g} and the training loss from {train[since]:.3g} to {np.median(train[-3:]):.3g}; "
        f"{score}"
    )
    advice = "More dropout or weight_decay, fewer parameters or more data; epochs do not help."
    option = None
    if fall <= 0:
        advice = "The loss is too sure of its errors, the score holds: try label_smoothing = 0.1."
        option = "--set space.label_smoothing=0.1"
    numbers = {"since_epoch": since + 1.0, "val_loss_rise": rise, "score_fall": fall}
    return Finding(Verdict.OVERFIT, evidence, advice, numbers, option=option)


def find_learning(curve: TrialCurve, fall: LossFall | None) -> Finding | None:
    """Find losses that still fall steeply, whatever the score does meanwhile.

    Definition: in the last third of the epochs, at least 5, the training and the validation loss
    both fall by two standard errors of the slope, are lowest in one of the last 3, and at that
    slope as many epochs again would take more than a tenth of its scale off both. Where the rate
    is too low for the epochs and the classes are imbalanced, the score wanders or is that of one
    class until the model knows more than their shares: its score says nothing yet.
    """
    scale = loss_scale(curve)
    if fall is None or scale is None or not fall.is_steep:
        return None
    end = curve.val_losses[-1]
    evidence = (
        f"the validation loss falls by {fall.per_epoch:.2g} an epoch, to {end:.3g}, and the "
        f"training loss falls as surely; {describe_fit(curve.train_losses[-1], scale)}"
    )
    numbers = {"loss_fall": fall.per_epoch, "val_loss": end, "further": fall.further}
    return ask_for_more_steps(curve, evidence, numbers)


def ask_for_more_steps(curve: TrialCurve, evidence: str, numbers: Mapping[str, float]) -> Finding:
    """Return ``still improving`` with what to do: larger or more steps.

    Args:
        curve: The trial's.
        evidence: What shows that it has not come to its end.
        numbers: The same by name.
    """
    # What ended it decides whether a higher cap would have changed anything.
    option = None
    if knows_little(curve):
        advice = (
            f"{RAISE_RATE}, by 3 to 10 times, or train for far more than "
            f"{2 * curve.epochs} epochs: it knows hardly more than the shares of the classes."
        )
    elif curve.outcome == Outcome.STALLED.value:
        advice = (
            "It was ended for stalling while it still learned: allow more patience, or take "
            "larger steps, so that it rises faster."
        )
    elif curve.outcome == Outcome.BEHIND.value:
        advice = (
            "Others rose faster, or the budget ended: a higher learning rate may keep up with "
            "them; more epochs would help it, and may not help the sweep."
        )
    else:
        advice = f"Train longer: max_epochs = {2 * curve.epochs}, or take more or larger steps."
        option = f"--set max_epochs={2 * curve.epochs}"
    return Finding(Verdict.STILL_IMPROVING, evidence, advice, numbers, option=option)


def find_underfit(curve: TrialCurve, fall: LossFall | None) -> Finding | None:
    """Find a training loss that is flat and hardly better than guessing.

    Definition: McFadden's pseudo R2 of the training loss, 1 - loss / loss of guessing with the
    shares of the classes, is below 0.2 at the end (McFadden 1979: 0.2 to 0.4 "represent an
    excellent fit"), and at its present slope as many epochs again would take off less than a
    tenth of the scale; and it is not dropout alone that keeps the loss up (``knows_little``).
    Class weights and label smoothing are allowed for. There is no training score: an epoch records
    the loss alone.
    """
    scale = loss_scale(curve)
    losses = finite(curve.train_losses)
    if scale is None or len(losses) < 6 or len(losses) < curve.epochs:
        return None
    end = median(losses[-3:].tolist())
    explained = scale.explained(end)
    slope = fit_slope(losses[-curve.last(1 / 2, 5) :]).per_epoch
    further = -slope * curve.epochs / (scale.guessing - scale.perfect)
    if further > FLAT_SHARE or not knows_little(curve):
        return None
    evidence = f"at the end, {describe_fit(end, scale)}"
    advice = f"{RAISE_RATE} or the model's size, or lower dropout and weight_decay."
    if fall is not None and fall.is_steady:
        evidence += f"; it {IN_SMALL_STEPS}"
        advice = SMALL_STEPS
    return Finding(Verdict.UNDERFIT, evidence, advice, {"explained": explained, "train_loss": end})


def knows_little(curve: TrialCurve) -> bool:
    """Return whether a trial knows hardly more than the shares of the classes.

    Definition: McFadden's pseudo R2 of the training loss is below 0.2 at the end. Strong dropout
    keeps that loss near guessing however much the model knows: not where it is more than 1.1 times
    the validation loss, and the score (median of the last 3 epochs) is halfway from that of always
    giving the largest class to 1. False where the examples of each class are not known.
    """
    scale, trained = loss_scale(curve), median(curve.train_losses[-3:])
    if scale is None or scale.explained(trained) >= UNDERFIT_EXPLAINED:
        return False
    if trained <= DROPOUT_FACTOR * median(curve.val_losses[-3:]):
        return True
    largest = max(curve.supports) / sum(curve.supports)
    trivial = 2 * largest / (1 + largest) / len(curve.supports)
    scores = finite(curve.scores[-3:])
    return not len(scores) or float(np.median(scores)) < (1 + trivial) / 2


def _is_far_up(rise: float, absolute: float, scale: LossScale | None) -> bool:
    guessing = 0.0 if scale is None else scale.guessing
    return rise > OVERFIT_RISE and absolute > OVERFIT_SHARE * guessing


def _is_worse(curve: TrialCurve, rise: float) -> bool:
    return rise > OVERFIT_RISE_BESIDE_FALL and _is_score_falling(curve)


def _is_score_falling(curve: TrialCurve) -> bool:
    """Return whether the score fell for sure over the last half, and by more than its error."""
    half = finite(curve.scores[-curve.last(1 / 2, 6) :])
    slope = fit_slope(half)
    fall, error = -slope.per_epoch * (len(half) - 1), score_error(curve)
    return slope.errors_from_zero < -FALL_ERRORS and (math.isnan(error) or fall > error)


def _score_fall(curve: TrialCurve, since: int) -> float:
    """Return mean score around an epoch, counted from 0, minus that of the last epochs.

    Means over a tenth of the epochs, at least 5; 0 where the difference is below the score's
    standard error.
    """
    width = curve.last(1 / 10, 5)
    around = finite(curve.scores[max(0, since - width // 2) : since + width // 2 + 1])
    after = finite(curve.scores[-width:])
    if not len(around) or not len(after):
        return 0.0
    fall, error = float(around.mean() - after.mean()), score_error(curve)
    return fall if fall > (0.0 if math.isnan(error) else error) else 0.0
