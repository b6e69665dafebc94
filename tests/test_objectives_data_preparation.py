"""Columns become features: as scikit-learn's, fitted on train alone, the same for new rows."""

import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from objectives.api import DataError
from objectives.data.preparation import MAX_VALUES, Preparation, fit_preparation
from objectives.data.rows import Rows, read_rows, rows_of_arrays, rows_of_table

sklearn = pytest.importorskip("sklearn", reason="needs scikit-learn")


def read(path: Path, text: str) -> Rows:
    path.write_text(text)
    return read_rows(path, "features")


def fit(rows: Rows, num_train: int | None = None) -> tuple[Preparation, tuple[str, ...]]:
    num_rows = rows.table.num_rows
    is_train = np.arange(num_rows) < (num_rows if num_train is None else num_train)
    return fit_preparation(rows, [name for name in rows.names if name != "label"], is_train)


def test_numbers_are_standardised_on_train_alone() -> None:
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(2)
    x = rng.normal(5.0, 3.0, size=(101, 7))
    x[:, 2] = rng.integers(0, 2, size=101)
    x[:61, 5] = 0.1
    rows = rows_of_arrays("t.npz", {"x": x})
    ours = fit(rows, 61)[0].apply(rows)
    theirs = StandardScaler().fit(x[:61]).transform(x)
    others = [0, 1, 3, 4, 6]
    np.testing.assert_allclose(ours[:, others], theirs[:, others], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(ours[:, 2], x[:, 2])  # zeros and ones
    np.testing.assert_allclose(ours[:61, 5], 0.0, atol=1e-15)  # constant in train
    assert ours.dtype == np.float32


def test_empty_cells_become_the_mean_with_an_indicator() -> None:
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(3)
    x = rng.normal(2.0, 3.0, size=(53, 2))
    x[[3, 17, 40], 0] = np.nan
    x[45, 1] = np.nan  # in a row that is not trained on
    rows = rows_of_arrays("t.npz", {"x": x})
    preparation, _ = fit(rows, 31)
    ours = preparation.apply(rows)
    filled = SimpleImputer(add_indicator=True).fit(x[:31]).transform(x)
    # scikit-learn scales with the means filled in, we with the cells that are there.
    deviations = np.nanstd(x[:31], axis=0)
    means = StandardScaler().fit(x[:31]).mean_
    np.testing.assert_allclose(ours[:, [0, 2]], (filled[:, :2] - means) / deviations, atol=1e-6)
    np.testing.assert_array_equal(ours[:, 1], filled[:, 2])
    assert preparation.feature_names == ("x[0]", "x[0]=(empty)", "x[1]")


def test_text_becomes_a_feature_for_each_value_that_train_repeats() -> None:
    from sklearn.preprocessing import OneHotEncoder

    values = ["red", "blue", "red", "", "blue", "red", "", "lilac", "red", "teal", "blue", "ochre"]
    rows = rows_of_arrays("t.npz", {"colour": np.array(values)})
    preparation, _ = fit(rows, 9)
    names = ("colour=red", "colour=(empty)", "colour=blue", "colour=(other)")
    assert preparation.feature_names == names
    encoder = OneHotEncoder(
        min_frequency=2, handle_unknown="infrequent_if_exist", sparse_output=False
    )
    train = np.array(values)[:9, None]
    theirs = encoder.fit(train).transform(np.array(values)[:, None])
    order = [2, 0, 1, 3]  # theirs are sorted by name
    np.testing.assert_array_equal(preparation.apply(rows), theirs[:, order])


def test_without_rare_values_in_train_a_new_one_is_all_zeros() -> None:
    rows = rows_of_arrays("t.npz", {"colour": np.array(["red", "blue", "red", "blue", "teal"])})
    preparation, _ = fit(rows, 4)
    assert preparation.apply(rows)[4].tolist() == [0.0, 0.0]


def test_only_the_most_frequent_values_get_a_feature() -> None:
    values = np.repeat([f"v{i:03}" for i in range(MAX_VALUES + 5)], 2)
    rows = rows_of_arrays("t.npz", {"zip": np.r_[values, [f"v{MAX_VALUES + 4}"]]})
    names = fit(rows)[0].feature_names
    assert names[:2] == (f"zip=v{MAX_VALUES + 4}", "zip=v000")
    assert len(names) == MAX_VALUES + 1


def test_new_rows_are_treated_alike_after_a_round_trip_through_json(tmp_path: Path) -> None:
    text = "age,job,member,label\n31,nurse,true,a\n,cook,false,b\n47,nurse,true,a\n22,cook,,b\n"
    rows = read(tmp_path / "t.csv", text)
    preparation, notes = fit(rows)
    assert notes == ()
    stored = Preparation.from_json(json.loads(json.dumps(preparation.to_json())))
    assert stored == preparation
    # Other columns, in another order, from another format.
    columns = {
        "member": [False, None],
        "note": ["x", "y"],
        "job": ["cook", "pilot"],
        "age": [47, 31],
    }
    features = stored.apply(rows_of_table("new", pyarrow.table(columns)))
    known = preparation.apply(rows)
    assert preparation.feature_names == (
        *("age", "age=(empty)", "job=cook", "job=nurse", "member", "member=(empty)"),
    )
    assert features[0].tolist() == [known[2, 0], 0.0, 1.0, 0.0, 0.0, 0.0]
    assert features[1].tolist() == [known[0, 0], 0.0, 0.0, 0.0, 0.0, 1.0]


def test_all_columns_that_new_rows_lack_are_named_at_once() -> None:
    rows = rows_of_arrays("t.npz", {"a": np.arange(5.0), "b": np.arange(5.0), "c": np.ones(5)})
    preparation, _ = fit(rows)
    new = rows_of_arrays("new.npz", {"b": np.array(["x", "y"] * 2), "c": np.ones(4)})
    with pytest.raises(DataError) as caught:
        preparation.apply(new)
    first, second = str(caught.value).splitlines()
    assert first.startswith("new.npz: no column 'a'")
    assert second == "new.npz: column 'b' holds text; expected numbers"


def test_columns_of_names_and_empty_ones_are_left_out_and_told(tmp_path: Path) -> None:
    lines = [f"p{i},{i % 3},,{'ab'[i % 2]}" for i in range(12)]
    rows = read(tmp_path / "t.csv", "name,x,nothing,label\n" + "\n".join(lines) + "\n")
    preparation, notes = fit(rows, 9)
    assert preparation.feature_names == ("x",)
    assert notes == (
        "column 'name' is left out: most of its values stand in a single row of train",
        "column 'nothing' is left out: it is empty in train",
    )
    with pytest.raises(DataError, match=r"t\.csv: column 'name' is left out"):
        fit_preparation(rows, ["name", "nothing"], np.arange(12) < 9)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "2", "low", "4"], ", line 4: column 'x' holds 'low' among numbers; expected a"),
        (["1", "inf", "3", "4"], ", line 3: column 'x' holds inf; expected a finite number"),
        (["1", "2", "1e60", "4"], ", line 4: column 'x' holds 1e+60; expected a finite number"),
        (["1e-311", "3e-311", "2e-311", "0"], ", line 3: column 'x' holds 3e-311 at most; exp"),
        (["1.01", "1.02", "1.03", "9e37"], ", line 5: column 'x' holds 9e+37, where train has 1"),
        (["2024-01-31", "2024-02-01", "", "2023-12-24"], ": column 'x' holds dates or times; exp"),
        (["31.01.24", "01.02.24", "", "24.12.23"], ": column 'x' holds dates or times; expected"),
        (["1/31/2024 8:15", "2/1/2024 9:30", "", ""], ": column 'x' holds dates or times"),
        (["12:30", "12:45", "", "7:05"], ": column 'x' holds dates or times; expected numbers"),
    ],
)
def test_a_column_that_cannot_be_used_is_refused_with_its_place(
    tmp_path: Path, cells: list[str], expected: str
) -> None:
    text = "x,y,label\n" + "".join(f"{x},{i},{'ab'[i % 2]}\n" for i, x in enumerate(cells))
    rows = read(tmp_path / "t.csv", text)
    with pytest.raises(DataError) as caught:
        fit(rows, 3)[0].apply(rows)
    assert str(caught.value).startswith(f"{tmp_path / 't.csv'}{expected}")
    assert "\n" not in str(caught.value)


def test_all_wrong_columns_are_named_at_once(tmp_path: Path) -> None:
    text = "born,x,y,z,label\n2001-05-17,1,3,inf,a\n2000-01-02,low,4,1,b\n1999-12-31,3,5,2,a\n"
    with pytest.raises(DataError) as caught:
        fit(read(tmp_path / "t.csv", text))
    lines = str(caught.value).splitlines()
    assert [line.split("column ")[1].split()[0] for line in lines] == ["'born'", "'x'", "'z'"]


def test_lists_in_a_parquet_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"x": [[1, 2], [3]], "y": [1.0, 2.0]}), path)
    with pytest.raises(DataError, match=r"column 'x' holds list<.*>; expected numbers, text"):
        fit(read_rows(path, "features"))
