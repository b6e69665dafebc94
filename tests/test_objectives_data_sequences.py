import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from objectives.api import DataError
from objectives.data.sequences import SequenceTable, read_sequences

#: Three sequences of 2, 3 and 1 steps and two more, two features.
STEPS = np.arange(18.0).reshape(9, 2)
LENGTHS = [2, 3, 1, 1, 2]
LABELS = ["a", "b", "a", "b", "a"]
SPLITS = ["train", "train", "val", "dev", "test"]


def as_npz(**changes: Any) -> bytes:
    arrays = {"sequences": STEPS, "lengths": LENGTHS, "labels": LABELS, "split": SPLITS}
    arrays |= changes
    buffer = io.BytesIO()
    kept = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
    np.savez(buffer, **kept)
    return buffer.getvalue()


def long_rows() -> list[tuple[Any, ...]]:
    owners = np.repeat(np.arange(5), LENGTHS)
    rows = []
    for row, owner in enumerate(owners.tolist()):
        step = row - int(sum(LENGTHS[:owner]))
        told = (f"s{owner}", step, LABELS[owner], SPLITS[owner])
        rows.append((*told, *STEPS[row].tolist()))
    return rows


def as_csv(rows: list[tuple[Any, ...]]) -> str:
    header = ("sequence", "step", "label", "split", "x", "y")
    return "\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n"


def check(table: SequenceTable) -> None:
    means, deviations = STEPS[:5].mean(axis=0), STEPS[:5].std(axis=0)  # of the steps of train
    np.testing.assert_allclose(table.features, (STEPS - means) / deviations, rtol=1e-6)
    assert table.lengths.tolist() == LENGTHS
    assert table.examples.labels.tolist() == LABELS
    assert table.examples.splits.tolist() == ["train", "train", "validation", "validation", "test"]


def test_npz_and_long_tables_read_the_same_sequences(tmp_path: Path) -> None:
    (tmp_path / "s.npz").write_bytes(as_npz())
    check(read_sequences(tmp_path / "s.npz"))
    (tmp_path / "s.csv").write_text(as_csv(long_rows()))
    check(read_sequences(tmp_path / "s.csv"))
    (tmp_path / "s.tsv").write_text(as_csv(long_rows()).replace(",", "\t"))
    check(read_sequences(tmp_path / "s.tsv"))
    names = ("sequence", "step", "label", "split", "x", "y")
    columns = dict(zip(names, map(list, zip(*long_rows(), strict=True)), strict=True))
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "s.parquet")
    check(read_sequences(tmp_path / "s.parquet"))


def test_rows_of_a_long_table_may_stand_in_any_order(tmp_path: Path) -> None:
    # The first row of each sequence keeps the order of the sequences.
    rows = long_rows()
    mixed = [rows[i] for i in (1, 4, 5, 6, 8, 0, 3, 7, 2)]
    (tmp_path / "s.csv").write_text(as_csv(mixed))
    check(read_sequences(tmp_path / "s.csv"))


