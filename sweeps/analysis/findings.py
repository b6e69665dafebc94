"""What can be said of a trial: the verdicts, their precedence, and the facts they are read from.

Knows no rule and no database. Shapes: E epochs, C classes.
"""

import enum
import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sweeps.analysis.noise import finite, macro_f1_error_from_f1


class Verdict(enum.Enum):
    """What a trial's curve shows; the first of those that it shows leads.

    The order is that of what to do first: what spoils the numbers that the others are read from,
    then what more epochs would change, then what they would not.
    """

    DIVERGED = "diverged"
    RATE_TOO_HIGH = "rate too high"
    OSCILLATING = "oscillating"
    STILL_IMPROVING = "still improving"
    CLASS_COLLAPSE = "class collapse"
    DIMINISHING_RETURNS = "diminishing returns"
    OVERFIT = "overfit"
    UNDERFIT = "underfit"
    CONVERGED = "converged"
    TOO_SHORT = "too short"
    UNCLEAR = "unclear"


#: Verdicts on curves that say nothing of their trials.
UNTELLING = frozenset({Verdict.TOO_SHORT, Verdict.UNCLEAR})
#: How advice on a learning rate begins.
LOWER_RATE, RAISE_RATE = "Lower the learning rate", "Raise the learning rate"
#: Which verdict leads where a trial shows several: the earlier one.
PRECEDENCE: tuple[Verdict, ...] = tuple(Verdict)
#: A name of a class that reads like a count.
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict on one trial.

    Attributes:
        verdict: What its curve shows.
        evidence: The numbers that show it, in a clause.
        advice: What to do, in one sentence.
        numbers: The same numbers by name.
        beside: Trials of the study that do not show it, and how they differ; empty: not asked.
        classes: Names of the classes that it is about.
        option: The option of ``bestepoch run`` that does it, where the advice is one setting.
    """

    verdict: Verdict
    evidence: str
    advice: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    beside: str = ""
    classes: tuple[str, ...] = ()
    option: str | None = None


@dataclass(frozen=True, slots=True)
class TrialCurve:
    """One trial's epochs, as ``queries.curves`` has them; NaN is missing or not finite.

    Attributes:
        trial: Number of the trial.
        train_losses: Mean training loss per epoch, (E,).
        val_losses: Mean validation loss per epoch, (E,).
        scores: Validation score per epoch, (E,).
        class_f1s: Validation F1 of each class per epoch, (E, C); empty where it is not known.
        supports: Validation examples of each class, (C,); empty where they are not known.
        class_names: Names of the classes, (C,); empty where they are not known.
        has_balanced_weights: Whether ``class_weights`` was ``balanced``.
        label_smoothing: The trial's ``label_smoothing``.
        outcome: Why the trial ended, None while it runs.
    """

    trial: int
    train_losses: tuple[float, ...]
    val_losses: tuple[float, ...]
    scores: tuple[float, ...]
    class_f1s: tuple[tuple[float, ...], ...] = ()
    supports: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    has_balanced_weights: bool = False
    label_smoothing: float = 0.0
    outcome: str | None = None

    def __post_init__(self) -> None:
        epochs = len(self.scores)
        assert epochs == len(self.train_losses) == len(self.val_losses), "of different lengths"
        assert not self.class_f1s or len(self.class_f1s) == epochs, "of different lengths"

    @property
    def epochs(self) -> int:
        """E, the epochs that were trained."""
        return len(self.scores)

    def last(self, share: float, at_least: int) -> int:
        """Return how many epochs the last ``share`` of the curve has, ``at_least`` so many."""
        return min(self.epochs, max(at_least, round(self.epochs * share)))

    def name_class(self, index: int) -> str:
        """Return a class's name; ``class 7`` where that is a number, or names are not known."""
        name = self.class_names[index] if self.class_names else str(index)
        return f"class {name}" if _NUMBER.fullmatch(name) else name


def score_error(curve: TrialCurve) -> float:
    """Return the standard error of a trial's score in its last third.

    From the validation examples of each class and the median of its F1 over these epochs; where
    the classes' F1 is not known, each is taken to have the macro-F1.

    Returns:
        NaN where the examples of each class are not known, or no epoch has a score.
    """
    n = curve.last(1 / 3, 3)
    scores = finite(curve.scores[-n:])
    if not curve.supports or not len(scores):
        return math.nan
    if curve.class_f1s:
        table = np.array(curve.class_f1s[-n:], dtype=np.float64)
        middle = np.median(np.nan_to_num(table), axis=0).tolist()
        return _error_of(tuple(middle), curve.supports)
    return _error_of((float(np.median(scores)),) * len(curve.supports), curve.supports)


# Four rules ask for the error of one trial, and it is most of what judging it costs.
_error_of = functools.lru_cache(maxsize=4096)(macro_f1_error_from_f1)


@dataclass(frozen=True, slots=True)
class LossScale:
    """The losses that a training loss is measured by, nats an example.

    Attributes:
        guessing: Loss of who knows the shares of the classes and nothing else.
        perfect: Loss of who is always right, and as sure as label smoothing wants; 0 without.
        uniform: Loss of who takes all classes for equally likely, as an untrained model does.
    """

    guessing: float
    perfect: float
    uniform: float

    def explained(self, loss: float) -> float:
        """Return McFadden's pseudo R2 of a loss: 1 is perfect, 0 is guessing, below is worse."""
        return 1.0 - (loss - self.perfect) / (self.guessing - self.perfect)


def describe_fit(loss: float, scale: LossScale) -> str:
    """Return how far a training loss is from guessing, in words."""
    far = describe_explained(scale.explained(loss))
    return (
        f"its training loss, {loss:.3g}, is {far} that of always guessing the class shares "
        f"({scale.guessing:.3g})"
    )


def describe_explained(explained: float) -> str:
    """Return McFadden's pseudo R2 in words: ``9 % above``, ``42 % below``, ``18 times``."""
    if explained <= -1:
        return f"{1 - explained:,.0f} times"
    return f"{abs(100 * explained):.0f} % {'below' if explained >= 0 else 'above'}"


def loss_scale(curve: TrialCurve) -> LossScale | None:
    """Return what guessing and being right would cost in the trial's training loss.

    The shares of the classes are those of validation, which is split as training is; equal ones
    where ``class_weights`` is ``balanced``.

    Returns:
        None where the examples of each class are not known, or there is one class alone.
    """
    shares = np.array([each for each in curve.supports if each > 0], dtype=np.float64)
    classes = len(shares)
    if classes < 2:
        return None
    shares = np.full(classes, 1 / classes) if curve.has_balanced_weights else shares / shares.sum()
    smoothing = curve.label_smoothing
    guessed = (1 - smoothing) * shares + smoothing / classes
    target = np.full(classes, smoothing / classes)
    target[0] += 1 - smoothing
    return LossScale(_entropy(guessed.tolist()), _entropy(target.tolist()), math.log(classes))


def _entropy(shares: list[float]) -> float:
    return -math.fsum(share * math.log(share) for share in shares if share > 0)
