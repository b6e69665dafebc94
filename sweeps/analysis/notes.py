"""What is noted of a trial beside its verdict, each in a sentence with numbers."""

import enum
import math
from dataclasses import dataclass

from sweeps.analysis.facts import TrialFacts
from sweeps.analysis.fit import MIN_OUTLOOK
from sweeps.read import words

#: Rise of the validation loss that is worth a note (Prechelt 1998, "Early stopping - but when?",
#: GL with alpha = 5); and the share of the loss of guessing that it must be, as a loss near 0
#: doubles easily.
_RISE = 0.05
#: Share of the loss of guessing that is left at the floor; and that is gone where little is
#: explained (McFadden 1979: a pseudo R2 of 0.2 to 0.4 is an excellent fit).
_AT_FLOOR, _LITTLE = 0.05, 0.2
#: Standard errors that a difference must have.
_ERRORS = 2.0


class Remark(enum.Enum):
    """What is noted; the value is its short label."""

    SURER = "validation loss rises"
    SILENT_CLASS = "class never right"
    DIMINISHING = "diminishing returns"
    AT_FLOOR = "at the loss floor"
    LITTLE_EXPLAINED = "little explained"

    @property
    def is_of_a_steady_score(self) -> bool:
        """Whether it says nothing where the score falls or swings."""
        return self in (Remark.SURER, Remark.DIMINISHING)


@dataclass(frozen=True, slots=True)
class Note:
    """Something else that a trial shows, in a sentence."""

    remark: Remark
    text: str

    @property
    def name(self) -> str:
        """The short label."""
        return self.remark.value


def list_notes(facts: TrialFacts) -> tuple[Note, ...]:
    """Return what is noted of a trial."""
    found = {
        Remark.SILENT_CLASS: _silent_classes(facts),
        Remark.AT_FLOOR: _loss_floor(facts),
        Remark.LITTLE_EXPLAINED: _little_explained(facts),
        Remark.SURER: _rising_validation_loss(facts),
        Remark.DIMINISHING: _diminishing_returns(facts),
    }
    return tuple(Note(remark, text) for remark, text in found.items() if text)


def _silent_classes(facts: TrialFacts) -> str:
    if not facts.silent:
        return ""
    names = words.listing([words.clean(each) for each in facts.silent], last="or")
    return f"No validation example was rightly called {names} in the last 5 epochs."


def _loss_floor(facts: TrialFacts) -> str:
    if facts.train is None or not facts.floor > 0:
        return ""
    if not facts.explained(facts.train.level) > 1 - _AT_FLOOR:
        return ""
    return (
        f"The training loss, {words.number(facts.train.level)}, is at the lowest that the targets "
        f"allow ({words.number(facts.floor)})."
    )


def _little_explained(facts: TrialFacts) -> str:
    if facts.train is None or facts.epochs < MIN_OUTLOOK or not facts.has_learned:
        return ""
    explained = facts.explained(facts.train.level)
    if facts.train.is_falling or not 0 < explained < _LITTLE:
        return ""
    return (
        f"The training loss, {words.number(facts.train.level)}, is only {100 * explained:.0f} % "
        f"below guessing ({words.number(facts.guess_loss)}) and flat: the labels are noisy, the "
        "features say little about them, or the model is small or dropout strong."
    )


def _rising_validation_loss(facts: TrialFacts) -> str:
    if facts.val is None:
        return ""
    low, epoch = facts.lowest(facts.val_losses)
    rise = facts.val.level - low
    if not rise > max(_RISE * low, _ERRORS * facts.val.noise, _RISE * facts.guess_loss):
        return ""
    return (
        f"The validation loss rose from {words.number(low)} at epoch {epoch} to "
        f"{words.number(facts.val.level)} while the score held: the model grows too sure of its "
        "errors."
    )


def _diminishing_returns(facts: TrialFacts) -> str:
    if facts.outlook is None or facts.score is None or math.isnan(facts.error):
        return ""
    if not facts.score.slope > _ERRORS * facts.score.slope_error:
        return ""
    cost = facts.error / facts.score.slope
    if cost < facts.epochs:
        return ""
    return (
        f"The score still rises by {words.number(facts.score.slope)} an epoch: one standard error "
        f"of it ({facts.error:.3f}) costs {words.whole(cost)} epochs."
    )
