"""What a sampler draws of a hyperparameter: Optuna's name for it, its scale, and the way back."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from search_spaces.hparams import MODEL, ModelValue, Row
from search_spaces.ranges import Range

#: Share of a number by which a sampler of a log scale may round beyond an end.
_ROUNDING = 1e-9


class TrialLike(Protocol):
    """What a space needs of an Optuna trial; ``optuna.trial.BaseTrial`` has it."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number in [low, high]."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Return a whole number in [low, high]."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """Choices or a range of a hyperparameter, for all trials or for those of one optimizer.

    Attributes:
        row: The hyperparameter's.
        spec: The choices, or the range.
        optimizer: The optimizer whose own range it is; None: the range of all others.
        others: Optimizers that have a range or a value of their own.
    """

    row: Row
    spec: tuple[ModelValue, ...] | Range
    optimizer: str | None = None
    others: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Optuna's name: ``learning_rate_sgd``, ``one_minus_beta1``, ``model.filters``."""
        own = "" if self.optimizer is None else f"_{self.optimizer}"
        return f"{'one_minus_' if self.is_distance else ''}{self.row.name}{own}"

    @property
    def label(self) -> str:
        """The name for people: ``learning_rate (sgd)``, ``beta1``, ``filters``."""
        name = self.row.name.removeprefix(MODEL)
        return name if self.optimizer is None else f"{name} ({self.optimizer})"

    @property
    def path(self) -> str:
        """The place below ``[space]``, as ``--set`` writes it."""
        own = "" if self.optimizer is None else f".by_optimizer.{self.optimizer}"
        return self.row.name + own

    @property
    def choices(self) -> tuple[ModelValue, ...]:
        """The choices; none of a range."""
        return () if isinstance(self.spec, Range) else self.spec

    @property
    def low(self) -> float:
        """The lowest value of a range."""
        assert isinstance(self.spec, Range)
        return self.spec.low

    @property
    def high(self) -> float:
        """The highest value of a range."""
        assert isinstance(self.spec, Range)
        return self.spec.high

    @property
    def is_distance(self) -> bool:
        """Optuna draws 1 - value, on a log scale.

        0.99 and 0.999 average over 100 and 1000 steps: even steps of beta would hardly visit the
        second.
        """
        return self.row.is_beta and isinstance(self.spec, Range)

    @property
    def is_single(self) -> bool:
        """Only one value is possible."""
        if isinstance(self.spec, Range):
            return self.spec.low == self.spec.high
        return len(self.spec) == 1

    @property
    def is_log(self) -> bool:
        """Optuna draws on a log scale."""
        return self.is_distance or (isinstance(self.spec, Range) and self.spec.log)

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest number that Optuna may draw; of a range."""
        assert isinstance(self.spec, Range)
        if not self.is_distance:
            return self.spec.low, self.spec.high
        return float(self.to_optuna(self.spec.high)), float(self.to_optuna(self.spec.low))

    def suggest(self, trial: TrialLike) -> ModelValue:
        """Return a value that the trial was asked for."""
        spec = self.spec
        if not isinstance(spec, Range):
            choice: ModelValue = trial.suggest_categorical(self.name, spec)
            return choice
        if spec.is_int:
            step = int(spec.step or 1)
            return trial.suggest_int(
                self.name, int(spec.low), int(spec.high), step=step, log=spec.log
            )
        drawn = trial.suggest_float(self.name, *self.ends, step=spec.step, log=self.is_log)
        if self.is_distance:
            return min(max(1.0 - drawn, spec.low), spec.high)
        # 0.3 and not 0.30000000000000004, which three steps of 0.1 are in binary.
        return drawn if spec.step is None else float(f"{drawn:.12g}")

    def to_optuna(self, value: Any) -> Any:
        """Return a value of a sweep file in Optuna's terms: 1 - beta for a beta."""
        # 1 - 0.9 is 0.09999999999999998 in binary.
        return float(1 - Decimal(str(value))) if self.is_distance else value

    def contains(self, value: object) -> bool:
        """Return whether a value is one of the choices, or lies in the range."""
        if not isinstance(self.spec, Range):
            return value in self.spec
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.spec.low <= value <= self.spec.high  # type: ignore[operator]

    def spread(self, points: int) -> list[ModelValue]:
        """Return all choices, or ``points`` values of the range, evenly on its scale.

        Its ends are among them, unless it is one point alone, which is the middle.
        """
        spec = self.spec
        if not isinstance(spec, Range):
            return list(spec)
        places = [0.5] if points == 1 else [i / (points - 1) for i in range(points)]
        values = []
        for place in places:
            # 0.00316228 and not 0.0031622776601683794: people will read it.
            value = self._at(place, digits=6)
            if spec.step is not None:
                steps = round((value - spec.low) / spec.step)
                value = float(f"{spec.low + steps * spec.step:.12g}")
            value = {0.0: spec.low, 1.0: spec.high}.get(place, value)
            value = min(max(value, spec.low), spec.high)
            values.append(round(value) if spec.is_int else value)
        return list(dict.fromkeys(values))

    def place(self, value: float) -> float:
        """Return where a value lies on the range's scale: 0 at the low end, 1 at the high one.

        The scale of a beta is the logarithm of 1 - beta, whose inverse is the steps averaged over.
        """
        assert isinstance(self.spec, Range)
        low, high = self._scale(self.spec.low), self._scale(self.spec.high)
        return (self._scale(value) - low) / (high - low) if high != low else 0.5

    def at(self, place: float) -> float | None:
        """Return the value at a place, which may be below 0 or above 1, in two digits.

        Returns:
            None where the hyperparameter may not have it; limits of models are not known but that
            0 is one.
        """
        assert isinstance(self.spec, Range)
        value = self._at(place, digits=2)
        value = round(value) if self.spec.is_int else value
        if self.row.name.startswith(MODEL):
            return value if value > 0 else None
        return None if self.row.find_mistakes(value) else value

    def was_drawn(self, values: Mapping[str, Any]) -> bool:
        """Return whether a trial's value may come from this range.

        A text does not, nor does a number outside: a trial of ``try`` may have weight decay 0
        beside a log range.

        Args:
            values: The trial's hyperparameters, under the names of a sweep file.
        """
        assert isinstance(self.spec, Range)
        value, optimizer = values.get(self.row.name), values.get("optimizer")
        if not isinstance(value, int | float):
            return False
        low, high = self.spec.low, self.spec.high
        if not low - abs(low) * _ROUNDING <= value <= high + abs(high) * _ROUNDING:
            return False
        return optimizer == self.optimizer if self.optimizer else optimizer not in self.others

    def _at(self, place: float, *, digits: int) -> float:
        assert isinstance(self.spec, Range)
        low, high = self._scale(self.spec.low), self._scale(self.spec.high)
        scaled = low + place * (high - low)
        if self.is_distance:
            return round(1.0 - float(f"{math.exp(-scaled):.{digits}g}"), 12)
        return float(f"{math.exp(scaled) if self.spec.log else scaled:.{digits}g}")

    def _scale(self, value: float) -> float:
        if self.is_distance:
            return -math.log(max(1.0 - value, 1e-12))
        return math.log(value) if self.is_log else value
