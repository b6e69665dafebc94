"""Makes numbers of the columns of a table, fitted on its training rows and used on new rows.

A column of numbers is standardised; of text, it becomes a column of zeros and ones for each value.
Shapes: N rows, F features.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
from pyarrow import types

from objectives.api import DataError
from objectives.data.rows import Numbers, Rows, find_numbers, is_text, read_rows

#: Values of a text column that get a feature each, the most frequent ones. A layer's weights of
#: such a feature are an embedding of the value, so that nothing else is needed for many values.
MAX_VALUES = 256
_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = float(np.finfo(np.float32).tiny)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DATE = re.compile(r"(\d{1,4}[-./]\d{1,2}[-./]\d{1,4})?([ T]?\d{1,2}:\d\d.*)?")


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A column that becomes (x - mean) / deviation; an empty cell becomes 0, the mean.

    Attributes:
        name: Of the column.
        mean: Of the training rows; 0 where they hold nothing but 0 and 1, which stay as they are.
        deviation: Standard deviation of the training rows, 1 where those are constant.
        has_empty: Whether a feature follows that is 1 where the cell is empty.
    """

    name: str
    mean: float
    deviation: float
    has_empty: bool


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column that becomes a feature of zeros and ones for each of some values.

    Attributes:
        name: Of the column.
        values: Those that stand in two training rows or more, the most frequent first; "" is
            the empty cell.
        has_others: Whether a feature follows that is 1 for any other value.
    """

    name: str
    values: tuple[str, ...]
    has_others: bool


@dataclass(frozen=True, slots=True)
class Preparation:
    """How the columns of a table become features; ``columns`` are those that are used."""

    columns: tuple[NumberColumn | TextColumn, ...]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Name of each feature, (F,)."""
        names: list[str] = []
        for column in self.columns:
            if isinstance(column, NumberColumn):
                names += [column.name] + [f"{column.name}=(empty)"] * column.has_empty
            else:
                names += [f"{column.name}={value or '(empty)'}" for value in column.values]
                names += [f"{column.name}=(other)"] * column.has_others
        return tuple(names)

    def apply(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Return the features of rows, (N, F).

        Raises:
            DataError: If a column is missing, or does not hold what it held in training; a line
                a column.
        """
        features = np.zeros((rows.table.num_rows, len(self.feature_names)), dtype=np.float32)
        mistakes, start = [], 0
        for column in self.columns:
            try:
                rows.require(column.name, f"the columns {', '.join(c.name for c in self.columns)}")
                if isinstance(column, NumberColumn):
                    width = _fill_number(features[:, start:], rows, column)
                else:
                    width = _fill_text(features[:, start:], rows, column)
                start += width
            except DataError as error:
                mistakes.append(str(error))
        if mistakes:
            raise DataError("\n".join(mistakes))
        return features

    def read(self, path: Path) -> npt.NDArray[np.float32]:
        """Return the features of a file's rows, (N, F); what was text in training is read as such.

        Raises:
            DataError: If the file cannot be read, or does not hold the columns of training.
        """
        texts = [each.name for each in self.columns if isinstance(each, TextColumn)]
        return self.apply(read_rows(path, texts=texts))

    def to_json(self) -> Mapping[str, Any]:
        """Return the preparation in the types of JSON."""
        return {"columns": [asdict(column) for column in self.columns]}

    @classmethod
    def of_weights(cls, path: Path) -> "Preparation":
        """Return the preparation that the weights of a trial were trained with.

        Raises:
            DataError: If the file holds none.
        """
        with safetensors.safe_open(path, framework="numpy") as weights:
            about = weights.metadata() or {}
        if "preparation" not in about:
            raise DataError(f"{path}: holds no preparation; expected weights of a table's study")
        return cls.from_json(json.loads(about["preparation"]))

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> "Preparation":
        """Return what ``to_json`` was made of."""
        columns = table["columns"]
        return cls(
            tuple(
                TextColumn(each["name"], tuple(each["values"]), each["has_others"])
                if "values" in each
                else NumberColumn(**each)
                for each in columns
            )
        )


def fit_preparation(
    rows: Rows, names: Sequence[str], is_train: npt.NDArray[np.bool_]
) -> tuple[Preparation, tuple[str, ...]]:
    """Return how columns become features, and a sentence for each column that is left out.

    Left out is a column that is empty in train, and one of text most of whose values stand in a
    single row: a name or a number of the row.

    Args:
        rows: All of the table.
        names: The columns.
        is_train: The rows that are fitted on, (N,).

    Raises:
        DataError: If columns hold dates, or text among numbers, or numbers that float32 cannot
            hold, or nothing is left; a line a column.
    """
    columns: list[NumberColumn | TextColumn] = []
    mistakes: list[str] = []
    left_out: list[str] = []
    for name in names:
        try:
            numbers = read_numbers(rows, name)
            column = (
                _fit_text(rows, name, is_train)
                if numbers is None
                else _fit_number(rows, name, numbers, is_train)
            )
        except DataError as error:
            mistakes.append(str(error))
            continue
        if isinstance(column, str):
            left_out.append(f"column {name!r} is left out: {column}")
        else:
            columns.append(column)
    if mistakes:
        raise DataError("\n".join(mistakes))
    if not columns:
        raise DataError("\n".join(f"{rows.source}: {line}" for line in left_out))
    return Preparation(tuple(columns)), tuple(left_out)


def read_numbers(rows: Rows, name: str) -> Numbers | None:
    """Return a column of numbers, NaN where a cell is empty; None for a column of text.

    Raises:
        DataError: If it holds dates, text among numbers, or infinite or too large numbers.
    """
    column = rows.table[name]
    numbers = find_numbers(column)
    if numbers is not None:
        wrong = np.flatnonzero(np.abs(numbers) > _LARGEST)
        if len(wrong):
            text = f"column {name!r} holds {numbers[wrong[0]]:g}; expected a finite number"
            raise rows.error(wrong, f"{text} within 3.4e38, as float32 holds")
        return numbers
    if types.is_temporal(column.type):
        raise _refuse_dates(rows, name)
    if not is_text(column.type):
        text = f"column {name!r} holds {column.type}"
        raise DataError(f"{rows.source}: {text}; expected numbers, text, true or false")
    texts = rows.texts(name)
    filled = [row for row, text in enumerate(texts) if text]
    if sum(_DATE.fullmatch(texts[row]) is not None for row in filled) * 2 > len(filled):
        raise _refuse_dates(rows, name)
    others = [row for row in filled if not _NUMBER.fullmatch(texts[row])]
    if len(others) * 2 <= len(filled):
        text = f"column {name!r} holds {texts[others[0]][:40]!r} among numbers"
        raise rows.error(others, f"{text}; expected a number, or an empty cell")
    return None


def _refuse_dates(rows: Rows, name: str) -> DataError:
    return DataError(
        f"{rows.source}: column {name!r} holds dates or times; expected numbers or text: write "
        "what matters of them (year, month, weekday, days since an event) into columns of their "
        "own, or remove the column"
    )


def _fit_number(
    rows: Rows, name: str, numbers: Numbers, is_train: npt.NDArray[np.bool_]
) -> NumberColumn | str:
    """Return how a column becomes features, or why it is left out."""
    is_empty = np.isnan(numbers)
    train = numbers[is_train & ~is_empty]
    if not len(train):
        return "it is empty in train"
    has_empty = bool(is_empty[is_train].any())
    if ((train == 0.0) | (train == 1.0)).all():
        # One-hot codes are on one scale already, and a rare one would grow large.
        return NumberColumn(name, 0.0, 1.0, has_empty)
    mean = float(train.mean())
    if train.min() == train.max():
        return NumberColumn(name, mean, 1.0, has_empty)
    deviation = float(train.std())
    if deviation < _SMALLEST:
        row = np.flatnonzero(numbers == train[np.abs(train).argmax()])[:1]
        text = f"column {name!r} holds {numbers[row[0]]:g} at most; expected numbers on a scale"
        raise rows.error(row, f"{text} that float32 holds: multiply the column")
    return NumberColumn(name, mean, deviation, has_empty)


def _fit_text(rows: Rows, name: str, is_train: npt.NDArray[np.bool_]) -> TextColumn | str:
    """Return how a column becomes features, or why it is left out."""
    codes, values = _encode(rows, name)
    counts = np.bincount(codes[is_train], minlength=len(values))
    num_train = int(is_train.sum())
    if counts[counts > 1].sum() * 2 < num_train:
        return "most of its values stand in a single row of train"
    repeated = np.flatnonzero(counts > 1).tolist()
    ordered = sorted(repeated, key=lambda code: (-counts[code], values[code]))[:MAX_VALUES]
    has_others = bool(counts[ordered].sum() < num_train)
    return TextColumn(name, tuple(values[code] for code in ordered), has_others)


def _fill_number(features: npt.NDArray[np.float32], rows: Rows, column: NumberColumn) -> int:
    """Write the features of a column into the first of (N, ...); return how many."""
    numbers = read_numbers(rows, column.name)
    if numbers is None:
        raise DataError(f"{rows.source}: column {column.name!r} holds text; expected numbers")
    is_empty = np.isnan(numbers)
    with np.errstate(over="ignore"):
        scaled = ((numbers - column.mean) / column.deviation).astype(np.float32)
    wrong = np.flatnonzero(np.isinf(scaled))
    if len(wrong):
        text = f"column {column.name!r} holds {numbers[wrong[0]]:g}, where train has"
        expected = f"{column.mean:g} on average; expected numbers on one scale"
        raise rows.error(wrong, f"{text} {expected}")
    scaled[is_empty] = 0.0
    features[:, 0] = scaled
    if column.has_empty:
        features[:, 1] = is_empty
    return 1 + column.has_empty


def _fill_text(features: npt.NDArray[np.float32], rows: Rows, column: TextColumn) -> int:
    """Write the features of a column into the first of (N, ...); return how many."""
    codes, values = _encode(rows, column.name)
    places = {value: place for place, value in enumerate(column.values)}
    num_values = len(places)
    wanted = np.array([places.get(value, num_values) for value in values])[codes]
    is_there = wanted < num_values + column.has_others
    features[np.flatnonzero(is_there), wanted[is_there]] = 1.0
    return num_values + column.has_others


def _encode(rows: Rows, name: str) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return the value of each row by index, (N,), and the values; "" where a cell is empty."""
    values, codes = np.unique(np.array(rows.texts(name), dtype=np.str_), return_inverse=True)
    return codes.astype(np.int64), values.tolist()
