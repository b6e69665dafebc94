"""An epoch never waits for the device: no operation in it needs a result on the host.

On a GPU such a one stops the queue of launches; the operations are those of a CPU. armijo waits,
once a probe: it asks whether every slot has found its step.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from objectives.api import Data, Split, find_fusion_key
from objectives.lanes.trainer import ModelTrainer
from objectives.registry import find_objective
from search_spaces.hparams import RATED, Hparams

#: What PyTorch can answer only once the device is done ("CUDA semantics", synchronisation).
WAITING = frozenset(
    ("_local_scalar_dense", "bincount", "nonzero", "masked_select", "equal", "unique", "histc")
)
MODELS: dict[str, dict[str, Any]] = {
    "relation-cnn": {"filters": 19, "position_dim": 1},
    "tabular-mlp": {},
    "sequence-rnn": {"cell": "lstm"},
}


def few_examples(data: Data, train: int, validation: int) -> Data:
    """The data set with so many examples, evenly spaced."""

    def few(split: Split, count: int) -> Split:
        rows = np.linspace(0, len(split.targets) - 1, count).astype(np.int64)
        lengths = None if split.lengths is None else split.lengths[rows]
        return Split(tuple(x[rows] for x in split.inputs), split.targets[rows], lengths)

    return replace(data, train=few(data.train, train), validation=few(data.validation, validation))


class Recording(TorchDispatchMode):
    """Writes down the operations that reach a device."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def operations(objective_name: str, optimizer: str) -> list[str]:
    """The operations of an epoch of three steps, two slots, with all that a trial can ask for."""
    objective = find_objective(objective_name)
    trainer = ModelTrainer(objective, few_examples(objective.load(None), 24, 40))
    hparams = Hparams(
        optimizer=optimizer,
        dropout=0.5,
        batch_size=8,
        weight_decay=0.01,
        clip_norm=1.0,
        label_smoothing=0.1,
        class_weights="balanced",
        model=MODELS[objective_name],
    )
    key = find_fusion_key(hparams)
    lane = trainer.open_lane(key, 0)
    for slot in range(2):
        lane.place(slot, slot, hparams)
    with Recording() as recording:
        (report, _) = lane.train_epoch()
    assert report.error is None
    return recording.names


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("objective", MODELS)
def test_an_epoch_of_a_model_that_ships_waits_for_nothing(objective: str) -> None:
    names = operations(objective, "adam")
    assert len(names) > 100
    assert not WAITING.intersection(names)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("optimizer", RATED)
def test_no_optimizer_with_a_rate_waits(optimizer: str) -> None:
    assert not WAITING.intersection(operations("tabular-mlp", optimizer))


def test_waiting_would_be_seen() -> None:
    with Recording() as recording:
        torch.ones(3).sum().item()
    assert WAITING.intersection(recording.names)
