"""The trials beside one that are free of its verdict: which, and how they differ."""

from sweeps.analysis.neighbours import (
    RATE_PARAMS,
    describe_neighbours,
    drop_contrary,
    find_neighbours,
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
    differs = "learning_rate 0.02, no betas, momentum 0.9, optimizer sgd"
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
