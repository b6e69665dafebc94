"""Recorded steps: the same curves as steps that are taken one by one.

A GPU's recording knows tensors and nothing of the host. Here it is one of PyTorch's operations,
replayed on the tensors that they had: whatever a step reads from the host would stand still.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from objectives.api import Data, Split, find_fusion_key
from objectives.lanes import recording
from objectives.lanes.batches import on_device
from objectives.lanes.lane import ModelLane
from objectives.lanes.trainer import ModelTrainer
from objectives.registry import find_objective
from search_spaces.hparams import RATED, Hparams

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS: dict[str, dict[str, Any]] = {
    "tabular-mlp": {},
    "relation-cnn": {"filters": 19, "position_dim": 1},
    "sequence-rnn": {"cell": "gru", "hidden": 13},
}
NUM_STEPS, BATCH = 43, 5
EVERYTHING = {
    "dropout": 0.4,
    "weight_decay": 0.01,
    "clip_norm": 0.5,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
    "schedule": "warmup",
}


def few_examples(data: Data, train: int, validation: int) -> Data:
    """The data set with so many examples, evenly spaced."""

    def few(split: Split, count: int) -> Split:
        rows = np.linspace(0, len(split.targets) - 1, count).astype(np.int64)
        lengths = None if split.lengths is None else split.lengths[rows]
        return Split(tuple(x[rows] for x in split.inputs), split.targets[rows], lengths)

    return replace(data, train=few(data.train, train), validation=few(data.validation, validation))


class Operations(TorchDispatchMode):
    """Writes down the operations that reach the device, with the tensors that they had."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, result in self._calls:
                old = [each for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
                again = func(*args, **kwargs)
                new = [each for each in tree_leaves(again) if isinstance(each, torch.Tensor)]
                for before, now in zip(old, new, strict=True):
                    if before.data_ptr() != now.data_ptr():
                        before.copy_(now)


def record_operations(take: Callable[[], None]) -> Callable[[], None]:
    with Operations() as operations:
        take()
    return operations.replay


def open_lane(objective_name: str, record: recording.Record | None) -> ModelLane:
    objective = find_objective(objective_name)
    # The last batch is smaller: a shape of its own, too rare to be recorded.
    data = few_examples(objective.load(None), NUM_STEPS * BATCH - 2, 40)
    make_record = None if record is None else lambda: record
    trainer = ModelTrainer(objective, data, make_record=make_record)
    key = find_fusion_key(Hparams(batch_size=BATCH, model=MODELS[objective_name]))
    return trainer.open_lane(key, 0)


def curves(lane: ModelLane, model: dict[str, Any]) -> list[list[float]]:
    """Four epochs of eight trials, the first two of which leave half-way for others."""
    shared = {"batch_size": BATCH, "model": model}
    trials = [Hparams(optimizer=name, **EVERYTHING, **shared) for name in RATED]
    for slot, hparams in enumerate(trials):
        lane.place(slot, slot + 7, hparams)
    found = []
    for epoch in range(4):
        if epoch == 2:
            for slot in (0, 1):
                lane.drop(slot)
                lane.place(slot, slot + 31, Hparams(learning_rate=0.02, **shared))
        found += [
            [report.train_loss, report.val_loss, report.grad_norm, *report.counts.matrix.flatten()]
            for report in lane.train_epoch()
        ]
    assert all(row[0] < 100 for row in found)
    return found


def launch(take: Callable[[], None]) -> Callable[[], None]:
    """Record nothing: each step is launched, on the tensors that a recording would have."""
    return take


@pytest.mark.parametrize("name", MODELS)
def test_replayed_steps_give_the_curves_of_steps_one_by_one(name: str) -> None:
    recorded = []

    def record(take: Callable[[], None]) -> Callable[[], None]:
        recorded.append(take)
        return record_operations(take)

    launched = curves(open_lane(name, launch), MODELS[name])
    lane = open_lane(name, record)
    replayed = curves(lane, MODELS[name])
    assert lane.note is None
    assert recorded
    assert replayed == launched
    if find_objective(name).load(None).train.lengths is None:
        # Else batches are trimmed to fewer lengths, and a sum over more zeros rounds otherwise.
        assert curves(open_lane(name, None), MODELS[name]) == launched


def test_batches_are_trimmed_to_eight_lengths_at_most() -> None:
    data = find_objective("sequence-rnn").load(None)
    split = on_device(data.train, torch.device("cpu"))
    longest = data.train.lengths
    assert longest is not None
    assert len(set(longest.tolist())) > 8
    trimmed = [split.longest(row[None], 8) for row in longest.argsort()]
    assert len(set(trimmed)) <= 8
    assert all(steps >= each for steps, each in zip(trimmed, np.sort(longest), strict=True))


@pytest.mark.parametrize("fault", ["raises", "does nothing", "does it twice"])
def test_recording_that_does_not_do_the_step_is_not_used(fault: str) -> None:
    def record(take: Callable[[], None]) -> Callable[[], None]:
        if fault == "raises":
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        replay = record_operations(take)
        return (lambda: None) if fault == "does nothing" else lambda: (replay(), replay())[0]

    plain = curves(open_lane("tabular-mlp", None), {})
    lane = open_lane("tabular-mlp", record)
    assert curves(lane, {}) == plain
    assert lane.note is not None
    assert lane.note.startswith("each step is launched by itself, which takes longer: ")
    assert "\n" not in lane.note


@pytest.mark.gpu
@pytest.mark.parametrize("objective_name", MODELS)
def test_cuda_graphs_give_the_curves_of_steps_one_by_one(objective_name: str) -> None:
    objective = find_objective(objective_name)
    found = []
    for is_recorded in (False, True):
        data = few_examples(objective.load(None), NUM_STEPS * BATCH - 2, 40)
        make_record = None if is_recorded else lambda: launch
        trainer = ModelTrainer(objective, data, device="cuda", make_record=make_record)
        key = find_fusion_key(Hparams(batch_size=BATCH, model=MODELS[objective_name]))
        lane = trainer.open_lane(key, 0)
        found.append(curves(lane, MODELS[objective_name]))
        assert lane.note is None
    plain, replayed = (torch.tensor(each, dtype=torch.float64) for each in found)
    torch.testing.assert_close(replayed[:, :3], plain[:, :3], rtol=1e-3, atol=1e-4)
