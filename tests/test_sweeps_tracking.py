"""A loop in a plain Optuna script is recorded, and the caller's study samples."""

import math
from pathlib import Path

import optuna
import pytest

import sweeps
from storage import queries
from sweeps.read.study import Study

pytestmark = pytest.mark.usefixtures("folder")

SPACE = {"learning_rate": {"low": 0.1, "high": 1.0}, "gamma": [1, 2]}
TARGETS = [0, 1, 2, 0, 1, 2, 0]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def rise_and_stall(trial: sweeps.OwnTrial) -> None:
    for epoch in trial.epochs():
        num_right = min(epoch + trial.params["gamma"], 5)
        predictions = TARGETS[:num_right] + [0] * (7 - num_right)
        trial.record(TARGETS, predictions, val_loss=1.0 / epoch)


def read(name: str) -> Study:
    return Study.read("sqlite:///bestepoch.db", name)


def test_caller_samples_and_a_stall_returns_the_best_score() -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    study.optimize(sweeps.track(rise_and_stall, SPACE, patience=3), n_trials=4)
    kept = read("rise_and_stall")
    assert kept.results["outcome"].tolist() == ["stalled"] * 4
    ours = dict(zip(kept.results["trial"], kept.results["best_score"], strict=True))
    assert ours == {each.number: pytest.approx(each.value) for each in study.trials}
    stored = queries.trial("sqlite:///bestepoch.db", "rise_and_stall", 0)["params"]
    params = study.trials[0].params
    assert stored["learning_rate"] == params["learning_rate"]
    assert stored["model"] == {"gamma": params["model.gamma"]}


def test_loop_may_ask_optuna_itself() -> None:
    def objective(trial: sweeps.OwnTrial) -> None:
        rate = trial.suggest_float("learning_rate", 0.1, 1.0, log=True)
        for _ in trial.epochs():
            trial.record(score=rate)

    study = optuna.create_study(direction="maximize")
    study.optimize(sweeps.track(objective, max_epochs=2, study="mine"), n_trials=2)
    assert read("mine").ranked["best_score"].tolist() == sorted(
        (each.params["learning_rate"] for each in study.trials), reverse=True
    )


def test_each_optuna_study_is_a_study_of_its_own_and_goes_on(folder: Path) -> None:
    storage = f"sqlite:///{folder / 'optuna.db'}"
    for _ in range(2):  # as two runs of the script would
        study = optuna.create_study(study_name="old", storage=storage, load_if_exists=True)
        study.optimize(sweeps.track(rise_and_stall, SPACE, patience=2), n_trials=2)
    assert sorted(read("rise_and_stall").results["trial"]) == [0, 1, 2, 3]


def test_two_optuna_studies_of_one_name_do_not_mix() -> None:
    track = sweeps.track(rise_and_stall, SPACE, patience=2)
    for seed in (0, 1):
        sampler = optuna.samplers.RandomSampler(seed)
        study = optuna.create_study(study_name="same", direction="maximize", sampler=sampler)
        study.optimize(track, n_trials=3)
        kept = read("rise_and_stall" if seed == 0 else "rise_and_stall-2").results
        rates = dict(zip(kept["trial"], kept["learning_rate"], strict=True))
        assert rates == {each.number: each.params["learning_rate"] for each in study.trials}


def test_ctrl_c_interrupts_one_trial_and_none_beside_it() -> None:
    beside: list[object] = []

    def objective(trial: sweeps.OwnTrial) -> None:
        for epoch in trial.epochs():
            trial.record(score=0.5)
            if trial.number == 0:
                raise KeyboardInterrupt
            if epoch == 2:
                with pytest.raises(KeyboardInterrupt):
                    track(first)
                outcomes = read("two").results.set_index("trial")["outcome"]
                beside.extend(outcomes[number] for number in (0, 1))

    study = optuna.create_study()
    first = study.ask()
    track = sweeps.track(objective, study="two", max_epochs=2)
    study.optimize(track, n_trials=1)
    assert beside == ["interrupted", "cut off"]  # as trials read that hold no lock
    assert read("two").results.set_index("trial")["outcome"][1] == "exhausted"


def test_trials_that_fail_or_diverge_are_told_apart() -> None:
    def objective(trial: sweeps.OwnTrial) -> None:
        for epoch in trial.epochs():
            if trial.number == 0:
                raise RuntimeError("no memory")
            trial.record(score=0.5, train_loss=math.nan if epoch == 2 else 1.0)

    study = optuna.create_study(direction="maximize")
    study.optimize(sweeps.track(objective), n_trials=2, catch=RuntimeError)
    results = read("objective").results.set_index("trial")
    assert results["outcome"].to_dict() == {0: "failed", 1: "diverged"}
    assert "no memory" in results.loc[0, "reason"]
    assert [each.value for each in study.trials] == [None, 0.0]


def test_loop_that_records_nothing_fails_with_the_way_out() -> None:
    study = optuna.create_study()
    with pytest.raises(ValueError, match=r"call trial.record"):
        study.optimize(sweeps.track(lambda trial: None), n_trials=1)
    assert read("lambda").results["outcome"].tolist() == ["failed"]
