"""Numbers, names, times and lists as people read them: one function each, for every view.

Knows no frame, no page and no terminal. What is missing (None, NaN, pandas's NA) is ``-``.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

#: Outcome of a trial whose process died before it could write one; no database has it.
CUT_OFF = "cut off"
#: What an outcome means, in a few words, in the order of a legend.
OUTCOMES: Mapping[str, str] = {
    "stalled": "its score stopped rising",
    "exhausted": "it reached the last epoch allowed",
    "cut short": "the budget or the time ended first",
    "behind": "others were better after as many epochs",
    "diverged": "its loss blew up",
    "failed": "an error in the model's code",
    "paused": "it waits to be compared after as many epochs; it may go on",
    "interrupted": "the run was stopped; the next run goes on with it",
    CUT_OFF: "its process died; the next run goes on with it",
    "running": "it is training",
}
#: Outcomes of trials that have not come to their end.
UNENDED = ("paused", "interrupted", CUT_OFF, "running")
#: What is shown of a trial that does not clip, beside trials that do.
NO_CLIPPING = "none"
_LABELS: Mapping[str, str] = {
    "beta1": "beta 1",
    "beta2": "beta 2",
    "clip_norm": "gradient clipping",
    "schedule_epochs": "schedule length (epochs)",
    "step_epochs": "schedule step (epochs)",
    "warmup_epochs": "warm-up (epochs)",
    "plateau_patience": "plateau patience (epochs)",
    "factor": "schedule factor",
    "n_startup_trials": "startup trials",
    "n_warmup_epochs": "warm-up epochs",
}
#: Hyperparameters whose value is said with other words than ``label value``.
_PHRASES: Mapping[str, str] = {
    "optimizer": "{}",
    "batch_size": "batches of {}",
    "clip_norm": "clipped at {}",
}


def is_missing(value: Any) -> bool:
    """Return whether the value is None, NaN or pandas's NA or NaT."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # NA is neither equal to itself nor different
        return True


def clean(text: object) -> str:
    """Return the text on one line, without what would steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in str(text))


def score(value: Any) -> str:
    """Return a score in four decimals."""
    return "-" if is_missing(value) else f"{value:.4f}"


def signed(value: float, digits: int = 3) -> str:
    """Return a number in so many decimals, never ``-0.000``."""
    return "-" if is_missing(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def whole(value: Any) -> str:
    """Return a whole number with thousands apart."""
    return "-" if is_missing(value) else f"{int(value):,}"


def number(value: Any) -> str:
    """Return a number in three significant digits, a large one as a whole number.

    Close below 1 it shows two digits of the distance to 1: 0.9987, not 0.999.
    """
    if is_missing(value):
        return "-"
    if 0.9 < value < 1.0:
        digits = 1 - math.floor(math.log10(1.0 - value))
        return f"{value:.{digits}f}".rstrip("0")
    return f"{value:,.0f}" if 999.5 <= abs(value) < 1e9 else f"{value:.3g}"


def setting(value: object) -> str:
    """Return a hyperparameter's value; ``-`` where a trial has none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) or is_missing(value):
        return number(value)
    return clean(value if isinstance(value, str) else json.dumps(value, default=str))


def label(name: str) -> str:
    """Return a hyperparameter's name: ``learning rate``, ``filters``.

    One of the model that has a name which trials have too is ``model dropout``.
    """
    if name.startswith("model."):
        from search_spaces.hparams import Hparams  # not at the top: every command imports words

        own = name.removeprefix("model.")
        return f"{'model ' if own in Hparams.model_fields else ''}{own.replace('_', ' ')}"
    return _LABELS.get(name, name.replace("_", " "))


def configuration(values: Mapping[str, Any]) -> str:
    """Return hyperparameters on one line: ``adam, learning rate 0.00235, dropout 0.3``.

    Args:
        values: By their names in a space, in the order to say them.
    """
    return ", ".join(_phrase(name, value) for name, value in values.items())


def outcome(value: object) -> str:
    """Return an outcome; a trial without one is running."""
    return value if isinstance(value, str) else "running"


def duration(seconds: float) -> str:
    """Return a time in its two largest units: ``2 h 5 min``, ``3 min 20 s``, ``4.2 s``."""
    if is_missing(seconds):
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
    return "-" if when is None or is_missing(when) else f"{when.day} {when:%B %Y, %H:%M} UTC"


def count(number: int, word: str) -> str:
    """Return ``1 trial``, ``2 trials``."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def listing(parts: Sequence[str], last: str = "and") -> str:
    """Return ``a``, ``a and b``, ``a, b and c``; "" of none."""
    return f" {last} ".join([*([", ".join(parts[:-1])] if parts[1:] else []), *parts[-1:]])


def some(number: int, total: int, words: str) -> str:
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


def spans(segments: Sequence[tuple[int, int]]) -> str:
    """Return the epochs of each part in which a trial was trained: ``1, 2-4, 5-16``.

    Args:
        segments: Data epoch at the entry and number of epochs of each, in order.
    """
    ends = list(itertools.accumulate(epochs for _, epochs in segments))
    starts = [end - epochs + 1 for end, (_, epochs) in zip(ends, segments, strict=True)]
    pairs = zip(starts, ends, strict=True)
    return ", ".join(str(end) if start == end else f"{start}-{end}" for start, end in pairs)


def list_rungs(config: Mapping[str, Any]) -> list[int]:
    """Return the epochs at which a study's trials are paused, ascending; [] where they are not."""
    pruner = config.get("pruner") or {}
    if pruner.get("name") != "halving":
        return []
    rungs = [int(pruner["min_epochs"])]
    while rungs[-1] < int(config["max_epochs"]):
        rungs.append(rungs[-1] * int(pruner["reduction_factor"]))
    return rungs[:-1]


def explain_rungs(config: Mapping[str, Any]) -> str:
    """Return how trials are paused and promoted in a study that does so, else ""."""
    rungs = [str(each) for each in list_rungs(config)]
    if not rungs:
        return ""
    where = f"epoch {rungs[0]}" if len(rungs) == 1 else f"epochs {listing(rungs)}"
    return (
        f"At {where} a trial is compared with all that have trained as long. About one in "
        f"{config['pruner']['reduction_factor']}, the best ones, go on; the others wait (they are "
        "paused) and go on later (they are promoted) if they are among the best by then. What "
        "still waits in the end is 'behind'."
    )


def _phrase(name: str, value: object) -> str:
    if name == "clip_norm" and value == NO_CLIPPING:
        return "no clipping"
    if isinstance(value, bool):
        return label(name) if value else f"no {label(name)}"
    template = _PHRASES.get(name)
    return template.format(setting(value)) if template else f"{label(name)} {setting(value)}"
