"""Samplers by name: their seeds, and that they learn from trials that diverged."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search_spaces.hparams import Hparams
from search_spaces.space import parse_space
from sweeps.config_choices import SamplerConfig, describe_sampler
from sweeps.config_errors import ConfigError
from sweeps.parameters import show_parameter
from sweeps.samplers import (
    MAX_HISTORY,
    make_sampler,
    require_packages,
    select_history,
    trial_seed,
)
from sweeps.stopping import Outcome, optuna_state_and_value

#: blake2b of "trial:0:0", 8 bytes, shifted right by one bit.
PINNED = 982386904585330803

SPACE: dict[str, Any] = {
    "optimizer": ["adam", "rmsprop", "sgd"],
    "learning_rate": {
        "low": 1e-4,
        "high": 1.0,
        "log": True,
        "by_optimizer": {"sgd": {"low": 0.01, "high": 100.0}},
    },
    "beta1": {"low": 0.8, "high": 0.99},
    "momentum": {"low": 0.0, "high": 0.95},
    "batch_size": [50, 100],
}


def has_diverged(hparams: Hparams) -> bool:
    """Diverge in the upper half of the rates, on the log scale on which they are sampled."""
    return hparams.learning_rate > (1.0 if hparams.optimizer == "sgd" else 0.01)


def ask(study: optuna.Study, config: SamplerConfig, seed: int) -> optuna.Trial:
    number = len(study.get_trials(deepcopy=False))
    study.sampler = make_sampler(config, seed, trial_number=number)
    return study.ask()


def finish(study: optuna.Study, trial: optuna.Trial) -> bool:
    """Tell a trial as a sweep would; return whether it diverged."""
    diverged = has_diverged(parse_space(SPACE).suggest(trial))
    # Equal scores: nothing but the divergences says where to go.
    told = optuna_state_and_value(Outcome.DIVERGED if diverged else Outcome.STALLED, 0.6)
    assert told is not None
    study.tell(trial, told[1], state=told[0])
    return diverged


def test_tpe_leaves_where_trials_diverged(tmp_path: Path) -> None:
    # Of the last 20 of 40 asks diverged, means of 8 seeds (Optuna 5.0.0): 10.6 at random, 5.1
    # by TPE, and 19.4 by TPE where diverged trials were told FAIL instead of COMPLETE 0.0.
    at_random, by_tpe = 0, 0
    for seed in (0, 1, 2):
        start = optuna.create_study(direction="maximize")
        for _ in range(20):
            finish(start, ask(start, SamplerConfig(name="random"), seed))
        storage = f"sqlite:///{tmp_path}/{seed}.db"
        study = optuna.create_study(storage=storage, direction="maximize")
        study.add_trials(start.trials)
        for _ in range(20):
            at_random += finish(start, ask(start, SamplerConfig(name="random"), seed))
            by_tpe += finish(study, ask(study, SamplerConfig(), seed))
        assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert 20 <= at_random <= 40  # half of the space diverges
    assert by_tpe <= 0.6 * at_random


def test_tpe_hides_the_experimental_warning_alone() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        make_sampler(SamplerConfig(), 3, trial_number=5)
        warnings.warn("another", optuna.exceptions.ExperimentalWarning, stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["another"]


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_no_two_asks_of_a_study_are_alike_and_each_can_be_repeated(name: str) -> None:
    config = SamplerConfig(name=name)  # type: ignore[arg-type]

    def draw(seed: int, number: int) -> float:
        study = optuna.create_study(sampler=make_sampler(config, seed, trial_number=number))
        return study.ask().suggest_float("x", 0.0, 1.0)

    points = [draw(seed, number) for seed in (0, 1) for number in range(7)]
    assert len(set(points)) == 14
    assert [draw(seed, number) for seed in (0, 1) for number in range(7)] == points


def test_startup_trials_reach_tpe() -> None:
    # Public behaviour and no private field: with none at random the second ask is TPE's already.
    def draw(n_startup_trials: int) -> float:
        config = SamplerConfig(n_startup_trials=n_startup_trials)
        study = optuna.create_study(direction="maximize")
        study.add_trial(
            optuna.trial.create_trial(
                params={"x": 0.5},
                distributions={"x": optuna.distributions.FloatDistribution(0.0, 1.0)},
                value=1.0,
            )
        )
        return ask(study, config, seed=2).suggest_float("x", 0.0, 1.0)

    assert draw(1) != draw(2) == draw(10)


def test_trial_seeds_are_63_bits_and_all_different() -> None:
    seeds = [trial_seed(seed, number) for seed in (0, 1, 2**63 - 1) for number in range(101)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0
    assert 2**60 < max(seeds) < 2**63


def test_trial_seed_is_the_same_in_another_process_and_version() -> None:
    # The literal pins it: stored studies must go on with the seeds that they began with.
    assert trial_seed(0, 0) == PINNED
    code = "from sweeps.samplers import trial_seed; print(trial_seed(0, 0))"
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={"PYTHONHASHSEED": "5"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == PINNED


def sample(name: str, num_trials: int, *, storage: str | None = None) -> optuna.Study:
    """Ask and tell as a sweep would; raise on each warning."""
    settings = {} if name in ("random", "qmc") else {"n_startup_trials": 5}
    config = SamplerConfig(name=name, **settings)  # type: ignore[arg-type]
    space = parse_space(SPACE)
    study = optuna.create_study(direction="maximize", storage=storage)
    for number in range(num_trials):
        study.sampler = make_sampler(config, 3, trial_number=number, space=space)
        trial = study.ask()
        hparams = space.suggest(trial)
        study.tell(trial, 1.0 - abs(hparams.learning_rate - 0.01))
    return study


def count_sampled_at_random(name: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the parameters of later trials for which a sampler asks a random one."""
    seen: list[tuple[int, str]] = []
    original = optuna.samplers.RandomSampler.sample_independent

    def note(self: Any, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        seen.append((trial.number, name))
        return original(self, study, trial, name, distribution)

    monkeypatch.setattr(optuna.samplers.RandomSampler, "sample_independent", note)
    sample(name, 16)
    return {parameter for number, parameter in seen if number >= 11}


@pytest.mark.parametrize("name", ["gp", "cmaes", "qmc"])
def test_the_line_about_a_sampler_says_what_it_really_does(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if name == "cmaes":
        pytest.importorskip("cmaes")
    line = describe_sampler(SamplerConfig(name=name), parse_space(SPACE))  # type: ignore[arg-type]
    said = set(line.partition("): ")[2].split(", ")) - {""}
    really = count_sampled_at_random(name, monkeypatch)
    # A trial asks only for what it has, so that some of them may not have come up.
    assert {show_parameter(one) for one in really} <= said
    assert bool(really) == bool(said)
    expected = {
        "gp": {"learning_rate", "learning_rate (sgd)", "beta1", "momentum"},
        "qmc": set(),
    }
    expected["cmaes"] = expected["gp"] | {"optimizer", "batch_size"}
    assert said == expected[name]
    # Optuna's logger writes [I ...] for its own new study; a worker lets only warnings through.
    assert "[W " not in capfd.readouterr().err


def test_qmc_covers_conditional_parameters_evenly() -> None:
    # Of 64 points of one scrambled sequence each eighth of an axis holds 8, give or take few; of
    # 64 random ones a standard deviation of 2.6.
    study = sample("qmc", 64)
    drawn = [trial.params["batch_size"] for trial in study.trials]
    assert abs(drawn.count(50) - 32) <= 2
    optimizers = [trial.params["optimizer"] for trial in study.trials]
    assert {name: round(optimizers.count(name) / 64, 1) for name in set(optimizers)} == {
        "adam": 0.3,
        "rmsprop": 0.3,
        "sgd": 0.3,
    }
    assert [trial.params for trial in sample("qmc", 9).trials] == [
        trial.params for trial in study.trials[:9]
    ]


@pytest.mark.parametrize("name", ["cmaes", "gp", "qmc"])
def test_a_missing_package_names_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"pip install 'bestepoch\[{name}\]'") as raised:
        require_packages(SamplerConfig(name=name))  # type: ignore[arg-type]
    assert len(raised.value.lines) == 1


def long_study(num_trials: int) -> optuna.Study:
    """A study of finished trials with scores between 0 and 1, every seventh one pruned."""
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.RandomSampler(seed=5)
    )
    for number in range(num_trials):
        trial = study.ask()
        parse_space(SPACE).suggest(trial)
        score = (number * 7919 % 10007) / 10007
        trial.report(score, step=1)
        if number % 7 == 0:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, score)
    return study


