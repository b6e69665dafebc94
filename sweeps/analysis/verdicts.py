"""Seven verdicts on a trial, as one table of predicates and texts.

A new reason for a verdict is one member of ``Reason``, and its predicate in ``signs``.
"""

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from sweeps.analysis import signs
from sweeps.analysis.facts import TrialFacts
from sweeps.analysis.fit import MIN_OUTLOOK
from sweeps.analysis.notes import Note, list_notes
from sweeps.read import words


class Verdict(enum.Enum):
    """What a trial's curve shows."""

    BROKEN = "broken"
    UNSTABLE = "unstable"
    NOT_LEARNING = "not learning"
    IMPROVING = "improving"
    OVERFITTING = "overfitting"
    CONVERGED = "converged"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        verdict: What is said of a trial.
        holds: When it is said.
        short: Why, in the few words that a table of a terminal has room for.
        text: Why, in a sentence or two.
    """

    verdict: Verdict
    holds: Callable[[TrialFacts], bool]
    short: str
    text: str


_AT_GUESSING = "training loss {train_loss}, guessing {guess_loss}"
_AHEAD = "2x epochs: {gain:+.3f} ({gain_low:+.3f} to {gain_high:+.3f})"
_GAIN = (
    "twice the epochs would add {gain:.3f} to the best score ({gain_low:.3f} to {gain_high:.3f}; "
    "more than its standard error in {chance} of such trials)."
)


class Reason(enum.Enum):
    """Why a trial has its verdict: the first of these rows that holds."""

    NOT_FINITE = Row(
        Verdict.BROKEN,
        signs.is_not_finite,
        "a loss was not finite",
        "A loss was not finite in epoch {broken_epoch:.0f}: the steps are too large.",
    )
    BLEW_UP = Row(
        Verdict.BROKEN,
        lambda facts: facts.outcome == "diverged" or signs.is_far_above_guessing(facts),
        "training loss {last_train_loss}, guessing {guess_loss}",
        "The training loss ends at {last_train_loss}, and guessing has {guess_loss}: the steps "
        "are too large.",
    )
    LOSS_ROSE = Row(
        Verdict.UNSTABLE,
        signs.has_loss_risen,
        "loss {lowest_train_loss} at epoch {lowest_epoch:.0f}, then {train_loss}",
        "The training loss fell to {lowest_train_loss} at epoch {lowest_epoch:.0f} and rose again "
        "to {train_loss}: the steps are too large.",
    )
    #: Nothing after this row is said of a trial that others or a person stopped.
    CUT = Row(
        Verdict.UNCLEAR,
        lambda facts: facts.is_cut,
        "its future is unknown",
        "{how} after {count}; what more epochs would bring is unknown.",
    )
    PERFECT = Row(
        Verdict.CONVERGED,
        signs.is_perfect,
        "the score is 1 since epoch {perfect_since:.0f}",
        "The score is 1 since epoch {perfect_since:.0f}: no epoch can be better.",
    )
    SCORE_LOST = Row(
        Verdict.UNSTABLE,
        signs.is_score_lost,
        "fell back to guessing ({guess_score:.3f})",
        "The score fell from {best_score:.3f} back to {level:.3f}, and guessing reaches "
        "{guess_score:.3f}: the steps are too large.",
    )
    NOTHING_GENERALISES = Row(
        Verdict.NOT_LEARNING,
        signs.generalises_nothing,
        "loss falls, score at guessing ({guess_score:.3f})",
        "The training loss fell to {train_loss}, but the score, {level:.3f}, is no better than "
        "guessing ({guess_score:.3f}): look at the labels and the features.",
    )
    NOT_YET = Row(
        Verdict.NOT_LEARNING,
        signs.may_learn_yet,
        "loss falls, score at guessing yet",
        "The training loss, {train_loss} (guessing: {guess_loss}), tells that something is "
        "learned, but the score, {level:.3f}, is no better than guessing ({guess_score:.3f}) yet.",
    )
    ABOVE_GUESSING = Row(
        Verdict.NOT_LEARNING,
        signs.stays_above_guessing,
        _AT_GUESSING,
        "The training loss, {first_train_loss} in the first epoch and {train_loss} now, is not "
        "below the {guess_loss} of guessing: the steps are too large.",
    )
    CREEPS = Row(
        Verdict.NOT_LEARNING,
        signs.creeps,
        _AT_GUESSING,
        "The training loss, {train_loss}, is not below the {guess_loss} of guessing and falls by "
        "only {train_fall} an epoch: the steps are too small.",
    )
    NOTHING_LEARNED = Row(
        Verdict.NOT_LEARNING,
        signs.is_at_guessing,
        _AT_GUESSING,
        "The training loss, {train_loss}, is not below the {guess_loss} of guessing, and the "
        "score is no better: the steps are far too small or far too large.",
    )
    SCORE_SWINGS = Row(
        Verdict.UNSTABLE,
        signs.is_swinging,
        "swings between {low_score:.3f} and {high_score:.3f}",
        "The score swings between {low_score:.3f} and {high_score:.3f} in the last half of the "
        "epochs: the best epoch is {luck:.3f} above its line by luck.",
    )
    SCORE_FALLS = Row(
        Verdict.OVERFITTING,
        signs.is_score_falling,
        "{peak:.3f} at epoch {peak_epoch:.0f}, then {level:.3f}",
        "The score fell from {peak:.3f} around epoch {peak_epoch:.0f} to {level:.3f} while the "
        "training loss fell to {train_loss}.",
    )
    SCORE_RISES = Row(
        Verdict.IMPROVING,
        signs.is_score_rising,
        _AHEAD,
        "The score still rises: " + _GAIN,
    )
    FLAT = Row(
        Verdict.CONVERGED,
        signs.is_flat,
        _AHEAD,
        "The score is flat at {level:.3f} since epoch {epochs_needed:.0f}: " + _GAIN,
    )
    TOO_FEW = Row(
        Verdict.UNCLEAR,
        lambda facts: facts.outlook is None,
        f"a trend takes {MIN_OUTLOOK} epochs",
        f"It has {{count}}; {MIN_OUTLOOK} since the last change of the learning rate are needed "
        "to tell where the score goes.",
    )
    RATE_FALLEN = Row(
        Verdict.UNCLEAR,
        lambda facts: facts.is_annealed,
        "the learning rate has fallen",
        "The learning rate fell to less than a quarter of its highest, which may be why the score "
        "rose: what a longer schedule would bring is unknown.",
    )
    NOISE_HIDES = Row(
        Verdict.UNCLEAR,
        lambda facts: True,
        _AHEAD,
        "The noise between epochs, {noise:.3f}, hides whether the score still rises: " + _GAIN,
    )


#: Rows that are decided by what twice the epochs would bring.
AHEAD = frozenset({Reason.SCORE_RISES, Reason.FLAT, Reason.NOISE_HIDES})


@dataclass(frozen=True, slots=True)
class Judged:
    """What is said of one trial.

    Attributes:
        trial: Number of the trial.
        reason: Which row of the table holds.
        text: Its sentences.
        short: Its few words.
        numbers: The numbers by name.
        notes: What else the trial shows.
    """

    trial: int
    reason: Reason
    text: str
    short: str
    numbers: Mapping[str, float]
    notes: tuple[Note, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What the trial's curve shows."""
        return self.reason.value.verdict


