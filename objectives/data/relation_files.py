"""Reads the formats that people keep labelled sentences in: TSV, CSV, Parquet, npz, SemEval-2010.

Turns a file into rows of text. Knows where each row stands in the file, so that a mistake can be
found; does not know what an entity or a valid split is.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from objectives.api import DataError
from objectives.data import files

COLUMNS = "columns sentence, label and, if you like, split"
ENDINGS = (".tsv", ".csv", ".parquet", ".npz", ".txt")

#: A line such as ``Component-Whole(e2,e1)`` or ``Other``.
_RELATION = re.compile(r"[A-Za-z][\w-]*(\(e[12],e[12]\))?")
#: A line such as ``1\t"The <e1>..."``.
_NUMBERED = re.compile(r"\d+\t.*")


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a file as text, in its order.

    Attributes:
        unit: What ``numbers`` count: "line", as an editor shows it, or "row", the header not
            counted (Parquet and npz have no lines). From 1.
        numbers: Where each row begins.
        sentences: Sentences, with their entity tags.
        labels: Labels, "" where the file has none.
        splits: Names of the splits as written, or None if the file has no such column.
    """

    unit: str
    numbers: tuple[int, ...]
    sentences: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...] | None


def read_rows(path: Path) -> Rows:
    """Return the rows of a file; its ending says the format, and gzip if it ends with ``.gz``.

    The layout of SemEval-2010 Task 8 is known by its content, under ``.txt``, ``.tsv`` or
    ``.csv``. Byte order marks and Windows line ends are accepted.

    Raises:
        DataError: If the file cannot be read as what its name says; one line of text.
    """
    ending, is_gzipped = files.find_ending(path, ENDINGS)
    content = files.read_bytes(path, is_gzipped=is_gzipped)
    if not content.strip():
        raise DataError(f"{path}: the file is empty; expected {COLUMNS}")
    if ending == ".parquet":
        return _read_parquet(path, content)
    if ending == ".npz":
        return _read_npz(path, content)
    text = files.decode(path, content)
    lines = text.split("\n")
    if _is_semeval(lines):
        return _read_semeval(path, lines)
    if ending == ".txt":
        raise DataError(
            f"{path}: not the layout of SemEval-2010 Task 8; expected a numbered sentence "
            '(1<TAB>"..."), on the next line its relation, a comment and an empty line; save a '
            f"table with {COLUMNS} as .tsv or .csv"
        )
    if ending == ".tsv":
        return _rows_of_table(path, files.tsv_records(lines), "tab-separated")
    return _rows_of_table(path, files.csv_records(path, text), "comma-separated")


def _rows_of_table(path: Path, records: Iterator[tuple[int, list[str]]], separated: str) -> Rows:
    header_line, header = next(records)
    names = [name.strip() for name in header]
    place = f"{path}, line {header_line}"
    positions = _positions(place, names, f"{separated} {COLUMNS}")
    numbers: list[int] = []
    table: list[list[str]] = []
    for number, fields in records:
        if len(fields) != len(names):
            raise DataError(
                f"{path}, line {number}: {files.count_of(len(fields), 'column')}; expected "
                f"{len(names)}, {separated}, as in line {header_line}"
            )
        numbers.append(number)
        table.append(fields)
    if not table:
        raise DataError(f"{path}: no rows after line {header_line}; expected a sentence a row")
    columns = {
        name: tuple([row[position].strip() for row in table])
        for name, position in positions.items()
    }
    return Rows(
        unit="line",
        numbers=tuple(numbers),
        sentences=columns["sentence"],
        labels=columns["label"],
        splits=columns.get("split"),
    )


def _positions(place: str, names: Sequence[str], expected: str) -> dict[str, int]:
    """Return where the columns stand that we read; other columns are nobody's mistake."""
    for wanted in ("sentence", "label"):
        if wanted in names:
            continue
        lowered = {name.lower(): name for name in names}
        near = difflib.get_close_matches(wanted, lowered, n=1)
        hint = f" (nearest: {lowered[near[0]]!r})" if near else ""
        found = ", ".join(repr(name[:40]) for name in names[:10]) + (
            ", ..." if len(names) > 10 else ""
        )
        raise DataError(f"{place}: no column {wanted!r}{hint}; found {found}; expected {expected}")
    for wanted in ("sentence", "label", "split"):
        if names.count(wanted) > 1:
            raise DataError(
                f"{place}: column {wanted!r} stands {names.count(wanted)} times; expected it once"
            )
    return {name: names.index(name) for name in ("sentence", "label", "split") if name in names}


