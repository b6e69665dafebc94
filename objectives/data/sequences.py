"""Reads labelled sequences of numbers: npz files, and long tables in CSV, TSV or Parquet.

The shipped file (see ``sequence_rnn.md``) and a person's own file go the same way. Knows no model.
Shapes: N sequences, R steps of all of them, F features.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.api import DataError
from objectives.data import files, tables
from objectives.data.relations import assign_splits
from objectives.data.targets import SoftLabels, split_columns

#: The file that ships with the project.
SHIPPED = Path(__file__).parent / "spoken_digits.npz"

EXPECTED_TABLE = "columns sequence, step, label, columns of numbers and, if you like, split"
EXPECTED_NPZ = (
    "arrays sequences (all steps one after the other, features), lengths, labels and, if you "
    "like, split"
)


@dataclass(frozen=True, slots=True)
class SequenceTable:
    """Sequences of numbers with a label, N of them.

    Attributes:
        steps: The steps of all sequences one after the other, not standardised, (R, F).
        lengths: Steps of each sequence, one or more, (N,); their sum is R.
        labels: Class of each sequence; of a distribution the likeliest, the earliest on ties.
        splits: "train", "validation" or "test", (N,).
        soft: The distributions, where the file has some in place of labels.
    """

    steps: tables.Numbers
    lengths: npt.NDArray[np.int64]
    labels: tuple[str, ...]
    splits: npt.NDArray[np.str_]
    soft: SoftLabels | None = None


def read_sequences(path: Path | None, *, seed: int = 0) -> SequenceTable:
    """Return the sequences of a file, or of the shipped file if ``path`` is None.

    An npz file holds the arrays sequences, (R, F), lengths, (N,), labels, (N,), and optionally
    split, (N,). A table holds a row a step, with the columns sequence (any name, equal for the
    steps of one), step (a number that orders them), label, optionally split, and numbers; its
    rows may stand in any order. A label may be a class distribution: labels of (N, C), with the
    names in class_names, or a column label.NAME for each class. Without a split the sequences
    are shared 70/15/15, each label apart, and equal sequences stay on one side.

    Args:
        path: The file, or None.
        seed: Decides the splits of a file that has none.

    Raises:
        DataError: If the file is not such a file; one line that names the file, the first place
            that is wrong, and what was expected.
    """
    source = SHIPPED if path is None else path
    ending, _ = files.find_ending(source, tables.ENDINGS)
    examples, steps, lengths = _read_npz(source) if ending == ".npz" else _read_long(source)
    labels, soft = tables.read_targets(examples)
    splits = tables.read_splits(examples)
    if splits is None:
        ends = np.cumsum(lengths)
        groups = [
            hashlib.sha256(steps[end - length : end].tobytes()).digest()
            for end, length in zip(ends, lengths, strict=True)
        ]
        splits = assign_splits(groups, labels, seed=seed)
    if soft is None:
        tables.check_classes(examples, labels, splits)
    else:
        tables.check_splits(examples, splits)
    return SequenceTable(steps, lengths, labels, np.array(splits, dtype=np.str_), soft)


_Parts = tuple[tables.Columns, tables.Numbers, npt.NDArray[np.int64]]


def _read_npz(path: Path) -> _Parts:
    """Return label and split of each sequence, the steps, (R, F), and the lengths, (N,)."""
    _, is_gzipped = files.find_ending(path, tables.ENDINGS)
    arrays = files.read_npz(path, files.read_bytes(path, is_gzipped=is_gzipped))
    for name in ("sequences", "lengths", "labels"):
        if name not in arrays:
            found = ", ".join(map(repr, arrays))
            raise DataError(f"{path}: no array {name!r}; found {found}; expected {EXPECTED_NPZ}")
    steps, lengths = arrays["sequences"], arrays["lengths"]
    if steps.ndim != 2 or steps.shape[1] == 0 or steps.dtype.kind not in "biuf":
        raise DataError(
            f"{path}: array 'sequences' has the shape {steps.shape} of {steps.dtype}; expected "
            "numbers, a row for each step of all sequences, (steps, features)"
        )
    for name in ("lengths", "labels", "split"):
        dims = (1, 2) if name == "labels" else (1,)
        if name in arrays and (arrays[name].ndim not in dims or len(arrays[name]) != lengths.size):
            raise DataError(
                f"{path}: array {name!r} has the shape {arrays[name].shape}; expected one for "
                f"each of {files.count_of(lengths.size, 'sequence')}"
            )
    if lengths.dtype.kind not in "iu" or (lengths < 1).any() or lengths.sum() != len(steps):
        raise DataError(
            f"{path}: array 'lengths' has the sum {lengths.sum()}; expected whole numbers of 1 or "
            f"more whose sum is the {len(steps)} rows of 'sequences'"
        )
    lengths = lengths.astype(np.int64)
    if not len(lengths):
        raise DataError(f"{path}: no sequences; expected {EXPECTED_NPZ}")
    names = {"labels": "label", "split": "split"}
    values: dict[str, tables.Column] = {}
    for name, array in arrays.items():
        if name == "labels" and array.ndim == 2:
            values |= split_columns(path, array, arrays.get("class_names"))
        elif name in names:
            values[names[name]] = tables.column_of_array(array)
    examples = tables.Columns(path, "sequence", range(1, len(lengths) + 1), values)
    return examples, _finite(examples, steps, lengths), lengths


def _finite(
    examples: tables.Columns, steps: npt.NDArray[Any], lengths: npt.NDArray[np.int64]
) -> tables.Numbers:
    """Return the steps as float64.

    Raises:
        DataError: If one holds NaN or infinity.
    """
    numbers = steps.astype(np.float64)
    wrong = np.argwhere(~np.isfinite(numbers))
    if len(wrong):
        row, feature = wrong[0].tolist()
        ends = np.cumsum(lengths)
        sequence = int(np.searchsorted(ends, row, side="right"))
        step = row - int(ends[sequence] - lengths[sequence]) + 1
        raise examples.error(
            sequence,
            f"step {step}, feature {feature + 1} holds {numbers[row, feature]}; expected a finite "
            "number",
        )
    return numbers


def _read_long(path: Path) -> _Parts:
    """Return what ``_read_npz`` does, from a table with a row a step."""
    columns = tables.read_columns(path, ("sequence", "step", "label"), expected=EXPECTED_TABLE)
    told = ("sequence", "step")
    names = [name for name in columns.values if tables.is_feature(name) and name not in told]
    if not names:
        raise DataError(f"{path}: no feature columns beside {', '.join((*told, 'label'))}")
    features = np.stack([tables.read_numbers(columns, name) for name in names], axis=1)
    numbers = tables.read_numbers(columns, "step")
    sequences = tables.read_texts(columns, "sequence")
    if "" in sequences:
        raise columns.error(sequences.index(""), "column 'sequence' is empty; expected its name")
    tables.read_targets(columns)  # of every row, or an empty one would pass for another label
    numbered: dict[str, int] = {}
    owners = np.array([numbered.setdefault(name, len(numbered)) for name in sequences])
    order = np.lexsort((numbers, owners))
    same = np.flatnonzero(
        (np.diff(owners[order]) == 0) & (np.diff(numbers[order]) == 0)  # stable: the later row
    )
    if len(same):
        row = int(order[same[0] + 1])
        text = f"step {numbers[row]:g} of sequence {sequences[row]!r} stands there twice"
        raise columns.error(row, f"{text}; expected each step once")
    first_rows = np.unique(owners, return_index=True)[1].tolist()
    values: dict[str, tables.Column] = {
        name: _one_value_each(columns, name, owners=owners.tolist(), first_rows=first_rows)
        for name in columns.values
        if not tables.is_feature(name)
    }
    rows = [columns.rows[row] for row in first_rows]
    examples = tables.Columns(path, columns.unit, rows, values)
    return examples, features[order], np.bincount(owners).astype(np.int64)


def _one_value_each(
    columns: tables.Columns, name: str, *, owners: list[int], first_rows: list[int]
) -> tuple[str, ...]:
    """Return each sequence's value of a column.

    Raises:
        DataError: If the rows of a sequence differ in it.
    """
    texts = tables.read_texts(columns, name)
    for row, owner in enumerate(owners):
        expected = texts[first_rows[owner]]
        if texts[row] != expected:
            raise columns.error(
                row,
                f"{name} {texts[row]!r} in a sequence whose first row has {expected!r}; expected "
                f"one {name} a sequence",
            )
    return tuple(texts[row] for row in first_rows)
