"""``compare``: ranks side by side, who wins by which rule, ties, several studies."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from written import confuse

from sweeps.analysis.compare import COMPARISON

RISING = [0.30 + 0.03 * epoch for epoch in range(17)]
PEAKED = [0.3, 0.5, 0.91, *[0.6] * 8]
Call = Callable[..., int]
Write = Callable[..., None]


@pytest.fixture
def study(write_study: Write) -> str:
    write_study(
        "mine",
        [RISING, PEAKED, [0.2, 0.3], [0.95, float("nan")], []],
        outcomes={0: "exhausted", 2: "behind", 3: "diverged", 4: "failed"},
        ends={i: known(each) for i, each in enumerate((0.78, 0.91, 0.3))},
    )
    return "mine"


def known(score: float) -> dict[str, object]:
    """Return the end of a trial with a confusion matrix of 300 examples a class."""
    return {"confusion": confuse(score, [300] * 3)}


def test_ranks_stand_side_by_side(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", study, "--at-epoch", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    rows = [line.split() for line in lines[2:5]]
    # Trial, then score and rank at its best, last, tail and epoch 3, epochs to tie, luck, tie.
    assert rows[0][:9] == ["1", "0.9100", "1", "0.6000", "2", "0.6000", "2", "0.9100", "1"]
    assert rows[1][:9] == ["0", "0.7800", "2", "0.7800", "1", "0.7200", "1", "0.3600", "2"]
    assert rows[2][:9] == ["2", "0.3000", "3", "0.3000", "3", "0.2500", "3", "-", "-"]
    assert rows[0][9] == "3"
    assert (rows[0][-1], rows[1][-1]) == ("=", rows[1][10])


def test_disagreement_ties_and_luck_are_told_in_words(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", study, "--at-epoch", "3") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "trial 1 wins by best epoch (0.9100), epoch 3 (0.9100)" in text
    assert "trial 0 wins by last epoch (0.7800), mean of the last 5 epochs (0.7200)" in text
    assert "the rules disagree most on trial 1: rank 1 by best epoch, 2 by last epoch" in text
    assert "no other trial ties with the best (=): none is likely to lead on other" in text
    assert "luck: trial 1 was the best on these examples, of all trials and epochs" in text
    assert re.search(
        r"0\.\d{3} less than its 0\.9100 \(-?0\.\d{3} to 0\.\d{3} in about 9 of 10", text
    )


def test_epoch_that_all_reached_but_one_cut_short_is_the_default(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", study) == 0
    assert " at 11 " in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(("by", "first"), [("best", "1"), ("last", "0"), ("tail", "0")])
def test_rule_orders_the_table(
    call: Call, study: str, by: str, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", study, "--by", by) == 0
    assert capsys.readouterr().out.splitlines()[2].split()[0] == first


def test_studies_have_letters_and_one_ranking(
    call: Call, study: str, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = {0: known(0.91), 1: known(0.78)}
    write_study("other", [PEAKED, RISING], fingerprint="data", ends=ends)
    assert call("compare", study, "other") == 0
    out = capsys.readouterr().out
    assert "A is study mine\nB is study other\n" in out
    first = [line.split()[:3] for line in out.splitlines()[2:4]]
    assert first == [["A1", "0.9100", "1"], ["B0", "0.9100", "1"]]
    assert "1 of the 4 other trials ties with the best (=)" in " ".join(out.split())
    assert "different data" not in out


def test_studies_of_different_data_are_told_apart(
    call: Call, study: str, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("other", [PEAKED], fingerprint="other data")
    assert call("compare", study, "other") == 0
    assert capsys.readouterr().out.startswith("note: these studies have different data")


def test_frame_is_written_exact(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", study, "--format", "csv", "--to-score", "0.5") == 0
    frame = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(frame.columns) == list(COMPARISON)
    assert frame["epochs_to_score"].tolist()[:2] == [2, 8]


def test_nothing_to_rank_is_one_line(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("empty", [[]], outcomes={0: "failed"})
    assert call("compare", "empty") == 2
    assert capsys.readouterr().err == "no trial of empty has a score that may be ranked\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--at-epoch", "1000"], "--at-epoch must be <= 17, the epochs of the longest ranked"),
        (["--at-epoch", "0"], "--at-epoch: input should be greater than or equal to 1, got 0"),
        (["--by", "bst"], "; did you mean 'best'?"),
    ],
)
def test_wrong_options_are_one_line_with_the_value(
    call: Call, study: str, args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", study, *args) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_missing_study_is_called_as_in_the_help(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare") == 2
    assert capsys.readouterr().err == "STUDY is missing; see: bestepoch compare --help\n"


def test_study_without_a_ranked_trial_is_said_to_have_none(
    call: Call, study: str, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("empty", [[]], outcomes={0: "failed"}, fingerprint="data")
    assert call("compare", study, "empty") == 0
    said = "B is study empty: no trial of it has a score that may be ranked"
    assert said in " ".join(capsys.readouterr().out.split())


def test_file_is_named_when_it_is_written(
    call: Call, study: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("ranks.csv", "ranks.json"):
        assert call("compare", study, "-o", name) == 0
        assert capsys.readouterr().out == f"3 ranked trials written to {name}\n"
        assert (tmp_path / name).exists()


def test_trials_of_one_score_share_the_win(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("same", [PEAKED, PEAKED])
    assert call("compare", "same") == 0
    assert "trials 0 and 1 share the win by every rule" in capsys.readouterr().out


def test_of_equal_trials_the_one_of_the_lower_loss_leads_as_in_other_views(
    call: Call, write_study: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    late, early = [0.3, 0.4, 0.5, 0.6, 0.8, 0.7, 0.7, 0.7], [0.3, 0.8, *[0.7] * 6]
    ends = {i: known(each) for i, each in enumerate((0.8, 0.8, 0.2))}
    write_study("equal", [early, late, [0.2] * 8], val_losses={1: 0.59}, ends=ends)
    assert call("compare", "equal") == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[2:5]] == ["1", "0", "2"]
    assert "luck: trial 1 was the best" in " ".join(out.split())


def test_only_trial_is_not_said_to_tie_with_none(
    call: Call, write_study: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("one", [[0.2, 0.3, 0.25]])
    assert call("compare", "one") == 0
    assert "no other trial ties" not in capsys.readouterr().out
