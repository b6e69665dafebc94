"""Soft labels in files: what is read, what is refused, and a whole run. N=7 rows, C=3 classes."""

import io
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from objectives.api import DataError
from objectives.data.sequences import read_sequences
from objectives.data.tables import read_table
from objectives.data.targets import check_targets
from objectives.sequence_rnn import SequenceRnn
from objectives.tabular_mlp import TabularMlp
from sweeps import cli

#: Row 3 is a tie, row 5 a class of its own; row 6 is off by less than 1e-4.
SHARES = np.array(
    [
        [0.7, 0.2, 0.1],
        [0.1, 0.8, 0.1],
        [0.4, 0.4, 0.2],
        [0.0, 1.0, 0.0],
        [0.2, 0.3, 0.5],
        [0.90004, 0.05, 0.05],
        [0.25, 0.5, 0.25],
    ]
)
CLASSES = ("b", "a", "c")
LIKELIEST = ["b", "a", "b", "a", "c", "b", "a"]
SPLITS = ["train", "train", "val", "train", "train", "train", "test"]
X = [31.0, 45.5, 22.0, -3.0, 1e3, 0.0, 17.0]
LENGTHS = [2, 1, 3, 1, 2, 1, 1]


def as_npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(values) for name, values in arrays.items()})
    return buffer.getvalue()


def as_columns(shares: np.ndarray[Any, Any] = SHARES) -> dict[str, Any]:
    soft = {f"label.{name}": shares[:, i].tolist() for i, name in enumerate(CLASSES)}
    return {"x": X, **soft, "split": SPLITS}


def as_text(columns: dict[str, Any], separator: str) -> bytes:
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(separator.join(map(str, row)) for row in rows).encode()


def as_parquet() -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(as_columns()), buffer)
    return buffer.getvalue()


def as_steps(shares: np.ndarray[Any, Any] = SHARES) -> dict[str, Any]:
    """The rows as sequences of LENGTHS steps."""
    table = {
        name: np.repeat(values, LENGTHS).tolist() for name, values in as_columns(shares).items()
    }
    names = np.repeat([f"s{i}" for i in range(7)], LENGTHS).tolist()
    return {"sequence": names, "step": list(range(sum(LENGTHS))), **table}


