"""The parameters of a search space under the names that Optuna sees, and grids of them.

Found by asking the space, so that nothing here knows which hyperparameters exist. Knows no Optuna,
so that a mistake is answered at once.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.hparams import OPTIMIZERS
from search_spaces.space import SearchSpace

#: Trials that a grid may have: more would be no plan but an accident.
MAX_GRID = 10_000
_DRAWS = 200
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a space asks of a trial: choices, or else a range of numbers.

    Attributes:
        name: Optuna's name for it (``one_minus_beta1``, ``learning_rate_sgd``).
        choices: The choices; empty for a range.
        low: Lowest number.
        high: Highest number.
        step: Distance of neighbouring numbers; None: none.
        log: The logarithm is sampled evenly.
        is_int: Whole numbers only.
    """

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    is_int: bool = False

    @property
    def is_single(self) -> bool:
        """Only one value is possible, so that nothing is sampled."""
        return len(self.choices) == 1 or (not self.choices and self.low == self.high)

    def contains(self, value: object) -> bool:
        """Return whether a value is one of the choices, or lies in the range."""
        if self.choices:
            return value in self.choices
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high  # type: ignore[operator]


class Probe:
    """A trial that writes down what it is asked, and answers as it is told.

    Args:
        answer: Returns a value for a parameter.
    """

    def __init__(self, answer: Callable[[Parameter], Any]) -> None:
        self._answer = answer
        self.asked: dict[str, Parameter] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return the answer for a range of numbers."""
        return float(self._ask(Parameter(name, low=low, high=high, step=step, log=log)))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Return the answer for a range of whole numbers."""
        # Optuna takes no step beside a log scale.
        parameter = Parameter(
            name, low=low, high=high, step=None if log else step, log=log, is_int=True
        )
        return int(self._ask(parameter))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return the answer for choices."""
        return self._ask(Parameter(name, choices=tuple(choices)))

    def _ask(self, parameter: Parameter) -> Any:
        self.asked[parameter.name] = parameter
        return self._answer(parameter)


def draw_probes(space: SearchSpace, num_draws: int = _DRAWS) -> Iterator[Probe]:
    """Yield what trials at random are asked; the same ones each time.

    An answer depends on the draw and the parameter's name alone, so that draws of two spaces
    differ only where the spaces do.
    """
    for draw in range(num_draws):
        probe = Probe(answer_at_random(draw))
        space.suggest(probe)
        yield probe


def list_parameters(space: SearchSpace) -> tuple[dict[str, Parameter], frozenset[str]]:
    """Return the space's parameters by name, and the names of those that not every trial has."""
    found: dict[str, Parameter] = {}
    common: set[str] | None = None
    for probe in draw_probes(space):
        found |= probe.asked
        common = set(probe.asked) if common is None else common & set(probe.asked)
    return found, frozenset(found) - frozenset(common or ())


def list_grid(space: SearchSpace, points: int | None) -> list[dict[str, Any]]:
    """Return the parameters of each trial of a space's grid; the last hyperparameter runs fastest.

    Choices are taken in full, and ``points`` values of a range, its ends included, evenly on its
    scale; what a trial does not have is not multiplied. Longer than ``MAX_GRID`` by one: the grid
    has more, and is cut off there.

    Args:
        space: The search space.
        points: Values of each range; 1: its middle. None will do where nothing is a range.
    """
    grid: list[dict[str, Any]] = []
    path: list[tuple[list[Any], int]] = []
    while len(grid) <= MAX_GRID:
        trial: dict[str, Any] = {}
        space.suggest(Probe(_follow(path, trial, points or 1)))
        grid.append(trial)
        while path and path[-1][1] == len(path[-1][0]) - 1:
            path.pop()
        if not path:
            return grid
        values, index = path.pop()
        path.append((values, index + 1))
    return grid


def find_ranges(space: SearchSpace) -> list[str]:
    """List the names of the parameters that are ranges of more than one number."""
    parameters, _ = list_parameters(space)
    return [name for name, one in parameters.items() if not one.choices and not one.is_single]


def _follow(
    path: list[tuple[list[Any], int]], trial: dict[str, Any], points: int
) -> Callable[[Parameter], Any]:
    """Answer along a path through the choices, and lengthen it where it ends."""

    def answer(parameter: Parameter) -> Any:
        depth = len(trial)
        if depth == len(path):
            path.append((_spread(parameter, points), 0))
        values, index = path[depth]
        trial[parameter.name] = values[index]
        return values[index]

    return answer


def _spread(parameter: Parameter, points: int) -> list[Any]:
    """Return the values of a parameter that a grid visits."""
    if parameter.choices:
        return list(parameter.choices)
    low, high = parameter.low, parameter.high
    shares = [0.5] if points == 1 else [i / (points - 1) for i in range(points)]
    values: list[float] = []
    for share in shares:
        value = low * (high / low) ** share if parameter.log else low + (high - low) * share
        # 0.00316228 and not 0.0031622776601683794: people will read it.
        value = float(f"{value:.{_DIGITS}g}")
        if parameter.step is not None:
            value = low + round((value - low) / parameter.step) * parameter.step
            value = float(f"{value:.12g}")
        value = round(value) if parameter.is_int else value
        values.append({0.0: low, 1.0: high}.get(share, min(max(value, low), high)))
    return list(dict.fromkeys(values))


def answer_at_random(draw: int) -> Callable[[Parameter], Any]:
    """Return the answers of a draw of ``draw_probes``, by its number."""

    def answer(parameter: Parameter) -> Any:
        generator = random.Random(f"{draw}:{parameter.name}")
        if parameter.choices:
            return generator.choice(parameter.choices)
        if parameter.is_int:
            step = int(parameter.step or 1)
            return generator.randrange(int(parameter.low), int(parameter.high) + 1, step)
        if parameter.log:
            ratio = parameter.high / parameter.low
            value = parameter.low * ratio ** generator.random()
        elif parameter.step is not None:
            count = round((parameter.high - parameter.low) / parameter.step)
            value = parameter.low + generator.randint(0, count) * parameter.step
        else:
            value = generator.uniform(parameter.low, parameter.high)
        return min(max(value, parameter.low), parameter.high)

    return answer


def answer_first(parameter: Parameter) -> Any:
    """Return the first choice of a parameter, or the lowest number."""
    return parameter.choices[0] if parameter.choices else parameter.low


def show_parameter(name: str) -> str:
    """Return a parameter's name for people: ``beta1``, ``learning_rate (sgd)``."""
    name = name.removeprefix("one_minus_").removeprefix("model.")
    for optimizer in OPTIMIZERS:
        base = name.removesuffix(f"_{optimizer}")
        if base != name:
            return f"{base} ({optimizer})"
    return name
