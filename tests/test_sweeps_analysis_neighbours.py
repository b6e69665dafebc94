"""The trials beside one that are free of its verdict: which, and how they differ."""

from sweeps.analysis.neighbours import (
    RATE_PARAMS,
    describe_neighbours,
    drop_contrary,
    find_neighbours,
    measure_gains,
)

HIGH: dict[str, object] = {"optimizer": "adam", "learning_rate": 0.05, "betas": [0.5, 0.999]}


def test_nearest_neighbour_differs_in_nothing_else() -> None:
    far = HIGH | {"learning_rate": 0.01, "dropout": 0.5}
    near = HIGH | {"learning_rate": 0.02, "clip_norm": 1.0}
    found = find_neighbours(HIGH, {3: far, 4: near, 5: HIGH | {"dropout": 0.1}})
    assert found == [(4, ["learning_rate", "clip_norm"]), (3, ["learning_rate"])]


def test_neighbour_with_another_optimizer_is_not_said_to_switch_its_betas_off() -> None:
    sgd = {"optimizer": "sgd", "learning_rate": 0.02, "momentum": 0.9}
    said = describe_neighbours(HIGH, {1: sgd}, RATE_PARAMS)
    differs = "sgd, learning rate 0.02, no betas, momentum 0.9"
    assert said == f"Trial 1 ({differs}) of this sweep does not show it."


def test_neighbours_that_went_against_the_advice_are_left_out() -> None:
    own = {"optimizer": "adam", "dropout": 0.5, "learning_rate": 0.01}
    less, more = own | {"dropout": 0.2}, own | {"dropout": 0.6}
    assert drop_contrary(own, {1: less, 2: more}, {"dropout": True}) == {2: more}
    assert drop_contrary(own, {1: less}, {"dropout": True}) == {1: less}  # there is no better one
    sgd = {"optimizer": "sgd", "dropout": 0.5, "learning_rate": 0.3}
    higher = own | {"learning_rate": 0.02}
    # A rate of another optimizer is neither higher nor lower.
    assert drop_contrary(own, {1: higher, 2: sgd}, {"learning_rate": False}) == {2: sgd}


OVERFIT = ("dropout", "learning_rate")


def test_neighbour_of_the_same_optimizer_comes_alone_where_that_decides_nothing() -> None:
    adadelta = {"optimizer": "adadelta", "learning_rate": 0.306, "dropout": 0.7}
    far = HIGH | {"learning_rate": 0.01, "dropout": 0.6, "batch_size": 100}
    assert find_neighbours(HIGH, {2: adadelta, 5: far}, OVERFIT) == [(5, [*OVERFIT])]
    # Where it decides it is another way out, and comes last.
    found = find_neighbours(HIGH, {2: adadelta, 5: far}, RATE_PARAMS)
    assert [trial for trial, _ in found] == [5, 2]


def test_other_optimizer_is_said_before_its_rate() -> None:
    adadelta = {"optimizer": "adadelta", "learning_rate": 0.306, "dropout": 0.695}
    said = describe_neighbours(HIGH, {7: adadelta}, OVERFIT)
    shown = "adadelta, dropout 0.695, learning rate 0.306"
    assert said == f"Trial 7 ({shown}) of this sweep does not show it."


def test_neighbours_that_scored_less_are_left_out_where_another_is_left() -> None:
    free = {i: HIGH | {"learning_rate": 0.01 + i / 100} for i in range(4)}
    gains = {0: -0.3, 1: 0.0, 2: 0.1, 3: -0.01}
    found = find_neighbours(HIGH, free, OVERFIT, gains=gains)
    assert [trial for trial, _ in found] == [2, 1]
    # Beside the best trial all scored less: the better half is shown.
    behind = {0: -0.3, 1: -0.2, 2: -0.4, 3: -0.01}
    found = find_neighbours(HIGH, free, OVERFIT, gains=behind)
    assert [trial for trial, _ in found] == [3, 1]


def test_trial_without_a_score_is_no_neighbour_where_scores_are_known() -> None:
    free = {0: HIGH | {"learning_rate": 0.01}, 1: HIGH | {"learning_rate": 0.02}}
    assert find_neighbours(HIGH, free, OVERFIT, gains={0: 0.1}) == [(0, ["learning_rate"])]


def test_values_are_in_peoples_words() -> None:
    other = HIGH | {"clip_norm": 1.0, "betas": [0.9, 0.9987], "model": {"num_filters": 37}}
    said = describe_neighbours(HIGH, {3: other}, ("betas", "clip_norm", "model"))
    shown = "betas (0.9, 0.9987), clipped at 1, model of num filters 37"
    assert said == f"Trial 3 ({shown}) of this sweep does not show it."
    same = describe_neighbours(HIGH, {3: dict(HIGH)}, ("learning_rate", "clip_norm"))
    assert same.endswith("differs in learning rate or gradient clipping.")


def test_sweep_in_which_no_trial_learns_has_no_example() -> None:
    none = describe_neighbours(HIGH, {}, RATE_PARAMS, is_any_learning=False)
    assert none == "No trial of this sweep has learned enough to be an example."
    all_show_it = describe_neighbours(HIGH, {}, RATE_PARAMS)
    assert all_show_it == "No other trial of this sweep that learns is free of it."


def test_gains_are_those_of_trials_with_a_score() -> None:
    nan = float("nan")
    assert measure_gains({0: 0.5, 1: 0.75, 2: nan}, 0) == {0: 0.0, 1: 0.25}
    assert measure_gains({0: nan, 1: 0.75}, 0) == {1: float("inf")}
    assert measure_gains({1: 0.25}, 7) == {1: float("inf")}
