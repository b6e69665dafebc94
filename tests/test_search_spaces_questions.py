"""The sweep files of three questions: each starts with the question's setting, and runs."""

import sqlite3
from pathlib import Path

import optuna
import pytest

import search_spaces
from search_spaces.hparams import Hparams
from sweeps import cli
from sweeps.config.load import load_config
from sweeps.config.settings import SweepConfig

FOLDER = Path(search_spaces.__file__).parent / "questions"
NAMES = ("slow_cnn", "slow_mlp", "rising_rnn")


def load(name: str) -> SweepConfig:
    return load_config(str(FOLDER / f"{name}.toml"))


def first_trial(config: SweepConfig) -> Hparams:
    """Return the hyperparameters of the first trial; it leaves nothing to the sampler."""
    return config.space.pin(config.tries[0]).suggest(optuna.trial.FixedTrial({}))


def test_these_are_all() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(NAMES)


def test_slow_cnn_starts_with_the_questions_setting() -> None:
    config = load("slow_cnn")
    first = first_trial(config)
    assert config.objective == "relation-cnn"
    assert (first.optimizer, first.learning_rate, first.betas) == ("adam", 0.001, (0.9, 0.999))
    assert (first.dropout, first.batch_size) == (0.5, 50)
    assert (first.schedule, first.weight_decay, first.clip_norm) == ("constant", 0.0, None)
    assert len(config.space.optimizers) > 4


def test_slow_mlp_starts_with_the_questions_setting() -> None:
    config = load("slow_mlp")
    first = first_trial(config)
    assert (config.objective, config.max_epochs) == ("tabular-mlp", 1000)
    assert (first.optimizer, first.learning_rate, first.betas) == ("adam", 0.01, (0.9, 0.999))
    assert (first.batch_size, first.dropout, first.schedule) == (200, 0.0, "constant")
    assert first.model == {"hidden_width": 16, "hidden_depth": 2}
    # Its stalls leave plateau the time to lower the rate.
    assert config.patience > config.prune_patience > config.space["plateau_patience"]


def test_rising_rnn_starts_with_the_questions_setting() -> None:
    config = load("rising_rnn")
    first = first_trial(config)
    assert config.objective == "sequence-rnn"
    assert (first.optimizer, first.learning_rate, first.betas) == ("adam", 0.001, (0.5, 0.999))
    # No gradient is that large: nothing is clipped.
    assert (first.schedule, first.clip_norm) == ("constant", 1e6)
    assert first.model == {"cell": "gru", "hidden": 32}


@pytest.mark.parametrize("name", NAMES)
def test_question_is_run_by_its_file(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--trials", "2", "--set", "max_epochs=2", "--set", "workers=1"]
    with pytest.raises(SystemExit) as exit_:
        cli.main(["run", str(FOLDER / f"{name}.toml"), *quick])
    assert exit_.value.code == 0, capsys.readouterr().err
    connection = sqlite3.connect(folder / "bestepoch.db")
    rows = connection.execute("select trial, learning_rate from best_epochs order by trial")
    trials = dict(rows.fetchall())
    connection.close()
    assert list(trials) == [0, 1]
    assert trials[0] == load(name).tries[0]["learning_rate"]
