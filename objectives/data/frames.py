"""Writes data that a person holds in Python to a file, which every trainer can read."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from objectives.api import DataError
from objectives.data.rows import Rows, rows_of_arrays, rows_of_table


def make_rows(data: Any, *, label: str = "label") -> Rows:
    """Return rows of what a person holds in Python.

    Args:
        data: A data frame of pandas or polars, a ``datasets.Dataset``, a ``pyarrow.Table``, a
            mapping of arrays, or a pair of arrays: features, (N, F), and classes, (N,).
        label: Name of the column with the classes, in a pair or in a mapping.

    Raises:
        DataError: If it is none of these, or its columns do not fit together.
    """
    if isinstance(data, tuple) and len(data) == 2:
        data = {"x": data[0], label: data[1]}
    if isinstance(data, Mapping):
        arrays = {str(name): np.asarray(values) for name, values in data.items()}
        return rows_of_arrays("the data", arrays, label=label)
    if type(data).__module__.partition(".")[0] == "pandas":
        table = pyarrow.Table.from_pandas(data, preserve_index=False)
    elif hasattr(data, "with_format"):
        table = data.with_format("arrow")[:]
    elif hasattr(data, "__arrow_c_stream__"):
        table = pyarrow.table(data)
    else:
        kind = type(data).__name__
        expected = "expected a data frame, a mapping of arrays or a pair (features, classes)"
        raise DataError(f"the data are {kind}; {expected}")
    return rows_of_table("the data", table)


def save_rows(data: Any, folder: Path = Path(), *, label: str = "label") -> Path:
    """Write what ``make_rows`` takes to a Parquet file; return its path, to give as ``data``.

    The file is named by its contents, so that the same data are the same file, and a study can
    go on with it.
    """
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(make_rows(data, label=label).table, buffer)
    contents = buffer.getvalue()
    path = folder / f"data-{hashlib.sha256(contents).hexdigest()[:12]}.parquet"
    if not path.exists():
        path.write_bytes(contents)
    return path.resolve()
