"""What a study says: its best trial or why there is none, and whether it goes on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from sweeps.analysis.summary import Summary, summarise
from sweeps.read.study import Study

NAN = float("nan")
FLAT = [0.5, 0.6, *[0.7, 0.69] * 6]
#: What makes a study one of a sweep.
SWEEP: Mapping[str, Any] = {"max_epochs": 20, "patience": 10, "sampler": {"name": "random"}}
Look = Callable[..., Summary]


@pytest.fixture
def look(write_study: Callable[..., None], sqlite_url: str) -> Look:
    def look(
        curves: Sequence[Sequence[float]], outcome: str | None = "stalled", **config: Any
    ) -> Summary:
        outcomes = dict.fromkeys(range(len(curves)), outcome)
        write_study("s", curves, outcomes=outcomes, config={**SWEEP, **config}, url=sqlite_url)
        return summarise(Study.read(sqlite_url, "s"))

    return look


def test_diverged_trials_are_not_ahead_and_nothing_is_said_to_be_well(look: Look) -> None:
    found = look([[0.3, NAN]] * 7, "diverged")
    assert found.answer == "All 7 trials diverged: no score may be ranked."
    assert found.no_advice == "No trial may be ranked, so nothing can be advised."


def test_trials_that_ended_early_without_a_rank_are_not_ahead(look: Look) -> None:
    found = look([[0.3, 0.4]] * 3, "failed")
    assert "is ahead" not in found.answer


def test_paused_trial_is_ahead_so_far(look: Look) -> None:
    assert look([[0.3], [0.4]], "paused").answer.startswith("Trial 1 is ahead so far: ")


def test_study_that_was_cut_off_after_an_epoch_is_told_that_too_little_is_known(
    look: Look,
) -> None:
    assert look([[0.3], [0.4]], "exhausted").no_advice == "Too little is known yet to advise."


@pytest.mark.parametrize(
    ("budget", "outcome", "is_open"),
    [
        # Those that began need what is left of the epochs: no more may start.
        ({"trials": 100, "max_total_epochs": 60}, "stalled", False),
        ({"trials": 100}, "stalled", True),
        ({"trials": 3}, "stalled", False),
        ({"max_total_epochs": 60}, "stalled", False),
        ({"trials": 100, "max_total_epochs": 60}, "paused", True),
    ],
)
def test_study_goes_on_only_where_trials_are_left(
    look: Look, budget: Mapping[str, int], outcome: str, is_open: bool
) -> None:
    found = look([FLAT, FLAT, FLAT], outcome, **budget)
    assert (found.carry_on is not None) is is_open
    assert bool(found.unfinished) is is_open
