"""The hyperparameters of a study's trials as they are shown, and the ranges they are from.

What is off is not stored (``Hparams.to_params``): a constant rate beside schedules, no clipping
beside clipped trials. Every table, log and sentence takes its values from here. Knows no score.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search_spaces.hparams import LINE_SEARCHES, ROWS, find_row, flatten
from sweeps.read.words import NO_CLIPPING, configuration

if TYPE_CHECKING:
    import pandas as pd

BETAS = ("beta1", "beta2")
#: What is shown as the learning rate of an optimizer that finds its own, beside told ones.
BY_LINE_SEARCH = "by line search"
#: A gradient's norm that no step comes near: where sweep files write it, nothing is clipped.
NEVER_CLIPS = 1e6
_ROUNDING = 1e-9
_FIRST = ("optimizer", "learning_rate")
_PLACES = {name: place for place, name in enumerate(ROWS)}


def read_params(results: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the stored hyperparameters of each row of results by their names in a space."""
    return [flatten(json.loads(each)) for each in results["params"]]


def read_shown_params(results: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the hyperparameters of each row of results, as ``fill_unstored`` does."""
    return fill_unstored(read_params(results))


def fill_unstored(
    params: Sequence[Mapping[str, Any]], *, beside: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return each trial's hyperparameters with what is off, where another trial has it on.

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
    filled = []
    for one in params:
        is_search = one.get("optimizer") in LINE_SEARCHES
        off = {"learning_rate": BY_LINE_SEARCH} if is_search else {"clip_norm": None}
        whole = {**{name: value for name, value in off.items() if name in varied}, **one}
        clip = whole.get("clip_norm")
        if "clip_norm" in whole and (clip is None or clip >= NEVER_CLIPS):
            whole["clip_norm"] = NO_CLIPPING
        filled.append(
            {
                name: whole[name]
                for name in sorted(whole, key=lambda name: _PLACES.get(name, len(_PLACES)))
            }
        )
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


def name_values(params: Mapping[str, Any], varying: Sequence[str]) -> dict[str, Any]:
    """Return a trial's optimizer, its learning rate, and what varies of the others, in order."""
    names = dict.fromkeys([*_FIRST, *varying])
    return {name: params[name] for name in names if name in params}


def describe_trial(results: "pd.DataFrame", trial: int, space: Mapping[str, Any]) -> str:
    """Return a trial's optimizer, learning rate and what varies of the others, on one line.

    The only trial of a study differs from no other: of it all that was sampled is named.

    Args:
        results: ``Study.results``.
        trial: Its number, one of these.
        space: The study's; empty: not known.
    """
    params = read_shown_params(results)
    named = list_sampled(space) if len(params) == 1 else list_varying(params)
    own = params[results["trial"].tolist().index(trial)]
    return configuration(name_values(own, named))


@dataclass(frozen=True, slots=True)
class Range:
    """One range of a space.

    Attributes:
        name: The hyperparameter, ``model.NAME`` for one of the model's.
        path: Its place below ``space``, as ``--set`` writes it.
        low: Its lower end.
        high: Its upper end.
        is_log: Whether it is sampled on a log scale.
        is_int: Whether it has whole numbers alone.
        optimizer: The optimizer whose own range it is, None: of all that have none of their own.
        others: Optimizers that have a range or a value of their own.
    """

    name: str
    path: str
    low: float
    high: float
    is_log: bool
    is_int: bool
    optimizer: str | None = None
    others: frozenset[str] = frozenset()

    def place(self, value: float) -> float:
        """Return where a value lies on the range's scale: 0 at the low end, 1 at the high one.

        The scale of a beta is the logarithm of 1 - beta, whose inverse is the steps averaged over.
        """
        low, high = self._scale(self.low), self._scale(self.high)
        return (self._scale(value) - low) / (high - low) if high != low else 0.5

    def at(self, place: float) -> float | None:
        """Return the value at a place, which may be below 0 or above 1, in two digits.

        Returns:
            None where the hyperparameter may not have it (``Hparams``); limits of models are not
            known but that 0 is one.
        """
        low, high = self._scale(self.low), self._scale(self.high)
        scaled = low + place * (high - low)
        if self.name in BETAS:
            value = round(1.0 - float(f"{math.exp(-scaled):.2g}"), 12)
        else:
            value = float(f"{math.exp(scaled) if self.is_log else scaled:.2g}")
        value = round(value) if self.is_int else value
        if self.name.startswith("model."):
            return value if value > 0 else None
        return None if find_row(self.name).find_mistakes(value) else value

    def has(self, params: Mapping[str, Any]) -> bool:
        """Return whether a trial drew the hyperparameter from this range.

        A word is from no range, nor is a number outside: a trial of ``tries`` may have weight
        decay 0 beside a log range.
        """
        value = params.get(self.name)
        if not isinstance(value, int | float):
            return False
        # A sampler of a log scale may round beyond an end.
        low, high = (end * _ROUNDING for end in (self.low, self.high))
        if not self.low - abs(low) <= value <= self.high + abs(high):
            return False
        optimizer = params.get("optimizer")
        if self.optimizer is not None:
            return bool(optimizer == self.optimizer)
        return optimizer not in self.others

    def _scale(self, value: float) -> float:
        if self.name in BETAS:
            return -math.log(max(1.0 - value, 1e-12))
        return math.log(value) if self.is_log else value


def list_ranges(space: Mapping[str, Any]) -> Iterator[Range]:
    """Yield the ranges of a space, each optimizer's own after the one it replaces."""
    for name, spec in _list_specs(space):
        if not isinstance(spec, Mapping):
            continue
        own = spec.get("by_optimizer") or {}
        yield _make_range(name, name, spec, others=frozenset(own))
        for optimizer, sub in own.items():
            if isinstance(sub, Mapping):
                scale = {key: spec[key] for key in ("log", "int") if key in spec}
                path = f"{name}.by_optimizer.{optimizer}"
                yield _make_range(name, path, {**scale, **sub}, optimizer=optimizer)


def list_sampled(space: Mapping[str, Any]) -> list[str]:
    """Return the names of what varies: ranges, and choices of more than one."""
    return [
        name
        for name, spec in _list_specs(space)
        if isinstance(spec, Mapping) or (isinstance(spec, list | tuple) and len(spec) > 1)
    ]


def _make_range(name: str, path: str, spec: Mapping[str, Any], **whose: Any) -> Range:
    ends = float(spec["low"]), float(spec["high"])
    return Range(name, path, *ends, bool(spec.get("log")), bool(spec.get("int")), **whose)


def _list_specs(space: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, spec in space.items():
        if name == "model":
            yield from ((f"model.{one}", each) for one, each in spec.items())
        else:
            yield name, spec
