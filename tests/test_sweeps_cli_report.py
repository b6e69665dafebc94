"""The command ``report``: what it writes and where, and what it says to a mistake."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from written import write_study

from sweeps.config.load import load_config

Call = Callable[..., int]

CONFUSION = ((7, 2), (3, 11))


@pytest.fixture(autouse=True)
def _study(folder: Path) -> None:
    """The study ``relation`` of one trial."""
    config = load_config("relation-cnn", max_epochs=17, seed=3, trials=2).stored()
    ends = {0: {"confusion": CONFUSION}}
    curves = [[0.31, 0.7132, 0.69]]
    write_study("relation", curves, ends=ends, config=config, class_names=("no", "yes"))


def test_report_is_written_and_named(
    call: Call, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("report", "relation", "-o", "mine.html") == 0
    out = capsys.readouterr().out
    assert out.startswith("report of relation written to mine.html (2.0 MB)")
    page = (folder / "mine.html").read_text()
    assert "<h1>relation</h1>" in page
    assert "0.7132" in page
    assert '<span class="word">--like relation</span></code>' in page
    assert "Confusion matrix of trial 0" in page
    assert "torch 2.13.0" in page
    mode = stat.S_IMODE((folder / "mine.html").stat().st_mode)
    plain = folder / "plain"
    plain.write_text("")
    assert mode == stat.S_IMODE(plain.stat().st_mode)


def test_file_of_before_is_replaced_and_nothing_is_left_beside_it(
    call: Call, folder: Path
) -> None:
    (folder / "report.html").write_text("older")
    assert call("report", "relation") == 0
    assert "Trial 0" in (folder / "report.html").read_text()
    assert not [path for path in folder.iterdir() if path.name.startswith(".report")]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("here", "here: cannot be written: it is a folder; name a file in it"),
        ("none/report.html", "none/report.html: cannot be written: no folder none"),
    ],
)
def test_place_that_cannot_be_written_is_one_line(
    call: Call, folder: Path, output: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "here").mkdir()
    assert call("report", "relation", "-o", output) == 2
    assert capsys.readouterr().err == f"{said}\n"


def test_unknown_study_is_one_line_and_writes_nothing(
    call: Call, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("report", "relatoin") == 2
    err = capsys.readouterr().err
    assert "did you mean 'relation'?" in err
    assert err.count("\n") == 1
    assert not (folder / "report.html").exists()
