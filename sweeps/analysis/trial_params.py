"""The hyperparameters of a study's trials as they are shown: what is off has its value too.

What is off is not stored (``Hparams.to_params``): a constant rate beside schedules, no clipping
beside clipped trials. Knows no score.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search_spaces.hparams import list_unstored
from sweeps.analysis.space_table import read_params

if TYPE_CHECKING:
    import pandas as pd

#: What is shown of a trial that does not clip.
NO_CLIPPING = "none"
#: A gradient's norm that no step comes near: where sweep files write it, nothing is clipped.
_NEVER_CLIPS = 1e6
_FIRST = ("optimizer", "learning_rate")


def read_shown_params(results: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the hyperparameters of each row of ``queries.results``, as ``fill_unstored`` does."""
    return fill_unstored(read_params(results))


def fill_unstored(params: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each trial's hyperparameters with what is off, where another trial has it on.

    A trial without clipping has ``NO_CLIPPING``, as has one that clips at a million or more. What
    a trial's optimizer or schedule does not have stays absent.

    Args:
        params: Hyperparameters of each trial, by their names in a space.
    """
    varied = {name for one in params for name in one}
    filled = []
    for one in params:
        unstored = list_unstored(str(one.get("optimizer", "adam")))
        off = {name: value for name, value in unstored.items() if name in varied}
        whole = {**dict(one), **{name: value for name, value in off.items() if name not in one}}
        clip = whole.get("clip_norm")
        if "clip_norm" in whole and (clip is None or clip >= _NEVER_CLIPS):
            whole["clip_norm"] = NO_CLIPPING
        filled.append(whole)
    return filled


def list_varying(params: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of which trials have two values or more, the most telling first.

    That is the optimizer, the learning rate, and then what most trials have; of equal ones those
    with the most values. A hyperparameter that is the same wherever a trial has it does not vary.
    """
    names = dict.fromkeys(name for one in params for name in one)
    values = {name: [one[name] for one in params if name in one] for name in names}
    distinct = {name: len(set(map(repr, each))) for name, each in values.items()}
    varying = [name for name in values if distinct[name] > 1]

    def weight(name: str) -> tuple[int, int, int]:
        place = _FIRST.index(name) if name in _FIRST else len(_FIRST)
        return place, -len(values[name]), -distinct[name]

    return sorted(varying, key=weight)


def name_values(params: Mapping[str, Any], varying: Sequence[str]) -> dict[str, Any]:
    """Return a trial's optimizer, its learning rate, and what varies of the others, in order."""
    names = dict.fromkeys([*_FIRST, *varying])
    return {name: params[name] for name in names if name in params}
