"""The data that ship: whole, with their notices, and told in their cards."""

import hashlib
from pathlib import Path

import pytest

from objectives.data import files
from objectives.data.build.checksums import record_checksum

SUMS = dict(
    line.split("  ")[::-1] for line in (files.FOLDER / "SHA256SUMS").read_text().splitlines()
)


def test_checksums_are_those_of_all_shipped_data() -> None:
    shipped = {path.name for path in files.FOLDER.iterdir() if path.suffix in (".npz", ".gz")}
    assert set(SUMS) == shipped
    cards = "".join(card.read_text() for card in files.FOLDER.glob("*.md"))
    for name, checksum in SUMS.items():
        assert hashlib.sha256((files.FOLDER / name).read_bytes()).hexdigest() == checksum
        assert f"| {checksum} |" in cards
    assert sum((files.FOLDER / name).stat().st_size for name in SUMS) < 3_000_000


@pytest.mark.parametrize(
    ("name", "notice"),
    [
        ("adult", "10.24432/C5XW20"),
        ("adult", "CC BY 4.0"),
        ("glove", "Public Domain Dedication"),
        ("spoken-digits", "CC BY-SA"),
        ("spoken-digits", "Free Spoken Digit Dataset"),
        ("wordnet", "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved."),
    ],
)
def test_licences_keep_their_notices(name: str, notice: str) -> None:
    assert notice in (files.FOLDER / f"LICENSE-{name}.txt").read_text()


def test_a_built_file_replaces_its_own_checksum_alone(tmp_path: Path) -> None:
    for name, content in (("b.npz", b"1"), ("a.npz", b"2"), ("b.npz", b"3")):
        (tmp_path / name).write_bytes(content)
        record_checksum(tmp_path / name)
    expected = [
        f"{hashlib.sha256(x).hexdigest()}  {n}" for n, x in (("a.npz", b"2"), ("b.npz", b"3"))
    ]
    assert (tmp_path / "SHA256SUMS").read_text().splitlines() == expected
