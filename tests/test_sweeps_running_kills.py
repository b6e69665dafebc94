"""SIGKILL at any moment: the same command goes on, and nothing is lost, doubled or changed."""

import hashlib
import json
import random
import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import psutil
import pytest
from optuna.trial import TrialState
from small import BESTEPOCH, assert_gone, list_group, start, write_objective

from objectives.api import TrialState as LaneState
from objectives.api import find_fusion_key
from objectives.lanes.trainer import ModelTrainer
from objectives.metrics import make_metric
from objectives.registry import find_objective
from search_spaces.hparams import Hparams
from storage import queries
from storage.database import WEIGHTS_FOLDER, open_database
from storage.optuna_mirror import optuna_storage
from sweeps.running.paused import NUM_WEIGHTS
from sweeps.running.trial import MAX_KILLS

STUDY = "small_one"
EPOCHS, TRIALS = 19, 61
SETTINGS = (
    f"max_epochs={EPOCHS}",
    f"patience={EPOCHS}",
    "pruner.name=halving",
    "pruner.min_epochs=1",
    "pruner.reduction_factor=3",
    "space.model.hidden=[5, 11]",
    "space.learning_rate.high=30.0",  # some diverge
    "seed=5",
)
RUNGS = {1, 3, 9}
#: Most epochs between two kills.
APART = 11


