"""When a sweep is told to have more trials, and in the terms of which budget."""

import math

import numpy as np
import pytest
from tried import MIDDLE, SPACE, advise, judged, results

from sweeps.analysis import advice
from sweeps.budget import Budget


def test_few_trials_are_too_few_while_the_best_still_rises() -> None:
    spread = results(np.linspace(0.3, 0.8, 11).tolist(), [MIDDLE] * 11)
    found = advice.find_few_trials(spread, SPACE, error=0.014)
    assert found is not None
    assert found.option == "--trials 22"
    alike = results([0.7] * 11, [MIDDLE] * 11)
    assert advice.find_few_trials(alike, SPACE, error=0.014) is None
    many = results(np.linspace(0.3, 0.8, 53).tolist(), [MIDDLE] * 53)
    assert advice.find_few_trials(many, SPACE, error=0.014) is None


@pytest.mark.parametrize(
    ("target", "ends", "option"),
    [
        (None, ["stalled"] * 11, "--trials 22"),
        (17, ["stalled"] * 11, "--trials 22"),
        (22, ["stalled"] * 11, None),  # it goes on to as many by itself
        (22, ["stalled"] * 11 + ["failed"] * 3, "--trials 25"),  # and three more
        (None, ["stalled"] * 11 + [None] * 11, None),  # as many have begun
        (None, ["stalled"] * 11 + ["interrupted", "cut off"] * 6, None),
    ],
)
def test_trials_that_the_run_goes_on_to_are_not_advised(
    target: int | None, ends: list[str | None], option: str | None
) -> None:
    scores = [*np.linspace(0.3, 0.8, 11), *[math.nan] * (len(ends) - 11)]
    frame = results(scores, [MIDDLE] * len(ends), outcome=ends)
    found = advise(frame, judged("converged", len(ends)), budget=Budget(target))
    assert [each.option for each in found if each.about == "trials"] == [option] * bool(option)


@pytest.mark.parametrize(
    ("budget", "option"),
    [
        (Budget(epochs=110), "--max-total-epochs 220"),  # 11 trials of 10 epochs
        (Budget(epochs=220), None),  # at their pace 22 trials fit
        (Budget(minutes=3.0), "--max-minutes 3"),
        (Budget(trials=11, epochs=500), "--trials 22"),
    ],
)
def test_more_trials_are_asked_for_in_the_terms_of_the_budget(
    budget: Budget, option: str | None
) -> None:
    scores = np.linspace(0.3, 0.8, 11).tolist()
    frame = results(scores, [MIDDLE] * 11, epochs_run=[10] * 11)
    found = advice.find_few_trials(frame, SPACE, error=0.014, budget=budget)
    assert (None if found is None else found.option) == option


@pytest.mark.parametrize("end", ["behind", "stalled"])
@pytest.mark.parametrize("last", ["stalled", "paused", "cut off"])
def test_best_trial_that_the_budget_cut_off_asks_for_more_of_it(end: str, last: str) -> None:
    outcomes = ["stalled"] * 9 + [end, last]
    scores = np.linspace(0.3, 0.8, 10).tolist()
    frame = results([*scores, 0.1], [MIDDLE] * 11, outcome=outcomes, epochs_run=[10] * 11)
    found = advise(frame, judged("converged", 11), budget=Budget(epochs=110))
    said = [each for each in found if "had not ended when the budget did" in each.text]
    assert len(said) == (end == "behind" and last == "stalled")
    assert [each.option for each in said] == ["--max-total-epochs 220"] * len(said)


def test_few_scores_of_a_run_that_goes_on_wait_for_it() -> None:
    two = results([0.7, 0.6], [MIDDLE] * 2)
    (found,) = advise(two, judged("converged", 2), budget=Budget(30))
    assert found.text == (
        "2 scored trials for 5 sampled parameters tell too little yet: let the sweep run on; "
        "where it was stopped, the same command carries it on."
    )
    assert found.option is None
    # It has come to its end: 8 of its 10 trials failed.
    ends = ["stalled"] * 2 + ["failed"] * 8
    ended = results([0.7, 0.6] + [math.nan] * 8, [MIDDLE] * 10, outcome=ends)
    (found,) = advise(ended, judged("converged", 10), budget=Budget(10))
    assert found.text.endswith("tell too little: 10 are the least to compare.")
    assert found.option == "--trials 18"


def test_expected_best_is_that_of_drawing() -> None:
    scores = np.array([0.2, 0.5, 0.8])
    # By hand: 0.8 is drawn in 5 of 9 pairs, 0.5 is the best in 3 of 9, 0.2 in 1 of 9.
    assert advice.expected_best_of(scores, 2) == pytest.approx((5 * 0.8 + 3 * 0.5 + 0.2) / 9)
    assert advice.expected_best_of(scores, 1) == pytest.approx(0.5)
