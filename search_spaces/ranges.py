"""Fixed values, choices and ranges: their checks, their text, and how a trial is asked for one.

Knows no hyperparameter by name, no sampler and no file.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Protocol, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    model_validator,
)

from search_spaces.hparams import ModelValue
from search_spaces.mistakes import Mistake, Mistakes, show_value


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


def _check_scalar(value: object) -> ModelValue:
    # A plain validator, because Pydantic reports each member of a union that does not fit.
    if isinstance(value, float) and not math.isfinite(value):
        raise Mistakes([Mistake((), f"must be a finite number, got {value}")])
    if isinstance(value, bool | int | float | str):
        return value
    text = f"must be a number, a text, true or false, got {show_value(value)}"
    raise Mistakes([Mistake((), text)])


def _refuse_repeats(choices: tuple[ModelValue, ...]) -> tuple[ModelValue, ...]:
    repeated = [str(choice) for i, choice in enumerate(choices) if choice in choices[:i]]
    if repeated:
        raise Mistakes([Mistake((), f"names a choice twice: {', '.join(repeated)}")])
    return choices


def _find_kind(value: object) -> str:
    if isinstance(value, Mapping | Range):
        return "(range)"
    return "(choices)" if isinstance(value, list | tuple) else "(fixed)"


class Range(BaseModel):
    """A range of numbers, both ends included.

    Raises:
        pydantic.ValidationError: If the range is empty, or its scale does not fit its ends.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True
    )

    low: float
    high: float
    log: bool = False
    """Sample the logarithm evenly; ``low`` must be > 0. Betas always are, as 1 - beta."""
    is_int: bool = Field(default=False, alias="int")
    """Whole numbers only; written ``int`` in a sweep file."""
    step: Annotated[float, Field(gt=0.0)] | None = None
    """Distance of neighbouring values; must divide the range."""
    by_optimizer: dict[str, "Annotated[OwnFixed | OwnRange, Discriminator(_find_kind)]"] = Field(
        default_factory=dict
    )
    """An optimizer's own range or fixed value; ``log`` and ``int`` as here unless told."""

    @model_validator(mode="before")
    @classmethod
    def _hand_down_the_scale(cls, values: object) -> object:
        own = values.get("by_optimizer") if isinstance(values, Mapping) else None
        if not isinstance(values, Mapping) or not isinstance(own, Mapping):
            return values
        scale = {key: values[key] for key in ("log", "int", "is_int") if key in values}
        # Optuna samples in steps or on a log scale, never both: a step of its own wins.
        filled = {
            name: {**({} if "step" in sub else scale), **sub} if isinstance(sub, Mapping) else sub
            for name, sub in own.items()
        }
        return {**values, "by_optimizer": filled}

    @model_validator(mode="after")
    def _check_ends(self) -> Self:
        low, high = f"{self.low:g}", f"{self.high:g}"
        texts = []
        if self.low > self.high:
            texts.append(f"is an empty range: low {low} is above high {high}")
        if self.log and self.low <= 0.0:
            texts.append(f"needs low > 0 for log = true, got {low}")
        numbers = (self.low, self.high, self.step or 1.0)
        if self.is_int and not all(number.is_integer() for number in numbers):
            texts.append(f"needs whole numbers for int = true, got {low}..{high}")
        if self.step is not None and self.log:
            texts.append("can have step or log = true, not both")
        elif self.step is not None and self.low <= self.high:
            texts.extend(_find_step_mistakes(self.low, self.high, step=self.step))
        if any(isinstance(own, Range) and own.by_optimizer for own in self.by_optimizer.values()):
            texts.append("has a by_optimizer inside by_optimizer")
        if texts:
            raise Mistakes(Mistake((), text) for text in texts)
        return self


def _find_step_mistakes(low: float, high: float, *, step: float) -> list[str]:
    # Decimal, as Optuna does: 0.3 / 0.1 is not whole in binary. Optuna would warn and lower high.
    width, exact = Decimal(str(high)) - Decimal(str(low)), Decimal(str(step))
    if width % exact == 0:
        return []
    end = float(Decimal(str(low)) + width // exact * exact)
    return [f"has a step {step:g} that does not divide {low:g}..{high:g}; use high = {end:g}"]


Scalar = Annotated[ModelValue, PlainValidator(_check_scalar)]
Fixed = Annotated[Scalar, Tag("(fixed)")]
_Several = Annotated[tuple[Scalar, ...], Field(min_length=1, strict=False)]
Choices = Annotated[_Several, AfterValidator(_refuse_repeats), Tag("(choices)")]
OwnFixed = Annotated[float, Field(strict=True), Tag("(fixed)")]
OwnRange = Annotated[Range, Tag("(range)")]
Range.model_rebuild()

#: A fixed value (not sampled), a list of choices, or a range.
Spec = Annotated[Fixed | Choices | OwnRange, Discriminator(_find_kind)]


def find_spec_mistakes(
    spec: Spec | None, find_mistakes: Callable[[object], list[Mistake]]
) -> Iterator[Mistake]:
    """Yield the mistakes of each value that a spec names, with its place in the spec."""
    for path, value in _list_values(spec):
        for mistake in find_mistakes(value):
            yield mistake._replace(path=path)


def describe_spec(spec: Spec, *, is_beta: bool = False) -> str:
    """Return a spec in a few words: ``log 0.0003..0.03 (adadelta: log 0.1..5)``."""
    if isinstance(spec, tuple):
        return " | ".join(_show(choice) for choice in spec)
    if not isinstance(spec, Range):
        return _show(spec)
    scale = "1 - beta log " if is_beta else "log " if spec.log else ""
    step = "" if spec.step is None else f" step {spec.step:g}"
    text = f"{scale}{spec.low:g}..{spec.high:g}{step}{' int' if spec.is_int else ''}"
    subs = spec.by_optimizer.items()
    own = ", ".join(f"{name}: {describe_spec(sub, is_beta=is_beta)}" for name, sub in subs)
    return f"{text} ({own})" if own else text


def draw(trial: TrialLike, name: str, spec: Spec, *, optimizer: str = "") -> ModelValue:
    """Return the spec's value, asking the trial for it where it varies.

    An optimizer's own range is asked for as ``NAME_OPTIMIZER``.
    """
    if isinstance(spec, tuple):
        choice: ModelValue = trial.suggest_categorical(name, spec)
        return choice
    if not isinstance(spec, Range):
        return spec
    if optimizer in spec.by_optimizer:
        return draw(trial, f"{name}_{optimizer}", spec.by_optimizer[optimizer])
    if spec.is_int:
        step = int(spec.step or 1)
        return trial.suggest_int(name, int(spec.low), int(spec.high), step=step, log=spec.log)
    return trial.suggest_float(name, spec.low, spec.high, step=spec.step, log=spec.log)


def _list_values(spec: Spec | None) -> Iterator[tuple[tuple[str, ...], ModelValue]]:
    if isinstance(spec, Range):
        for end in ("low", "high"):
            number = getattr(spec, end)
            yield (end,), int(number) if spec.is_int else number
        for name, own in spec.by_optimizer.items():
            for path, value in _list_values(own):
                yield ("by_optimizer", name, *path), value
    elif isinstance(spec, tuple):
        yield from (((), choice) for choice in spec)
    elif spec is not None:
        yield (), spec


def _show(value: ModelValue) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
