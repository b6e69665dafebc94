"""``doctor`` says what is wrong, and whose package hides ours."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from storage.database import open_database
from sweeps.cli import doctor

Call = Callable[..., int]

pytestmark = pytest.mark.usefixtures("folder")

ROOT = Path(__file__).parent.parent


def test_doctor_finds_a_database_that_cannot_be(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("doctor", "--storage", "nowhere/x.db") == 1
    out = capsys.readouterr().out
    assert any(line.startswith("WRONG  database") for line in out.splitlines())
    assert "wrong: 1" in out


def test_doctor_looks_and_creates_nothing(
    call: Call, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("doctor") == 0
    assert "not there yet" in capsys.readouterr().out
    assert list(folder.iterdir()) == []
    open_database("bestepoch.db", create=True).close()
    assert call("doctor") == 0
    assert "sound, tables of version" in " ".join(capsys.readouterr().out.split())


def test_doctor_finds_a_damaged_page(
    call: Call, write_study: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("mine", [[0.5] * 31] * 23)
    with closing(sqlite3.connect("bestepoch.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'epoch_records'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with Path("bestepoch.db").open("r+b") as file:
        file.seek((root - 1) * size + size // 2)
        file.write(bytes(size // 2))
    assert call("doctor") == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "WRONG database" in out
    assert "bestepoch.db: damaged (" in out
    assert "restore it from a copy" in out


def test_doctor_names_the_distribution_that_hides_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    foreign = {"sweeps": ["sweeps"], "storage": ["bestepoch"]}
    monkeypatch.setattr(doctor.metadata, "packages_distributions", lambda: foreign)
    _, text, is_wrong = doctor.find_package("sweeps", root=tmp_path)
    assert is_wrong
    assert "another package from sweeps hides ours" in text
    _, text, is_wrong = doctor.find_package("sweeps", root=ROOT)
    assert is_wrong  # ours is found first here, and in another folder theirs is
    assert not doctor.find_package("storage", root=ROOT)[2]
    assert doctor.find_package("no_such_package", root=ROOT)[2]
