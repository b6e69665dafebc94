"""Inputs larger than memory: mapped, never copied as a whole."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from objectives.api import Data, DataError, Split
from objectives.data.checks import checked
from objectives.lanes.batches import on_device
from objectives.lanes.trainer import fingerprint

N, F = 4000, 10_007
X = np.arange(35.0).reshape(7, 5)


def make(inputs: Any, num_rows: int = N) -> Data:
    targets = np.arange(num_rows) % 2
    small = Split((np.ones((2, *np.shape(inputs[0] if len(inputs) else X[0]))),), np.array([0, 1]))
    return Data(Split(inputs, targets), small, small, ("no", "yes"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_a_mapped_file_is_never_copied_into_memory(tmp_path: Path, dtype: type) -> None:
    written = np.memmap(tmp_path / "x", dtype=dtype, mode="w+", shape=(N, F))
    written[-1] = 3
    mapped = np.memmap(tmp_path / "x", dtype=dtype, mode="r", shape=(N, F))
    tracemalloc.start()
    data = checked(make(mapped), "mine.py")
    fingerprint(data)
    split = on_device(data.train, torch.device("cpu"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < mapped.nbytes / 3
    assert float(split.inputs[0][-1].sum()) == 3.0 * F


class Rows(Dataset[Any]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(X):
            raise IndexError(index)
        return X[index]


class Stored:
    """As an array of h5py or zarr: it has a shape, and is read by slices."""

    shape, dtype = X.shape, X.dtype

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: Any) -> Any:
        return X[index]


@pytest.mark.parametrize(
    "inputs",
    [Rows(), (Rows(),), Stored(), TensorDataset(torch.from_numpy(X), torch.arange(7))],
    ids=["dataset", "tuple", "stored", "pairs"],
)
def test_anything_with_a_length_and_items_is_read(inputs: Any) -> None:
    small = Split((X,), np.arange(7) % 2)
    data = checked(Data(Split(inputs, np.arange(7) % 2), small, small, ("a", "b")), "mine.py")
    (array,) = data.train.inputs
    np.testing.assert_array_equal(array, X.astype(np.float32), strict=True)
    assert fingerprint(data) == fingerprint(checked(Data(small, small, small, ("a", "b")), ""))


def test_items_of_two_shapes_and_wrong_numbers_are_named() -> None:
    class Uneven(Rows):
        def __getitem__(self, index: int) -> Any:
            return X[index, : 5 - index // 4]

    with pytest.raises(DataError, match=r"inputs\[0\]: row 5 has the shape \(4,\), the first"):
        checked(make(Uneven(), 7), "mine.py")

    class Wrong(Rows):
        def __getitem__(self, index: int) -> Any:
            return np.where(X[index] == 17, np.nan, X[index])

    with pytest.raises(DataError, match=r"inputs\[0\], row 4, column 3: nan; expected finite"):
        checked(make(Wrong(), 7), "mine.py")
