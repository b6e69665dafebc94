"""What is wrong with a value, in words for a person: where, what was expected, the nearest name.

Turns Pydantic's errors into lines; knows no hyperparameter and no file.
"""

import difflib
import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

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
    "missing": "given",
    "model_attributes_type": "a table",
    "model_type": "a table",
    "path_type": "a path",
    "string_type": "a text",
    "tuple_type": "a list",
}
_MAX_SHOWN_CHARACTERS = 60


class Kind(enum.Enum):
    """What kind of mistake it is."""

    WRONG = "wrong"
    MISSING = "missing"
    UNKNOWN_KEY = "unknown key"


class Mistake(NamedTuple):
    """One mistake: where it is and what is wrong.

    Attributes:
        path: Names of the tables and the key; empty: the value that was checked itself.
        text: What follows the key in a sentence: "must be > 0, got 0". Of an unknown key, the way
            out.
        kind: What kind it is.
    """

    path: tuple[str, ...]
    text: str
    kind: Kind = Kind.WRONG

    def below(self, *names: str) -> "Mistake":
        """Return the same mistake, seen from a table that holds this one under these names."""
        return self._replace(path=(*names, *self.path))

    def to_line(self) -> str:
        """Return the sentence for a person, without the file."""
        *table, key = self.path or ("",)
        if self.kind is Kind.UNKNOWN_KEY:
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


def wrong(text: str, *path: str) -> Mistakes:
    """Return an exception for one mistake."""
    return Mistakes([Mistake(path, text)])


def unknown_key(path: Sequence[str], known: Collection[str]) -> Mistake:
    """Return the mistake of a key that its table does not know."""
    return Mistake(tuple(path), suggest_names(path[-1], known), Kind.UNKNOWN_KEY)


def suggest_names(name: str, known: Collection[str]) -> str:
    """Return the way out for an unknown name: the nearest known one, if any, and all of them."""
    if not known:
        return "it takes none"
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? Known" if nearest else "known"
    return f"{hint}: {', '.join(sorted(known))}"


def list_mistakes(error: ValidationError, model: Any) -> list[Mistake]:
    """List a validation's mistakes, each once, in Pydantic's order.

    Args:
        error: What the validation raised.
        model: The Pydantic model or the type that was asked: it knows the keys of each table, and
            the names that a value may have.
    """
    found: list[Mistake] = []
    for line in error.errors():
        path = tuple(map(str, line["loc"]))
        raised = line.get("ctx", {}).get("error")
        if isinstance(raised, Mistakes):
            found += [item.below(*path) for item in raised.items]
        elif line["type"] == "extra_forbidden":
            found.append(unknown_key(path, _list_keys(_find_type(model, path[:-1]))))
        else:
            found.append(_convert(line, path, _find_type(model, path)))
    return list(dict.fromkeys(found))


def _convert(line: "ErrorDetails", path: tuple[str, ...], kind: Any) -> Mistake:
    context = line.get("ctx", {})
    if line["type"] == "missing":
        return Mistake(path, "is missing", Kind.MISSING)
    if "error" in context:
        return Mistake(path, str(context["error"]))
    if line["type"] not in _EXPECTED:
        return Mistake(path, f"is wrong: {line['msg']}, got {show_value(line['input'])}")
    expected = _EXPECTED[line["type"]].format_map(context)
    text = f"must be {expected}, got {show_value(line['input'])}"
    if line["type"] == "literal_error" and isinstance(line["input"], str):
        # Of one first letter only, or 'gpu' would be answered with 'cpu'.
        known = [one for one in _list_names(kind) if one[:1] == line["input"][:1]]
        nearest = difflib.get_close_matches(line["input"], known, n=1, cutoff=0.5)
        text += f"; did you mean {nearest[0]!r}?" if nearest else ""
    return Mistake(path, text)


def _find_type(kind: Any, path: Sequence[str]) -> Any:
    """Return the type of what stands at a path inside a model."""
    for name in path:
        fields = kind.model_fields if _is_model(kind) else {}
        kind = next((one.annotation for key, one in fields.items() if name in (key, one.alias)), 0)
    return kind


def _list_keys(kind: Any) -> list[str]:
    fields = kind.model_fields if _is_model(kind) else {}
    return [field.alias or name for name, field in fields.items()]


def _list_names(kind: Any) -> list[str]:
    """List the names that a type allows, inside unions too."""
    if get_origin(kind) is Literal:
        return [str(name) for name in get_args(kind)]
    return [name for part in get_args(kind) for name in _list_names(part)]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def is_utf8(text: str) -> bool:
    """Return whether a text can be stored: a file's name of other bytes cannot."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def show_value(value: object) -> str:
    """Return a value as a person wrote it, shortened to one line."""
    text = repr(value).replace("\n", " ")
    return (
        text if len(text) <= _MAX_SHOWN_CHARACTERS else text[: _MAX_SHOWN_CHARACTERS - 3] + "..."
    )
