"""How many trials are in flight, and how many are asked for at once."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sweeps
from search_spaces.space import parse_space
from sweeps.running.asking import Intake, choose_capacity, count_shapes, is_grouped
from sweeps.running.rungs import halving_epochs

ONE_SHAPE = ("space.batch_size=50",)


@pytest.mark.parametrize(
    ("sampler", "pruner", "device", "expected"),
    [
        ("tpe", "none", "cpu", 8),
        ("tpe", "halving", "cuda:1", 64),
        ("random", "median", "cpu", 8),  # the pruner compares with trials that have ended
        ("random", "none", "cpu", 256),  # nobody learns from anyone
        ("qmc", "none", "cuda:0", 256),
        ("grid", "none", "cpu", 256),
    ],
)
def test_few_trials_train_at_once_where_somebody_learns_from_others(
    sampler: str, pruner: str, device: str, expected: int
) -> None:
    points = ("sampler.points=3",) if sampler == "grid" else ()
    config = sweeps.load_config(
        "relation-cnn", (*ONE_SHAPE, *points), sampler=sampler, pruner=pruner
    )
    assert choose_capacity(config, [device, device]) == expected
    assert choose_capacity(config.model_copy(update={"slots": 13}), [device]) == 13


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("space.batch_size=[20, 50]",), True),
        (ONE_SHAPE, False),  # they share a lane anyway
        (("space.batch_size=[20, 50]", "pruner.name=none"), False),
        (("space.batch_size=[20, 50]", "sampler.name=qmc"), False),  # its points are its own
    ],
)
def test_shapes_follow_each_other_in_groups_where_trials_pause(
    overrides: tuple[str, ...], expected: bool
) -> None:
    assert is_grouped(sweeps.load_config("relation-cnn", overrides)) is expected


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
    pruner=st.sampled_from(["halving", "median"]),
    trials=st.integers(1, 307),
    data=st.data(),
)
def test_no_place_stays_empty_and_the_target_is_met_exactly(
    sampler: str, pruner: str, trials: int, data: st.DataObject
) -> None:
    config = sweeps.load_config(
        "tabular-mlp", ONE_SHAPE, sampler=sampler, pruner=pruner, trials=trials
    )
    intake = Intake(config)
    capacity, begun, ended, running = 4, 0, 0, 0
    spare = 3 / 4 if pruner == "halving" else 1 / 8

    def ask() -> int:
        in_flight = begun - ended
        told = {"capacity": capacity, "in_flight": in_flight, "waiting": in_flight - running}
        count = intake.count(begun=begun, spent=0, committed=0, **told)
        assert not count or in_flight + count <= capacity + max(1, int(capacity * spare))
        return count

    while ended < trials:
        begun += ask()
        assert begun <= trials
        running = min(capacity, begun - ended)
        assert running > 0, "nothing is asked for, and nothing trains"
        # Without news nothing more is asked for once the places are filled.
        if running == capacity:
            begun += ask()
            assert ask() == 0
        ending = data.draw(st.integers(1, running))
        ended, running = ended + ending, running - ending
        # A lane that is worth it grows; it never grows beyond what is in flight.
        capacity = max(running, data.draw(st.sampled_from([capacity, 2 * capacity, 4])))
    assert begun == trials


BUDGET = (*ONE_SHAPE, "max_total_epochs=100", "max_epochs=12")
RUNGS = ("pruner.name=halving", "pruner.min_epochs=1", "pruner.reduction_factor=3")


@pytest.mark.parametrize(("pruner", "most"), [(RUNGS, None), (("pruner.name=median",), 8)])
def test_as_many_start_as_a_budget_of_epochs_can_take(
    pruner: tuple[str, ...], most: int | None
) -> None:
    """With rungs, as many as it can halve; else as many as fit whole: 8 of 12 epochs in 100."""
    intake = Intake(sweeps.load_config("tabular-mlp", (*BUDGET, *pruner)))
    if most is None:
        most = max(n for n in range(1, 100) if halving_epochs(n, 1, 3, 12) <= 100)
    begun = 0
    while count := intake.count(
        begun=begun,
        spent=0,
        committed=12 * begun,
        capacity=1000,
        in_flight=begun,
        waiting=0,
    ):
        begun += count
    assert begun == most
    assert not intake.allows(2, spent=100, committed=0)


def test_trials_that_a_person_names_start_while_anything_is_left() -> None:
    intake = Intake(sweeps.load_config("tabular-mlp", (*BUDGET, "pruner.name=median")))
    told = {"capacity": 1000, "in_flight": 3, "waiting": 0}
    counts = [
        intake.count(begun=11, spent=spent, committed=36, fixed=fixed, **told)
        for spent, fixed in [(90, 0), (90, 5), (90, 20), (97, 20)]
    ]
    # Each in flight needs an epoch at least, and so does each that begins.
    assert counts == [0, 5, 7, 0]


def test_slow_sampler_begins_with_a_few_trials() -> None:
    counts = {}
    for sampler in ("tpe", "random"):
        config = sweeps.load_config(
            "tabular-mlp", ONE_SHAPE, sampler=sampler, pruner="none", trials=600
        )
        intake = Intake(config)
        some = [
            intake.count(begun=n, spent=0, committed=0, capacity=64, in_flight=n, waiting=0)
            for n in (0, 8, 24)
        ]
        counts[sampler] = some
    # The first train while the next are asked for, twice as many each time.
    assert counts == {"tpe": [8, 16, 32], "random": [72, 64, 48]}
