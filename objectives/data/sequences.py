"""Reads labelled sequences: npz files, and long tables in CSV, TSV or Parquet.

The shipped file (see ``sequence_rnn.md``) and a person's own file go the same way. Knows no model.
Shapes: N sequences, R steps of all of them, F features.
"""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from objectives.api import DataError
from objectives.data import files
from objectives.data.examples import Examples, read_examples
from objectives.data.preparation import Preparation, fit_preparation
from objectives.data.rows import ENDINGS, Rows, read_rows, rows_of_arrays
from objectives.data.tables import hash_rows
from objectives.data.targets import is_target

#: The file that ships with the project.
SHIPPED = files.FOLDER / "spoken_digits.npz"

_KEYS = ("sequence", "step")


@dataclass(frozen=True, slots=True)
class SequenceTable:
    """Sequences with a label, N of them.

    Attributes:
        lengths: Steps of each sequence, one or more, (N,); their sum is R.
        examples: Class and split of each sequence.
        preparation: How the features are made of the columns of a step.
        features: The steps of all sequences one after the other, (R, F).
        notes: Sentences for the person: which columns are left out, and why.
    """

    lengths: npt.NDArray[np.int64]
    examples: Examples
    preparation: Preparation
    features: npt.NDArray[np.float32]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Parts:
    """A file's sequences: a row for each of N, a row for each of R steps, the steps of each."""

    sequences: Rows
    steps: Rows
    lengths: npt.NDArray[np.int64]


def read_sequences(path: Path | None, *, label: str = "label", seed: int = 0) -> SequenceTable:
    """Return the sequences of a file, or of the shipped file if ``path`` is None.

    An npz file holds the arrays sequences, (R, F), lengths, (N,), labels, (N,), and optionally
    split, (N,). A table holds a row a step, with the columns sequence (any name, equal for the
    steps of one), step (a number that orders them), the label, optionally split, and features;
    its rows may stand in any order. A label may be a distribution over the classes, see
    ``rows_of_arrays``. Without a split the sequences are shared 70/15/15, each class apart, and
    equal sequences stay on one side.

    Args:
        path: The file, or None.
        label: Name of the column with the classes.
        seed: Decides the splits of a file that has none.

    Raises:
        DataError: If the file is not such a file; a line for each mistake, with file and place.
    """
    source = SHIPPED if path is None else path
    ending, _ = files.find_ending(source, ENDINGS)
    parts = _read_npz(source, label) if ending == ".npz" else _read_long(source, label)
    names = [
        name
        for name in parts.steps.names
        if name not in (*_KEYS, "split") and not is_target(name, label)
    ]
    if not names:
        raise DataError(f"{source}: no feature columns beside {', '.join((*_KEYS, label))}")

    def hash_sequences() -> Sequence[Hashable]:
        digests = hash_rows(parts.steps, names)
        ends = np.cumsum(parts.lengths).tolist()
        starts = [0, *ends[:-1]]
        return [
            hashlib.sha256(b"".join(digests[start:end])).digest()
            for start, end in zip(starts, ends, strict=True)
        ]

    examples = read_examples(parts.sequences, label=label, groups=hash_sequences, seed=seed)
    is_train = np.repeat(examples.is_train, parts.lengths)
    preparation, notes = fit_preparation(parts.steps, names, is_train)
    features = preparation.apply(parts.steps)
    return SequenceTable(parts.lengths, examples, preparation, features, notes)


def _read_npz(path: Path, label: str) -> _Parts:
    _, is_gzipped = files.find_ending(path, ENDINGS)
    arrays = files.read_npz(path, files.read_bytes(path, is_gzipped=is_gzipped))
    label = "labels" if label == "label" else label
    expected = (
        "arrays sequences (all steps one after the other, features), lengths, "
        f"{label} and, if you like, split"
    )
    for name in ("sequences", "lengths", label):
        if name not in arrays:
            found = ", ".join(map(repr, arrays))
            raise DataError(f"{path}: no array {name!r}; found {found}; expected {expected}")
    steps, lengths = arrays["sequences"], arrays["lengths"]
    if steps.ndim != 2 or steps.shape[1] == 0 or steps.dtype.kind not in "biuf":
        raise DataError(
            f"{path}: array 'sequences' has the shape {steps.shape} of {steps.dtype}; expected "
            "numbers, a row for each step of all sequences, (steps, features)"
        )
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not len(lengths):
        raise DataError(
            f"{path}: array 'lengths' has the shape {lengths.shape} of {lengths.dtype}; expected "
            "whole numbers, the steps of each sequence, (sequences,)"
        )
    wanted = ("lengths", label, "split", "class_names")
    each = {name: arrays[name] for name in wanted if name in arrays}
    sequences = replace(rows_of_arrays(str(path), each), unit="sequence")
    empty = np.flatnonzero(lengths < 1)
    if len(empty):
        text = f"its length is {lengths[empty[0]]}; expected one step or more"
        raise sequences.error(empty, text)
    if lengths.sum() != len(steps):
        raise DataError(
            f"{path}: array 'lengths' has the sum {lengths.sum()}; expected that of the "
            f"{len(steps)} rows of 'sequences'"
        )
    lengths = lengths.astype(np.int64)
    ends = np.cumsum(lengths)

    def find_sequence(step: int) -> int:
        return int(np.searchsorted(ends, step, side="right")) + 1

    features = replace(
        rows_of_arrays(str(path), {"sequences": steps}), unit="sequence", place=find_sequence
    )
    return _Parts(sequences, features, lengths)


def _read_long(path: Path, label: str) -> _Parts:
    expected = f"columns sequence, step, {label}, columns of features and, if you like, split"
    rows = read_rows(path, expected, label=label, texts=("sequence",))
    for name in (*_KEYS, *([] if any(is_target(one, label) for one in rows.names) else [label])):
        rows.require(name, expected)
    names, steps = rows.texts("sequence"), rows.numbers("step")
    empty = [row for row, name in enumerate(names) if not name]
    if empty:
        raise rows.error(empty, "column 'sequence' is empty; expected its name")
    numbered: dict[str, int] = {}
    owners = np.array([numbered.setdefault(name, len(numbered)) for name in names])
    order = np.lexsort((steps, owners))
    is_same = (np.diff(owners[order]) == 0) & (np.diff(steps[order]) == 0)
    if is_same.any():
        row = order[np.flatnonzero(is_same)[:1] + 1]  # stable: the later of the two
        text = f"step {steps[row[0]]:g} of sequence {names[row[0]]!r} stands there twice"
        raise rows.error(row, f"{text}; expected each step once")
    first_rows = np.unique(owners, return_index=True)[1]
    for name in rows.names:
        if name == "split" or is_target(name, label):
            _check_one_value(rows, name, first_rows[owners])

    def take(taken: npt.NDArray[np.int64]) -> Rows:
        places = taken.tolist()
        return replace(
            rows, table=rows.table.take(taken), place=lambda row: rows.place(places[row])
        )

    return _Parts(take(first_rows), take(order), np.bincount(owners).astype(np.int64))


def _check_one_value(rows: Rows, name: str, first_rows: npt.NDArray[np.int64]) -> None:
    """Raise ``DataError`` if the rows of a sequence differ in a column.

    Args:
        rows: A row a step.
        name: The column.
        first_rows: The first row of each row's sequence.
    """
    texts = rows.texts(name)
    for row, first in enumerate(first_rows.tolist()):
        if texts[row] != texts[first]:
            text = f"{name} {texts[row]!r} in a sequence whose first row has {texts[first]!r}"
            raise rows.error([row], f"{text}; expected one {name} a sequence")