def refuse(path: Path, read: Callable[[Path], object]) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", as_text(as_columns(), ",")),
        ("t.tsv", as_text(as_columns(), "\t")),
        ("t.parquet", as_parquet()),
        ("t.npz", as_npz(x=X, labels=SHARES, class_names=CLASSES, split=SPLITS)),
        ("u.npz", as_npz(x=X, label=SHARES, class_names=CLASSES, split=SPLITS)),
    ],
)
def test_every_format_of_a_table_reads_the_same_distributions(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    table = read_table(tmp_path / name)
    assert table.preparation.feature_names == ("x",)
    assert table.examples.labels.tolist() == LIKELIEST
    data = TabularMlp().load(tmp_path / name)
    assert data.class_names == CLASSES
    rows = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(data.train.targets, SHARES[rows].astype(np.float32))
    assert data.train.targets.dtype == np.float32
    assert [len(split.targets) for split in (data.validation, data.test)] == [1, 1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", as_text(as_steps(), ",")),
        (
            "t.npz",
            as_npz(
                sequences=np.repeat(X, LENGTHS)[:, None],
                lengths=LENGTHS,
                labels=SHARES,
                class_names=CLASSES,
                split=SPLITS,
            ),
        ),
    ],
)
def test_sequences_have_distributions_too(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_sequences(tmp_path / name).examples.labels.tolist() == LIKELIEST
    data = SequenceRnn().load(tmp_path / name)
    assert data.class_names == CLASSES
    rows = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(data.train.targets, SHARES[rows].astype(np.float32))
    assert data.train.inputs[0].shape == (5, 2, 1)


def test_classes_are_numbers_where_the_file_names_none(tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_bytes(as_npz(x=X, labels=SHARES, split=SPLITS))
    assert TabularMlp().load(tmp_path / "t.npz").class_names == ("0", "1", "2")


def test_rows_without_split_are_shared_by_their_likeliest_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    shares = rng.dirichlet([0.5, 0.5, 0.5], size=701)
    (tmp_path / "t.npz").write_bytes(as_npz(x=rng.normal(size=701), labels=shares))
    table = read_table(tmp_path / "t.npz")
    for label in "012":
        of_class = table.examples.splits[table.examples.labels == label]
        for name, share in (("train", 0.70), ("validation", 0.15), ("test", 0.15)):
            assert (of_class == name).mean() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(
    ("row", "shares", "total"),
    [
        (2, [0.4, 0.4, 0.1], "0.9"),
        (4, [0.4, 0.4, 0.2002], "1.0002"),
        (5, [0.4, 0.4, 0.200101], "1.000101"),  # not 1.0001, which is right
        (0, [0.6, 0.6, -0.2], "1 and holds -0.2"),  # the sum is right
        (6, [0.0, 0.0, 0.0], "0"),
    ],
)
def test_row_that_is_no_distribution_is_refused_with_its_place_and_sum(
    tmp_path: Path, row: int, shares: list[float], total: str
) -> None:
    wrong = SHARES.copy()
    wrong[row] = shares
    told = f"the class distribution sums to {total}; expected non-negative numbers that sum to 1"
    path = tmp_path / "t.npz"
    path.write_bytes(as_npz(x=X, labels=wrong, split=SPLITS))
    assert refuse(path, read_table).startswith(f", row {row + 1}: {told}")
    path = tmp_path / "t.csv"
    path.write_bytes(as_text(as_columns(wrong), ","))
    # The line of an editor: the first holds the names.
    assert refuse(path, read_table).startswith(f", line {row + 2}: {told}")
    path = tmp_path / "s.npz"
    steps = np.repeat(X, LENGTHS)[:, None]
    path.write_bytes(as_npz(sequences=steps, lengths=LENGTHS, labels=wrong, split=SPLITS))
    assert refuse(path, read_sequences).startswith(f", sequence {row + 1}: {told}")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"label": LIKELIEST}, ": columns 'label' and 'label.b'; expected one label or its"),
        ({"label.": [0.0] * 7}, ": found 'label.b', 'label.a', 'label.c', 'label.' as the"),
        ({"label.a": ["much"] * 7}, ", line 2: column 'label.a' holds 'much'; expected a number"),
        ({"label.a": [""] * 7}, ", line 2: column 'label.a' is empty; expected a finite number"),
        ({"split": ["train"] * 7}, ": nothing is in the split 'validation'"),
    ],
)
def test_mistake_in_the_columns_is_one_line(
    tmp_path: Path, columns: dict[str, Any], expected: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(as_text({**as_columns(), **columns}, ","))
    assert refuse(path, read_table).startswith(expected)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"class_names": ["a", "b"]}, ": array 'class_names' has the shape (2,); expected 3"),
        ({"class_names": ["a", "b", "a"]}, ": array 'class_names' has the shape (3,); expected 3"),
        ({"labels": [["a", "b"]] * 7}, ", row 1: column 'label.0' holds 'a'; expected a number"),
        ({"labels": np.ones((7, 1))}, ": found 'label.0' as the distribution of the label"),
        ({"label": SHARES}, ": arrays 'label' and 'labels'; expected one of them"),
        ({"labels": SHARES[:5]}, ": array 'label.0' has the shape (5,); expected (7,)"),
        ({"labels": np.full((7, 3), np.nan)}, ", row 1: column 'label.0' is empty; expected"),
    ],
)
def test_mistake_in_the_arrays_is_one_line(
    tmp_path: Path, arrays: dict[str, Any], expected: str
) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(as_npz(**{"x": X, "labels": SHARES, "split": SPLITS, **arrays}))
    assert refuse(path, read_table).startswith(expected)


def test_distribution_that_changes_inside_a_sequence_is_refused(tmp_path: Path) -> None:
    steps = as_steps()
    steps["label.b"][1], steps["label.a"][1] = steps["label.a"][1], steps["label.b"][1]
    path = tmp_path / "t.csv"
    path.write_bytes(as_text(steps, ","))
    expected = ", line 3: label.b '0.2' in a sequence whose first row has '0.7'"
    assert refuse(path, read_sequences).startswith(expected)


