"""Reads CSV, TSV, Parquet and npz files, and data frames, as rows of an Arrow table.

Knows where each row stands in its file, so that a mistake can be found there; does not know what
a column means. Shapes: N rows.
"""

import csv
import difflib
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.csv
from pyarrow import compute, types

from objectives.api import DataError
from objectives.data import files

ENDINGS = (".csv", ".tsv", ".parquet", ".npz")
#: What may stand between the columns of a CSV file; the first of those that give most columns.
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_QUOTED = r'^"([^"]|"")*"$'
_DECIMAL_COMMA = r"^[+-]?\d+(,\d+)?$"

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rows:
    """N rows, in the order of their file.

    Attributes:
        source: The file, as a person reads it.
        table: A ``pyarrow.Table``; text has no space at its ends.
        unit: What ``place`` counts: "line" as an editor shows it, "row" where a file has no
            lines, or "sequence".
        place: Returns where a row stands, counted from 1; the row is counted from 0.
    """

    source: str
    table: Any
    unit: str
    place: Callable[[int], int]

    @property
    def names(self) -> list[str]:
        """Names of the columns, in their order."""
        return list(self.table.column_names)

    def error(self, wrong: Sequence[int] | npt.NDArray[np.int64], text: str) -> DataError:
        """Return the error that says what is wrong in the first of some rows, counted from 0."""
        first, *others = map(int, wrong)
        more = ""
        if others:
            shown = ", ".join(str(self.place(row)) for row in others[:5])
            more = f" (also in {files.count_of(len(others), f'other {self.unit}')}: {shown}"
            more += ", ...)" if len(others) > 5 else ")"
        return DataError(f"{self.source}, {self.unit} {self.place(first)}: {text}{more}")

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a column as text, (N,): 3.0 as 3, and "" where the cell is empty or NaN."""
        return tuple(map(_show, self.table[name].to_pylist()))

    def numbers(self, name: str) -> Numbers:
        """Return a column as finite numbers, (N,); true is 1.

        Raises:
            DataError: If a cell is empty or holds anything else; the first such row is named.
        """
        column = find_numbers(self.table[name])
        if column is None:
            for row, text in enumerate(self.texts(name)):
                if find_numbers(self.table[name].slice(row, 1)) is None:
                    raise self.error(
                        [row], f"column {name!r} holds {text[:40]!r}; expected a number"
                    )
            raise DataError(f"{self.source}: column {name!r} holds no numbers")
        wrong = np.flatnonzero(~np.isfinite(column))
        if len(wrong):
            value = column[wrong[0]]
            held = "is empty" if np.isnan(value) else f"holds {value}"
            raise self.error(wrong, f"column {name!r} {held}; expected a finite number")
        return column

    def require(self, wanted: str, expected: str) -> None:
        """Raise ``DataError`` unless there is a column of this name; offer the nearest name."""
        if wanted in self.names:
            return
        lowered = {name.lower(): name for name in self.names}
        near = difflib.get_close_matches(wanted.lower(), lowered, n=1)
        hint = f" (nearest: {lowered[near[0]]!r})" if near else ""
        found = ", ".join(repr(name[:40]) for name in self.names[:10])
        found += ", ..." if len(self.names) > 10 else ""
        raise DataError(
            f"{self.source}: no column {wanted!r}{hint}; found {found}; expected {expected}"
        )


def read_rows(
    path: Path, expected: str = "a table", *, label: str = "label", texts: Sequence[str] = ()
) -> Rows:
    """Return the rows of a file; its ending says the format, and gzip if it ends with ``.gz``.

    Args:
        path: The file.
        expected: What the columns should be, in words.
        label: Column with the class of each row.
        texts: Other columns that a CSV or TSV file holds as text, whatever they look like.

    Raises:
        DataError: If the file cannot be read as what its name says, or has no rows.
    """
    ending, is_gzipped = files.find_ending(path, ENDINGS)
    content = files.read_bytes(path, is_gzipped=is_gzipped)
    if not content.strip():
        raise DataError(f"{path}: the file is empty; expected {expected}")
    if ending == ".npz":
        rows = rows_of_arrays(str(path), files.read_npz(path, content), label=label)
    elif ending == ".parquet":
        rows = rows_of_table(str(path), files.read_parquet(path, content))
    else:
        rows = _read_text(path, content, (label, "split", *texts), is_tsv=ending == ".tsv")
    if not rows.table.num_rows:
        raise DataError(f"{path}: no rows; expected {expected}")
    return rows


def rows_of_table(source: str, table: Any) -> Rows:
    """Return the rows of a ``pyarrow.Table``, text trimmed and dictionaries unfolded.

    Raises:
        DataError: If a column has no name, or the name of another column.
    """
    _check_names(source, list(table.column_names))
    columns = []
    for column in table.columns:
        if types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if types.is_string_view(column.type):  # as polars keeps text
            column = column.cast(pyarrow.large_string())
        if is_text(column.type):
            column = compute.utf8_trim_whitespace(column)
        columns.append(column.combine_chunks())
    named = pyarrow.table(columns, names=table.column_names)
    return Rows(source, named, "row", lambda row: row + 1)


def rows_of_arrays(
    source: str, arrays: Mapping[str, npt.NDArray[Any]], *, label: str = "label"
) -> Rows:
    """Return rows of named arrays; one of (N, F) becomes the columns ``name[0]`` to ``name[F-1]``.

    The label may also be called labels. One of (N, C) holds a distribution over the classes in
    each row and becomes the columns ``label.NAME``; the array class_names, (C,), names them.

    Raises:
        DataError: If an array has another shape, or another number of rows than the first.
    """
    arrays = _unfold_distributions(source, dict(arrays), label)
    sizes = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    num_rows = sizes.get(label, max(sizes.values(), default=0))
    columns = {}
    for name, array in arrays.items():
        if array.ndim not in (1, 2) or sizes[name] != num_rows:
            raise DataError(
                f"{source}: array {name!r} has the shape {array.shape}; expected ({num_rows},) or "
                f"({num_rows}, features), as many rows as in the others"
            )
        if array.dtype.kind == "S":
            array = np.char.decode(array, "utf-8", "replace")
        if array.ndim == 1:
            columns[name] = array
        else:
            columns |= {f"{name}[{i}]": array[:, i] for i in range(array.shape[1])}
    table = {name: _to_arrow(column) for name, column in columns.items()}
    return rows_of_table(source, pyarrow.table(table))


def _to_arrow(array: npt.NDArray[Any]) -> Any:
    # Not pyarrow.array: it imports pandas.
    kind, num_rows = array.dtype.kind, len(array)
    if kind == "b":
        bits = pyarrow.py_buffer(np.packbits(array, bitorder="little"))
        return pyarrow.Array.from_buffers(pyarrow.bool_(), num_rows, [None, bits])
    if kind in "iuf":
        wide = np.float64 if kind == "f" else array.dtype.newbyteorder("=")
        numbers = np.ascontiguousarray(array, dtype=wide)
        of_type = pyarrow.from_numpy_dtype(numbers.dtype)
        return pyarrow.Array.from_buffers(of_type, num_rows, [None, pyarrow.py_buffer(numbers)])
    texts = [str(value).encode() for value in array.tolist()]
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    buffers = [None, pyarrow.py_buffer(ends), pyarrow.py_buffer(b"".join(texts))]
    return pyarrow.Array.from_buffers(pyarrow.large_string(), num_rows, buffers)


def _unfold_distributions(
    source: str, arrays: dict[str, npt.NDArray[Any]], label: str
) -> dict[str, npt.NDArray[Any]]:
    if label == "label" and "labels" in arrays:
        if label in arrays:
            raise DataError(f"{source}: arrays 'label' and 'labels'; expected one of them")
        arrays[label] = arrays.pop("labels")
    if label not in arrays or arrays[label].ndim != 2:
        return arrays
    shares = arrays.pop(label)
    num_classes = shares.shape[1]
    names = arrays.pop("class_names", np.arange(num_classes))
    texts = [str(name).strip() for name in names.tolist()] if names.ndim == 1 else []
    if len(texts) != num_classes or len(set(texts)) < num_classes:
        raise DataError(
            f"{source}: array 'class_names' has the shape {names.shape}; expected {num_classes} "
            "different names, one for each class of the distributions"
        )
    return arrays | {f"{label}.{text}": shares[:, i] for i, text in enumerate(texts)}


def is_text(kind: Any) -> bool:
    """Return whether an Arrow type is text."""
    return bool(types.is_string(kind) or types.is_large_string(kind))


def find_numbers(column: Any) -> Numbers | None:
    """Return an Arrow column as numbers, NaN where a cell is empty; None if it holds others.

    Text that is a number, true or false throughout counts as such.
    """
    if is_text(column.type):
        column = compute.if_else(compute.equal(column, ""), None, column)
        for kind in (pyarrow.float64(), pyarrow.bool_()):
            try:
                column = column.cast(kind)
                break
            except pyarrow.ArrowInvalid:
                continue
    if types.is_boolean(column.type):
        column = column.cast(pyarrow.uint8())
    is_number = types.is_integer(column.type) or types.is_floating(column.type)
    if not (is_number or types.is_decimal(column.type) or types.is_null(column.type)):
        return None
    column = column.cast(pyarrow.float64(), safe=False)
    # Neither to_numpy nor a constant without need: both import pandas, which takes 0.4 s.
    if column.null_count:
        column = compute.fill_null(column, float("nan"))
    numbers: Numbers = np.from_dlpack(column.combine_chunks()).astype(np.float64, copy=False)
    return numbers


def _read_text(path: Path, content: bytes, texts: Sequence[str], *, is_tsv: bool) -> Rows:

    text = files.decode(path, content)
    delimiter = "\t" if is_tsv else _find_delimiter(text)
    has_quotes = '"' in text

    def records() -> Iterator[tuple[int, list[str]]]:
        return _records(path, text, delimiter, is_quoted=not is_tsv)

    def place(row: int) -> int:
        return next(itertools.islice(records(), row + 1, None))[0]

    line, header = next(records())
    names = [name.strip().strip('"') if is_tsv else name.strip() for name in header]
    _check_names(f"{path}, line {line}", names)
    if has_quotes and not is_tsv:
        for _ in records():  # Arrow takes a quote that is never closed for the end of the file
            pass
    num_skipped = line + sum(name.count("\n") for name in header)
    wrong: list[tuple[int, int]] = []

    def refuse(record: Any) -> str:
        wrong.append((record.number - num_skipped - 1, record.actual_columns))
        return "error"

    try:
        table = pyarrow.csv.read_csv(
            pyarrow.BufferReader(content),
            # One block: types are inferred from all rows.
            pyarrow.csv.ReadOptions(
                use_threads=False,
                block_size=len(content) + 1,
                column_names=names,
                skip_rows=num_skipped,
            ),
            pyarrow.csv.ParseOptions(
                delimiter=delimiter,
                quote_char=False if is_tsv else '"',
                newlines_in_values=has_quotes,
                invalid_row_handler=refuse,
            ),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(texts, pyarrow.string())),
        )
    except pyarrow.ArrowInvalid as error:
        if not wrong:
            raise DataError(f"{path}: {files.one_line(error)[:200]}; expected a table") from None
        row, num_columns = wrong[0]
        raise DataError(
            f"{path}, line {place(row)}: {files.count_of(num_columns, 'column')}; expected "
            f"{len(names)}, {_DELIMITERS[delimiter]}-separated, as in line {line}"
        ) from None
    if has_quotes and is_tsv:
        table = _change_texts(table, _unquote)
    if delimiter == ";":
        table = _change_texts(table, _point_decimals)
    return replace(rows_of_table(str(path), table), unit="line", place=place)


def _records(
    path: Path, text: str, delimiter: str, *, is_quoted: bool
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line on which the record begins, fields); quoted line ends belong to the field."""
    # Strict: without it a quote that is never closed swallows the rest of the file in silence.
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE,
        strict=True,
    )
    number = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield number, fields
            number = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {number}: broken CSV ({files.one_line(error)}); expected a field that "
            'holds a quote to be quoted as a whole, with each quote in it doubled ("")'
        ) from None


