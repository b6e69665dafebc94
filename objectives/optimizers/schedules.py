"""How a trial's learning rate moves from epoch to epoch.

Each schedule is PyTorch's class of ``torch.optim.lr_scheduler``, stepped once an epoch, with its
default constants; what it remembers is a value that moves with the trial's row. Plain Python.
"""

import math
from dataclasses import dataclass, replace

from search_spaces.hparams import Hparams

#: PyTorch's defaults for what is not a hyperparameter here.
_THRESHOLD = 1e-4
_SMALLEST_CHANGE = 1e-8
_START_FACTOR = 1 / 3


@dataclass(frozen=True, slots=True)
class Rate:
    """A trial's learning rate in its next epoch, and what its schedule remembers.

    Attributes:
        learning_rate: The rate of every step of the epoch; NaN for armijo, which searches.
        best_loss: Smallest validation loss so far, for plateau.
        bad_epochs: Epochs since then, or since the last fall, for plateau.
    """

    learning_rate: float
    best_loss: float = math.inf
    bad_epochs: int = 0


def first_rate(hparams: Hparams) -> Rate:
    """Return the rate of a trial's first epoch."""
    return Rate(_scheduled(hparams, 0))


def next_rate(rate: Rate, hparams: Hparams, *, epochs: int, val_loss: float) -> Rate:
    """Return the rate of a trial's next epoch.

    Args:
        rate: That of the epoch that ended.
        hparams: The trial's.
        epochs: Epochs the trial has trained, from 1.
        val_loss: Validation loss of the epoch that ended; NaN is never better.
    """
    if hparams.schedule == "plateau":
        return _after_epoch(rate, hparams, val_loss)
    return replace(rate, learning_rate=_scheduled(hparams, epochs))


def _scheduled(hparams: Hparams, epochs: int) -> float:
    """Return the rate after a number of epochs that nothing but the number decides."""
    rate = hparams.learning_rate
    if rate is None:
        return math.nan
    if hparams.schedule == "cosine":
        assert hparams.schedule_epochs is not None
        return rate * (1 + math.cos(math.pi * epochs / hparams.schedule_epochs)) / 2
    if hparams.schedule == "step":
        assert hparams.step_epochs is not None
        assert hparams.factor is not None
        return rate * hparams.factor ** (epochs // hparams.step_epochs)
    if hparams.schedule == "warmup":
        assert hparams.warmup_epochs is not None
        share = min(epochs / hparams.warmup_epochs, 1.0)
        return rate * (_START_FACTOR + (1 - _START_FACTOR) * share)
    return rate


def _after_epoch(rate: Rate, hparams: Hparams, val_loss: float) -> Rate:
    assert hparams.plateau_patience is not None
    assert hparams.factor is not None
    if val_loss < rate.best_loss * (1 - _THRESHOLD):
        return replace(rate, best_loss=val_loss, bad_epochs=0)
    if rate.bad_epochs < hparams.plateau_patience:
        return replace(rate, bad_epochs=rate.bad_epochs + 1)
    lower = rate.learning_rate * hparams.factor
    falls = rate.learning_rate - lower > _SMALLEST_CHANGE
    return replace(rate, learning_rate=lower if falls else rate.learning_rate, bad_epochs=0)