def test_sum_within_a_ten_thousandth_is_right_and_stays_as_it_is() -> None:
    rows = np.array([[0.50005, 0.50005], [0.49995, 0.49995]])
    np.testing.assert_array_equal(check_targets(rows, 2, "mine"), rows.astype(np.float32))
    for rows in (np.array([[0.5, 0.50011]]), np.array([[np.nan, 1.0]]), np.array([[np.inf, 0.0]])):
        with pytest.raises(DataError, match=r"^mine, row 1: the class distribution sums to "):
            check_targets(rows, 2, "mine")


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (np.array([0, 3, 1]), "train, row 2: class 3; expected 0 to 2, one of 3 classes"),
        (np.array([0, 2, -1]), "train, row 3: class -1; expected 0 to 2"),
        (np.array([0.0, 1.0]), r"train: targets of the shape \(2,\) of float64; expected whole"),
        (np.ones((5, 2)) / 2, r"train: targets of the shape \(5, 2\) of float64; expected whole"),
    ],
)
def test_targets_are_classes_or_distributions(
    targets: np.ndarray[Any, Any], expected: str
) -> None:
    with pytest.raises(DataError, match=f"^{expected}"):
        check_targets(targets, 3, "train")


def test_zeros_and_ones_that_are_no_distribution_are_labels(tmp_path: Path) -> None:
    rows = ["110", "000", "010", "101", "001", "111", "100"]
    labels = np.array([list(map(int, row)) for row in rows])
    (tmp_path / "t.npz").write_bytes(as_npz(x=X, labels=labels, class_names=CLASSES, split=SPLITS))
    data = TabularMlp().load(tmp_path / "t.npz")
    assert data.class_names == CLASSES
    expected = labels[[0, 1, 3, 4, 5]] == 1
    np.testing.assert_array_equal(data.train.targets, expected, strict=True)


def test_rows_of_several_labels_are_shared_by_the_rarest(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    labels = rng.random((701, 3)) < [0.5, 0.3, 0.1]
    (tmp_path / "t.npz").write_bytes(as_npz(x=rng.normal(size=701), labels=labels))
    splits = read_table(tmp_path / "t.npz").examples.splits[labels[:, 2]]
    for name, share in (("train", 0.70), ("validation", 0.15), ("test", 0.15)):
        assert (splits == name).mean() == pytest.approx(share, abs=0.02)


def test_targets_get_the_trainers_types() -> None:
    with pytest.raises(DataError, match="train: 64 labels; expected at most 63"):
        check_targets(np.ones((5, 64), dtype=bool), 64, "train")
    assert check_targets(np.array([0, 2, 1], dtype=np.int32), 3, "train").dtype == np.int64
    assert check_targets(SHARES, 3, "train").dtype == np.float32


def run(path: Path, *options: str) -> int:
    quick = ["--trials", "2", "--set", "max_epochs=2", "--set", "space.batch_size=[20]"]
    with pytest.raises(SystemExit) as exit_:
        cli.main(["run", "tabular-mlp", "--data", str(path), *quick, *options])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


@pytest.mark.usefixtures("folder")
def test_run_trains_on_the_distributions_of_any_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(7)
    features = rng.normal(size=(211, 5))
    shares = np.exp(2.0 * features[:, :3])
    shares /= shares.sum(axis=1, keepdims=True)
    path = tmp_path / "mine.npz"
    path.write_bytes(as_npz(x=features, y=shares, class_names=CLASSES))
    assert run(path, "--label", "y") == 0, capsys.readouterr().err
    connection = sqlite3.connect(tmp_path / "bestepoch.db")
    best = connection.execute("select count(*), max(score) from best_epochs").fetchone()
    connection.close()
    assert best[0] == 2
    assert best[1] > 0.2


@pytest.mark.usefixtures("folder")
def test_run_refuses_a_file_that_is_wrong_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = SHARES.copy()
    wrong[4, 0] = 0.3
    path = tmp_path / "mine.npz"
    path.write_bytes(as_npz(x=X, labels=wrong, split=SPLITS))
    assert run(path) == 2
    told = "".join(capsys.readouterr().err.split("\n"))
    assert "row 5: the class distribution sums to 1.1" in told
    assert [one.name for one in tmp_path.iterdir()] == ["mine.npz"]
