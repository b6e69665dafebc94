"""Comparison: ranks, ties and speed on literal frames; luck against simulation and tables."""

import math

import numpy as np
import pandas as pd
import pytest

from sweeps.analysis import comparison
from sweeps.analysis.noise import macro_f1_error_from_scores

CURVES = pd.DataFrame(
    {
        "trial": [0] * 4 + [1] * 4 + [2] * 2,
        "epoch": [1, 2, 3, 4, 1, 2, 3, 4, 1, 2],
        "score": [0.2, 0.8, 0.5, 0.5, 0.3, 0.5, 0.6, 0.79, 0.6, math.nan],
    }
)
RESULTS = pd.DataFrame(
    {
        "rank": pd.Series([1, 2, 3, pd.NA], dtype="Int64"),
        "trial": [0, 1, 2, 3],
        "best_score": [0.8, 0.79, 0.6, math.nan],
        "best_epoch": pd.Series([2, 4, 1, pd.NA], dtype="Int64"),
        "best_val_loss": [0.5, 0.6, 0.7, math.nan],
        "last_score": [0.5, 0.79, math.nan, math.nan],
        "tail_score": [0.5, 0.5475, 0.6, math.nan],
        "epochs_run": [4, 4, 2, 0],
        "outcome": ["stalled", "exhausted", "stalled", "failed"],
    }
)


FRAMES = comparison.StudyFrames("mine", RESULTS, CURVES, 0.014)


def test_ranks_by_each_rule_stand_side_by_side() -> None:
    frame = comparison.compare([FRAMES], epoch=3, score=0.6, margin=0.028)
    dtypes = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert dtypes == comparison.COMPARISON
    assert frame["trial"].tolist() == [0, 1, 2]
    assert frame["rank_last"].tolist() == [2, 1, pd.NA]
    assert frame["rank_tail"].tolist() == [3, 2, 1]
    assert frame["at_epoch"].tolist()[:2] == [0.8, 0.6]
    assert frame["rank_range"].tolist() == [2, 1, 2]
    assert frame["epochs_to_score"].tolist() == [2, 3, 1]


def test_scores_within_two_errors_are_ties() -> None:
    frame = comparison.compare([FRAMES], epoch=3, score=0.6, margin=0.028)
    assert frame["is_tied"].tolist() == [True, True, False]
    alone = comparison.compare([FRAMES], epoch=3, score=0.6)
    assert not alone["is_tied"].any()


def test_studies_share_one_ranking() -> None:
    other = comparison.StudyFrames("other", RESULTS[1:2], CURVES)
    frame = comparison.compare([FRAMES, other], epoch=3, score=0.6)
    assert frame["study"].tolist() == ["mine", "mine", "other", "mine"]
    assert frame["trial"].tolist() == [0, 1, 1, 2]
    assert frame["rank_best"].tolist() == [1, 2, 2, 4]


def test_studies_without_a_ranked_trial_have_no_rows() -> None:
    empty = comparison.StudyFrames("empty", RESULTS[3:], CURVES[:0])
    frame = comparison.compare([empty, empty], epoch=1, score=0.6)
    dtypes = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert (len(frame), dtypes) == (0, comparison.COMPARISON)
    assert comparison.shared_epoch([empty]) == 1
    assert math.isnan(comparison.best_score([empty]))


def test_shared_epoch_is_the_last_that_all_ranked_trials_reached() -> None:
    assert comparison.shared_epoch([FRAMES]) == 2
    assert comparison.best_score([FRAMES]) == 0.8


def test_trial_that_was_cut_short_does_not_shorten_the_comparison() -> None:
    def frames(*outcomes: str) -> comparison.StudyFrames:
        return comparison.StudyFrames("mine", RESULTS.assign(outcome=outcomes), CURVES, 0.014)

    assert comparison.shared_epoch([frames("stalled", "stalled", "behind", "failed")]) == 4
    assert comparison.shared_epoch([frames("behind", "behind", "behind", "failed")]) == 2


def test_error_is_that_of_the_best_trial_that_has_class_scores() -> None:
    classes = pd.DataFrame(
        {
            "trial": [1, 1, 2, 2],
            "precision": [0.8, 0.75, 0.5, 0.5],
            "recall": [0.75, 0.8, 0.5, 0.5],
            "support": [110, 130, 110, 130],
        }
    )
    # Of trial 0, the best, no class is known.
    expected = macro_f1_error_from_scores([0.8, 0.75], [0.75, 0.8], [110, 130])
    assert comparison.validation_error(RESULTS, classes) == expected
    assert math.isnan(comparison.validation_error(RESULTS, classes[:0]))


