"""Rows of CSV, TSV, Parquet and npz files: the same in each, and every mistake at its place."""

import gzip
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from objectives.api import DataError
from objectives.data import files
from objectives.data.rows import Rows, read_rows

#: age, member, label; 5 rows.
COLUMNS: dict[str, list[Any]] = {
    "age": [31.0, 45.5, -3.0, 1e3, 17.0],
    "member": [True, False, True, True, False],
    "label": ["b", "a", "c, d", 'the "e"', "a"],
}
FOLDED = pyarrow.array(COLUMNS["label"]).dictionary_encode()  # as pandas keeps a category
EXPECTED = "a label and features"


def as_text(separator: str, columns: dict[str, list[Any]] = COLUMNS) -> str:
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    quoted = [[quote(str(cell), separator) for cell in row] for row in rows]
    return "\n".join(separator.join(row) for row in quoted) + "\n"


def quote(cell: str, separator: str) -> str:
    has_to = separator in cell or '"' in cell
    return '"' + cell.replace('"', '""') + '"' if has_to else cell


def as_parquet(columns: dict[str, Any] = COLUMNS) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def as_npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(values) for name, values in arrays.items()})
    return buffer.getvalue()


def read(path: Path, content: str | bytes) -> Rows:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_rows(path, EXPECTED)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", as_text(",")),
        ("T.CSV", as_text(",")),
        ("t.csv", as_text(";")),
        ("t.csv", as_text("\t")),
        ("t.csv", as_text("|")),
        ("t.csv", as_text(";").replace(".", ",")),  # as Europe writes numbers
        ("t.csv", as_text(";").replace("age;member;label", '"age";"member";"label"')),
        ("t.csv", "\n\n" + as_text(",").replace("\n", "\n\n")),
        ("t.csv", as_text(",").replace("\n", "\r\n").encode("utf-8-sig")),
        ("t.csv", as_text(",").replace("\n", "\r")),
        ("t.csv", as_text(",").rstrip("\n")),
        ("t.csv", as_text(",").replace(",a", ", a ").replace("age,", " age ,")),
        ("t.csv.gz", gzip.compress(as_text(",").encode(), mtime=0)),
        ("t.tsv", as_text("\t")),
        ("t.tsv", as_text("\t").replace("age", '"age"').replace("31.0", '"31.0"')),
        ("my.data.tsv.gz", gzip.compress(as_text("\t").encode(), mtime=0)),
        ("t.parquet", as_parquet()),
        ("t.parquet.gz", gzip.compress(as_parquet(), mtime=0)),
        (
            "t.parquet",
            as_parquet(COLUMNS | {"label": pyarrow.array(COLUMNS["label"]).dictionary_encode()}),
        ),
        ("t.npz", as_npz(**COLUMNS)),
        ("t.npz", as_npz(**COLUMNS | {"label": np.array(COLUMNS["label"], "S")})),
    ],
)
def test_every_format_holds_the_same_rows(tmp_path: Path, name: str, content: str | bytes) -> None:
    rows = read(tmp_path / name, content)
    assert rows.names == ["age", "member", "label"]
    assert rows.numbers("age").tolist() == COLUMNS["age"]
    assert rows.numbers("member").tolist() == [1.0, 0.0, 1.0, 1.0, 0.0]
    assert rows.texts("label") == tuple(COLUMNS["label"])


def test_array_of_several_features_gives_a_column_each(tmp_path: Path) -> None:
    x = np.arange(21.0).reshape(7, 3)
    rows = read(tmp_path / "t.npz", as_npz(x=x, labels=[1.0, 0.0, 1.0, 0.0, 1.0, 2.5, 1.0]))
    assert rows.names == ["x[0]", "x[1]", "x[2]", "label"]
    np.testing.assert_array_equal(rows.numbers("x[1]"), x[:, 1])
    assert rows.texts("label") == ("1", "0", "1", "0", "1", "2.5", "1")


def test_a_tsv_field_may_hold_quotes_unless_it_is_quoted_as_a_whole(tmp_path: Path) -> None:
    text = 'x\tlabel\n1\tsay "no"\n2\t"say ""no"""\n3\t"a" or "b"\n'
    expected = ('say "no"', 'say "no"', '"a" or "b"')
    assert read(tmp_path / "t.tsv", text).texts("label") == expected


