"""What is said of trials, held to what came of them on test (``tests/benchmarks/proof``)."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.analysis.verdicts import Reason

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture(scope="module")
def cases() -> Iterator[list[Any]]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import bench_proof

        yield bench_proof.list_cases(("0", "1", "2"))
    finally:
        sys.path.remove(str(BENCHMARKS))


def brier(said: list[float], cases: list[Any]) -> float:
    happened = np.array([case.has_gained for case in cases], dtype=np.float64)
    return float(np.mean((np.array(said) - happened) ** 2))


def test_chance_of_a_gain_is_nearer_to_what_came_than_what_needs_no_model(
    cases: list[Any],
) -> None:
    said = brier([case.probability for case in cases], cases)
    share = float(np.mean([case.has_gained for case in cases]))
    slopes = [float(case.slope_gain > case.error) for case in cases]
    assert said < 0.8 * min(
        brier([0.0] * len(cases), cases), brier([share] * len(cases), cases), brier(slopes, cases)
    )


@pytest.mark.parametrize(
    ("reason", "is_right", "least"),
    [
        (Reason.SCORE_RISES, lambda case: case.has_gained, 0.75),
        (Reason.ABOVE_GUESSING, lambda case: case.changed["lower"] > case.error, 0.5),
        (Reason.CREEPS, lambda case: case.changed["higher"] > case.error, 0.5),
    ],
)
def test_what_a_verdict_says_came_true_or_helped_more_often_than_not(
    reason: Reason, is_right: Any, least: float, cases: list[Any]
) -> None:
    own = [case for case in cases if case.judged.reason is reason]
    assert len(own) >= 40
    assert np.mean([is_right(case) for case in own]) >= least
