"""Reads tables of numbers with a label: CSV, TSV, Parquet and npz files.

The shipped file (see ``tabular_mlp.md``) and a person's own file go the same way; long tables of
sequences are read with the same columns. Knows no model.
Shapes: N rows, F features.
"""

import difflib
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.api import DataError
from objectives.data import files
from objectives.data.relations import SPLIT_NAMES, assign_splits
from objectives.data.targets import SOFT_PREFIX, SoftLabels, check_distributions, split_columns

#: The file that ships with the project.
SHIPPED = Path(__file__).parent / "adult.npz"

ENDINGS = (".csv", ".tsv", ".parquet", ".npz")
EXPECTED = "a column label, columns of numbers and, if you like, split"
_NUMBER_KINDS = "biuf"
_TRUTH = {"true": 1.0, "false": 0.0}

Column = npt.NDArray[Any] | tuple[str, ...]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file, N rows in its order.

    Attributes:
        path: The file.
        unit: What ``rows`` count: "line", as an editor shows it, or "row", from 1, where a file
            has no lines.
        rows: Where each row stands, (N,).
        values: Each column by name: an array of numbers, or text, "" where there is none.
    """

    path: Path
    unit: str
    rows: Sequence[int]
    values: dict[str, Column]

    def error(self, row: int, text: str) -> DataError:
        """Return the error that says what is wrong in a row, counted from 0."""
        return DataError(f"{self.path}, {self.unit} {self.rows[row]}: {text}")


@dataclass(frozen=True, slots=True)
class NumericTable:
    """Rows of numbers with a label, N of them, in the order of the file.

    Attributes:
        feature_names: Name of each feature.
        features: As they stand in the file, not standardised; true is 1; (N, F).
        labels: Class of each row; of a distribution the likeliest, the earliest on ties.
        splits: "train", "validation" or "test", (N,).
        soft: The distributions, where the file has some in place of labels.
    """

    feature_names: tuple[str, ...]
    features: Numbers
    labels: tuple[str, ...]
    splits: npt.NDArray[np.str_]
    soft: SoftLabels | None = None


def read_table(path: Path | None, *, seed: int = 0) -> NumericTable:
    """Return the rows of a file, or of the shipped file if ``path`` is None.

    A file has a column label, optionally split (train; validation, dev or val; test), and every
    other column holds numbers, true or false. An npz file holds an array a column, (N,), or of
    several features, (N, F). In place of label a column label.NAME for each class may hold its
    share, or in an npz file the array labels, (N, C), with the names in class_names. Without a
    split the rows are shared 70/15/15, each label apart, and equal rows stay on one side.

    Args:
        path: The file, or None.
        seed: Decides the splits of a file that has none.

    Raises:
        DataError: If the file is not such a file; one line that names the file, the first row
            that is wrong, and what was expected.
    """
    columns = read_columns(SHIPPED if path is None else path, ("label",), expected=EXPECTED)
    names = tuple(name for name in columns.values if is_feature(name))
    if not names:
        raise DataError(f"{columns.path}: no feature columns beside label; expected {EXPECTED}")
    features = np.stack([read_numbers(columns, name) for name in names], axis=1)
    labels, soft = read_targets(columns)
    splits = read_splits(columns)
    if splits is None:
        groups = [hashlib.sha256(row.tobytes()).digest() for row in features]
        splits = assign_splits(groups, labels, seed=seed)
    if soft is None:
        check_classes(columns, labels, splits)
    else:
        check_splits(columns, splits)
    return NumericTable(names, features, labels, np.array(splits, dtype=np.str_), soft)


def standardize(features: Numbers, is_train: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return features with mean 0 and standard deviation 1 over the training rows, (N, F).

    A column of zeros and ones stays as it is: one-hot codes are on one scale already, and a rare
    one would grow large. A column that is constant in train becomes 0 there.

    Args:
        features: (N, F), finite.
        is_train: The rows that the mean and the deviation are taken of, (N,).
    """
    train = features[is_train]
    is_flag = ((features == 0.0) | (features == 1.0)).all(axis=0)
    mean = np.where(is_flag, 0.0, train.mean(axis=0))
    # A mean of equal numbers may be a rounding error away from them.
    is_kept = is_flag | (train.min(axis=0) == train.max(axis=0))
    deviation = np.where(is_kept, 1.0, train.std(axis=0))
    return ((features - mean) / deviation).astype(np.float32)


