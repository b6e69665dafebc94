"""Facts about one learning curve, as pure functions.

A curve is the validation macro-F1 of one trial per epoch, epoch 1 first, each in [0, 1] or NaN.
Knows neither trials nor rules; the standard library alone.
"""

import math
from collections.abc import Sequence

#: Epochs of a curve's tail, whose mean is one of the three scores.
TAIL_EPOCHS = 5


def best_epoch(curve: Sequence[float]) -> int | None:
    """Return the epoch with the highest score, counted from 1; the earliest on ties.

    Args:
        curve: Validation macro-F1 per epoch, each in [0, 1] or NaN; epoch 1 first.

    Returns:
        None if no epoch has a score: an empty curve, or one of NaN alone.
    """
    best: int | None = None
    for epoch, score in enumerate(curve, start=1):
        if not math.isnan(score) and (best is None or score > curve[best - 1]):
            best = epoch
    return best


def running_best(curve: Sequence[float]) -> list[float]:
    """Return the best score so far at each epoch.

    Args:
        curve: Validation macro-F1 per epoch, each in [0, 1] or NaN; epoch 1 first.

    Returns:
        As many scores as epochs. NaN until the first score; later NaN epochs repeat the best.
    """
    bests: list[float] = []
    best = math.nan
    for score in curve:
        # A comparison with NaN is false, so the first score needs the test of its own.
        if math.isnan(best) or score > best:
            best = score
        bests.append(best)
    return bests


def epochs_since_best(curve: Sequence[float], min_delta: float = 0.0) -> int:
    """Count epochs since the curve last beat its best by more than ``min_delta``.

    The best meant here is the *reference* of Keras's ``EarlyStopping``: it moves only when it is
    beaten by more than ``min_delta``, so an endless creep counts up, and so does a one-time rise
    that is too small.

    Args:
        curve: Validation macro-F1 per epoch, each in [0, 1] or NaN; epoch 1 first.
        min_delta: Smallest rise that counts, in macro-F1 points (0.01 is one percentage point).

    Returns:
        0 if the last epoch is the new best, or the curve is empty. A NaN epoch is never a best.
        An exact plateau counts up, which Optuna's ``PatientPruner`` never prunes
        (optuna/optuna#3835).

    Raises:
        ValueError: If ``min_delta`` is negative.
    """
    if not min_delta >= 0.0:
        raise ValueError(f"min_delta must be >= 0, got {min_delta}")
    reference, epoch_of_reference = -math.inf, 0
    for epoch, score in enumerate(curve, start=1):
        if score - min_delta > reference:
            reference, epoch_of_reference = score, epoch
    return len(curve) - epoch_of_reference


def epochs_to_fraction(curve: Sequence[float], fraction: float) -> int | None:
    """Return the first epoch whose score reaches a fraction of the curve's best.

    Args:
        curve: Validation macro-F1 per epoch, each in [0, 1] or NaN; epoch 1 first.
        fraction: Share of the best score, in (0, 1]; 1 gives the best epoch.

    Returns:
        None if no epoch has a score. A curve whose best is 0 reaches it at its first score.

    Raises:
        ValueError: If ``fraction`` is outside (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction must be in (0, 1], got {fraction}")
    best = best_epoch(curve)
    if best is None:
        return None
    # A share of a score below 0, which MCC may have, would lie above it.
    wanted = min(fraction * curve[best - 1], curve[best - 1])
    return next(epoch for epoch, score in enumerate(curve, start=1) if score >= wanted)


def tail_mean(curve: Sequence[float], n: int = TAIL_EPOCHS) -> float | None:
    """Return the mean score of the last ``n`` epochs: what a trial ends at, luck evened out.

    Args:
        curve: Validation macro-F1 per epoch, each in [0, 1] or NaN; epoch 1 first.
        n: Epochs of the tail; all of them where the curve is shorter.

    Returns:
        NaN epochs are left out; None if the tail has no score.

    Raises:
        ValueError: If ``n`` is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be >= 1 epoch, got {n}")
    scores = [score for score in curve[-n:] if not math.isnan(score)]
    return math.fsum(scores) / len(scores) if scores else None
