import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from objectives.api import DataError
from objectives.data import files
from objectives.data.tables import read_table, standardize

#: age, member, label, split; 7 rows.
AGES = [31.0, 45.5, 22.0, -3.0, 1e3, 0.0, 17.0]
MEMBERS = [True, False, True, True, False, False, True]
LABELS = ["b", "a", "b", "a", "a", "b", "a"]
SPLITS = ["train", "train", "val", "Validation", "train", "train", "test"]


def as_text(separator: str) -> bytes:
    rows = [("age", "member", "label", "split")]
    rows += list(zip(AGES, MEMBERS, LABELS, SPLITS, strict=True))
    lines = [separator.join(map(str, row)) for row in rows]
    return ("\r\n".join(lines) + "\n").encode("utf-8-sig")


def as_parquet() -> bytes:
    buffer = io.BytesIO()
    columns = {"age": AGES, "member": MEMBERS, "label": LABELS, "split": SPLITS}
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def as_npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(values) for name, values in arrays.items()})
    return buffer.getvalue()


NPZ = as_npz(age=AGES, member=MEMBERS, label=LABELS, split=SPLITS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", as_text(",")),
        ("t.tsv", as_text("\t")),
        ("t.parquet", as_parquet()),
        ("t.npz", NPZ),
        ("T.CSV", as_text(",")),
    ],
)
def test_every_format_reads_the_same_table(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    table = read_table(tmp_path / name)
    assert table.feature_names == ("age", "member")
    assert table.features[:, 0].tolist() == AGES
    assert table.features[:, 1].tolist() == [float(member) for member in MEMBERS]
    assert table.labels == tuple(LABELS)
    expected = ["train", "train", "validation", "validation", "train", "train", "test"]
    assert table.splits.tolist() == expected


def test_array_of_several_features_gives_a_column_each(tmp_path: Path) -> None:
    x = np.arange(21.0).reshape(7, 3)
    (tmp_path / "t.npz").write_bytes(as_npz(x=x, label=[1, 0, 1, 0, 1, 0, 1], split=SPLITS))
    table = read_table(tmp_path / "t.npz")
    assert table.feature_names == ("x[0]", "x[1]", "x[2]")
    np.testing.assert_array_equal(table.features, x)
    assert table.labels == ("1", "0", "1", "0", "1", "0", "1")


def test_number_labels_are_the_same_text_in_every_format(tmp_path: Path) -> None:
    labels = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0]
    (tmp_path / "t.npz").write_bytes(as_npz(x=AGES, label=labels, split=SPLITS))
    assert set(read_table(tmp_path / "t.npz").labels) == {"1", "2"}


def test_rows_without_split_are_shared_by_label_and_equal_rows_stay_together(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 400, size=(1000, 1))
    labels = (x[:, 0] % 5 == 0).astype(int)
    path = tmp_path / "t.npz"
    path.write_bytes(as_npz(x=x, label=labels))
    table = read_table(path)
    for label in "01":
        of_class = table.splits[np.array(table.labels) == label]
        for name, share in (("train", 0.70), ("validation", 0.15), ("test", 0.15)):
            assert (of_class == name).mean() == pytest.approx(share, abs=0.02)
    sides = Counter(value for value, _ in set(zip(x[:, 0].tolist(), table.splits, strict=True)))
    assert set(sides.values()) == {1}
    assert read_table(path).splits.tolist() == table.splits.tolist()
    assert read_table(path, seed=1).splits.tolist() != table.splits.tolist()


