"""What a person holds in Python becomes the rows that a file would hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest

from objectives.api import DataError
from objectives.data.frames import make_rows, save_rows
from objectives.data.rows import read_rows
from objectives.data.tables import read_table

COLUMNS: dict[str, list[Any]] = {
    "age": [31.0, 45.5, -3.0, 17.0, 22.0, 51.0],
    "job": ["cook", "nurse", "cook", "nurse", "nurse", "cook"],
    "y": ["no", "yes", "no", "yes", "no", "yes"],
    "split": ["train", "train", "train", "train", "val", "test"],
}
VIEWS = {"job": pyarrow.array(COLUMNS["job"], pyarrow.string_view())}  # as polars keeps text
FRAME = pd.DataFrame(COLUMNS, index=[7, 3, 5, 1, 2, 4])  # as after a shuffle
FRAME["job"] = FRAME["job"].astype("category")


@pytest.mark.parametrize(
    "data",
    [COLUMNS, FRAME, pyarrow.table(COLUMNS), pyarrow.table(COLUMNS | VIEWS)],
    ids=["arrays", "pandas", "arrow", "views"],
)
def test_frames_and_arrays_are_the_same_rows(data: Any, tmp_path: Path) -> None:
    rows = read_rows(save_rows(data, tmp_path, label="y"), "")
    assert rows.names == list(COLUMNS)
    assert rows.numbers("age").tolist() == COLUMNS["age"]
    assert rows.texts("job") == tuple(COLUMNS["job"])
    table = read_table(save_rows(data, tmp_path, label="y"), label="y")
    assert table.preparation.feature_names == ("age", "job=cook", "job=nurse")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_pair_is_features_and_classes() -> None:
    rows = make_rows((np.arange(15.0).reshape(5, 3), np.arange(5) % 2))
    assert rows.names == ["x[0]", "x[1]", "x[2]", "label"]
    assert rows.texts("label") == ("0", "1", "0", "1", "0")


def test_missing_values_of_pandas_are_empty_cells(tmp_path: Path) -> None:
    frame = FRAME[:4].assign(age=[31, None, 5, 6], job=[None, "a", "a", None])
    rows = read_rows(save_rows(frame, tmp_path), "")
    assert rows.texts("age") == ("31", "", "5", "6")
    assert rows.texts("job") == ("", "a", "a", "")


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(DataError, match="the data are list; expected a data frame, a mapping"):
        make_rows([1, 2])
