"""How the losses of a trial still fall at its end: for sure, steadily, steeply.

What a rate that is too low looks like: both losses fall at every epoch, by little, and the
macro-F1 of imbalanced classes wanders meanwhile, because few examples stand near a boundary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.analysis.findings import TrialCurve, loss_scale
from sweeps.analysis.noise import epoch_noise, finite
from sweeps.analysis.trends import fit_slope

#: Standard errors of the slope that a loss must fall by to be called falling.
FALL_ERRORS = 2.0
#: Share of the loss's scale that as many more epochs may still take off, if it is flat.
FLAT_SHARE = 0.1
#: Fewest epochs that a fall is measured on.
MIN_FALL_EPOCHS = 5
#: Epochs at the end, one of which has the lowest loss where it falls to where it has not been.
LAST_EPOCHS = 3


@dataclass(frozen=True, slots=True)
class LossFall:
    """How the training and the validation loss fall at the end of a trial.

    Attributes:
        per_epoch: Fall of the validation loss an epoch; below 0 where it rises.
        further: Share of the training loss's scale that as many epochs again would take off at
            the present slope, the smaller one of both losses.
        is_sure: Whether both fall, by two standard errors of the slope.
        is_steady: Whether both also fall by more an epoch than their noise between epochs.
        is_lowest: Whether both are at their lowest at the end, and do not come back from a rise.
    """

    per_epoch: float
    further: float
    is_sure: bool
    is_steady: bool
    is_lowest: bool

    @property
    def is_steep(self) -> bool:
        """Whether both losses fall for sure, to new lows, and are far from flat."""
        return self.is_sure and self.is_lowest and self.further > FLAT_SHARE


def measure_fall(curve: TrialCurve) -> LossFall | None:
    """Return how both losses fall over the last third of a trial, at least 5 epochs.

    The last third and not the half, because a loss that flattens out would seem to fall as it
    did before.

    Returns:
        None with fewer than 6 epochs, a loss that is missing, or unknown examples of each class.
    """
    scale = loss_scale(curve)
    both = (finite(curve.train_losses), finite(curve.val_losses))
    if scale is None or curve.epochs < 6 or min(map(len, both)) < curve.epochs:
        return None
    tails = [losses[-curve.last(1 / 3, MIN_FALL_EPOCHS) :] for losses in both]
    slopes = [fit_slope(tail) for tail in tails]
    is_sure = all(slope.errors_from_zero < -FALL_ERRORS for slope in slopes)
    is_steady = is_sure and all(
        -slope.per_epoch > epoch_noise(tail) for slope, tail in zip(slopes, tails, strict=True)
    )
    further = -max(slope.per_epoch for slope in slopes) * curve.epochs
    return LossFall(
        per_epoch=-slopes[1].per_epoch,
        further=further / (scale.guessing - scale.perfect),
        is_sure=is_sure,
        is_steady=is_steady,
        is_lowest=all(int(losses.argmin()) >= len(losses) - LAST_EPOCHS for losses in both),
    )


def is_falling(losses: Sequence[float]) -> bool:
    """Return whether a loss falls by two standard errors of its slope."""
    return fit_slope(losses).errors_from_zero < -FALL_ERRORS