def read_columns(path: Path, required: Sequence[str], *, expected: str) -> Columns:
    """Return the columns of a file; its ending says the format, and gzip if it ends with ``.gz``.

    Args:
        path: The file.
        required: Columns that must be there; label.NAME will do for label.
        expected: What the columns should be, in words.

    Raises:
        DataError: If the file cannot be read as what its name says, or a column is missing.
    """
    ending, is_gzipped = files.find_ending(path, ENDINGS)
    content = files.read_bytes(path, is_gzipped=is_gzipped)
    if not content.strip():
        raise DataError(f"{path}: the file is empty; expected {expected}")
    if ending == ".npz":
        columns = _columns_of_npz(path, files.read_npz(path, content))
    elif ending == ".parquet":
        columns = _columns_of_parquet(path, content)
    else:
        columns = _columns_of_text(path, files.decode(path, content), is_tsv=ending == ".tsv")
    is_soft = any(name.startswith(SOFT_PREFIX) for name in columns.values)
    for name in required:
        if name != "label" or not is_soft:
            _require(columns, name, expected)
    if not columns.rows:
        raise DataError(f"{path}: no rows; expected {expected}")
    return columns


def read_numbers(columns: Columns, name: str) -> Numbers:
    """Return a column as finite numbers, (N,); true is 1 and false 0.

    Raises:
        DataError: If a row holds anything else; the first that does is named.
    """
    column = columns.values[name]
    if isinstance(column, tuple):
        try:
            numbers = np.fromiter(map(_as_number, column), np.float64, len(column))
        except ValueError:
            row = next(row for row, text in enumerate(column) if not _is_number(text))
            text = f"holds {column[row][:40]!r}" if column[row] else "is empty"
            raise columns.error(row, f"column {name!r} {text}; expected a number") from None
    else:
        numbers = column.astype(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        shown = "NaN" if np.isnan(numbers[row]) else str(numbers[row])
        raise columns.error(row, f"column {name!r} holds {shown}; expected a finite number")
    return numbers


def read_texts(columns: Columns, name: str) -> tuple[str, ...]:
    """Return a column as text, (N,), with 3.0 as 3 and "" where a number is NaN."""
    column = columns.values[name]
    if isinstance(column, tuple):
        return column
    return tuple("" if value != value else _show(value) for value in column.tolist())


def is_feature(name: str) -> bool:
    """Return whether a column is neither label, label.NAME nor split."""
    return name not in ("label", "split") and not name.startswith(SOFT_PREFIX)


def read_targets(columns: Columns) -> tuple[tuple[str, ...], SoftLabels | None]:
    """Return the class of each row, and the distributions that they are the likeliest of, if any.

    Raises:
        DataError: If a row has no class, or no distribution.
    """
    found = [name for name in columns.values if name.startswith(SOFT_PREFIX)]
    if found:
        soft = _read_soft(columns, found)
        return soft.likeliest(), soft
    labels = read_texts(columns, "label")
    if "" in labels:
        row = labels.index("")
        raise columns.error(row, "the label is empty; expected the name of a class")
    return labels, None


def _read_soft(columns: Columns, found: Sequence[str]) -> SoftLabels:
    if "label" in columns.values:
        text = f"columns 'label' and {found[0]!r}; expected one label or its distribution"
        raise DataError(f"{columns.path}: {text}")
    names = tuple(name.removeprefix(SOFT_PREFIX).strip() for name in found)
    if len(names) < 2 or "" in names or len(set(names)) < len(names):
        text = f"found {', '.join(map(repr, found))} as the distribution of the label; expected"
        raise DataError(f"{columns.path}: {text} label.NAME for each of two or more classes")
    rows = np.stack([read_numbers(columns, name) for name in found], axis=1)
    where = str(columns.path)
    shares = check_distributions(rows, where, unit=columns.unit, places=columns.rows)
    return SoftLabels(names, shares)


def read_splits(columns: Columns) -> list[str] | None:
    """Return the split of each row, or None if the file has no column of that name.

    Raises:
        DataError: If a row names no split.
    """
    if "split" not in columns.values:
        return None
    names = read_texts(columns, "split")
    for row, name in enumerate(names):
        if name.lower() not in SPLIT_NAMES:
            expected = "expected train, validation (also dev, val) or test"
            raise columns.error(row, f"unknown split {name!r}; {expected}")
    return [SPLIT_NAMES[name.lower()] for name in names]


def check_classes(columns: Columns, labels: Sequence[str], splits: Sequence[str]) -> None:
    """Raise if the rows cannot train a classifier or measure one.

    Args:
        columns: Where the examples stand, the first row of each at the same index.
        labels: Class of each example.
        splits: Split of each example.

    Raises:
        DataError: If there is a single class, a class of a single example, an empty split for
            training or validation, or a class that is absent from train.
    """
    counts = Counter(labels)
    if len(counts) < 2:
        raise DataError(
            f"{columns.path}: only one class, {labels[0]!r}; expected at least two labels"
        )
    for label, count in counts.items():
        if count == 1:
            text = f"class {label!r} stands nowhere else; expected two or more of each class"
            raise columns.error(labels.index(label), text)
    check_splits(columns, splits)
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    for row, label in enumerate(labels):
        if label not in trained:
            text = f"class {label!r} of the split {splits[row]!r} is absent from train"
            raise columns.error(row, f"{text}; expected every class there")


def check_splits(columns: Columns, splits: Sequence[str]) -> None:
    """Raise ``DataError`` if nothing is in the split for training, or in that for validation."""
    for name in ("train", "validation"):
        if name not in splits:
            raise DataError(f"{columns.path}: nothing is in the split {name!r}; expected both")


def column_of_array(array: npt.NDArray[Any]) -> Column:
    """Return an array of (N,) as a column: numbers as they are, anything else as text."""
    if array.dtype.kind in _NUMBER_KINDS:
        return array
    return tuple(str(value).strip() for value in array.tolist())


def _as_number(text: str) -> float:
    truth = _TRUTH.get(text.lower())
    return float(text) if truth is None else truth


def _is_number(text: str) -> bool:
    try:
        _as_number(text)
    except ValueError:
        return False
    return True


def _show(value: object) -> str:
    is_whole = isinstance(value, float) and value.is_integer()
    return f"{value:.0f}" if is_whole else str(value)


def _require(columns: Columns, wanted: str, expected: str) -> None:
    if wanted in columns.values:
        return
    lowered = {name.lower(): name for name in columns.values}
    near = difflib.get_close_matches(wanted, lowered, n=1)
    hint = f" (nearest: {lowered[near[0]]!r})" if near else ""
    names = [repr(name[:40]) for name in columns.values]
    found = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    raise DataError(
        f"{columns.path}: no column {wanted!r}{hint}; found {found}; expected {expected}"
    )


def _check_names(place: str, names: Sequence[str]) -> None:
    for position, name in enumerate(names, 1):
        # The first is the name that pandas gives its index in a CSV file, the second in Parquet.
        if name in ("", "__index_level_0__"):
            raise DataError(
                f"{place}: column {position} has no name, as the index that pandas writes; "
                "expected a name for each column (to_csv(..., index=False))"
            )
        if names.count(name) > 1:
            raise DataError(f"{place}: column {name!r} stands {names.count(name)} times")


def _columns_of_text(path: Path, text: str, *, is_tsv: bool) -> Columns:
    records: Iterator[tuple[int, list[str]]] = (
        files.tsv_records(text.split("\n")) if is_tsv else files.csv_records(path, text)
    )
    header_line, header = next(records)
    names = [name.strip() for name in header]
    _check_names(f"{path}, line {header_line}", names)
    lines: list[int] = []
    table: list[list[str]] = []
    for line, fields in records:
        if len(fields) != len(names):
            separated = "tab-separated" if is_tsv else "comma-separated"
            raise DataError(
                f"{path}, line {line}: {files.count_of(len(fields), 'column')}; expected "
                f"{len(names)}, {separated}, as in line {header_line}"
            )
        lines.append(line)
        table.append(fields)
    columns = zip(*table, strict=True) if table else ((),) * len(names)
    values: dict[str, Column] = {
        name: tuple(map(str.strip, column)) for name, column in zip(names, columns, strict=True)
    }
    return Columns(path, "line", lines, values)


def _columns_of_parquet(path: Path, content: bytes) -> Columns:
    table = files.read_parquet(path, content)
    names = list(table.column_names)
    _check_names(str(path), names)
    values = {name: _column_of_arrow(table.column(i)) for i, name in enumerate(names)}
    return Columns(path, "row", range(1, table.num_rows + 1), values)


def _column_of_arrow(column: Any) -> Column:
    if not column.null_count:
        array = np.asarray(column.combine_chunks().to_numpy(zero_copy_only=False))
        if array.dtype.kind in _NUMBER_KINDS:
            return array
    return tuple("" if value is None else str(value).strip() for value in column.to_pylist())


def _columns_of_npz(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> Columns:
    values: dict[str, Column] = {}
    arrays = dict(arrays)
    targets = [name for name in ("label", "labels") if arrays.get(name, np.empty(0)).ndim == 2]
    if len(targets) == 2:
        raise DataError(f"{path}: class distributions in 'label' and in 'labels'; expected one")
    class_names = arrays.pop("class_names", None) if targets else None
    sizes = {name: array.shape[0] if array.ndim else 0 for name, array in arrays.items()}
    num_rows = sizes.get("label", max(sizes.values(), default=0))
    for name, array in arrays.items():
        if array.ndim not in (1, 2) or sizes[name] != num_rows:
            raise DataError(
                f"{path}: array {name!r} has the shape {array.shape}; expected ({num_rows},) or "
                f"({num_rows}, features), as many rows as in the others"
            )
        if name in targets:
            values |= split_columns(path, array, class_names)
        elif array.ndim == 1:
            values[name] = column_of_array(array)
        else:
            for i in range(array.shape[1]):
                values[f"{name}[{i}]"] = column_of_array(array[:, i])
    return Columns(path, "row", range(1, num_rows + 1), values)
