"""What a run reports while it goes on: plain facts, for a display, a log or a test.

Nothing is reported that is not stored. Knows nothing of how it is shown.
"""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """A trial waits for its place, or begins again; ``params`` as ``Hparams.to_params()``."""

    trial: int
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EpochDone:
    """A trial was trained and validated for one epoch; ``seconds`` is its share of the time."""

    trial: int
    epoch: int
    score: float
    best_epoch: int | None
    best_score: float
    seconds: float
    best_val_loss: float = math.nan


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial ended and its result is stored; ``outcome`` and ``reason`` as in SQL."""

    trial: int
    outcome: str
    reason: str
    epochs_run: int
    best_epoch: int | None
    best_score: float | None
    best_val_loss: float | None = None


@dataclass(frozen=True, slots=True)
class TrialPaused:
    """A trial does not train for now, and may be promoted; ``epoch`` is the last that it had."""

    trial: int
    epoch: int
    best_score: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class TrialPromoted:
    """A paused trial goes on; ``epoch`` is the first that it has had since."""

    trial: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Note:
    """One line for the person: a model that cannot be fused, a trainer that died."""

    text: str


Event = TrialStarted | EpochDone | TrialPaused | TrialPromoted | TrialEnded | Note