def _find_delimiter(text: str) -> str:
    """Return the delimiter that gives the first line most columns."""
    header = next(line for line in text.split("\n") if line.strip())
    widths = {one: len(next(csv.reader([header], delimiter=one))) for one in _DELIMITERS}
    return max(widths, key=lambda one: widths[one])


def _change_texts(table: Any, change: Callable[[Any], Any]) -> Any:

    for i, field in enumerate(table.schema):
        if types.is_string(field.type):
            table = table.set_column(i, field.name, change(table.column(i)))
    return table


def _unquote(column: Any) -> Any:
    """Return the fields of a TSV file without quotes where they are quoted as a whole.

    So pandas writes a field that holds a quote. Any other quote is an ordinary character, as in
    WordNet and SemEval.
    """
    inner = compute.replace_substring(compute.utf8_slice_codeunits(column, 1, -1), '""', '"')
    return compute.if_else(compute.match_substring_regex(column, _QUOTED), inner, column)


def _point_decimals(column: Any) -> Any:
    """Return 1,5 as 1.5 if the whole column is written so."""
    filled = column.filter(compute.not_equal(column, ""))
    if not compute.all(compute.match_substring_regex(filled, _DECIMAL_COMMA)).as_py():
        return column
    return compute.replace_substring(column, ",", ".")


def _check_names(place: str, names: Sequence[str]) -> None:
    for position, name in enumerate(names, 1):
        # The first is the name that pandas gives its index in a CSV file, the second in Parquet.
        if name in ("", "__index_level_0__"):
            raise DataError(
                f"{place}: column {position} has no name, as the index that pandas writes; "
                "expected a name for each column (to_csv(..., index=False))"
            )
        if names.count(name) > 1:
            text = f"column {name!r} stands {names.count(name)} times; expected it once"
            raise DataError(f"{place}: {text}")


def _show(value: object) -> str:
    if value is None or value != value:
        return ""
    is_whole = isinstance(value, float) and value.is_integer()
    return f"{value:.0f}" if is_whole else str(value)