GOOD = "1,2,a\n3,4,b\n5,6,a\n7,8,b\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("x,y,label\n1,2,a\n3,red,b\n", ", line 3: column 'y' holds 'red'; expected a number"),
        ("x,y,label\n1,,a\n3,4,b\n", ", line 2: column 'y' is empty; expected a number"),
        ("x,y,label\n1,2,a\n\n3,nan,b\n", ", line 4: column 'y' holds NaN; expected a finite"),
        ("x,y,label\n1,inf,a\n3,4,b\n", ", line 2: column 'y' holds inf; expected a finite"),
        ("x,y,label\n1,2\n", ", line 2: 2 columns; expected 3, comma-separated, as in line 1"),
        ("x,y,label\n1,2,\n", ", line 2: the label is empty; expected the name of a class"),
        ("x,y,label\n" + GOOD + "9,9,c\n", ", line 6: class 'c' stands nowhere else; expected"),
        ("x,y,label\n1,2,a\n3,4,a\n", ": only one class, 'a'; expected at least two labels"),
        ("x,y,lable\n" + GOOD, ": no column 'label' (nearest: 'lable'); found 'x', 'y', 'lable'"),
        ("x,y,Label\n" + GOOD, ": no column 'label' (nearest: 'Label')"),
        ("label\na\nb\n", ": no feature columns beside label; expected a column label, columns"),
        ("label,split\na,train\nb,val\n", ": no feature columns beside label"),
        ("x,y,label\n", ": no rows; expected a column label"),
        ("", ": the file is empty; expected a column label"),
        (",y,label\n" + GOOD, ", line 1: column 1 has no name, as the index that pandas writes"),
        ("x,x,label\n" + GOOD, ", line 1: column 'x' stands 2 times"),
        ("x,label,split\n1,a,train\n2,b,trial\n", ", line 3: unknown split 'trial'; expected"),
        (
            "x,label,split\n1,a,train\n2,a,val\n3,b,val\n4,b,val\n",
            ", line 4: class 'b' of the split 'validation' is absent from train",
        ),
        (
            "x,label,split\n1,a,train\n2,a,test\n3,b,train\n4,b,train\n",
            ": nothing is in the split 'validation'; expected both",
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_where(
    tmp_path: Path, content: str, expected: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_table(path)
    message = str(caught.value)
    assert message.startswith(f"{path}{expected}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.xlsx", b"x", ": unknown ending '.xlsx'; expected .csv, .tsv, .parquet, .npz"),
        ("t.npz", b"not a zip", ": broken npz ("),
        ("t.npz", NPZ[:200], ": broken npz ("),
        ("t.npz", as_npz(x=[[1.0], [2.0]], label=["a"]), ": array 'x' has the shape (2, 1); exp"),
        ("t.npz", as_npz(x=np.ones((2, 1, 1)), label=["a", "b"]), ": array 'x' has the shape"),
        (
            "t.npz",
            as_npz(x=np.array([[1], [1, 2]], dtype=object), label=["a", "b"]),
            ": array 'x' cannot be read (Object arrays",
        ),
        (
            "t.npz",
            as_npz(x=[1.0, np.nan], label=["a", "b"]),
            ", row 2: column 'x' holds NaN; expected a finite number",
        ),
        ("t.npz", as_npz(x=["1", "red"], label=["a", "b"]), ", row 2: column 'x' holds 'red'"),
        ("t.parquet", b"PAR1", ": broken Parquet ("),
    ],
)
def test_a_broken_file_is_one_line(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_table(path)
    message = str(caught.value)
    assert message.startswith(f"{path}{expected}")
    assert "\n" not in message


def test_missing_number_in_parquet_names_its_row(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = {"x": [1, None, 3], "label": ["a", "b", "a"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(DataError, match="row 2: column 'x' is empty; expected a number"):
        read_table(path)


def test_only_a_single_array_is_told_from_named_ones(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(DataError, match="a single array; expected named arrays"):
        read_table(path)


def test_standardized_on_train_alone() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(5.0, 3.0, size=(101, 7))
    features[:, 2] = rng.integers(0, 2, size=101)
    is_train = np.arange(101) < 61
    features[is_train, 5] = 0.1
    ours = standardize(features, is_train)
    preprocessing = pytest.importorskip("sklearn.preprocessing", reason="needs scikit-learn")
    theirs = preprocessing.StandardScaler().fit(features[is_train]).transform(features)
    others = [0, 1, 3, 4, 6]
    np.testing.assert_allclose(ours[:, others], theirs[:, others], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(ours[:, 2], features[:, 2])  # zeros and ones
    np.testing.assert_allclose(ours[is_train, 5], 0.0, atol=1e-15)  # constant in train
    assert ours.dtype == np.float32


def test_written_npz_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    written = []
    for name in ("a.npz", "b.npz"):
        files.write_npz(tmp_path / name, {"x": np.arange(5), "label": np.array(["a", "b"])})
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["x"].tolist() == [0, 1, 2, 3, 4]
