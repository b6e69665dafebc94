"""Fixed values, choices and ranges: how they are written, their mistakes and their text.

Knows what a hyperparameter can be from its row; knows no sampler and no file.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from search_spaces.hparams import ModelValue, Positive, Row
from search_spaces.mistakes import Kind, Mistake, Mistakes, show_value, unknown_key, wrong

#: The keys of a range; ``by_optimizer`` is a table of numbers and ranges.
_KEYS = {
    "low": Row(kind=float),
    "high": Row(kind=float),
    "log": Row(kind=bool),
    "int": Row(kind=bool),
    "step": Row(kind=Positive),
}
#: Largest whole number of a range: above it a float skips some.
_MOST = 2.0**53


@dataclass(frozen=True, slots=True)
class Range:
    """A range of numbers, both ends included.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        log: The logarithm is sampled evenly; ``low`` is > 0. Betas always are, as 1 - beta.
        is_int: Whole numbers only; written ``int`` in a sweep file.
        step: Distance of neighbouring values, which divides the range; never beside ``log``.
        by_optimizer: An optimizer's own range or fixed value.
    """

    low: float
    high: float
    log: bool = False
    is_int: bool = False
    step: float | None = None
    by_optimizer: Mapping[str, "float | Range"] = field(default_factory=dict)

    def to_table(self) -> dict[str, Any]:
        """Return the range as it would stand in a sweep file."""
        table: dict[str, Any] = {"low": self.low, "high": self.high}
        scale = {"log": self.log, "int": self.is_int}
        table |= {key: True for key, is_on in scale.items() if is_on}
        table |= {} if self.step is None else {"step": self.step}
        own: dict[str, Any] = {}
        for name, one in self.by_optimizer.items():
            own[name] = one.to_table() if isinstance(one, Range) else one
            if isinstance(one, Range) and one.step is None:
                # It inherits the scale unless told.
                own[name] |= {key: False for key in scale if scale[key] and key not in own[name]}
        return {**table, "by_optimizer": own} if own else table


#: A fixed value (not sampled), choices, or a range.
Spec = ModelValue | tuple[ModelValue, ...] | Range


def parse_spec(value: object, row: Row) -> Spec:
    """Return what a sweep file says of a hyperparameter.

    Raises:
        Mistakes: If it says nothing that the hyperparameter can be; paths start in the value.
    """
    spec = _read(value)
    if isinstance(spec, Range):
        _check_range(spec, row)
    mistakes = [
        one.below(*at) for at, each in _list_values(spec) for one in row.find_mistakes(each)
    ]
    if mistakes:
        raise Mistakes(mistakes)
    return spec


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


def _read(value: object) -> Spec:
    if isinstance(value, Range):
        return value
    if isinstance(value, Mapping):
        return _read_range(value)
    if not isinstance(value, list | tuple):
        return _read_scalar(value)
    choices = tuple(_read_scalar(one) for one in value)
    if not choices:
        raise wrong("is an empty list; name at least one choice")
    repeated = [str(choice) for i, choice in enumerate(choices) if choice in choices[:i]]
    if repeated:
        raise wrong(f"names a choice twice: {', '.join(repeated)}")
    return choices


def _read_range(table: Mapping[str, Any], *, is_own: bool = False) -> Range:
    """Return the range that a table writes.

    Args:
        table: Of the sweep file.
        is_own: It is an optimizer's own.

    Raises:
        Mistakes: If it is none; paths start in the table.
    """
    own = table.get("by_optimizer", {})
    known = [*_KEYS, "by_optimizer"]
    mistakes = [unknown_key((key,), known) for key in table if key not in known]
    mistakes += [
        Mistake((key,), "is missing", Kind.MISSING) for key in ("low", "high") if key not in table
    ]
    for key in [key for key in _KEYS if key in table]:
        mistakes += [one.below(key) for one in _KEYS[key].find_mistakes(table[key])]
    if not isinstance(own, Mapping):
        mistakes.append(Mistake(("by_optimizer",), f"must be a table, got {show_value(own)}"))
        own = {}
    if is_own and own:
        mistakes.append(Mistake((), "has a by_optimizer inside by_optimizer"))
    read: dict[str, float | Range] = {}
    for name, value in own.items() if not is_own else ():
        try:
            read[name] = _read_own(value, table)
        except Mistakes as error:
            mistakes += [one.below("by_optimizer", name) for one in error.items]
    if not mistakes:
        low, high, step = float(table["low"]), float(table["high"]), table.get("step")
        step = None if step is None else float(step)
        spec = Range(low, high, table.get("log", False), table.get("int", False), step, read)
        mistakes = [Mistake((), text) for text in _find_end_mistakes(spec)]
        if not mistakes:
            return spec
    raise Mistakes(mistakes)


def _read_own(value: object, table: Mapping[str, Any]) -> float | Range:
    """Return an optimizer's own value or range; the table's scale is its own unless told."""
    if isinstance(value, Mapping):
        # Optuna samples in steps or on a log scale, never both: a step of its own wins.
        inherited = () if "step" in value else ("log", "int")
        scale = {key: table[key] for key in inherited if key in table}
        return _read_range({**scale, **value}, is_own=True)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(f"must be a number or a table of low and high, got {show_value(value)}")
    return float(value)


def _find_end_mistakes(spec: Range) -> Iterator[str]:
    low, high = f"{spec.low:g}", f"{spec.high:g}"
    if spec.low > spec.high:
        yield f"is an empty range: low {low} is above high {high}"
    if spec.log and spec.low <= 0.0:
        yield f"needs low > 0 for log = true, got {low}"
    numbers = (spec.low, spec.high, spec.step or 1.0)
    if spec.is_int and not all(number.is_integer() for number in numbers):
        yield f"needs whole numbers for int = true, got {low}..{high}"
    elif spec.is_int and max(map(abs, numbers)) > _MOST:
        yield f"needs whole numbers up to {_MOST:.0f}, got {low}..{high}"
    if spec.step is not None and spec.log:
        yield "can have step or log = true, not both"
    elif spec.step is not None and spec.low <= spec.high:
        # Decimal, as Optuna does: 0.3 / 0.1 is not whole in binary. Optuna would warn and lower
        # high.
        start, exact = Decimal(str(spec.low)), Decimal(str(spec.step))
        width = Decimal(str(spec.high)) - start
        if width % exact != 0:
            end = float(start + width // exact * exact)
            text = f"has a step {spec.step:g} that does not divide {low}..{high}"
            yield f"{text}; use high = {end:g}"


def _read_scalar(value: object) -> ModelValue:
    if isinstance(value, float) and not math.isfinite(value):
        raise wrong(f"must be a finite number, got {value}")
    if isinstance(value, bool | int | float | str):
        return value
    raise wrong(f"must be a number, a text, true or false, got {show_value(value)}")


def _check_range(spec: Range, row: Row) -> None:
    is_model = row.kind is ModelValue
    if not is_model and (row.base not in (int, float) or not row.has_ranges):
        raise wrong("takes a value or a list of choices, not a range")
    if row.base is int and not spec.is_int:
        raise wrong("takes whole numbers; add int = true")
    if row.is_beta and (spec.is_int or spec.step is not None):
        raise wrong("is sampled as 1 - beta on a log scale; remove int and step")


def _list_values(spec: Spec) -> Iterator[tuple[tuple[str, ...], ModelValue]]:
    """Yield values that a spec allows, each with its place in the spec."""
    if isinstance(spec, tuple):
        yield from (((), choice) for choice in spec)
    elif isinstance(spec, Range):
        for end in ("low", "high"):
            number = getattr(spec, end)
            yield (end,), int(number) if spec.is_int else number
        if spec.is_int and spec.low < spec.high:
            # Both ends of 3..5 are odd, and yet the range has a 4.
            yield (), int(spec.low + (spec.step or 1.0))
        for name, own in spec.by_optimizer.items():
            for path, value in _list_values(own):
                yield ("by_optimizer", name, *path), value
    else:
        yield (), spec


def _show(value: ModelValue) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
