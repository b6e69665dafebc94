"""What a verdict was seen by, in the few words that a table has room for."""

from collections.abc import Mapping

from sweeps.analysis.verdicts import Judged, Reason
from sweeps.read import words

_SHORT: Mapping[Reason, str] = {
    Reason.NOT_FINITE: "a loss was not finite",
    Reason.FAR_ABOVE_GUESSING: "training loss {last_train_loss}, guessing {guess_loss}",
    Reason.LOSS_ROSE: "loss {lowest_train_loss} at epoch {lowest_epoch}, then {train_loss}",
    Reason.SCORE_LOST: "fell back to guessing ({guess_score})",
    Reason.SCORE_SWINGS: "swings between {low_score} and {high_score}",
    Reason.ABOVE_GUESSING: "training loss {train_loss}, guessing {guess_loss}",
    Reason.CREEPS: "training loss {train_loss}, guessing {guess_loss}",
    Reason.NOTHING_LEARNED: "training loss {train_loss}, guessing {guess_loss}",
    Reason.NOTHING_GENERALISES: "loss falls, score at guessing ({guess_score})",
    Reason.SCORE_FALLS: "{peak} at epoch {peak_epoch}, then {level}",
    Reason.LOSSES_FALL: "losses fall, score at guessing yet",
    Reason.PERFECT: "the score is 1 since epoch {perfect_since}",
    Reason.CUT: "its future is unknown",
    Reason.RATE_CHANGED: "the learning rate has just changed",
    Reason.RATE_FALLEN: "the learning rate has fallen",
    Reason.TOO_FEW: "a trend takes 8 epochs",
}
_AHEAD = "2x epochs: {gain} ({gain_low} to {gain_high})"
_WHOLE = frozenset({"lowest_epoch", "peak_epoch", "perfect_since", "epochs"})
_SCORES = frozenset({"low_score", "high_score", "guess_score", "peak", "level"})
_GAINS = frozenset({"gain", "gain_low", "gain_high"})


def short_evidence(judged: Judged) -> str:
    """Return the numbers of a verdict in a few words."""
    shown = {name: _show(name, value) for name, value in judged.numbers.items()}
    template = _SHORT.get(judged.reason, _AHEAD if "gain" in shown else judged.reason.value)
    return words.clean(template.format(**shown))


def is_of_guessing(judged: Judged) -> bool:
    """Return whether its few words speak of guessing."""
    return "guessing" in _SHORT.get(judged.reason, "")


def _show(name: str, value: float) -> str:
    if words.is_missing(value):
        return "-"
    if name in _WHOLE:
        return words.whole(value)
    if name in _GAINS:
        return f"{round(value, 3) + 0.0:+.3f}"
    return words.signed(value) if name in _SCORES else words.number(value)
