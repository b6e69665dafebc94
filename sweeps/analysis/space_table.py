"""A search space as a plain table, beside the values that trials had: ranges, places, ends.

Reads what ``SearchSpace.to_table`` writes and the JSON of a trial's parameters. Knows no score.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from search_spaces.hparams import find_limit_mistakes
from sweeps.analysis.findings import UNTELLING

if TYPE_CHECKING:
    import pandas as pd

BETAS = ("beta1", "beta2")
#: How far a range is widened: half of its width, on its scale.
_WIDENING = 0.5
#: How far a beta's range is widened, in 1 - beta, whose inverse is the steps averaged over, and
#: the ends that it stays within: a first moment over 2 to 1000 steps, a second over 10 to 100,000.
_BETA_FACTOR = 2.0
_BETA_ENDS = {"beta1": (0.5, 0.999), "beta2": (0.9, 0.99999)}
_SCALE_ENDS = (1e-12, 1.0 - 1e-12)


@dataclass(frozen=True, slots=True)
class NamedRange:
    """One range of a space.

    Attributes:
        name: The hyperparameter, ``model.NAME`` for one of the model's.
        path: Its place below ``space``, as ``--set`` writes it.
        low: Its lower end.
        high: Its upper end.
        is_log: Whether it is sampled on a log scale; betas are, as 1 - beta.
        is_int: Whether it has whole numbers alone.
        optimizer: The optimizer whose own range it is, None: of all that have none of their own.
        others: Optimizers that have one of their own.
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
        """Return where a value lies on the range's scale: 0 at the low end, 1 at the high one."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        return (self._scaled(value) - low) / (high - low) if high != low else 0.5

    def has(self, params: Mapping[str, Any]) -> bool:
        """Return whether a trial drew the hyperparameter from this range; a word never is."""
        if self.name not in params or isinstance(params[self.name], str):
            return False
        optimizer = params.get("optimizer")
        if self.optimizer is not None:
            return bool(optimizer == self.optimizer)
        return optimizer not in self.others

    def widened(self, end: str) -> float | None:
        """Return an end that is further out by half the range's width, on its scale.

        Of a beta, 1 - beta is halved or doubled, and stays within what is of use.

        Args:
            end: ``low`` or ``high``.

        Returns:
            None where the limits of the hyperparameter (``Hparams``) do not allow it, or a whole
            number would stay the same. Two significant digits; limits of models are not known.
        """
        present = self.high if end == "high" else self.low
        if self.name in BETAS:
            rounded = wider = self._widened_beta(end)
        else:
            low, high = self._scaled(self.low), self._scaled(self.high)
            width = _WIDENING * (high - low)
            wider = self._unscaled(high + width if end == "high" else low - width)
            rounded = float(f"{wider:.2g}")
        value: float | int = round(wider) if self.is_int else rounded
        if value == present or (value > present) != (end == "high"):
            return None
        is_model = self.name.startswith("model.")
        if (is_model and value <= 0) or (not is_model and find_limit_mistakes(self.name, value)):
            return None
        return value

    def _widened_beta(self, end: str) -> float:
        least, most = _BETA_ENDS[self.name]
        if end == "high":
            far = (1.0 - self.high) / _BETA_FACTOR
        else:
            far = (1.0 - self.low) * _BETA_FACTOR
        # In decimals: 1 - 0.1 is not 0.9 in binary.
        return min(max(float(1 - Decimal(f"{far:.2g}")), least), most)

    def _scaled(self, value: float) -> float:
        if self.name in BETAS:
            return -math.log(min(max(1.0 - value, _SCALE_ENDS[0]), 1.0))
        return math.log(value) if self.is_log else value

    def _unscaled(self, place: float) -> float:
        if self.name in BETAS:
            return 1.0 - math.exp(-place)
        return math.exp(place) if self.is_log else place


def list_ranges(space: Mapping[str, Any]) -> Iterator[NamedRange]:
    """Yield the ranges of a space, each optimizer's own after the one it replaces."""
    for name, path, spec in _list_specs(space):
        if not isinstance(spec, Mapping):
            continue
        own = spec.get("by_optimizer") or {}
        yield _make_range(name, path, spec, others=frozenset(own))
        for optimizer, sub in own.items():
            if isinstance(sub, Mapping):
                scale = {key: spec[key] for key in ("log", "int") if key in spec}
                place = f"{path}.by_optimizer.{optimizer}"
                yield _make_range(name, place, {**scale, **sub}, optimizer=optimizer)


def list_sampled(space: Mapping[str, Any]) -> list[str]:
    """Return the names of what varies: ranges, and choices of more than one."""
    return [
        name
        for name, _, spec in _list_specs(space)
        if isinstance(spec, Mapping) or (isinstance(spec, list | tuple) and len(spec) > 1)
    ]


def trials_told(verdicts: "pd.DataFrame", start: str) -> set[int]:
    """Return the numbers of the trials whose advice begins so."""
    return {int(each) for each in verdicts.loc[verdicts["advice"].str.startswith(start), "trial"]}


def trials_with(verdicts: "pd.DataFrame", verdict: str) -> set[int]:
    """Return the numbers of the trials that have a verdict among theirs, leading or not.

    Args:
        verdicts: ``analysis.verdicts.verdicts``.
        verdict: The words of it, as ``findings.Verdict`` has them.
    """
    has_it = [verdict in str(each).split(", ") for each in verdicts["verdicts"]]
    return {int(trial) for trial in verdicts.loc[has_it, "trial"]}


def untelling_trials(verdicts: "pd.DataFrame") -> set[int]:
    """Return the trials whose curves say nothing of them, by number."""
    return set().union(*(trials_with(verdicts, each.value) for each in UNTELLING))


def read_params(results: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the hyperparameters of each row of ``queries.results`` by their names in a space."""
    return [flatten(json.loads(each)) for each in results["params"]]


def flatten(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored parameters by their names in a space: ``beta1``, ``model.filters``."""
    flat = {name: value for name, value in params.items() if name not in ("betas", "model")}
    flat |= dict(zip(BETAS, params.get("betas") or (), strict=False))
    flat |= {f"model.{name}": value for name, value in (params.get("model") or {}).items()}
    return flat


def _make_range(
    name: str,
    path: str,
    spec: Mapping[str, Any],
    *,
    optimizer: str | None = None,
    others: frozenset[str] = frozenset(),
) -> NamedRange:
    return NamedRange(
        name=name,
        path=path,
        low=float(spec["low"]),
        high=float(spec["high"]),
        is_log=bool(spec.get("log")),
        is_int=bool(spec.get("int")),
        optimizer=optimizer,
        others=others,
    )


def _list_specs(space: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for name, spec in space.items():
        if name == "model":
            yield from ((f"model.{one}", f"model.{one}", each) for one, each in spec.items())
        else:
            yield name, name, spec