def _read_parquet(path: Path, content: bytes) -> Rows:
    table = files.read_parquet(path, content)
    names = list(table.column_names)
    positions = _positions(str(path), names, COLUMNS)
    values = {name: table.column(position).to_pylist() for name, position in positions.items()}
    return _rows_of_values(path, values)


def _read_npz(path: Path, content: bytes) -> Rows:
    arrays = files.read_npz(path, content)
    names = _positions(str(path), list(arrays), f"arrays {COLUMNS.removeprefix('columns ')}")
    num_rows = arrays["sentence"].size
    for name in names:
        if arrays[name].shape != (num_rows,):
            raise DataError(
                f"{path}: array {name!r} has the shape {arrays[name].shape}; expected "
                f"({num_rows},), one for each sentence"
            )
        if arrays[name].dtype.kind == "S":
            arrays[name] = np.char.decode(arrays[name], "utf-8", "replace")
    return _rows_of_values(path, {name: arrays[name].tolist() for name in names})


def _rows_of_values(path: Path, values: Mapping[str, Sequence[object]]) -> Rows:
    columns = {name: tuple(map(_as_text, column)) for name, column in values.items()}
    num_rows = len(columns["sentence"])
    if not num_rows:
        raise DataError(f"{path}: no rows; expected a sentence a row")
    return Rows(
        unit="row",
        numbers=tuple(range(1, num_rows + 1)),
        sentences=columns["sentence"],
        labels=columns["label"],
        splits=columns.get("split"),
    )


def _as_text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _is_semeval(lines: Sequence[str]) -> bool:
    """Return whether the first two lines with text are a numbered sentence and its relation."""
    filled = [line.strip() for line in lines[:50] if line.strip()][:2]
    if not filled or not _NUMBERED.fullmatch(filled[0]):
        return False
    is_quoted = filled[0].split("\t", 1)[1].startswith('"')
    return is_quoted or (len(filled) > 1 and bool(_RELATION.fullmatch(filled[1])))


def _read_semeval(path: Path, lines: Sequence[str]) -> Rows:
    """Read sentences of two or more lines each: the sentence, its relation, comments.

    Only a numbered line begins the next sentence, so a missing empty line does no harm. The two
    directions of a relation stay two classes, as in the file.
    """
    numbers: list[int] = []
    sentences: list[str] = []
    labels: list[str] = []
    is_relation_next = False
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        if is_relation_next:
            if not _RELATION.fullmatch(line):
                raise DataError(
                    f"{path}, line {number}: {line[:60]!r} is no relation; expected one such as "
                    f"Component-Whole(e2,e1) or Other for the sentence of line {numbers[-1]}"
                )
            labels.append(line)
            is_relation_next = False
        elif _NUMBERED.fullmatch(line):
            numbers.append(number)
            sentences.append(_unquote_semeval(line.split("\t", 1)[1].strip()))
            is_relation_next = True
        elif line and not line.startswith("Comment") and not lines[number - 2].strip():
            raise DataError(
                f"{path}, line {number}: {line[:60]!r} is no numbered sentence; expected "
                '1<TAB>"..." after an empty line'
            )
    if is_relation_next:
        raise DataError(
            f"{path}, line {numbers[-1]}: the file ends after the sentence; expected a relation "
            "such as Component-Whole(e2,e1) or Other on the next line"
        )
    return Rows(
        unit="line",
        numbers=tuple(numbers),
        sentences=tuple(sentences),
        labels=tuple(labels),
        splits=None,
    )


def _unquote_semeval(sentence: str) -> str:
    """Drop the outer quotes only: SemEval does not double the quotes inside."""
    if len(sentence) >= 2 and sentence[0] == sentence[-1] == '"':
        return sentence[1:-1]
    return sentence