def test_a_quoted_csv_field_may_hold_commas_and_line_ends(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.csv", 'x,label\n1,"a,\nand\nb"\n\nlow,y\n')
    assert rows.texts("label") == ("a,\nand\nb", "y")
    # The first record takes lines 2 to 4 and line 5 is empty, as an editor shows it.
    with pytest.raises(DataError, match=r"line 6: column 'x' holds 'low'; expected a number"):
        rows.numbers("x")


def test_labels_stay_as_they_are_written(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.csv", "x,label\n1,007\n2,1.50\n3,NA\n4,true\n")
    assert rows.texts("label") == ("007", "1.50", "NA", "true")


GOOD = "x,label\n1,a\n2,b\n"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("none.tsv", None, ": no such file"),
        ("d.xlsx", GOOD, ": unknown ending '.xlsx'; expected .csv, .tsv, .parquet, .npz"),
        ("d", GOOD, ": unknown ending ''"),
        ("d.gz", GOOD, ": unknown ending ''"),
        ("d.csv", "", ": the file is empty; expected a label and features"),
        ("d.csv", "\n \n", ": the file is empty"),
        ("d.csv", "x,label\n", ": no rows; expected a label"),
        ("d.csv", "x,label\n1,a\n\n2\n", ", line 4: 1 column; expected 2, comma-separated, as in"),
        ("d.csv", "x;label\n1;a\n2;b;c\n", ", line 3: 3 columns; expected 2, semicolon-separated"),
        ("d.csv", 'x,label\n1,a\n2,"b\n3,c\n', ", line 3: broken CSV (unexpected end of data)"),
        ("d.csv", 'x,label\n1,"a "b" c"\n', ", line 2: broken CSV"),
        ("d.csv", ",label\n1,a\n", ", line 1: column 1 has no name, as the index that pandas"),
        ("d.csv", "x,x,label\n1,2,a\n", ", line 1: column 'x' stands 2 times; expected it once"),
        ("d.tsv", GOOD.encode() + b"\r\n\xff\n", ", line 5: byte 0xff is not UTF-8"),
        ("d.csv", GOOD.encode("utf-16"), ", line 1: byte 0xff is not UTF-8"),
        ("d.tsv.gz", GOOD, ": broken gzip"),
        ("d.tsv.gz", gzip.compress(GOOD.encode(), mtime=0)[:-9], ": broken gzip"),
        ("d.tsv.gz", gzip.compress(GOOD.encode(), mtime=0)[:12] + b"x" * 50, ": broken gzip"),
        ("d.parquet", "PAR1", ": broken Parquet ("),
        ("d.parquet", as_parquet()[:-9], ": broken Parquet ("),
        ("d.npz", "not a zip", ": broken npz ("),
        ("d.npz", as_npz(**COLUMNS)[:200], ": broken npz ("),
        ("d.npz", as_npz(x=[[1.0], [2.0]], label=["a"]), ": array 'x' has the shape (2, 1); exp"),
        ("d.npz", as_npz(x=np.ones((2, 1, 1)), label=["a", "b"]), ": array 'x' has the shape"),
        (
            "d.npz",
            as_npz(x=np.array([[1], [1, 2]], dtype=object), label=["a", "b"]),
            ": array 'x' cannot be read (Object arrays",
        ),
    ],
)
def test_a_broken_file_is_one_line_that_says_where(
    tmp_path: Path, name: str, content: str | bytes | None, expected: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path / name, EXPECTED) if content is None else read(tmp_path / name, content)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name}{expected}")
    assert "expected" in message
    assert "\n" not in message
    assert caught.value.__cause__ is None


def test_a_folder_and_a_single_array_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "d.tsv").mkdir()
    with pytest.raises(DataError, match=r"d\.tsv: is a folder; expected a file ending in \.csv"):
        read_rows(tmp_path / "d.tsv", EXPECTED)
    with (tmp_path / "t.npz").open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(DataError, match="a single array; expected named arrays"):
        read_rows(tmp_path / "t.npz", EXPECTED)


def test_a_missing_column_is_told_with_the_nearest(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.csv", "x,Lable\n1,a\n")
    expected = r": no column 'label' \(nearest: 'Lable'\); found 'x', 'Lable'; expected a label"
    with pytest.raises(DataError, match=expected):
        rows.require("label", EXPECTED)


def test_empty_cells_are_no_numbers_where_each_row_needs_one(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.csv", "x,label\n1,a\n,b\n3,a\nNaN,c\n")
    expected = r"line 3: column 'x' is empty; expected a finite number \(also in 1 other line: 5\)"
    with pytest.raises(DataError, match=expected):
        rows.numbers("x")


def test_written_npz_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    written = []
    for name in ("a.npz", "b.npz"):
        files.write_npz(tmp_path / name, {"x": np.arange(5), "label": np.array(["a", "b"])})
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["x"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_reading_takes_no_pandas_and_may_be_followed_by_a_fork(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(as_parquet() if name == "t.parquet" else as_text(",").encode())
    code = (
        "import os, sys; from pathlib import Path; from objectives.data import rows\n"
        "def read(): return rows.read_rows(Path(sys.argv[1]), '').table.num_rows\n"
        "read(); child = os.fork()\n"
        "if not child: os._exit(read())\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 'pandas' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / name)],
        cwd=files.FOLDER.parent.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "5 False\n"


def test_shipped_data_are_read_without_pandas_or_torch() -> None:
    code = (
        "import sys; from objectives.data import relations, sequences, tables, word_vectors;"
        "relations.read_relations(None); word_vectors.load_word_vectors(['a']);"
        "tables.read_table(None); sequences.read_sequences(None);"
        "print([m for m in ('pandas', 'torch', 'sklearn') if m in sys.modules])"
    )
    root = files.FOLDER.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