def test_tie_margin_is_that_of_a_difference() -> None:
    assert comparison.tie_margin(0.014) == pytest.approx(0.028)
    assert comparison.tie_margin(0.014, correlation=0.0) == pytest.approx(0.028 * math.sqrt(2))
    with pytest.raises(ValueError, match="correlation"):
        comparison.tie_margin(0.014, correlation=1.0)


def test_speed_counts_epochs_to_a_score() -> None:
    frame = comparison.convergence_speed(CURVES, epoch=3, score=0.6)
    assert frame["epochs"].tolist() == [2, 3, 1]
    assert frame["score_at_epoch"].tolist() == pytest.approx([0.8, 0.6, math.nan], nan_ok=True)
    with pytest.raises(ValueError, match="epoch"):
        comparison.convergence_speed(CURVES, epoch=0, score=0.6)


def test_empty_frames_keep_their_columns() -> None:
    speed = comparison.convergence_speed(CURVES[:0], epoch=1, score=0.5)
    assert {name: str(dtype) for name, dtype in speed.dtypes.items()} == comparison.SPEED
    luck = comparison.luck_of_best_epochs(CURVES[:0])
    assert {name: str(dtype) for name, dtype in luck.dtypes.items()} == comparison.LUCK


# Tippett 1925, Biometrika 17; 2 draws: 1 / sqrt(pi).
@pytest.mark.parametrize(
    ("draws", "expected"), [(1, 0.0), (2, 1 / math.sqrt(math.pi)), (10, 1.53875), (100, 2.50759)]
)
def test_expected_maximum_is_that_of_the_tables(draws: int, expected: float) -> None:
    assert comparison.expected_maximum(draws) == pytest.approx(expected, abs=1e-4)


def test_luck_of_a_flat_curve_is_the_maximum_of_normals() -> None:
    rng = np.random.default_rng(17)
    curves = 0.7 + 0.01 * rng.standard_normal((60, 200))
    found = np.mean([comparison.luck_of_best(curve) for curve in curves])
    excess = (curves.max(axis=1) - 0.7).mean()
    # The smoothed line has some of the noise too, so that the luck is a little underestimated.
    assert found == pytest.approx(excess, rel=0.15)


def test_steep_curve_owes_less_to_luck() -> None:
    rng = np.random.default_rng(19)
    noise = 0.01 * rng.standard_normal(100)
    steep = comparison.luck_of_best(np.linspace(0.1, 0.9, 100) + noise)
    assert steep < 0.6 * comparison.luck_of_best(0.7 + noise)


@pytest.mark.parametrize(
    ("curve", "least", "most"),
    [
        # Epochs with a rare class beside epochs without it: the noise between them is robust.
        ([0.6592, 0.6867, 0.7093, 0.6486, 0.6499, 0.6455, 0.6489, 0.6487, 0.6509], 0.022, 0.025),
        ([0.6479, 0.6475, 0.6963, 0.639, 0.6897, 0.6406, 0.6448, 0.6484, 0.65], 0.043, 0.055),
        ([0.5] * 5 + [0.7] + [0.5] * 5, 0.2, 0.2),  # no noise at all beside the spike
        ([0.5] * 5 + [0.7] * 2 + [0.5] * 5, 0.0, 0.0),  # a neighbour confirms it
        ([0.1 + 0.05 * i for i in range(13)], 0.0, 0.001),  # rises, the last epoch is the best
        ([0.8 - 0.6 * 0.8**i for i in range(23)], 0.0, 0.001),
    ],
)
def test_what_no_neighbour_confirms_is_luck(curve: list[float], least: float, most: float) -> None:
    assert least - 1e-9 <= comparison.luck_of_best(curve) <= most + 1e-9


def test_luck_frame_subtracts_it_and_leaves_short_trials_out() -> None:
    frame = comparison.luck_of_best_epochs(CURVES)
    assert frame["trial"].tolist() == [0, 1]
    assert (frame["best"] - frame["luck"]).tolist() == frame["best_without_luck"].tolist()
    assert comparison.luck_of_best([0.5] * 9) == 0.0
    assert math.isnan(comparison.luck_of_best([0.5, 0.6, 0.7]))
