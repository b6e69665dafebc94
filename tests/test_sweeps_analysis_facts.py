"""Facts of a stored study: what each trial is measured by."""

import math

import numpy as np
import pytest
from written import write_study

from objectives.metrics import make_metric
from sweeps.analysis.facts import Targets, list_facts, measure
from sweeps.analysis.noise import score_error
from sweeps.read.study import Study

NAN = math.nan
MATRICES = [[[20, 6, 5], [4, 30, 7], [3, 2, 48]], [[10, 16, 5], [14, 20, 7], [13, 12, 28]]]


@pytest.fixture
def study(sqlite_url: str) -> Study:
    write_study(
        "mine",
        [[0.3, 0.7, 0.6], [0.2, 0.4], [], [0.5], [0.44]],
        outcomes={1: "exhausted", 2: "failed", 3: "paused", 4: "behind"},
        ends={0: {"confusion": MATRICES[0]}, 1: {"confusion": MATRICES[1]}},
        train_losses={1: [0.9, NAN]},
        url=sqlite_url,
    )
    return Study.read(sqlite_url, "mine")


def test_each_trial_with_an_epoch_is_measured(study: Study) -> None:
    facts = {each.trial: each for each in list_facts(study)}
    assert list(facts) == [0, 1, 3, 4]
    best = facts[0]
    assert (best.epochs, best.best_epoch, best.best_score, best.last_score) == (3, 2, 0.7, 0.6)
    assert best.params["learning_rate"] == 0.01
    assert [each.is_cut for each in facts.values()] == [False, False, True, True]
    assert math.isnan(facts[1].train_losses[1])
    assert best.outlook is None  # three epochs tell nothing


def test_error_is_that_of_the_matrix_or_of_the_nearest_score(study: Study) -> None:
    facts = {each.trial: each for each in list_facts(study)}
    metric = make_metric("macro-f1", study.class_names)
    first, second = (score_error(np.array(each), metric) for each in MATRICES)
    assert facts[0].error == pytest.approx(first)
    assert facts[1].error == pytest.approx(second)
    assert facts[4].error == facts[1].error  # 0.44 is nearer to 0.4 than to 0.7


@pytest.mark.parametrize(
    ("params", "entropy", "guessing", "floor"),
    [
        ({}, 0.0, 1.0296530, 0.0),  # -(0.2 ln 0.2 + 0.3 ln 0.3 + 0.5 ln 0.5)
        ({"class_weights": "balanced"}, 0.0, math.log(3), 0.0),
        # Shares 0.22, 0.305 and 0.475; targets 0.9 and 0.05 twice.
        ({"label_smoothing": 0.15}, 0.0, 1.0488876, 0.3943977),
        ({}, 0.4, 1.0296530, 0.4),
        ({"label_smoothing": 0.15}, 0.4, 1.0488876, 0.85 * 0.4 + 0.15 * math.log(3)),
    ],
)
def test_loss_is_measured_between_guessing_and_the_floor_of_its_targets(
    params: dict[str, object], entropy: float, guessing: float, floor: float
) -> None:
    metric = make_metric("macro-f1", list("abc"))
    targets = Targets((0.2, 0.3, 0.5), entropy, (12, 18, 30), tuple("abc"), metric)
    losses = [1.0] * 5
    facts = measure(
        0, [0.4] * 5, train_losses=losses, val_losses=losses, targets=targets, params=params
    )
    assert facts.guess_loss == pytest.approx(guessing, abs=1e-4)
    assert facts.floor == pytest.approx(floor, abs=1e-4)
    assert facts.explained(facts.guess_loss) == 0
    assert facts.explained(facts.floor) == pytest.approx(1)
    assert facts.explained(2 * facts.guess_loss) < 0


def test_nothing_is_known_of_a_study_without_data() -> None:
    facts = measure(
        0, [0.5, NAN], train_losses=[1.0, 1.0], val_losses=[1.0, 1.0], targets=Targets()
    )
    assert math.isnan(facts.guess_loss)
    assert math.isnan(facts.guess_score)
    assert math.isnan(facts.explained(0.3))
    assert facts.has_learned  # who cannot tell calls nobody names
    assert (facts.best_epoch, facts.score) == (1, None)
