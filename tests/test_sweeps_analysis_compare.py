"""Trials of one or several studies in one ranking by each rule."""

import math
from typing import Any

import pandas as pd
import pytest
from written import confuse, write_study

from sweeps.analysis.compare import (
    COMPARISON,
    Compared,
    compare,
    find_tied,
    longest_run,
    lowest_tied,
    shared_epoch,
)

NAN = math.nan
CURVES = [[0.2, 0.8, 0.5, 0.5], [0.3, 0.5, 0.6, 0.79], [0.6, NAN], []]
OUTCOMES = {1: "exhausted", 3: "failed"}


@pytest.fixture
def write(sqlite_url: str) -> Any:
    def write(name: str, curves: Any = CURVES, **given: Any) -> Compared:
        given = {"outcomes": OUTCOMES} | given
        write_study(name, curves, url=sqlite_url, **given)
        return Compared.read(sqlite_url, name)

    return write


def known(*scores: float, examples: int = 300) -> dict[int, dict[str, Any]]:
    """Return the ends of trials with a confusion matrix, by number."""
    supports = [examples] * 3
    return {i: {"confusion": confuse(score, supports)} for i, score in enumerate(scores)}


def test_ranks_by_each_rule_stand_side_by_side(write: Any) -> None:
    frame = compare([write("mine")], epoch=3, score=0.6)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == COMPARISON
    assert frame["trial"].tolist() == [0, 1, 2]
    assert frame["rank_last"].tolist() == [2, 1, pd.NA]
    assert frame["rank_tail"].tolist() == [3, 2, 1]
    assert frame["at_epoch"].tolist()[:2] == [0.8, 0.6]
    assert math.isnan(frame["at_epoch"].iloc[2])
    assert frame["rank_range"].tolist() == [2, 1, 2]
    assert frame["epochs_to_score"].tolist() == [2, 3, 1]


@pytest.mark.parametrize(
    ("by", "trials"), [("best", [0, 1, 2]), ("last", [1, 0, 2]), ("tail", [2, 1, 0])]
)
def test_rule_orders_the_rows(by: str, trials: list[int], write: Any) -> None:
    assert compare([write("mine")], by=by)["trial"].tolist() == trials


def test_score_that_ties_with_the_best_is_the_one_to_reach(write: Any) -> None:
    mine = write("mine", ends=known(0.8, 0.79, 0.6))
    frame = compare([mine], epoch=3)
    assert frame["is_tied"].tolist() == [True, True, False]
    assert lowest_tied([mine]) == 0.79
    assert frame["epochs_to_score"].tolist() == [2, 4, pd.NA]


def test_studies_share_one_ranking(write: Any) -> None:
    other = write("other", [CURVES[1]], outcomes={})
    frame = compare([write("mine"), other], epoch=3, score=0.6)
    assert frame["study"].tolist() == ["mine", "mine", "other", "mine"]
    assert frame["trial"].tolist() == [0, 1, 0, 2]
    assert frame["rank_best"].tolist() == [1, 2, 2, 4]


def test_trial_of_another_study_ties_unless_two_independent_scores_are_apart(write: Any) -> None:
    mine = write("mine", [[0.80], [0.79]], outcomes={}, ends=known(0.80, 0.79))
    other = write("other", [[0.78], [0.70]], outcomes={}, ends=known(0.78, 0.70))
    assert find_tied([mine, other]) == {(0, 0), (0, 1), (1, 0)}
    assert find_tied([other, mine]) == {(1, 0), (1, 1), (0, 0)}


def test_luck_of_a_best_epoch_is_what_stands_above_the_line(write: Any) -> None:
    spiked = [*[0.50, 0.52] * 6, 0.6, *[0.50, 0.52] * 3]
    frame = compare([write("mine", [spiked, [0.1 + 0.04 * i for i in range(19)]], outcomes={})])
    luck = frame.set_index("trial")["luck"]
    assert luck[0] > 0.01 > luck[1]
    without = frame["best"] - frame["luck"]
    assert frame["best_without_luck"].tolist() == without.tolist()


def test_shared_epoch_is_the_last_that_all_ranked_trials_reached(write: Any) -> None:
    mine = write("mine")
    assert (shared_epoch([mine]), longest_run([mine])) == (2, 4)


def test_trial_that_was_paused_does_not_shorten_the_comparison(write: Any) -> None:
    assert shared_epoch([write("one", outcomes={2: "behind", 3: "failed"})]) == 4
    assert shared_epoch([write("all", outcomes=dict.fromkeys(range(4), "behind"))]) == 2


def test_studies_without_a_ranked_trial_have_no_rows(write: Any) -> None:
    empty = write("empty", [[]], outcomes={0: "failed"})
    frame = compare([empty, empty])
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == COMPARISON
    assert frame.empty
    assert (shared_epoch([empty]), longest_run([empty])) == (1, None)
    assert math.isnan(lowest_tied([empty]))
