"""Inputs that need not fit into memory: a file that is mapped, once for all trainers.

``numpy.memmap`` stays as it is. Anything else that is read row by row is written to a temporary
file, which the trainers that are forked later share; its pages are no process's own memory.
Shapes: N rows.
"""

import mmap
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.api import DataError

#: Bytes of rows that are looked at, or copied, at a time.
_CHUNK_BYTES = 2**26


def is_read_by_row(values: object) -> bool:
    """Return whether an object is a ``torch.utils.data.Dataset``, or h5py's or zarr's array."""
    if isinstance(values, np.ndarray | list | tuple | str) or hasattr(values, "detach"):
        return False
    return hasattr(values, "__len__") and hasattr(values, "__getitem__")


def map_rows(values: Any, place: str) -> npt.NDArray[Any]:
    """Return the rows of such an object as a mapped array, (N, ...); floats as float32.

    Of an item that is a tuple, as (input, target) of a ``Dataset``, the first part is taken.

    Raises:
        DataError: If an item has another shape than the first.
    """
    if not len(values):
        return np.empty((0,), dtype=np.float32)
    first = _read_item(values, 0)
    dtype = np.dtype(np.float32) if first.dtype.kind == "f" else first.dtype
    mapped = _make_map((len(values), *first.shape), dtype)
    if hasattr(values, "shape"):
        for rows in iterate_chunks(mapped):
            mapped[rows] = values[rows]
        return mapped
    for row in range(len(values)):
        item = _read_item(values, row)
        if item.shape != first.shape:
            text = f"row {row + 1} has the shape {item.shape}, the first {first.shape}"
            raise DataError(f"{place}: {text}; expected one shape")
        mapped[row] = item
    return mapped


def to_float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return an array as float32, a mapped one as a mapped one; infinite is what is too large."""
    with np.errstate(over="ignore"):
        if array.dtype == np.float32 or not _is_mapped(array):
            return array.astype(np.float32, copy=False)
        converted = _make_map(array.shape, np.dtype(np.float32))
        for rows in iterate_chunks(array):
            converted[rows] = array[rows]
    return converted


def iterate_chunks(array: npt.NDArray[Any]) -> Iterator[slice]:
    """Yield slices of rows that hold about 64 MB each, one row at least."""
    row_bytes = array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
    size = max(_CHUNK_BYTES // max(row_bytes, 1), 1)
    for start in range(0, len(array), size):
        yield slice(start, start + size)


def _read_item(values: Any, row: int) -> npt.NDArray[Any]:
    item = values[row]
    return np.asarray(item[0] if isinstance(item, tuple) else item)


def _make_map(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    with tempfile.TemporaryFile(prefix="bestepoch-") as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def _is_mapped(array: npt.NDArray[Any]) -> bool:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)
