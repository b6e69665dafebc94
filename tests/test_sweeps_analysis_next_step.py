"""What to try next: of the study, else of its best trial, and the option that does it."""

import pandas as pd
import pytest

from sweeps.analysis.advice import Advice
from sweeps.analysis.epoch_advice import EpochPlan
from sweeps.analysis.next_step import OTHER_TRIALS, NextStep, find_next

RESULTS = pd.DataFrame({"trial": [3, 0]})
PLAN = EpochPlan(20, "max_epochs = 20 is enough.")


def judged(verdict: str, advice: str, option: str | None = None) -> pd.DataFrame:
    """Verdicts of two trials; the other one's is not asked for."""
    both = [(0, "underfit", "Raise the learning rate.", "--no"), (3, verdict, advice, option)]
    return pd.DataFrame(both, columns=["trial", "verdict", "advice", "option"])


def find(verdict: str, advice: str, epochs: EpochPlan | None = None) -> NextStep | None:
    return find_next(RESULTS, judged(verdict, advice), advice=[], epochs=epochs)


def test_first_piece_of_advice_is_the_next_step() -> None:
    advice = [Advice("dropout", "more", "--set space.dropout=0.3"), Advice("trials", "more")]
    found = find_next(RESULTS, judged("overfit", "x"), advice=advice, epochs=PLAN)
    assert found == NextStep("more", "--set space.dropout=0.3")


@pytest.mark.parametrize("option", ["--set space.label_smoothing=0.1", None])
def test_best_trials_advice_brings_its_option(option: str | None) -> None:
    asked = judged("overfit", "It is so: try this.", option)
    found = find_next(RESULTS, asked, advice=[], epochs=None)
    assert found == NextStep("It is so: try this.", option)


def test_study_decides_over_the_best_trials_epochs() -> None:
    asked = "Train longer: max_epochs = 34, or take more steps."
    assert find("still improving", asked, PLAN) == NextStep(OTHER_TRIALS, is_of_epochs=True)
    assert find("overfit", "More dropout; epochs do not help.", PLAN) == NextStep(
        "More dropout; epochs do not help."
    )


def test_nothing_is_asked_without_a_trial_or_without_advice() -> None:
    assert find("converged", "") is None
    none = RESULTS.iloc[:0]
    assert find_next(none, judged("converged", "x"), advice=[], epochs=None) is None