def test_tpe_keeps_the_best_of_a_long_history_and_what_runs() -> None:
    study = long_study(MAX_HISTORY + 503)
    running = study.ask().number
    trials = study.get_trials(deepcopy=False)
    kept = select_history(trials)
    numbers = [trial.number for trial in kept]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == MAX_HISTORY + 1
    assert running in numbers
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    best = sorted(complete, key=lambda trial: trial.value or 0.0)[-100:]
    assert {trial.number for trial in best} <= set(numbers)
    # The others are spread evenly: each tenth of the study keeps about as many.
    tenths = [
        sum(number * 10 // len(trials) == tenth for number in numbers) for tenth in range(10)
    ]
    assert max(tenths) - min(tenths) < 30


def test_tpe_asks_as_optunas_own_while_the_history_is_short() -> None:
    study = long_study(60)
    ours = make_sampler(SamplerConfig(name="tpe"), 11, trial_number=60)
    seed = int(ours._rng.rng.get_state()[1][0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        theirs = optuna.samplers.TPESampler(
            n_startup_trials=10, multivariate=True, group=True, constant_liar=True, seed=seed
        )
    asked = []
    for sampler in (ours, theirs):
        study.sampler = sampler
        trial = study.ask()
        parse_space(SPACE).suggest(trial)
        asked.append(trial.params)
        study.tell(trial, state=TrialState.FAIL)
    assert asked[0] == asked[1]
    assert "optimizer" in asked[0]


def test_tpe_learns_from_a_long_history() -> None:
    study = long_study(0)
    for _ in range(MAX_HISTORY + 200):
        finish(study, study.ask())
    config = SamplerConfig(name="tpe")
    diverged = [finish(study, ask(study, config, seed=1)) for _ in range(20)]
    # At random half of the 20 would.
    assert sum(diverged) <= 4
