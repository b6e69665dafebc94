"""A trial's end from its curve, and what samplers and Optuna's copy are told of it."""

import math

import numpy as np
import pytest

from objectives.api import MAX_MATRIX_CLASSES, Counts, EpochReport, find_fusion_key
from search_spaces.hparams import Hparams
from storage import schema
from sweeps.outcomes import Outcome
from sweeps.running.sampling import Known, Sampled
from sweeps.running.stopping import Decision
from sweeps.running.trial import Trial, to_end

NAN = math.nan
CLASSES = ("a", "b")
PARAMS = {
    "optimizer": "adam",
    "learning_rate": 0.01,
    "beta1": 0.9,
    "beta2": 0.99,
    "batch_size": 50,
}
SAMPLED = Sampled({"learning_rate": 0.01}, {})
#: The lowest Matthews correlation: what a diverged trial is told as.
LOWEST = -1.0


def make_trial(*scores: float, num_classes: int = 2) -> Trial:
    hparams = Hparams.model_validate({**PARAMS, "class_weights": "none", "model": {}})
    trial = Trial(5, 7, hparams, SAMPLED, find_fusion_key(hparams))
    for epoch, score in enumerate(scores, start=1):
        matrix = np.eye(num_classes, dtype=np.int64) * epoch
        counts = Counts.of_matrix(matrix)
        if num_classes > MAX_MATRIX_CLASSES:
            counts = Counts(counts.right, counts.support, counts.predicted)
        loss = 0.5 if math.isfinite(score) else NAN
        trial.curve.add(EpochReport(5, epoch, loss, loss, counts, 0.1, 1.0, 0.25), score)
    return trial


def test_earliest_of_equal_epochs_is_the_best_and_its_counts_are_kept() -> None:
    ended = to_end(
        make_trial(0.3, 0.7, 0.7, 0.5), Decision(Outcome.STALLED, "why"), CLASSES, lowest=LOWEST
    )
    assert (ended.best_epoch, ended.best_score, ended.confusion) == (2, 0.7, ((2, 0), (0, 2)))
    assert (ended.last_epoch, ended.last_score, ended.epochs_run) == (4, 0.5, 4)
    assert ended.tail_score == pytest.approx(2.2 / 4)
    assert (ended.best_val_loss, ended.seconds) == (0.5, 1.0)
    assert [(each.class_name, each.support) for each in ended.class_scores] == [("a", 2), ("b", 2)]


@pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.FAILED])
def test_trial_without_an_epoch_has_no_scores(outcome: Outcome) -> None:
    ended = to_end(make_trial(), Decision(outcome, "why"), CLASSES, lowest=LOWEST)
    assert (ended.best_epoch, ended.last_epoch, ended.tail_score) == (None, None, None)
    assert (ended.confusion, ended.class_scores, ended.epochs_run) == (None, (), 0)


def test_confusion_of_many_classes_is_not_stored() -> None:
    num = MAX_MATRIX_CLASSES + 1
    ended = to_end(
        make_trial(0.3, num_classes=num),
        Decision(Outcome.STALLED, "why"),
        tuple(map(str, range(num))),
        lowest=LOWEST,
    )
    assert ended.confusion is None
    assert len(ended.class_scores) == num


@pytest.mark.parametrize(
    ("outcome", "scores", "value"),
    [
        (Outcome.STALLED, (0.3, 0.7, 0.5), 0.7),
        (Outcome.BEHIND, (0.3, 0.7, 0.5), 0.7),
        (Outcome.DIVERGED, (0.3, 0.7, NAN), LOWEST),
        (Outcome.FAILED, (0.3, 0.7), None),
        (Outcome.STALLED, (NAN, NAN), LOWEST),  # Optuna refuses NaN
        (Outcome.STALLED, (0.0,), 0.0),
    ],
)
def test_value_is_the_best_score_unless_the_trial_broke(
    outcome: Outcome, scores: tuple[float, ...], value: float | None
) -> None:
    ended = to_end(make_trial(*scores), Decision(outcome, "why"), CLASSES, lowest=LOWEST)
    assert ended.value == value


@pytest.mark.parametrize(
    ("outcome", "scores", "expected"),
    [
        (None, (), Known(5, SAMPLED, None)),  # runs, without an epoch
        (None, (0.3, 0.7, 0.5), Known(5, SAMPLED, 0.7)),  # its best so far
        (None, (NAN,), Known(5, SAMPLED, LOWEST)),
        (Outcome.BEHIND, (0.3, 0.7), Known(5, SAMPLED, 0.7)),
        (Outcome.PAUSED, (0.3, 0.7), Known(5, SAMPLED, 0.7)),
        (Outcome.STALLED, (0.0,), Known(5, SAMPLED, 0.0)),
        (Outcome.DIVERGED, (0.9, NAN), Known(5, SAMPLED, LOWEST)),
        (Outcome.FAILED, (0.9,), None),
    ],
)
def test_sampler_sees_each_trial_with_an_epoch_as_complete(
    outcome: Outcome | None, scores: tuple[float, ...], expected: Known | None
) -> None:
    trial = make_trial(*scores)
    trial.outcome = outcome
    assert trial.as_known(LOWEST) == expected
    # The same while its weights are being written.
    if outcome is not None:
        trial.outcome, trial.ending = None, Decision(outcome, "why")
        assert trial.as_known(LOWEST) == expected


@pytest.mark.parametrize(
    ("clocks", "segments"),
    [
        ([], []),
        ([5, 6, 7], [(5, 3)]),
        ([5, 6, 2, 3, 4, 4], [(5, 2), (2, 3), (4, 1)]),
        ([0, 1, 2, 7], [(0, 3), (7, 1)]),
    ],
)
def test_segments_follow_the_clock(clocks: list[int], segments: list[tuple[int, int]]) -> None:
    trial = make_trial()
    for clock in clocks:
        trial.note_clock(clock)
    assert trial.segments == segments


def test_outcomes_are_stored_as_text() -> None:
    ended = ["stalled", "exhausted", "cut short", "behind", "diverged", "failed"]
    assert [outcome.value for outcome in Outcome] == [*ended, "paused", "interrupted"]
    assert ended == list(schema.ENDED)
