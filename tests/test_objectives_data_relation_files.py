"""Labelled sentences in the arrays of an npz file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from objectives.api import DataError
from objectives.data.relations import read_relations

TAGGED = "The <e1>mast</e1> of a <e2>ship</e2>"
GOOD: dict[str, Any] = {
    "sentence": [TAGGED, "an <e1>elm</e1> is a <e2>tree</e2>"] * 3,
    "label": [5, 7] * 3,
    "split": ["train", "train", "dev", "val", "test", "test"],
}


@pytest.mark.parametrize("kind", ["U", "S"])  # text, and bytes as HDF5 keeps it
def test_arrays_are_read_as_the_columns_of_a_table(tmp_path: Path, kind: str) -> None:
    arrays = {**GOOD, "sentence": np.array(GOOD["sentence"], kind), "other": np.ones((2, 3))}
    np.savez(tmp_path / "d.npz", **arrays)
    table = read_relations(tmp_path / "d.npz")
    assert table.tokens[1] == ("an", "elm", "is", "a", "tree")
    assert table.labels == ("5", "7") * 3
    assert table.splits.tolist() == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2


def test_arrays_without_split_are_shared(tmp_path: Path) -> None:
    sentences = [f"a <e1>x{i}</e1> of <e2>y</e2>" for i in range(40)]
    np.savez(tmp_path / "d.npz", sentence=sentences, label=["a", "b"] * 20)
    assert set(read_relations(tmp_path / "d.npz").splits) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"sentence": [TAGGED]}, "no column 'label'"),
        ({"sentence": [TAGGED], "label": ["x", "y"]}, r"array 'label' has the shape \(2,\)"),
        ({"sentence": [[TAGGED]], "label": ["x"]}, r"array 'sentence' has the shape \(1, 1\)"),
        ({"sentence": np.empty(0, "U1"), "label": np.empty(0, "U1")}, "no rows"),
        ({"sentence": [TAGGED, "a"], "label": ["x", "y"]}, "d.npz, row 2: no entity is marked"),
    ],
)
def test_mistake_in_the_arrays_is_one_line(
    tmp_path: Path, arrays: dict[str, Any], expected: str
) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=expected) as raised:
        read_relations(tmp_path / "d.npz")
    assert "\n" not in str(raised.value)
