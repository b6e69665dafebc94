"""One typed record of a trial's hyperparameters, with units and limits, and their mistakes.

Knows which optimizer has which hyperparameter, and the words for a value outside its limits;
knows nothing of ranges, of sampling or of files.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

OptimizerName = Literal["adam", "adamax", "rmsprop", "adadelta", "sgd"]
ModelValue = bool | int | float | str

OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)
ADAM_FAMILY = frozenset({"adam", "adamax"})

#: Which optimizers have a hyperparameter that not every optimizer has.
OPTIMIZERS_WITH: Mapping[str, frozenset[str]] = {
    "beta1": ADAM_FAMILY,
    "beta2": ADAM_FAMILY,
    "momentum": frozenset({"sgd"}),
}

#: What a Pydantic error expected, by its type; the limits stand in the error's context.
_EXPECTED: Mapping[str, str] = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "> {gt}",
    "greater_than_equal": ">= {ge}",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "less_than": "< {lt}",
    "less_than_equal": "<= {le}",
    "literal_error": "one of {expected}",
    "model_attributes_type": "a table",
    "model_type": "a table",
    "path_type": "a path",
    "string_type": "a text",
    "tuple_type": "a list",
    "union_tag_invalid": "a number or a table of low and high",
}
_MAX_SHOWN_CHARACTERS = 60

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class Hparams(BaseModel):
    """A trial's hyperparameters; what its optimizer does not have is ``None`` and never stored.

    Raises:
        pydantic.ValidationError: If a value is outside its limits, or belongs to another
            optimizer (``betas`` to the Adam family, ``momentum`` to sgd).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    optimizer: OptimizerName = "adam"
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    """Step size, in the optimizer's own unit; PyTorch's ``lr``."""
    betas: tuple[Beta, Beta] | None = None
    """Decay of Adam's first and second moment a step; (0.9, 0.999) unless told."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Decay of sgd's velocity a step; 0 unless told."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Share of units zeroed at each ``nn.Dropout``; ``None`` keeps the model's own rates."""
    batch_size: Annotated[int, Field(ge=1)] = 50
    """Training examples a step."""
    class_weights: Literal["none", "balanced"] = "none"
    """``balanced`` weighs a class's loss by examples / (classes * examples of the class)."""
    model: dict[str, ModelValue] = Field(default_factory=dict)
    """Keyword arguments of the objective's ``build_model``."""

    @model_validator(mode="before")
    @classmethod
    def _fill_optimizer_defaults(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        filled = dict(values)
        optimizer = filled.get("optimizer", "adam")
        if optimizer in ADAM_FAMILY and filled.get("betas") is None:
            filled["betas"] = (0.9, 0.999)
        if optimizer == "sgd" and filled.get("momentum") is None:
            filled["momentum"] = 0.0
        return filled

    @model_validator(mode="after")
    def _refuse_foreign_hyperparameters(self) -> Self:
        if self.betas is not None and self.optimizer not in ADAM_FAMILY:
            raise ValueError(f"betas belong to {sorted(ADAM_FAMILY)}, got {self.optimizer!r}")
        if self.momentum is not None and self.optimizer != "sgd":
            raise ValueError(f"momentum belongs to 'sgd', got {self.optimizer!r}")
        return self

    def to_params(self) -> dict[str, object]:
        """Return what is stored and shown: JSON values, without what the optimizer lacks."""
        return self.model_dump(mode="json", exclude_none=True)


class Mistake(NamedTuple):
    """One mistake: where it is and what is wrong.

    Attributes:
        path: Names of the tables and the key; empty: the value that was checked itself.
        text: What follows the key in a sentence: "must be > 0, got 0".
        is_unknown_key: The path's last name is not known at all; ``text`` is the way out.
    """

    path: tuple[str, ...]
    text: str
    is_unknown_key: bool = False

    def to_line(self) -> str:
        """Return the sentence for a person, without the file."""
        *table, key = self.path or ("",)
        if self.is_unknown_key:
            place = f" in [{'.'.join(table)}]" if table else ""
            return f"unknown key {key!r}{place}; {self.text}"
        return f"{'.'.join(self.path)} {self.text}".strip()


class Mistakes(ValueError):
    """All mistakes of one value; raised by validators, so that Pydantic collects them.

    Attributes:
        items: The mistakes, in the order they were found, paths relative to the value.
    """

    def __init__(self, items: Iterable[Mistake]) -> None:
        self.items = tuple(items)
        super().__init__("\n".join(item.to_line() for item in self.items))


def suggest_names(name: str, known: Collection[str]) -> str:
    """Return the way out for an unknown name: the nearest known one, if any, and all of them."""
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? Known" if nearest else "known"
    return f"{hint}: {', '.join(sorted(known))}"


def list_mistakes(
    error: ValidationError, find_known_keys: Callable[[tuple[str, ...]], Collection[str]]
) -> list[Mistake]:
    """List a validation's mistakes, each once, in Pydantic's order.

    Args:
        error: What the validation raised.
        find_known_keys: The known keys of the table at a path; asked for unknown keys alone.
    """
    found: list[Mistake] = []
    for line in error.errors():
        raised = line.get("ctx", {}).get("error")
        mistake = convert_error(line)
        if isinstance(raised, Mistakes):
            items = [item._replace(path=mistake.path + item.path) for item in raised.items]
        elif mistake.is_unknown_key:
            text = suggest_names(mistake.path[-1], find_known_keys(mistake.path[:-1]))
            items = [mistake._replace(text=text)]
        else:
            items = [mistake]
        found.extend(items)
    return list(dict.fromkeys(found))


def convert_error(line: "ErrorDetails") -> Mistake:
    """Return one line of a validation error in the words of the house."""
    # Names in parentheses are the tags of a union (space.py), not keys that a person wrote.
    path = tuple(str(name) for name in line["loc"] if not str(name).startswith("("))
    kind, context = line["type"], line.get("ctx", {})
    if kind == "extra_forbidden":
        return Mistake(path, "", is_unknown_key=True)
    if kind == "missing":
        return Mistake(path, "is missing")
    if kind == "too_short":
        return Mistake(path, "is an empty list; name at least one choice")
    if "error" in context:
        return Mistake(path, str(context["error"]))
    if kind not in _EXPECTED:
        return Mistake(path, f"is wrong: {line['msg']}, got {show_value(line['input'])}")
    expected = _EXPECTED[kind].format_map(context)
    text = f"must be {expected}, got {show_value(line['input'])}"
    if kind == "literal_error" and isinstance(line["input"], str):
        # Of one first letter only, or 'gpu' would be answered with 'cpu'.
        known = re.findall(rf"'({re.escape(line['input'][:1])}[^']*)'", str(context["expected"]))
        nearest = difflib.get_close_matches(line["input"], known, n=1, cutoff=0.5)
        text += f"; did you mean {nearest[0]!r}?" if nearest else ""
    return Mistake(path, text)


def show_value(value: object) -> str:
    """Return a value as a person wrote it, shortened to one line."""
    text = repr(value).replace("\n", " ")
    return (
        text if len(text) <= _MAX_SHOWN_CHARACTERS else text[: _MAX_SHOWN_CHARACTERS - 3] + "..."
    )


def find_limit_mistakes(name: str, value: object) -> list[Mistake]:
    """List why a value cannot be that of the named hyperparameter; empty if it can.

    Args:
        name: A field of ``Hparams``, or ``beta1`` or ``beta2``.
        value: Judged strictly: a whole number written as text, or as 50.0, is a mistake.
    """
    owners = OPTIMIZERS_WITH.get(name)
    values: dict[str, object] = {"optimizer": min(owners) if owners else "adam"}
    if name in ("beta1", "beta2"):
        values["betas"] = (value, value)
    else:
        values[name] = value
    return find_model_mistakes(Hparams, values)


def find_model_mistakes(model: type[BaseModel], values: Mapping[str, object]) -> list[Mistake]:
    """List what a Pydantic model says against the values, strictly; duplicates once."""
    try:
        model.model_validate(values, strict=True)
    except ValidationError as error:
        return list(
            dict.fromkeys(convert_error(line)._replace(path=()) for line in error.errors())
        )
    return []
