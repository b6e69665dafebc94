"""Names, numbers and times as a report writes them for people. Knows no frame and no page."""

import itertools
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from search_spaces.hparams import OPTIMIZERS, Hparams

if TYPE_CHECKING:
    import pandas as pd

#: Outcome of a trial whose process died before it could write one; no database has it.
CUT_OFF = "cut off"
#: What an outcome means, in a few words.
OUTCOMES: Mapping[str, str] = {
    "stalled": "stopped rising",
    "exhausted": "reached the last epoch allowed",
    "behind": "others were better at the same epoch, or the budget ended",
    "diverged": "its loss blew up",
    "failed": "an error in the model",
    "paused": "others are better at the same epoch; it may go on",
    "interrupted": "the run was stopped",
    CUT_OFF: "its process is gone",
    "running": "still training",
}
#: Those of trials that have not come to their end.
UNENDED = ("paused", "interrupted", CUT_OFF, "running")
_LABELS: Mapping[str, str] = {
    "beta1": "beta 1",
    "beta2": "beta 2",
    "rho": "rho",
    "clip_norm": "gradient clipping",
    "class_weights": "class weights",
    "schedule_epochs": "schedule length (epochs)",
    "step_epochs": "schedule step (epochs)",
    "warmup_epochs": "warm-up (epochs)",
    "plateau_patience": "plateau patience (epochs)",
    "factor": "schedule factor",
}


_NAME = re.compile(r"\b(?:beta[12]|[a-z]+(?:_[a-z0-9]+)+)\b(?! =)")
#: Values that say by themselves what they are of, by hyperparameter.
_PHRASES: Mapping[str, str] = {
    "optimizer": "{}",
    "batch_size": "batches of {}",
    "clip_norm": "clipped at {}",
    "class_weights": "class weights {}",
}


def why_first(equals: "pd.DataFrame") -> str:
    """Return why the first of two or more trials of one score leads, in the order of results."""
    first, second = equals["best_val_loss"].iloc[:2]
    return "by its lower validation loss" if first < second else "as the earliest"


def label(name: str) -> str:
    """Return a hyperparameter's name for people: ``learning rate``, ``filters``.

    One of the model that has a name which trials have too is ``model dropout``.
    """
    if name.startswith("model."):
        own = name.removeprefix("model.")
        return f"{'model ' if own in Hparams.model_fields else ''}{own.replace('_', ' ')}"
    return _LABELS.get(name, name.replace("_", " "))


def configuration(values: Mapping[str, Any]) -> str:
    """Return a trial's hyperparameters on one line: ``adam, learning rate 0.00235, dropout 0.3``.

    Args:
        values: By their names in a space, in the order to say them.
    """
    return ", ".join(_phrase(name, value) for name, value in values.items())


def _phrase(name: str, value: object) -> str:
    if name == "clip_norm" and value == "none":
        return "no clipping"
    if isinstance(value, bool):
        return label(name) if value else f"no {label(name)}"
    template = _PHRASES.get(name)
    return template.format(setting(value)) if template else f"{label(name)} {setting(value)}"


def outcome(value: object) -> str:
    """Return an outcome; a trial without one runs."""
    return value if isinstance(value, str) else "running"


def signed(value: float, digits: int = 3) -> str:
    """Return a number in so many decimals, never ``-0.000``."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def score(value: float | None) -> str:
    """Return a score in four decimals; ``-`` where it is missing."""
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def explain_rungs(config: Mapping[str, Any]) -> str:
    """Return what rungs are in a study that has some, else ""."""
    pruner = config.get("pruner") or {}
    if pruner.get("name") != "halving":
        return ""
    factor, rung, rungs = int(pruner["reduction_factor"]), int(pruner["min_epochs"]), []
    while rung < int(config["max_epochs"]):
        rungs.append(str(rung))
        rung *= factor
    return (
        f"A rung is an epoch ({', '.join(rungs)}) from which only the best go on, about one in "
        f"{factor} of those that have come to it; the others are paused, some are promoted later, "
        "and what is left of them at the end is behind."
    )


def parts(segments: Sequence[tuple[int, int]]) -> str:
    """Return the epochs of each part in which a trial was trained: ``1, 2-4, 5-16``.

    Args:
        segments: Data epoch at the entry and number of epochs of each, in order.
    """
    ends = list(itertools.accumulate(number for _, number in segments))
    starts = [end - number + 1 for end, (_, number) in zip(ends, segments, strict=True)]
    spans = zip(starts, ends, strict=True)
    return ", ".join(str(end) if start == end else f"{start}-{end}" for start, end in spans)


def whole(value: Any) -> str:
    """Return a whole number with thousands apart; ``-`` where it is missing."""
    return "-" if value is None or value != value else f"{int(value):,}"


def setting(value: object) -> str:
    """Return a hyperparameter's value in at most four digits; ``-`` where a trial has none.

    Close below 1 it shows two digits of the distance to 1: 0.9987, not 0.999.
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if 0.9 < value < 1.0:
            digits = 1 - math.floor(math.log10(1.0 - value))
            return f"{value:.{digits}f}".rstrip("0")
        short = f"{value:.3g}"
        return f"{value:,.0f}" if "e+" in short and abs(value) < 1e9 else short
    return value if isinstance(value, str) else json.dumps(value)


def duration(seconds: float) -> str:
    """Return a time in its two largest units: ``2 h 5 min``, ``3 min 20 s``, ``4.2 s``."""
    if math.isnan(seconds):
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def moment(when: datetime | None) -> str:
    """Return a moment: ``21 November 2026, 10:51 UTC``."""
    if when is None or when != when:
        return "-"
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def leader(row: "pd.Series[Any]", metric: str) -> str:
    """Return who leads of trials that have not ended, as the end of a sentence; "" if none."""
    if math.isnan(row["best_score"]):  # it has had no epoch
        return ""
    at = f"at epoch {whole(row['best_epoch'])}"
    return f", the best trial {row['trial']} with {metric} {score(row['best_score'])} {at}"


def count(number: int, word: str) -> str:
    """Return ``1 trial``, ``2 trials``."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def part(number: int, total: int, words: str) -> str:
    """Return ``2 of the 5 best trials``, ``all 5 best trials``, ``both best trials``.

    Args:
        number: From 1.
        total: Of so many, at least as many.
        words: What they are, in the plural; of one alone the ``s`` is left off.
    """
    if number < total:
        return f"{number:,} of the {total:,} {words}"
    if total == 1:
        return f"the only {words.removesuffix('s')}"
    return f"both {words}" if total == 2 else f"all {total:,} {words}"


def listing(parts: list[str]) -> str:
    """Return ``a``, ``a and b``, ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def plain(text: str, *, kept: Collection[str] = ()) -> str:
    """Return advice in people's names; ``name = value`` stays as it is typed.

    It begins with a capital letter, but for an optimizer's name.

    Args:
        text: With keys, as findings and pieces of advice have them.
        kept: Names of the user's own, such as classes, which stay as they are.
    """
    text = text.replace("see epochs_to_99", "see its epoch of 99 %")
    own = "|".join(re.escape(name) for name in sorted(kept, key=len, reverse=True) if name)
    names = re.compile(rf"(?<!\w)(?P<own>{own})(?!\w)|{_NAME.pattern}") if own else _NAME

    def name(found: re.Match[str]) -> str:
        is_own = own and found["own"] is not None
        return found.group() if is_own else label(found.group())

    named = names.sub(name, text)
    first = re.match(r"\w*", named)
    is_kept = first is not None and first.group() in OPTIMIZERS
    return named if is_kept else named[:1].upper() + named[1:]
