"""``curves``: readable without colours at 80 columns, best epochs marked; pages load nothing."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.cli.plot import draw

NAN, INF = float("nan"), float("inf")
RISING = [0.30 + 0.03 * epoch for epoch in range(17)]
PEAKED = [0.3, 0.5, 0.91, *[0.6] * 8]
Call = Callable[..., int]
Write = Callable[..., None]


@pytest.fixture
def study(write_study: Write) -> str:
    write_study("mine", [RISING, PEAKED, [0.2, NAN], []], outcomes={2: "diverged", 3: "failed"})
    return "mine"


def test_best_epochs_are_capital_letters(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("curves", study) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "\x1b" not in out
    plot = lines[1 : next(i for i, line in enumerate(lines) if "└┬" in line)]
    assert "A" in plot[1]  # trial 1, the highest
    assert sum(line.count("A") for line in plot) == 1
    assert sum(line.count("B") for line in plot) == 1
    assert re.search(r"^a +1 +0\.9100 +3 +11 +stalled", out, re.MULTILINE)
    assert re.search(r"^c +2 +0\.2000 +1 +2 +diverged", out, re.MULTILINE)


def test_top_draws_the_best_alone(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("curves", study, "--top", "1") == 0
    out = capsys.readouterr().out
    assert re.search(r"^a +1 ", out, re.MULTILINE)
    assert not re.search(r"^b +", out, re.MULTILINE)
    assert call("curves", study, "--top", "0") == 2


@pytest.mark.parametrize(
    "metric", ["score", "train_loss", "val_loss", "learning_rate", "grad_norm"]
)
def test_every_metric_is_drawn(
    call: Call, study: str, metric: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call("curves", study, "--metric", metric) == 0
    assert "A" in capsys.readouterr().out
    assert call("curves", study, "--metric", metric, "--html", "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert "<script src=" not in page
    assert not re.search(r"<link[^>]+href=.http", page)
    assert "trial 1, epoch" in page
    assert "end: stalled" in page
    # Plotly's script is packed, as in the report.
    assert len(page) < 2_500_000


def test_page_that_cannot_be_written_is_one_line(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("curves", study, "--html", "none/page.html") == 2
    err = capsys.readouterr().err
    assert err == "none/page.html: cannot be written: no folder none\n"


def test_study_without_an_epoch_is_one_line(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("empty", [[]], outcomes={0: "failed"})
    assert call("curves", "empty") == 2
    assert capsys.readouterr().err == "study empty has no epoch yet\n"


def test_colours_are_for_terminals() -> None:
    line = {1: 0.5, 2: 0.7}
    assert "\x1b" not in draw([line], [2], width=60)
    assert "\x1b[" in draw([line], [2], width=60, has_colour=True)


@pytest.mark.parametrize(
    ("lines", "bests"),
    [
        ([{1: 0.5}], [1]),  # one epoch
        ([{1: 0.5, 2: 0.5}], [1]),  # flat
        ([{}, {1: 0.5, 3: 0.4}], [None, 1]),  # one without a value
        ([{epoch: 0.5 + epoch / 5000 for epoch in range(1, 2001)}], [2000]),
    ],
)
def test_odd_curves_are_drawn(lines: list[dict[int, float]], bests: list[int | None]) -> None:
    text = draw(lines, bests, width=71)
    assert max(map(len, text.splitlines())) <= 71
    assert text.count("B" if not lines[0] else "A") == 1


def test_curves_without_a_value_say_so() -> None:
    assert draw([{}], [None], width=71) == "(no epoch has a finite value)"


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (1, [1]),
        (7, [1, 2, 3, 4, 5, 6, 7]),
        (24, [1, 5, 10, 15, 20, 24]),
        (40, [1, 5, 10, 15, 20, 25, 30, 35, 40]),
        (1000, [1, 200, 400, 600, 800, 1000]),
    ],
)
def test_ticks_are_round_epochs_and_both_ends(last: int, expected: list[int]) -> None:
    *_, ticks = draw([{1: 0.5, last: 0.6}], [None], width=71).splitlines()
    assert [int(each) for each in ticks.split()] == expected


@pytest.mark.parametrize("wrong", ["scores", "sc-ore"])
def test_wrong_metric_names_the_nearest(
    call: Call, study: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("curves", study, "--metric", wrong) == 2
    assert capsys.readouterr().err.endswith("; did you mean 'score'?\n")


def test_too_many_curves_are_refused_with_the_number(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("curves", study, "--top", "27") == 2
    assert capsys.readouterr().err.endswith("less than or equal to 26, got 27\n")


def test_key_has_words_for_the_metric(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("curves", study, "--metric", "grad_norm") == 0
    out = capsys.readouterr().out
    assert "gradient norm" in out
    assert "grad_norm" not in out


def test_axis_of_one_score_holds_no_score_that_cannot_be(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("flat", [[0.98, 0.98]], outcomes={0: "diverged"})
    assert call("curves", "flat") == 0
    lines = capsys.readouterr().out.splitlines()
    named = [float(line.split("\u2524")[0]) for line in lines if "\u2524" in line]
    assert (min(named), max(named)) == pytest.approx((0.93, 1.0), abs=0.001)


def test_loss_that_blew_up_has_a_logarithmic_axis(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = {0: [0.7, 0.6, 2.7e26], 1: [0.7, 0.6, 0.5]}
    write_study("blown", [[0.2, 0.3, 0.1]] * 2, outcomes={0: "diverged"}, train_losses=losses)
    assert call("curves", "blown", "--metric", "train_loss") == 0
    out = capsys.readouterr().out
    assert out.startswith("training loss (nats an example), log axis, by epoch")
    assert "2.7e+26" in out
    assert call("curves", "blown", "--metric", "val_loss") == 0
    assert "log axis" not in capsys.readouterr().out
