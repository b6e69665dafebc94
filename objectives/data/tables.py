"""Reads tables with a label: CSV, TSV, Parquet and npz files.

The shipped file (see ``tabular_mlp.md``) and a person's own file go the same way. Knows no model.
Shapes: N rows, F features.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from objectives.api import DataError
from objectives.data import files
from objectives.data.examples import Examples, read_examples
from objectives.data.preparation import Preparation, fit_preparation, read_numbers
from objectives.data.rows import Rows, read_rows
from objectives.data.targets import is_target

#: The file that ships with the project.
SHIPPED = files.FOLDER / "adult.npz"


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a label, N rows in the order of the file.

    Attributes:
        rows: As they stand in the file.
        examples: Class and split of each row.
        preparation: How the features are made of the columns.
        features: (N, F).
        notes: Sentences for the person: which columns are left out, and why.
    """

    rows: Rows
    examples: Examples
    preparation: Preparation
    features: npt.NDArray[np.float32]
    notes: tuple[str, ...]


def read_table(path: Path | None, *, label: str = "label", seed: int = 0) -> Table:
    """Return the rows of a file, or of the shipped file if ``path`` is None.

    A file has a column with the label, optionally split (train; validation, dev or val; test),
    and every other column is a feature: numbers, text, true or false; cells may be empty. An npz
    file holds an array a column, (N,), or of several features, (N, F). A label may be a
    distribution over the classes, see ``rows_of_arrays``. Without a split the rows are shared
    70/15/15, each class apart, and equal rows stay on one side.

    Args:
        path: The file, or None.
        label: Name of the column with the classes.
        seed: Decides the splits of a file that has none.

    Raises:
        DataError: If the file is not such a file; a line for each mistake, with file and row.
    """
    expected = f"a column {label}, columns of features and, if you like, split"
    rows = read_rows(SHIPPED if path is None else path, expected, label=label)
    if not any(is_target(name, label) for name in rows.names):
        rows.require(label, expected)
    names = [name for name in rows.names if name != "split" and not is_target(name, label)]
    if not names:
        raise DataError(f"{rows.source}: no feature columns beside {label}; expected {expected}")
    examples = read_examples(rows, label=label, groups=lambda: hash_rows(rows, names), seed=seed)
    preparation, notes = fit_preparation(rows, names, examples.is_train)
    return Table(rows, examples, preparation, preparation.apply(rows), notes)


def hash_rows(rows: Rows, names: Sequence[str]) -> list[bytes]:
    """Return a digest of each row's values in some columns, (N,): equal for equal rows."""
    numbers, texts = [], []
    for name in names:
        column = read_numbers(rows, name)
        if column is None:
            texts.append(rows.texts(name))
        else:
            numbers.append(column)
    matrix = np.stack(numbers, axis=1) if numbers else np.empty((rows.table.num_rows, 0))
    digests = []
    for row, values in enumerate(matrix):
        digest = hashlib.sha256(values.tobytes())
        digest.update("".join(repr(column[row]) for column in texts).encode())
        digests.append(digest.digest())
    return digests
