"""The tables of learning curves that stop rules are replayed on."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from objectives.api import Data, find_fusion_key
from objectives.lanes.trainer import ModelTrainer
from objectives.metrics import make_metric
from objectives.registry import find_objective

SEED, EPOCHS, SETTINGS = 1, 5, 7
SPACE: dict[str, Any] = {
    "optimizer": ["adam", "sgd"],
    "learning_rate": {"low": 1e-3, "high": 1e30, "log": True},  # most diverge
    "dropout": {"low": 0.0, "high": 0.6},
    "batch_size": [32],
    "model": {"hidden_width": [3, 5], "hidden_depth": 1},
}


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent / "benchmarks"), *sys.path])
    return importlib.import_module("record_tables")


@pytest.fixture
def data(tables: ModuleType) -> Data:
    whole = find_objective("tabular-mlp").load(None)
    first = importlib.import_module("tasks").first
    return replace(whole, train=first(whole.train, 211), validation=first(whole.validation, 101))


def test_table_that_was_stopped_goes_on_to_the_same_curves(
    tables: ModuleType, data: Data, tmp_path: Path
) -> None:
    settings = tables.draw_settings(SPACE, SETTINGS)
    objective = find_objective("tabular-mlp")

    def new() -> Any:
        return tables.new_table(settings, seeds=2, epochs=EPOCHS)

    at_once, stopped = new(), new()
    for _ in tables.record(objective, data, settings, at_once, SEED):
        pass
    next(tables.record(objective, data, settings, stopped, SEED))
    assert 0 < (stopped.slots[SEED] > 0).sum() < SETTINGS
    tables.write_table(stopped, tmp_path / "table.npz")
    resumed = tables.read_table(tmp_path / "table.npz")
    for _ in tables.record(objective, data, settings, resumed, SEED):
        pass

    assert resumed.params == at_once.params
    assert (resumed.slots[SEED] > 0).all()
    assert not resumed.is_complete  # the other seed is missing
    for name in ("score", "train_loss", "val_loss"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(at_once, name))


def test_recorded_curve_is_the_lanes_until_it_diverges(tables: ModuleType, data: Data) -> None:
    settings = tables.draw_settings(SPACE, SETTINGS)
    objective = find_objective("tabular-mlp")
    table = tables.new_table(settings, seeds=2, epochs=EPOCHS)
    for _ in tables.record(objective, data, settings, table, SEED):
        pass
    trainer = ModelTrainer(objective, data, data_seed=SEED)
    score_of = make_metric("macro-f1", data.class_names).score
    num_diverged = 0
    for i, hparams in enumerate(settings):
        lane = trainer.open_lane(find_fusion_key(hparams), 0)
        lane.place(0, tables.trial_seed(SEED, i), hparams)
        for epoch in range(EPOCHS):
            (report,) = lane.train_epoch()
            with np.errstate(over="ignore"):
                losses = np.array([report.train_loss, report.val_loss]).astype(np.float16)
            if not np.isfinite(losses).all():
                assert np.isnan(table.score[SEED, i, epoch:]).all()
                num_diverged += 1
                break
            assert table.score[SEED, i, epoch] == np.float16(score_of(report.counts))
            assert table.train_loss[SEED, i, epoch] == losses[0]
            assert table.val_loss[SEED, i, epoch] == losses[1]
    assert 0 < num_diverged < SETTINGS
