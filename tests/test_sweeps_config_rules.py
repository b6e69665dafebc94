"""What settings may be beside one another: schedules and epochs, class weights and smoothing."""

from pathlib import Path
from typing import Any

import pytest

from sweeps.config.errors import ConfigError
from sweeps.config.load import load_config
from sweeps.config.rules import list_notes

TABLE = "tabular-mlp"
PLATEAU = "space.schedule=['constant', 'plateau']"


def load(*overrides: str, **options: object) -> Any:
    return load_config(TABLE, overrides, **options)


def find_line(*overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load(*overrides)
    assert len(raised.value.lines) == 1
    return raised.value.lines[0]


@pytest.mark.parametrize(
    ("patience", "plateau_patience", "longest"),
    [
        (5, "5", 5),  # equal: the trial stalls as the rate would fall
        (5, "7", 7),
        (5, "[2, 6]", 6),
        (5, "{low = 1, high = 5, int = true}", 5),
        (5, "{low = 1, high = 2, int = true, by_optimizer.sgd = {low = 3, high = 9}}", 9),
    ],
)
def test_plateau_that_outlasts_the_patience_is_a_mistake(
    patience: int, plateau_patience: str, longest: int
) -> None:
    line = find_line(PLATEAU, f"patience={patience}", f"space.plateau_patience={plateau_patience}")
    assert f"--set space.plateau_patience={plateau_patience}: " in line
    assert line.endswith(
        f"space.plateau_patience must be < patience, which is {patience}, or a trial stalls "
        f"before its rate falls; got {longest}; set it to {patience // 2}, or patience to "
        f"{longest + 2}"
    )


@pytest.mark.parametrize(
    "overrides",
    [
        (PLATEAU, "patience=6", "space.plateau_patience=5"),
        (PLATEAU, "patience=1", "space.plateau_patience=0"),
        (PLATEAU, "patience=11"),  # the default is 10
        (PLATEAU, "patience=6", "space.plateau_patience={low=1, high=5, int=true}"),
        # No trial has the range's own end: each optimizer has one of its own.
        (
            PLATEAU,
            "patience=6",
            "space.optimizer=sgd",
            "space.plateau_patience={low=1, high=9, int=true, by_optimizer.sgd={low=3, high=4}}",
        ),
        ("space.schedule=step", "patience=2"),
        ("patience=2",),
        # armijo has no schedule.
        ("space.optimizer=armijo", "space.schedule=plateau", "patience=2"),
    ],
)
def test_plateau_within_the_patience_is_none(overrides: tuple[str, ...]) -> None:
    assert load(*overrides).space is not None


def test_plateau_without_its_patience_says_the_default_and_the_way_out() -> None:
    assert find_line(PLATEAU, "patience=10") == (
        "tabular-mlp: space.plateau_patience must be < patience, which is 10, or a trial stalls "
        "before its rate falls; got 10, its default; set it to 5, or patience to 12"
    )
    assert load(PLATEAU, "patience=12").patience == 12
    assert load(PLATEAU, "patience=10", "space.plateau_patience=5").patience == 10


def test_mistake_names_the_line_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    space = '[space]\nschedule = "plateau"\nplateau_patience = 4\n'
    path.write_text(f'objective = "{TABLE}"\npatience = 4\n{space}')
    with pytest.raises(ConfigError, match=r"sweep.toml:5: space.plateau_patience must be < pat"):
        load_config(str(path))


@pytest.mark.parametrize(
    ("trial", "got"),
    [
        ("{schedule = 'plateau'}", "10, its default"),
        ("{schedule = 'plateau', plateau_patience = 6}", "6"),
    ],
)
def test_named_trial_with_such_a_plateau_is_a_mistake(trial: str, got: str) -> None:
    line = find_line("patience=6", f"try=[{{schedule = 'step'}}, {trial}]")
    assert "try.2.plateau_patience must be < patience, which is 6, or" in line
    assert f"; got {got}; set it to 3" in line
    assert load("patience=7", "try=[{schedule = 'plateau', plateau_patience = 6}]").patience == 7


def test_cosine_falls_for_as_long_as_the_trials_train() -> None:
    cosine = load("space.schedule=['cosine', 'step']", max_epochs=57)
    assert cosine.space["schedule_epochs"] == 57
    told = load("space.schedule=cosine", "space.schedule_epochs=13", max_epochs=57)
    assert told.space["schedule_epochs"] == 13


def test_named_cosine_trial_falls_for_as_long_too() -> None:
    tries = "try=[{schedule = 'cosine'}, {schedule = 'cosine', schedule_epochs = 13}]"
    assert [one["schedule_epochs"] for one in load(tries, max_epochs=57).tries] == [57, 13]
    told = load(tries, "space.schedule_epochs=29", max_epochs=57)
    assert "schedule_epochs" not in told.tries[0]


def test_settings_without_cosine_are_stored_as_before() -> None:
    for overrides in ((), (PLATEAU, "patience=12"), ("space.schedule=step",)):
        assert "schedule_epochs" not in load(*overrides).stored()["space"]


@pytest.mark.parametrize(
    ("overrides", "has_note"),
    [
        (("space.class_weights=none,balanced", "space.label_smoothing=0.1"), True),
        (("space.class_weights=balanced", "space.label_smoothing={low=0, high=0.2}"), True),
        (("space.class_weights=balanced", "space.label_smoothing=[0.0, 0.1]"), True),
        (("space.class_weights=balanced", "space.label_smoothing=0.0"), False),
        (("space.class_weights=balanced",), False),
        (("space.class_weights=none", "space.label_smoothing=0.1"), False),
    ],
)
def test_class_weights_beside_label_smoothing_are_noted(
    overrides: tuple[str, ...], has_note: bool
) -> None:
    assert bool(list_notes(load(*overrides))) is has_note
