"""What is wrong with a value, in words for a person: where, what was expected, the nearest name.

Turns Pydantic's errors into lines; knows no hyperparameter and no file.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

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
    "model_attributes_type": "a table",
    "model_type": "a table",
    "path_type": "a path",
    "string_type": "a text",
    "tuple_type": "a list",
    "union_tag_invalid": "a number or a table of low and high",
}
_MAX_SHOWN_CHARACTERS = 60


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


def is_utf8(text: str) -> bool:
    """Return whether a text can be stored: a file's name of other bytes cannot."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def show_value(value: object) -> str:
    """Return a value as a person wrote it, shortened to one line."""
    text = repr(value).replace("\n", " ")
    return (
        text if len(text) <= _MAX_SHOWN_CHARACTERS else text[: _MAX_SHOWN_CHARACTERS - 3] + "..."
    )


def find_model_mistakes(model: type[BaseModel], values: Mapping[str, object]) -> list[Mistake]:
    """List what a Pydantic model says against the values, strictly; duplicates once."""
    try:
        model.model_validate(values, strict=True)
    except ValidationError as error:
        return list(
            dict.fromkeys(convert_error(line)._replace(path=()) for line in error.errors())
        )
    return []