def test_steps_of_a_long_table_may_hold_text_and_empty_cells(tmp_path: Path) -> None:
    rows = [
        (*row[:4], "" if i == 2 else row[4], "up" if i % 2 else "down")
        for i, row in enumerate(long_rows())
    ]
    (tmp_path / "s.csv").write_text(as_csv(rows))
    table = read_sequences(tmp_path / "s.csv")
    assert table.preparation.feature_names == ("x", "x=(empty)", "y=down", "y=up")
    assert table.features[:, 1].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert table.features[:, 3].tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_sequences_without_split_are_shared_by_label(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = tmp_path / "s.npz"
    lengths = rng.integers(1, 4, size=200)
    sequences = rng.integers(0, 30, size=(lengths.sum(), 1))
    labels = np.arange(200) % 2
    path.write_bytes(as_npz(sequences=sequences, lengths=lengths, labels=labels, split=None))
    table = read_sequences(path)
    assert abs((table.examples.splits == "train").sum() - 140) <= 8
    sides = {}
    for end, length, split in zip(np.cumsum(lengths), lengths, table.examples.splits, strict=True):
        assert sides.setdefault(sequences[end - length : end].tobytes(), split) == split


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"labels": None}, ": no array 'labels'; found 'sequences', 'lengths', 'split'; expected"),
        ({"sequences": STEPS[:, 0]}, ": array 'sequences' has the shape (9,) of float64; expect"),
        ({"sequences": STEPS[:0]}, ": array 'lengths' has the sum 9; expected that of the 0 rows"),
        ({"lengths": [2, 3, 1, 1, 3]}, ": array 'lengths' has the sum 10; expected that of the 9"),
        ({"lengths": [2.0, 3, 1, 1, 2]}, ": array 'lengths' has the shape (5,) of float64; exp"),
        ({"lengths": [2, 3, 0, 2, 2]}, ", sequence 3: its length is 0; expected one step or more"),
        ({"labels": LABELS[:4]}, ": array 'lengths' has the shape (5,); expected (4,) or"),
        ({"labels": ["a", "b", "", "b", "a"]}, ", sequence 3: the label is empty; expected"),
        ({"split": ["x", *SPLITS[1:]]}, ", sequence 1: unknown split 'x'; expected train"),
        ({"labels": ["a", "b", "a", "c", "a"]}, ", sequence 4: class 'c' of the split 'valid"),
        (
            {"sequences": np.where(STEPS == 9.0, np.inf, STEPS)},
            ", sequence 2: column 'sequences[1]' holds inf; expected a finite number",
        ),
        (
            {"sequences": np.array([[1.0], [1.0, 2.0]], dtype=object)},
            ": array 'sequences' cannot be read (Object arrays",
        ),
    ],
)
def test_a_mistake_in_an_npz_is_one_line(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    path = tmp_path / "s.npz"
    path.write_bytes(as_npz(**changes))
    with pytest.raises(DataError) as caught:
        read_sequences(path)
    message = str(caught.value)
    assert message.startswith(f"{path}{expected}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("row", "column", "value", "expected"),
    [
        (3, 2, "", ", line 5: label '' in a sequence whose first row has 'b'; expected one label"),
        (5, 2, "", ", line 7: the label is empty; expected the name of a class"),
        (3, 2, "a", ", line 5: label 'a' in a sequence whose first row has 'b'; expected one"),
        (3, 3, "val", ", line 5: split 'val' in a sequence whose first row has 'train'"),
        (3, 1, 0, ", line 5: step 0 of sequence 's1' stands there twice; expected each step once"),
        (3, 1, "x", ", line 5: column 'step' holds 'x'; expected a number"),
        (3, 0, "", ", line 5: column 'sequence' is empty; expected its name"),
        (3, 1, "", ", line 5: column 'step' is empty; expected a finite number"),
        (3, 4, "low", ", line 5: column 'x' holds 'low' among numbers; expected a number"),
        (3, 5, "-inf", ", line 5: column 'y' holds -inf; expected a finite number"),
        (3, 5, "1,2", ", line 5: 7 columns; expected 6, comma-separated, as in line 1"),
    ],
)
def test_a_mistake_in_a_long_table_is_one_line(
    tmp_path: Path, row: int, column: int, value: Any, expected: str
) -> None:
    rows = [list(one) for one in long_rows()]
    rows[row][column] = value
    path = tmp_path / "s.csv"
    path.write_text(as_csv([tuple(one) for one in rows]))
    with pytest.raises(DataError) as caught:
        read_sequences(path)
    assert str(caught.value).startswith(f"{path}{expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sequnce,step,label,x\n1,1,a,2\n", ": no column 'sequence' (nearest: 'sequnce')"),
        ("sequence,step,label\n1,1,a\n", ": no feature columns beside sequence, step, label"),
    ],
)
def test_a_missing_column_is_named(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_sequences(path)
    assert str(caught.value).startswith(f"{path}{expected}")