#: How a trial of an unknown future comes to have so many epochs, by its outcome.
_HOW = {
    "paused": "It is paused",
    "behind": "Others were better: it was left behind",
    "interrupted": "It was interrupted",
    words.CUT_OFF: "Its process died",
}


def judge(facts: Sequence[TrialFacts]) -> tuple[Judged, ...]:
    """Return the verdict on each trial, in their order."""
    return tuple(map(_judge_one, facts))


def _judge_one(facts: TrialFacts) -> Judged:
    reason = next(reason for reason in Reason if reason.value.holds(facts))
    row, numbers = reason.value, _list_numbers(facts)
    said = {
        **{name: _Said(value) for name, value in numbers.items()},
        "how": _HOW.get(facts.outcome or "", "It is training, now"),
        "count": words.count(facts.epochs, "epoch"),
        "chance": f"{100 * numbers.get('gain_probability', math.nan):.0f} %",
    }
    notes = () if row.verdict is Verdict.BROKEN or facts.outlook is None else list_notes(facts)
    if row.verdict in (Verdict.OVERFITTING, Verdict.UNSTABLE, Verdict.NOT_LEARNING):
        notes = tuple(each for each in notes if not each.remark.is_of_a_steady_score)
    text, short = (template.format(**said) for template in (row.text, row.short))
    return Judged(facts.trial, reason, text, short, numbers, notes)


class _Said(float):
    """A number that is written in three digits unless a format says otherwise; ``-`` for NaN."""

    def __format__(self, spec: str) -> str:
        if not spec or math.isnan(self):
            return words.number(float(self))
        return float.__format__(self, spec)


def _list_numbers(facts: TrialFacts) -> dict[str, float]:
    half = [each for each in facts.scores[-max(facts.epochs // 2, 1) :] if math.isfinite(each)]
    low, low_epoch = facts.lowest(facts.train_losses)
    below = (epoch for epoch, score in enumerate(facts.scores, start=1) if score != 1.0)
    found: dict[str, float] = {
        name: getattr(facts, name)
        for name in ("epochs", "best_score", "error", "guess_score", "guess_loss")
    }
    found |= {"first_train_loss": facts.train_losses[0], "last_train_loss": facts.train_losses[-1]}
    found |= {"lowest_train_loss": low, "lowest_epoch": low_epoch}
    found |= {"low_score": min(half, default=math.nan), "high_score": max(half, default=math.nan)}
    found |= {"broken_epoch": signs.first_not_finite(facts) or 0}
    found |= {"perfect_since": max(below, default=0) + 1}
    if facts.score is not None:
        names = ("level", "slope", "noise", "peak", "peak_epoch")
        found |= {name: getattr(facts.score, name) for name in names}
    if facts.outlook is not None:
        found |= asdict(facts.outlook)
    if facts.train is not None:
        found |= {"train_loss": facts.train.level, "train_fall": -facts.train.slope}
    return {name: float(value) for name, value in found.items()}
