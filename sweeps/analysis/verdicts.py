"""Seven verdicts on a trial, as a table of predicate and text over its facts.

The first row whose predicate holds is the verdict. ``Reason`` names the row, so that nothing that
decides has to read the sentence. Opens no database and reads no frame.
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


class Reason(enum.Enum):
    """Why a trial has its verdict: one row of the table."""

    NOT_FINITE = "a loss was not finite"
    FAR_ABOVE_GUESSING = "the training loss is far above guessing"
    DIVERGED = "the trial was ended as diverged"
    LOSS_ROSE = "the training loss rose again"
    SCORE_LOST = "the score fell back to guessing"
    SCORE_SWINGS = "the score swings between epochs"
    ABOVE_GUESSING = "the training loss stays far above guessing"
    CREEPS = "the training loss falls by very little"
    NOTHING_LEARNED = "the training loss stays at guessing"
    NOTHING_GENERALISES = "the training loss falls, the score stays at guessing"
    SCORE_FALLS = "the score falls while the training loss falls"
    SCORE_RISES = "more epochs would raise the score"
    LOSSES_FALL = "the losses fall, the score is at guessing yet"
    PERFECT = "no score is higher"
    FLAT = "the score is flat"
    CUT = "its future is unknown"
    RATE_CHANGED = "too few epochs since the learning rate changed"
    RATE_FALLEN = "the learning rate has fallen"
    TOO_FEW = "too few epochs"
    NOISE_HIDES = "noise hides whether the score rises"


@dataclass(frozen=True, slots=True)
class Judged:
    """What is said of one trial.

    Attributes:
        trial: Number of the trial.
        verdict: What its curve shows.
        reason: Which row of the table said so.
        text: The same in a sentence or two, with numbers.
        numbers: The numbers by name.
        notes: What else it shows.
    """

    trial: int
    verdict: Verdict
    reason: Reason
    text: str
    numbers: Mapping[str, float]
    notes: tuple[Note, ...] = ()


def judge(facts: Sequence[TrialFacts]) -> tuple[Judged, ...]:
    """Return the verdict on each trial, in their order."""
    return tuple(map(_judge_one, facts))


def _judge_one(facts: TrialFacts) -> Judged:
    row = next(row for row in _ROWS if row.holds(facts))
    numbers = _numbers(facts)
    said = {name: _Said(value) for name, value in numbers.items()}
    text = row.text.format(
        **said,
        how=_HOW.get(facts.outcome or "", "It is training, now"),
        count=words.count(facts.epochs, "epoch"),
        chance=f"{100 * numbers.get('gain_probability', math.nan):.0f} %",
    )
    notes = () if row.verdict is Verdict.BROKEN or facts.outlook is None else list_notes(facts)
    if row.verdict in (Verdict.OVERFITTING, Verdict.UNSTABLE, Verdict.NOT_LEARNING):
        notes = tuple(each for each in notes if not each.remark.is_of_a_steady_score)
    return Judged(facts.trial, row.verdict, row.reason, text, numbers, notes)


class _Said(float):
    """A number that is written in three digits unless a format says otherwise."""

    def __format__(self, spec: str) -> str:
        return float.__format__(self, spec) if spec else words.number(float(self))


@dataclass(frozen=True, slots=True)
class _Row:
    verdict: Verdict
    reason: Reason
    holds: Callable[[TrialFacts], bool]
    text: str


#: How a trial of an unknown future comes to have so many epochs, by its outcome.
_HOW = {
    "paused": "It is paused",
    "behind": "Others were better: it was left behind",
    "interrupted": "It was interrupted",
    words.CUT_OFF: "Its process died",
}
_GAIN = (
    "twice the epochs would add {gain:.3f} to the best score ({gain_low:.3f} to {gain_high:.3f}; "
    "more than its standard error in {chance} of such trials)."
)
#: In the order of what to do first; nothing after CUT is said of a trial of an unknown future.
_ROWS = (
    _Row(
        Verdict.BROKEN,
        Reason.NOT_FINITE,
        signs.is_not_finite,
        "A loss was not finite in epoch {broken_epoch:.0f}: the steps are too large.",
    ),
    _Row(
        Verdict.BROKEN,
        Reason.FAR_ABOVE_GUESSING,
        signs.is_far_above_guessing,
        "The training loss ends at {last_train_loss}, far above the {guess_loss} of guessing: the "
        "steps are too large.",
    ),
    _Row(
        Verdict.BROKEN,
        Reason.DIVERGED,
        lambda facts: facts.outcome == "diverged",
        "The trial was ended as diverged, at a training loss of {last_train_loss}: the steps are "
        "too large.",
    ),
    _Row(
        Verdict.UNSTABLE,
        Reason.LOSS_ROSE,
        signs.has_loss_risen,
        "The training loss fell to {lowest_train_loss} at epoch {lowest_epoch:.0f} and rose again "
        "to {train_loss}: the steps are too large.",
    ),
    _Row(
        Verdict.UNCLEAR,
        Reason.CUT,
        lambda facts: facts.is_cut,
        "{how} after {count}; what more epochs would bring is unknown.",
    ),
    _Row(
        Verdict.CONVERGED,
        Reason.PERFECT,
        signs.is_perfect,
        "The score is 1 since epoch {perfect_since:.0f}: no epoch can be better.",
    ),
    _Row(
        Verdict.UNSTABLE,
        Reason.SCORE_LOST,
        signs.is_score_lost,
        "The score fell from {best_score:.3f} back to {level:.3f}, and guessing reaches "
        "{guess_score:.3f}: the steps are too large.",
    ),
    _Row(
        Verdict.NOT_LEARNING,
        Reason.LOSSES_FALL,
        signs.are_losses_falling,
        "The score is no better than guessing yet: the training loss, {train_loss}, is not far "
        "below the {guess_loss} of guessing and falls by {train_fall} an epoch, so the steps are "
        "small or the epochs few.",
    ),
    _Row(
        Verdict.NOT_LEARNING,
        Reason.ABOVE_GUESSING,
        signs.stays_above_guessing,
        "The training loss, {train_loss}, stays above the {guess_loss} of guessing and does not "
        "fall: the steps are too large.",
    ),
    _Row(
        Verdict.NOT_LEARNING,
        Reason.CREEPS,
        signs.creeps,
        "The training loss, {train_loss}, is not below the {guess_loss} of guessing and falls by "
        "only {train_fall} an epoch: the steps are too small.",
    ),
    _Row(
        Verdict.NOT_LEARNING,
        Reason.NOTHING_LEARNED,
        signs.is_at_guessing,
        "The training loss, {train_loss}, is not below the {guess_loss} of guessing, and the "
        "score is no better: the steps are far too small or far too large.",
    ),
    _Row(
        Verdict.NOT_LEARNING,
        Reason.NOTHING_GENERALISES,
        signs.generalises_nothing,
        "The training loss fell to {train_loss}, but the score, {level:.3f}, is no better than "
        "guessing ({guess_score:.3f}): look at the labels and the features.",
    ),
    _Row(
        Verdict.UNSTABLE,
        Reason.SCORE_SWINGS,
        signs.is_swinging,
        "The score swings between {low_score:.3f} and {high_score:.3f} in the last half of the "
        "epochs: the best epoch is {luck:.3f} above its line by luck, and the steps are large.",
    ),
    _Row(
        Verdict.OVERFITTING,
        Reason.SCORE_FALLS,
        signs.is_score_falling,
        "The score fell from {peak:.3f} around epoch {peak_epoch:.0f} to {level:.3f} while the "
        "training loss fell to {train_loss}.",
    ),
    _Row(
        Verdict.IMPROVING,
        Reason.SCORE_RISES,
        signs.is_score_rising,
        "The score still rises: " + _GAIN,
    ),
    _Row(
        Verdict.CONVERGED,
        Reason.FLAT,
        signs.is_flat,
        "The score is flat at {level:.3f} since epoch {epochs_needed:.0f}: " + _GAIN,
    ),
    _Row(
        Verdict.UNCLEAR,
        Reason.RATE_CHANGED,
        signs.is_after_a_step,
        f"The learning rate changed less than {MIN_OUTLOOK} epochs before the last, or scores are "
        "missing: too few epochs tell where the score goes.",
    ),
    _Row(
        Verdict.UNCLEAR,
        Reason.RATE_FALLEN,
        lambda facts: facts.is_annealed and facts.outlook is not None,
        "The learning rate fell to less than a quarter of its highest, which may be why the score "
        "rose: what a longer schedule would bring is unknown.",
    ),
    _Row(
        Verdict.UNCLEAR,
        Reason.TOO_FEW,
        lambda facts: facts.outlook is None,
        f"It ended after {{count}}, and {MIN_OUTLOOK} are needed to tell where the score goes.",
    ),
    _Row(
        Verdict.UNCLEAR,
        Reason.NOISE_HIDES,
        lambda facts: True,
        "The noise between epochs, {noise:.3f}, hides whether the score still rises: " + _GAIN,
    ),
)


def _numbers(facts: TrialFacts) -> dict[str, float]:
    half = [each for each in facts.scores[-max(facts.epochs // 2, 1) :] if math.isfinite(each)]
    low, low_epoch = facts.lowest(facts.train_losses)
    below = (epoch for epoch, score in enumerate(facts.scores, start=1) if score != 1.0)
    found: dict[str, float] = {
        name: getattr(facts, name)
        for name in ("epochs", "best_score", "error", "guess_score", "guess_loss")
    }
    found |= {"last_train_loss": facts.train_losses[-1]}
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
        found |= {"explained": facts.explained(facts.train.level)}
    if facts.val is not None:
        found |= {"val_loss": facts.val.level, "val_fall": -facts.val.slope}
    return {name: float(value) for name, value in found.items()}
