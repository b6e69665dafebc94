"""A person's own loop is swept by the trainers: rungs, pauses, resumes, outcomes, weights."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch

import sweeps
from storage import queries
from sweeps.read.study import Study

LOOPS = Path(__file__).parent / "loops"
URL = "sqlite:///bestepoch.db"
Run = Callable[..., Study]


@pytest.fixture
def run(folder: Path) -> Run:
    """Sweeps a loop of this folder and returns its study."""
    shutil.copy(LOOPS / "loop_data.py", folder)
    for name in ("plain", "accumulation"):
        shutil.copy(LOOPS / "correct" / f"{name}.py", folder)

    def run(target: str, *overrides: str, **options: object) -> Study:
        given = {"workers": 1, "study": "mine", **options}
        end = sweeps.run(sweeps.load_config(target, overrides, **given))
        assert end.exit_code == 0, end.reason
        return Study.read(URL, "mine")

    return run


@pytest.mark.parametrize("target", ["plain.py:objective", "accumulation.py:objective"])
def test_trials_are_compared_at_rungs_and_go_on(run: Run, target: str) -> None:
    study = run(target, "max_epochs=16", max_total_epochs=60)
    epochs = study.results["epochs_run"]
    params = queries.trial(URL, "mine", 0)["params"]
    assert set(params) <= {"learning_rate", "optimizer", "model"}, "what the loop does not read"
    assert epochs.max() >= 4
    assert (epochs == 1).sum() >= 4
    assert study.ranked.iloc[0]["best_score"] > 0.6
    assert study.results["outcome"].isin(["cut short", "behind", "stalled", "exhausted"]).all()


def test_paused_trial_has_the_curve_of_one_that_never_paused(run: Run) -> None:
    paused = run("plain.py:objective", "max_epochs=8", max_total_epochs=40)
    best = int(paused.ranked.iloc[0]["trial"])
    params = queries.trial(URL, "mine", best)["params"]
    rate = params["learning_rate"]
    alone = {"try": [{"learning_rate": rate}], "trials": 1, "study": "alone"}
    config = sweeps.load_config(
        "plain.py:objective", ["max_epochs=8", "pruner.name=none"], workers=1, **alone
    )
    assert sweeps.run(config).exit_code == 0
    whole = Study.read(URL, "alone").scores_of(0)
    if best == 0:  # the seed is of the trial's number
        assert paused.scores_of(best) == whole[: len(paused.scores_of(best))]
    assert len(whole) == 8


def test_weights_are_those_of_the_module_of_the_checkpoint(run: Run, folder: Path) -> None:
    run("plain.py:objective", "max_epochs=4", "pruner.name=none", trials=2)
    files = sorted((folder / "bestepoch-weights").rglob("trial-*.safetensors"))
    assert len(files) == 2
    assert set(safetensors.torch.load_file(files[0])) == {
        "0.weight", "0.bias", "3.weight", "3.bias"
    }  # fmt: skip


def test_larger_budget_goes_on_where_trials_were(run: Run) -> None:
    first = run("plain.py:objective", "max_epochs=16", max_total_epochs=20)
    later = run("plain.py:objective", "max_epochs=16", max_total_epochs=60)
    for trial in first.results["trial"]:
        before = first.scores_of(trial)
        assert later.scores_of(trial)[: len(before)] == before
    assert later.results["epochs_run"].sum() > first.results["epochs_run"].sum()


def test_loop_that_raises_or_stops_by_itself(run: Run, folder: Path) -> None:
    (folder / "mine.py").write_text(
        "class_names = ('no', 'yes')\n"
        "default_space = {'gamma': [0, 1]}\n"
        "def objective(trial):\n"
        "    for epoch in trial.epochs():\n"
        "        if trial.params['gamma'] == 1 and epoch == 2:\n"
        "            raise RuntimeError('no luck')\n"
        "        trial.record([0, 1, 1], [0, 1, epoch > 1])\n"
        "        if epoch == 3:\n"
        "            break\n"
    )
    study = run("mine.py:objective", "pruner.name=none", "sampler=grid", max_epochs=9)
    results = study.results.set_index("trial")
    params = {n: queries.trial(URL, "mine", n)["params"]["model"]["gamma"] for n in (0, 1)}
    fine, raised = (next(n for n in params if params[n] == gamma) for gamma in (0, 1))
    assert results.loc[fine, "outcome"] == "exhausted"
    assert results.loc[fine, "epochs_run"] == 3
    assert results.loc[fine, "best_score"] == 1.0
    assert results.loc[raised, "outcome"] == "failed"
    assert "no luck (mine.py:6)" in results.loc[raised, "reason"]
    assert study.class_names == ("no", "yes")