@dataclass(slots=True)
class Told:
    """What all runs of a study have reported on standard output."""

    events: dict[str, list[Mapping[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, line: str) -> bool:
        """Take in a line; return whether it reports an epoch. A killed process may tear one."""
        if not line.endswith("\n"):
            return False
        event = json.loads(line)
        self.events[event["event"]].append(event)
        return bool(event["event"] == "EpochDone")


def kill(coordinator: int, target: str, chance: random.Random) -> bool:
    """Kill the coordinator, the process that loads, or a trainer; return whether it is there."""
    parents = [
        each
        for each in list_alive(psutil.Process(coordinator))
        if "sweeps.trainers.local" in each.info["cmdline"]
    ]
    victims = {
        "coordinator": lambda: [psutil.Process(coordinator)],
        "parent": lambda: parents,
        "trainer": lambda: [each for parent in parents for each in list_alive(parent)],
    }[target]()
    victims.sort(key=lambda each: each.pid)
    if victims:
        chance.choice(victims).kill()
    return bool(victims)


def list_alive(parent: psutil.Process) -> list[psutil.Process]:
    """List the children that can still be killed: one that has died may not have been waited for.

    Any of them may die while it is looked at.
    """
    processes = psutil.process_iter(["ppid", "status", "cmdline"])
    return [
        each
        for each in processes
        if each.info["ppid"] == parent.pid
        and each.info["status"] != psutil.STATUS_ZOMBIE
        and each.info["cmdline"]
    ]


def run_and_kill(command: list[str], folder: Path, targets: list[str], seed: int) -> Told:
    """Run a command again and again until it is done, and kill one target after the other.

    Each dies once a number of epochs, drawn from the seed, has been reported since the last.
    """
    chance, told = random.Random(seed), Told()
    chance.shuffle(targets)
    with (folder / "errors.txt").open("w") as errors:
        while True:
            with start(command, folder, stderr=errors) as process:
                left = chance.randint(1, APART)
                is_alive = True
                assert process.stdout is not None
                for line in process.stdout:
                    left -= told.add(line)
                    if not targets or left > 0 or not is_alive:
                        continue
                    if kill(process.pid, targets[0], chance):
                        is_alive = targets.pop(0) != "coordinator"
                        left = chance.randint(1, APART)
                code = process.wait()
                assert_gone(list_group(process.pid))
            if code == 0:
                return told
            assert code == -signal.SIGKILL, (folder / "errors.txt").read_text()


@pytest.fixture
def as_in_a_trainer(one_thread: None) -> Iterator[None]:
    """Torch as a trainer has it."""
    import torch

    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.usefixtures("as_in_a_trainer")
def test_twenty_kills_lose_nothing_double_nothing_and_change_nothing(
    sqlite_url: str, tmp_path: Path
) -> None:
    targets = ["coordinator"] * 4 + ["parent"] * 3 + ["trainer"] * 13
    check_kills(sqlite_url, tmp_path, targets, seed=7)


@pytest.mark.postgres
@pytest.mark.usefixtures("as_in_a_trainer")
def test_kills_lose_nothing_on_a_server(postgres_url: str, tmp_path: Path) -> None:
    targets = ["coordinator", "parent", "trainer"]
    check_kills(postgres_url, tmp_path, targets, seed=11)


def check_kills(url: str, folder: Path, targets: list[str], seed: int) -> None:
    objective = write_objective(folder)
    command = [BESTEPOCH, "run", str(objective), "--trials", str(TRIALS), "--workers", "2"]
    command += [*(f"--set={setting}" for setting in SETTINGS), "--storage", url, "--json-lines"]
    left = list(targets)
    told = run_and_kill(command, folder, left, seed)
    assert left == [], "the study ended before all kills"
    results = queries.results(url, STUDY).set_index("trial").sort_index()
    curves = queries.curves(url, STUDY).set_index(["trial", "epoch"]).sort_index()

    assert list(results.index) == list(range(TRIALS))
    failed = results[results["outcome"] == "failed"]
    # Chance may have hit one trial three times while it was tried alone.
    assert set(failed["kills"]) <= {MAX_KILLS}
    assert len(failed) <= 1
    assert set(results["outcome"]) <= {"exhausted", "diverged", "failed", "cut short", "behind"}
    assert results.loc[results["rank"] == 1, "outcome"].eq("exhausted").any()
    assert curves.index.is_unique
    lengths = curves.groupby("trial").size()
    assert dict(lengths) == dict(results.loc[results["epochs_run"] > 0, "epochs_run"])

    assert_told_is_stored(told, results, curves)
    assert_files_are_there(results, folder, url)
    assert_equal_to_replay(objective, url, curves)
    assert_copy_is_equal(url, results)


def assert_told_is_stored(told: Told, results: pd.DataFrame, curves: pd.DataFrame) -> None:
    epochs = told.events["EpochDone"]
    # What was written just before the coordinator was killed may not have been told.
    assert len({(event["trial"], event["epoch"]) for event in epochs}) > 0.8 * len(curves)
    for event in epochs:
        key = (event["trial"], event["epoch"])
        ended_at = results.loc[event["trial"], "epochs_run"]
        assert key[1] <= ended_at or results.loc[key[0], "outcome"] == "failed"
        if key[1] <= ended_at:
            stored = curves.loc[key, "score"]
            assert stored == event["score"] or (pd.isna(stored) and event["score"] is None)
    ends = [event["trial"] for event in told.events["TrialEnded"]]
    assert len(ends) == len(set(ends)), "a trial has ended twice"
    for event in told.events["TrialEnded"]:
        assert results.loc[event["trial"], "outcome"] == event["outcome"]
    paused = {event["trial"] for event in told.events["TrialPaused"]}
    promoted = {event["trial"] for event in told.events["TrialPromoted"]}
    assert len(paused) > TRIALS / 4
    assert promoted
    assert set(results.loc[results["outcome"] == "behind", "epochs_run"]) <= RUNGS


def assert_files_are_there(results: pd.DataFrame, folder: Path, url: str) -> None:
    """Weights of the best and of those that ended; states of those that may go on; no more."""
    expected = set()
    for trial, result in results.iterrows():
        row = queries.trial(url, STUDY, int(str(trial)))
        is_best = not pd.isna(result["rank"]) and result["rank"] <= NUM_WEIGHTS
        has_ended = row["outcome"] in ("exhausted", "diverged") and row["best_epoch"] is not None
        assert row["weights_file"] is not None or not (is_best or has_ended), dict(row)
        if row["weights_file"] is not None:
            file = folder / WEIGHTS_FOLDER / row["weights_file"]
            assert hashlib.sha256(file.read_bytes()).hexdigest() == row["weights_sha256"]
        assert row["state_file"] is None or row["outcome"] in ("cut short", "behind")
        expected |= {row["weights_file"], row["state_file"]} - {None}
    files = (folder / WEIGHTS_FOLDER).rglob("*.safetensors")
    assert {str(file.relative_to(folder / WEIGHTS_FOLDER)) for file in files} == expected


def assert_equal_to_replay(objective: Path, url: str, curves: pd.DataFrame) -> None:
    """Train each trial alone, in this process, from its own record."""
    own = find_objective(str(objective))
    data = own.load(None)
    trainer = ModelTrainer(own, data, data_seed=5)
    metric = make_metric("macro-f1", data.class_names)
    for trial in curves.index.unique("trial"):
        row = queries.trial(url, STUDY, int(trial))
        hparams = Hparams.model_validate(row["params"])
        state: LaneState | None = None
        replayed = []
        for data_epoch, num_epochs in row["segments"]:
            lane = trainer.open_lane(find_fusion_key(hparams), data_epoch)
            assert lane.path == row["path"]
            lane.place(7, row["seed"], hparams, state)
            for _ in range(num_epochs):
                (report,) = lane.train_epoch()
                losses = (report.train_loss, report.val_loss)
                score = metric.score(report.counts)
                replayed.append((*losses, score, report.grad_norm, report.learning_rate))
            state = lane.copy_states([7])[7]
        names = ["train_loss", "val_loss", "score", "grad_norm", "learning_rate"]
        stored = curves.loc[trial, names]
        expected = pd.DataFrame(replayed, index=stored.index, columns=names)
        # The score of an epoch without a loss is none, and an infinite number is stored as none.
        is_number = stored.notna()
        assert stored[is_number].equals(expected.astype(stored.dtypes)[is_number]), trial
        assert not is_number.iloc[:-1].eq(False).any(axis=None)


def assert_copy_is_equal(url: str, results: pd.DataFrame) -> None:
    with open_database(url, create=False) as db:
        trials = optuna.load_study(study_name=STUDY, storage=optuna_storage(db)).trials
    assert [trial.number for trial in trials] == list(results.index)
    for trial in trials:
        row = results.loc[trial.number]
        states = {"failed": TrialState.FAIL, "behind": TrialState.PRUNED}
        assert trial.state == states.get(row["outcome"], TrialState.COMPLETE)
        assert trial.value == (None if pd.isna(row["value"]) else row["value"])
        params = json.loads(row["params"])
        assert trial.params["learning_rate"] == params["learning_rate"]
        assert trial.params["model.hidden"] == params["model"]["hidden"]
