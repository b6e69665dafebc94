"""Which trials go on at a rung, by hand and for any order of arrival."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.running.rungs import Rungs, halving_epochs, list_rungs, may_finish, may_start

NAN = math.nan


def judge(rungs: Rungs, scores: dict[int, float], epoch: int = 1) -> list[int]:
    """Judge trials whose curves are flat up to an epoch."""
    return rungs.judge({trial: [score] * epoch for trial, score in scores.items()})


@pytest.mark.parametrize(
    ("first", "factor", "max_epochs", "expected"),
    [
        (1, 4, 50, [1, 4, 16]),
        (1, 4, 64, [1, 4, 16]),  # the last epoch is no rung
        (3, 3, 40, [3, 9, 27]),
        (7, 2, 7, []),  # a trial is too short to be compared
    ],
)
def test_rungs_are_the_powers_below_the_last_epoch(
    first: int, factor: int, max_epochs: int, expected: list[int]
) -> None:
    assert list_rungs(first, factor, max_epochs) == expected


def test_halving_epochs_are_those_of_the_rounds() -> None:
    # 64 trials to epoch 1, 16 to 4, 4 to 16, 1 to 50
    assert halving_epochs(64, 1, 4, 50) == 64 + 16 * 3 + 4 * 12 + 34


@pytest.mark.parametrize(
    ("started", "budget", "expected"),
    [
        (63, 194, True),  # exactly what 64 trials need
        (63, 193, False),
        (0, 3, True),  # a budget below one trial still tries it
    ],
)
def test_new_trials_start_while_the_winner_can_still_finish(
    started: int, budget: int, expected: bool
) -> None:
    assert may_start(started, budget, first=1, factor=4, max_epochs=50) is expected


def test_trials_of_one_lane_epoch_are_judged_together() -> None:
    assert judge(Rungs(1, 4, 50), {1: 0.1, 2: 0.2, 3: 0.3, 5: 0.5, 7: 0.4}) == [1, 2, 3]


def test_no_trial_pauses_between_rungs() -> None:
    rungs = Rungs(1, 4, 50)
    judge(rungs, {1: 0.5})
    assert judge(rungs, {1: 0.1, 2: 0.2, 3: 0.3}, epoch=3) == []


def test_the_mean_of_the_last_two_epochs_is_compared() -> None:
    rungs = Rungs(4, 2, 50)
    assert rungs.judge({1: [0.1, 0.9, 0.1, 0.6], 2: [0.3, 0.3, 0.4, 0.4]}) == [1]


@pytest.mark.parametrize(
    ("num_validation", "expected"),
    [
        (None, [3, 4, 5, 6, 7, 8]),
        (100, [5, 6, 7, 8]),  # 0.05 below 0.5; trial 5 is within it, but half have gone on
        (2_500, [4, 5, 6, 7, 8]),  # 0.01 below it
    ],
)
def test_within_a_standard_error_up_to_half_go_on(
    num_validation: int | None, expected: list[int]
) -> None:
    rungs = Rungs(1, 4, 50, num_validation=num_validation)
    scores = [0.6, 0.5, 0.495, 0.48, 0.47, 0.46, 0.3, 0.1]
    assert judge(rungs, dict(enumerate(scores, start=1))) == expected


def test_a_budget_is_kept_for_those_that_are_ahead() -> None:
    assert may_finish([47, 40], max_epochs=50, epochs_left=13)
    assert not may_finish([47, 40], max_epochs=50, epochs_left=12)


def test_a_trial_without_a_score_is_the_worst() -> None:
    assert judge(Rungs(1, 2, 50), {1: NAN, 2: 0.0, 3: NAN}) == [3]


def test_a_paused_trial_is_promoted_once_enough_others_are_behind_it() -> None:
    rungs = Rungs(1, 3, 50)
    assert judge(rungs, {1: 0.9, 2: 0.8, 3: 0.1}) == [2, 3]
    assert rungs.promote() is None
    assert judge(rungs, {5: 0.2}) == [5]
    assert rungs.promote() == 2
    assert rungs.promote() is None
    assert rungs.paused == {3, 5}


def test_where_the_first_rung_is_held_all_pause_there_and_nobody_leaves_it() -> None:
    rungs = Rungs(1, 2, 50)
    first = {1: [0.9], 2: [0.8], 3: [0.1]}
    assert rungs.judge(first, is_first_held=True) == [1, 2, 3]
    assert (
        rungs.lag(1)
        == "place 1 of 3 at epoch 1, where the best 2 go on when the others have come to it"
    )
    assert rungs.lag(3) == "place 3 of 3 at epoch 1, where the best 2 go on"
    assert rungs.promote(is_first_held=True) is None
    second = {4: [0.1, 0.9], 5: [0.1, 0.8], 6: [0.1, 0.7]}
    # Later rungs are not held.
    assert rungs.judge(second, is_first_held=True) == [6]
    assert rungs.judge({7: [0.1, 0.1]}, is_first_held=True) == [7]
    assert rungs.judge({8: [0.1, 0.1]}, is_first_held=True) == [8]
    assert rungs.promote(is_first_held=True) == 6
    assert [rungs.promote() for _ in range(3)] == [1, 2, None]


def test_the_highest_rung_is_promoted_first() -> None:
    rungs = Rungs(1, 2, 50)
    judge(rungs, {1: 0.9, 2: 0.8, 3: 0.7, 4: 0.6, 5: 0.1, 6: 0.1})
    assert judge(rungs, {1: 0.9, 2: 0.8}, epoch=2) == [2]
    judge(rungs, {7: 0.1, 8: 0.1})
    assert judge(rungs, {3: 0.75}, epoch=2) == [3]
    assert rungs.promote() == 2
    assert rungs.promote() == 4


def test_a_trial_that_has_ended_is_not_promoted_but_still_counts() -> None:
    rungs = Rungs(1, 3, 50)
    judge(rungs, {1: 0.9, 2: 0.8, 3: 0.7})
    rungs.leave(2)
    judge(rungs, {4: 0.1})
    assert rungs.promote() is None


def test_a_restored_trial_waits_where_it_was_paused() -> None:
    rungs = Rungs(1, 4, 50)
    rungs.restore(1, [0.1, 0.2, 0.3, 0.4], is_paused=True)
    rungs.restore(2, [0.1, 0.2, 0.3, 0.5, 0.9], is_paused=False)
    assert rungs.paused == {1}
    assert rungs.lag(1).startswith("place 2 of 2 at epoch 4")


def test_the_best_paused_trial_comes_first_whatever_its_rung() -> None:
    rungs = Rungs(1, 2, 50)
    judge(rungs, {1: 0.9, 2: 0.8, 3: 0.1, 4: 0.7})
    judge(rungs, {1: 0.95, 2: 0.85}, epoch=2)
    for trial in (2, 4, 3):
        assert rungs.best_paused() == trial
        rungs.leave(trial)
    assert rungs.best_paused() is None


MAX_EPOCHS = 7
scores = st.floats(0.0, 1.0) | st.just(NAN)
curves = st.lists(scores, min_size=MAX_EPOCHS, max_size=MAX_EPOCHS)
arrivals = st.lists(st.lists(curves, max_size=5), min_size=1, max_size=11)


@given(arrivals, st.integers(2, 3), st.none() | st.integers(1, 1_000))
def test_no_trial_is_lost_and_none_of_the_best_share_waits(
    arrivals: list[list[list[float]]], factor: int, num_validation: int | None
) -> None:
    rungs = Rungs(1, factor, MAX_EPOCHS, num_validation=num_validation)
    curves: list[list[float]] = []
    ages: dict[int, int] = {}
    training: set[int] = set()
    for new in arrivals:
        training |= set(range(len(curves), len(curves) + len(new)))
        curves += new
        for trial in training:
            ages[trial] = ages.get(trial, 0) + 1
        paused = rungs.judge({trial: curves[trial][: ages[trial]] for trial in training})
        training -= {*paused, *(trial for trial in training if ages[trial] == MAX_EPOCHS)}
        while (promoted := rungs.promote()) is not None:
            assert promoted not in training
            training.add(promoted)
        at_the_end = {trial for trial, age in ages.items() if age == MAX_EPOCHS}
        assert [*sorted(training | rungs.paused | at_the_end)] == [*range(len(curves))]
        assert len(training) + len(rungs.paused) + len(at_the_end) == len(curves)
        for epoch in list_rungs(1, factor, MAX_EPOCHS):
            reached = {
                trial: mean_of_last_two(curves[trial][:epoch])
                for trial, age in ages.items()
                if age >= epoch
            }
            ahead = sorted(reached, key=lambda trial: (-reached[trial], trial))
            share = math.ceil(len(ahead) / factor)
            assert all(ages[t] > epoch or t not in rungs.paused for t in ahead[:share])


def mean_of_last_two(scores: list[float]) -> float:
    """Return the mean, -inf if one is NaN."""
    last = scores[-2:]
    return -math.inf if any(map(math.isnan, last)) else sum(last) / len(last)


@given(st.integers(1, 300), st.integers(1, 3), st.integers(2, 4), st.integers(1, 2_000))
def test_the_trials_that_may_start_fit_the_budget(
    started: int, first: int, factor: int, budget: int
) -> None:
    if may_start(started, budget, first=first, factor=factor, max_epochs=20):
        assert halving_epochs(started + 1, first, factor, 20) <= budget
