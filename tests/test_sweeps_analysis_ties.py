"""Ties against drawn predictions: equal trials tie, better ones lead, and luck is what it is."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from predicted import METRIC, Drawn, draw_study, make_facts, make_study

from objectives.api import Counts
from sweeps.analysis import ties as ties_module
from sweeps.analysis.ties import find_tied, find_ties, measure_noise


def share_not_tied(drawn: Drawn) -> float:
    """Return the share of the trials that are called worse than the best."""
    tied = find_ties(drawn.study, drawn.facts).tied
    return 1 - len(tied) / len(drawn.facts)


# Of 24 trials all predictions are kept, of 100 half of them, of 500 a tenth.
@pytest.mark.parametrize(("trials", "studies"), [(24, 40), (100, 6), (500, 1)])
def test_at_most_one_in_20_of_equal_trials_is_called_worse(trials: int, studies: int) -> None:
    rng = np.random.default_rng(11)
    shares = [
        share_not_tied(draw_study(rng, skills=[0.0] * trials, examples=500))
        for _ in range(studies)
    ]
    assert np.mean(shares) <= 0.05


def test_at_most_one_in_20_is_called_worse_where_the_best_of_12_epochs_counts() -> None:
    rng = np.random.default_rng(13)
    shares = [
        share_not_tied(draw_study(rng, skills=[0.0] * 24, examples=300, epochs=12))
        for _ in range(10)
    ]
    assert np.mean(shares) <= 0.05


def test_trials_without_predictions_are_told_apart_by_larger_leads_alone() -> None:
    few, many = 0, 0
    for seed in range(10):
        measured, cautious = (
            draw_study(
                np.random.default_rng(seed), skills=[0.2, *[0.0] * 10], examples=1000, kept=kept
            )
            for kept in (11, 0)
        )
        found = find_ties(measured.study, measured.facts)
        known = find_ties(cautious.study, cautious.facts)
        assert found.tied <= known.tied
        assert found.lowest >= known.lowest
        assert known.lowest == min(cautious.facts[i].best_score for i in known.tied)
        assert 0.3 < found.correlation < 0.7
        assert math.isnan(known.correlation)
        few, many = few + len(found.tied), many + len(known.tied)
    assert few < 0.8 * many < 100


def test_covariance_is_that_of_scores_on_many_validation_sets() -> None:
    rng = np.random.default_rng(23)
    drawn = draw_study(rng, skills=[0.0, 0.3, 0.6], examples=20_000)
    targets, found = drawn.study.targets, drawn.study.predictions
    assert targets is not None
    scores = []
    for _ in range(400):
        some = rng.integers(0, len(targets), 1000)
        again = make_study(targets[some], [[0.5]] * 3, [found[i][some] for i in range(3)])
        scores.append([METRIC.score(Counts.of_matrix(again.confusions[i])) for i in range(3)])
    some = rng.integers(0, len(targets), 1000)
    again = make_study(targets[some], [[0.5]] * 3, [found[i][some] for i in range(3)])
    noise = measure_noise(again, [0, 1, 2], {})
    assert noise.is_measured.all()
    # 400 draws know a variance to 7 %, and the last set its own covariance to about as much.
    assert noise.covariance == pytest.approx(np.cov(np.array(scores).T), rel=0.3)


def test_few_examples_that_decide_are_not_believed() -> None:
    # The second trial is wrong on 2 examples more; a score of 1 has an error too.
    true_N = np.repeat(np.arange(3, dtype=np.uint8), 20)
    worse_N = true_N.copy()
    worse_N[:2] = 1
    study = make_study(true_N, [[1.0], [0.966]], [true_N, worse_N])
    ties = find_ties(study, make_facts(study, [[1.0], [0.966]]))
    assert ties.tied == {0, 1}
    assert ties.error > 0.005


def test_same_predictions_tie_whatever_else_is_wrong() -> None:
    scores = np.array([0.9, 0.9, 0.2])
    covariance = np.diag([1e-4, 1e-4, 1e-4])
    covariance[:2, :2] = 1e-4
    freedom = np.full(3, 100.0)
    assert find_tied(scores, covariance, freedom).tolist() == [True, True, False]
    assert find_tied(scores[:1], covariance[:1, :1], freedom[:1]).tolist() == [True]


@pytest.mark.parametrize(
    ("skills", "epochs"),
    [
        ([0.0] * 24, 1),
        (np.linspace(0.0, 0.6, 24).tolist(), 1),
        ([0.0] * 11, 12),
        ([0.0] * 3, 6),  # too few epochs for an outlook
        ([0.0], 16),  # the best epoch of one trial
        ([0.0], 1),
    ],
)
def test_luck_is_what_the_winner_has_less_on_new_examples(
    skills: Sequence[float], epochs: int
) -> None:
    rng = np.random.default_rng(29)
    found, true, errors, inside = [], [], [], []
    for _ in range(30):
        given = {"examples": 500, "epochs": epochs, "is_true_known": True}
        drawn = draw_study(rng, skills=skills, **given)  # type: ignore[arg-type]
        ties = find_ties(drawn.study, drawn.facts)
        assert ties.best is not None
        excess = drawn.facts[ties.best].best_score - drawn.true_scores[ties.best]
        found.append(ties.luck)
        true.append(excess)
        errors.append(ties.error)
        inside.append(ties.luck_low <= excess <= ties.luck_high)
    # 30 winners know the mean to a fifth of the error of one score.
    assert np.mean(found) == pytest.approx(np.mean(true), abs=0.6 * float(np.mean(errors)))
    assert np.mean(inside) >= 0.75


@pytest.mark.parametrize(("trials", "epochs"), [(1, 2), (11, 4)])
def test_luck_of_too_few_epochs_for_a_line_is_not_known(trials: int, epochs: int) -> None:
    drawn = draw_study(
        np.random.default_rng(41), skills=[0.0] * trials, examples=300, epochs=epochs
    )
    ties = find_ties(drawn.study, drawn.facts)
    assert ties.error > 0
    assert all(map(math.isnan, (ties.luck, ties.luck_low, ties.luck_high)))


def test_study_of_which_no_prediction_is_known_has_no_ties_but_equal_scores() -> None:
    study = make_study(np.zeros(0, dtype=np.uint8), [[0.5], [0.5], [0.4]], [], kept=0)
    ties = find_ties(study, [])
    assert (ties.best, ties.lowest) == (0, 0.5)
    assert ties.tied == {0, 1}
    assert all(map(math.isnan, (ties.error, ties.correlation, ties.luck, ties.luck_high)))


def test_trials_beyond_those_that_are_drawn_together_tie_as_independent_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ties_module, "_MOST", 2)
    rng = np.random.default_rng(31)
    drawn = draw_study(rng, skills=[0.6, 0.6, 0.5, 0.0], examples=500)
    ties = find_ties(drawn.study, drawn.facts)
    assert ties.tied == {0, 1, 2}
    assert ties.lowest == min(each.best_score for each in drawn.facts[:3])


def test_predictions_are_added_up_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw_study(np.random.default_rng(37), skills=[0.0, 0.3], examples=300)
    whole = measure_noise(drawn.study, [0, 1], {}).covariance
    monkeypatch.setattr(ties_module, "_CHUNK", 7)
    assert measure_noise(drawn.study, [0, 1], {}).covariance == pytest.approx(whole)


def test_study_without_a_ranked_trial_has_no_best() -> None:
    study = make_study(np.zeros(0, dtype=np.uint8), [], [])
    assert find_ties(study, []).best is None
