"""How many trials are in flight, and how many are asked for at once."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sweeps
from search_spaces.space import parse_space
from sweeps.running.intake import Intake, choose_capacity, count_shapes

ONE_SHAPE = ("space.batch_size=50",)


@pytest.mark.parametrize(
    ("sampler", "pruner", "trials", "expected"),
    [
        ("tpe", "none", 24, 8),
        ("tpe", "median", 200, 66),
        ("random", "median", 200, 66),  # the pruner compares with trials that have ended
        ("random", "none", 200, 200),  # nobody learns from anyone
        ("qmc", "none", 5000, 512),
        ("grid", "none", 3, 8),
        ("random", "none", 1, 8),
    ],
)
def test_few_trials_are_in_flight_where_somebody_learns_from_those_that_ended(
    sampler: str, pruner: str, trials: int, expected: int
) -> None:
    points = ("sampler.points=3",) if sampler == "grid" else ()
    config = sweeps.load_config(
        "relation-cnn", (*ONE_SHAPE, *points), sampler=sampler, pruner=pruner, trials=trials
    )
    assert choose_capacity(config, 2) == expected


def test_few_trials_are_in_flight_where_few_share_a_lane() -> None:
    mixed = ("space.batch_size=[20, 50, 100]",)
    config = sweeps.load_config("relation-cnn", mixed, trials=400)
    assert choose_capacity(config, 1) == 16
    assert choose_capacity(config, 2) == 32
    same = sweeps.load_config("relation-cnn", ONE_SHAPE, trials=400)
    assert choose_capacity(same, 2) == 133


def test_each_trainer_has_a_trial() -> None:
    config = sweeps.load_config("relation-cnn", ONE_SHAPE, trials=24)
    assert choose_capacity(config, 11) == 11


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"batch_size": 50}, 1),
        ({"batch_size": [50, 100, 200], "model": {"width": [16, 64], "vectors": "frozen"}}, 6),
        ({"batch_size": 50, "model": {"width": {"low": 16, "high": 64}}}, math.inf),
    ],
)
def test_shapes_are_batch_sizes_times_models(space: dict[str, object], expected: float) -> None:
    assert count_shapes(parse_space(space)) == expected


@settings(max_examples=200, deadline=None)
@given(
    sampler=st.sampled_from(["random", "tpe", "qmc"]),
    trials=st.integers(1, 307),
    num_trainers=st.integers(1, 5),
    data=st.data(),
)
def test_no_place_stays_empty_and_the_target_is_met_exactly(
    sampler: str, trials: int, num_trainers: int, data: st.DataObject
) -> None:
    config = sweeps.load_config("tabular-mlp", ONE_SHAPE, sampler=sampler, trials=trials)
    capacity = choose_capacity(config, num_trainers)
    intake = Intake(config, capacity, num_trainers)
    begun = ended = running = 0
    while ended < trials:
        count = intake.count(begun=begun, in_flight=begun - ended, waiting=begun - ended - running)
        begun += count
        assert begun <= trials
        assert begun - ended <= capacity + max(1, capacity // 8)
        running = min(capacity, begun - ended)
        assert running > 0, "nothing is asked for, and nothing trains"
        # Without news nothing more is asked for once the places are filled.
        if running == capacity:
            waiting = begun - ended - running
            more = intake.count(begun=begun, in_flight=begun - ended, waiting=waiting)
            assert begun + more - ended <= capacity + max(1, capacity // 8)
            begun += more
        ending = data.draw(st.integers(1, running))
        ended, running = ended + ending, running - ending
    assert begun == trials


def test_slow_sampler_begins_with_a_few_trials_a_trainer() -> None:
    counts = {}
    for sampler in ("tpe", "random"):
        config = sweeps.load_config("tabular-mlp", ONE_SHAPE, sampler=sampler, trials=600)
        intake = Intake(config, 200, 2)
        counts[sampler] = intake.count(begun=0, in_flight=0, waiting=0)
    # The first train while the next are asked for.
    assert counts == {"tpe": 32, "random": 200}
