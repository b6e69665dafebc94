"""Weights of trials that are trained again from their records, with real trainers."""

from pathlib import Path

import pytest
from small import write_objective

import sweeps
from storage import queries
from storage.database import WEIGHTS_FOLDER
from sweeps.config.errors import ConfigError
from sweeps.config.settings import SweepConfig
from sweeps.running.weights import ReproductionError, find_weights


def make_config(folder: Path, url: str, *overrides: str) -> SweepConfig:
    settings = ("max_epochs=9", "max_total_epochs=90", "seed=4", "workers=1", "slots=4")
    settings += ("sampler.name=random",)  # or the machine's speed decides what is asked for
    return sweeps.load_config(str(write_objective(folder)), (*settings, *overrides), storage=url)


def test_weights_of_any_trial_are_the_same_when_it_is_trained_again(
    sqlite_url: str, tmp_path: Path
) -> None:
    config = make_config(tmp_path, sqlite_url)
    assert sweeps.run(config).ending == "done"
    frame = queries.results(sqlite_url, config.study).set_index("trial")
    rows = [queries.trial(sqlite_url, config.study, int(trial)) for trial in frame.index]
    saved = [row for row in rows if row["weights_file"] is not None]
    assert len(saved) == 20
    paused = [row for row in saved if len(row["segments"]) > 1]
    assert paused
    for row, is_there in ((saved[0], True), (paused[0], False)):
        path = tmp_path / WEIGHTS_FOLDER / row["weights_file"]
        before = path.read_bytes()
        assert find_weights(sqlite_url, config.study, row["trial"]) == path
        if is_there:
            path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        else:
            path.unlink()
        told: list[str] = []
        again = find_weights(sqlite_url, config.study, row["trial"], on_start=told.append)
        assert again == path
        assert path.read_bytes() == before
        assert told[0].startswith(f"trial {row['trial']} is trained again, ")
        assert told[0].endswith(f"{path} is damaged") is is_there
    (other, *_) = [row for row in rows if row["weights_file"] is None and row["best_epoch"]]
    path = find_weights(sqlite_url, config.study, other["trial"])
    after = queries.trial(sqlite_url, config.study, other["trial"])
    assert path == tmp_path / WEIGHTS_FOLDER / after["weights_file"]
    assert after["outcome"] == other["outcome"]


def test_trial_that_does_not_come_out_as_it_was_is_refused(
    sqlite_url: str, tmp_path: Path
) -> None:
    config = make_config(tmp_path, sqlite_url, "trials=1")
    sweeps.run(config)
    row = queries.trial(sqlite_url, config.study, 0)
    path = tmp_path / WEIGHTS_FOLDER / row["weights_file"]
    path.unlink()
    objective = tmp_path / "small_one.py"
    code = objective.read_text()
    objective.write_text(code.replace("torch.tanh", "torch.relu"))
    with pytest.raises(ReproductionError, match=r"^trial 0 predicts something else now: "):
        find_weights(sqlite_url, config.study, 0)
    assert not path.exists()
    objective.write_text(code.replace("split(31, 2)", "split(31, 5)"))
    with pytest.raises(ConfigError, match=r"^data: the contents have changed"):
        find_weights(sqlite_url, config.study, 0)
