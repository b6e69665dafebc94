"""The hyperparameters of a study's trials as they are shown.

What is off in all trials is left out, such as a weight decay of 0, and is said where another trial
has it on. Every table, log and sentence takes its values from here. Knows no score.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search_spaces.hparams import LINE_SEARCHES, ROWS, flatten
from search_spaces.space import parse_space
from sweeps.read.words import NO_CLIPPING, configuration

if TYPE_CHECKING:
    import pandas as pd

#: What is shown as the learning rate of an optimizer that finds its own, beside told ones.
BY_LINE_SEARCH = "by line search"
#: A gradient's norm that no step comes near: where sweep files write it, nothing is clipped.
NEVER_CLIPS = 1e6
#: Defaults that leave something out of the training.
_OFF = {name for name, row in ROWS.items() if row.default in (0.0, False, "constant")}
_FIRST = ("optimizer", "learning_rate")
_PLACES = {name: place for place, name in enumerate(ROWS)}


def read_params(results: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the stored hyperparameters of each row of results by their names in a space."""
    return [flatten(json.loads(each)) for each in results["params"]]


def read_shown_params(results: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the hyperparameters of each row of results, as ``show_params`` returns them."""
    return show_params(read_params(results))


def show_params(
    params: Sequence[Mapping[str, Any]], *, beside: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return each trial's hyperparameters, with what is off only where another trial has it on.

    A trial without clipping has ``words.NO_CLIPPING``, as has one that clips at a million or more;
    a line search has ``BY_LINE_SEARCH`` as its learning rate. What else a trial's optimizer or
    schedule does not have stays absent.

    Args:
        params: Hyperparameters of each trial, by their names in a space.
        beside: Names that trials have which are not among these.

    Returns:
        In the order of ``Hparams``, those of the model last.
    """
    varied = {name for one in params for name in one} | set(beside)
    defaults = {name: ROWS[name].default for name in _OFF if name not in beside}
    off_in_all = {
        name
        for name, default in defaults.items()
        if all(one.get(name, default) == default for one in params)
    }
    filled = []
    for one in params:
        is_search = one.get("optimizer") in LINE_SEARCHES
        off = {"learning_rate": BY_LINE_SEARCH} if is_search else {"clip_norm": None}
        whole = {**{name: value for name, value in off.items() if name in varied}, **one}
        clip = whole.get("clip_norm")
        if "clip_norm" in whole and (clip is None or clip >= NEVER_CLIPS):
            whole["clip_norm"] = NO_CLIPPING
        names = [name for name in whole if name not in off_in_all]
        names.sort(key=lambda name: _PLACES.get(name, len(_PLACES)))
        filled.append({name: whole[name] for name in names})
    return filled


def list_varying(params: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of which trials have two values or more, the most telling first.

    That is the optimizer, the learning rate, and then what most trials have; of equal ones those
    with the most values. A hyperparameter that is the same wherever a trial has it does not vary,
    nor does a learning rate that is the same in all trials that are told one.
    """
    names = dict.fromkeys(name for one in params for name in one)
    values = {
        name: [one[name] for one in params if one.get(name, BY_LINE_SEARCH) != BY_LINE_SEARCH]
        for name in names
    }
    distinct = {name: len(set(map(repr, each))) for name, each in values.items()}

    def weight(name: str) -> tuple[int, int, int]:
        place = _FIRST.index(name) if name in _FIRST else len(_FIRST)
        return place, -len(values[name]), -distinct[name]

    return sorted((name for name in values if distinct[name] > 1), key=weight)


def describe_trial(results: "pd.DataFrame", trial: int, space: Mapping[str, Any]) -> str:
    """Return a trial's optimizer, learning rate and what varies of the others, on one line.

    The only trial of a study differs from no other: of it all that was sampled is named.

    Args:
        results: ``Study.results``.
        trial: Its number, one of these.
        space: The study's; empty: not known.
    """
    params = read_shown_params(results)
    named = parse_space(space).varying if len(params) == 1 else list_varying(params)
    own = params[results["trial"].tolist().index(trial)]
    names = dict.fromkeys([*_FIRST, *named])
    return configuration({name: own[name] for name in names if name in own})
