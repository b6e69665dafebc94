"""Trials drawn in memory against those that Optuna's own ask draws."""

from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from search_spaces.space import SearchSpace, parse_space
from sweeps.asking import IN_MEMORY, draw_trials
from sweeps.config_choices import SamplerConfig
from sweeps.samplers import make_sampler

SPACE: dict[str, Any] = {
    "optimizer": ["adam", "sgd"],
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "momentum": {"low": 0.5, "high": 0.99},
    "dropout": {"low": 0.0, "high": 0.5, "step": 0.1},
    "batch_size": [50, 100, 200],
}


def space() -> SearchSpace:
    return parse_space(SPACE)


def study_of(finished: int) -> optuna.Study:
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1)
    )
    for number in range(finished):
        trial = study.ask()
        hparams = space().suggest(trial)
        value = 1.0 - abs(hparams.learning_rate - 0.01)
        if number % 5 == 4:
            trial.report(value, 3)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)
    return study


def sampler_of(name: str, number: int) -> optuna.samplers.BaseSampler:
    return make_sampler(SamplerConfig(name=name), 0, trial_number=number, space=space())


def draw(study: optuna.Study, name: str, count: int) -> list[FrozenTrial]:
    trials = study.get_trials(deepcopy=False)
    numbers = range(len(trials), len(trials) + count)
    drawn = draw_trials(
        study,
        space(),
        trials,
        numbers=numbers,
        make_sampler=lambda number: sampler_of(name, number),
    )
    assert [hparams.to_params() for _, hparams in drawn]
    return [trial for trial, _ in drawn]


@pytest.mark.parametrize("finished", [0, 3, 30])
@pytest.mark.parametrize("name", IN_MEMORY)
def test_a_drawn_trial_is_the_one_that_optuna_would_ask_for(name: str, finished: int) -> None:
    study = study_of(finished)
    (drawn,) = draw(study, name, 1)
    study.sampler = sampler_of(name, finished)
    asked = study.ask()
    space().suggest(asked)
    frozen = study.trials[-1]
    assert (drawn.number, drawn.params) == (asked.number, frozen.params)
    assert drawn.distributions == frozen.distributions
    assert list(drawn.params) == list(frozen.params)


def test_random_trials_drawn_together_are_those_drawn_one_by_one() -> None:
    study = study_of(2)
    together = [trial.params for trial in draw(study, "random", 5)]
    for params in together:
        (one,) = draw(study, "random", 1)
        assert one.params == params
        study.ask()


def test_tpe_keeps_away_from_what_was_drawn_in_the_same_call() -> None:
    study = study_of(40)
    drawn = draw(study, "tpe", 8)
    rates = {trial.params.get("learning_rate") for trial in drawn}
    assert len(rates) == len(drawn)
    # Each draw alone, without those before it, gives other values from the second on.
    alone = draw_trials(
        study,
        space(),
        study.get_trials(deepcopy=False),
        numbers=[drawn[4].number],
        make_sampler=lambda number: sampler_of("tpe", number),
    )[0][0]
    assert alone.params != drawn[4].params


def test_drawing_writes_nothing() -> None:
    study = study_of(20)
    before = [(trial.number, trial.params, trial.system_attrs) for trial in study.trials]
    draw(study, "tpe", 4)
    after = [(trial.number, trial.params, trial.system_attrs) for trial in study.trials]
    assert after == before
