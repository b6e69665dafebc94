"""Recorded steps: the same curves as steps that are taken one by one.

A GPU's recording knows tensors and nothing of the host. Here it is one of PyTorch's operations,
replayed on the tensors that they had: whatever a step reads from the host would stand still.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from objectives.registry import find_objective
from objectives.training import capacity, recording
from objectives.training.lane import FusedLane
from objectives.training.trainer import ModelTrainer
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


def open_lane(objective_name: str, record: recording.Record | None) -> FusedLane:
    objective = find_objective(objective_name)
    trainer = ModelTrainer(objective, objective.load(None))
    # The last batch is smaller: a shape of its own, too rare to be recorded.
    train = capacity.few_examples(trainer._train, NUM_STEPS * BATCH - 2)
    validation = capacity.few_examples(trainer._validation, 40)
    key = trainer.fusion_key(Hparams(batch_size=BATCH, model=MODELS[objective_name]))
    lane = trainer._open_lane(key, 0, train, validation)
    lane._record = record
    return lane


def curves(lane: FusedLane, model: dict[str, Any]) -> list[list[float]]:
    """Four epochs of eight trials, the first two of which leave half-way for others."""
    shared = {"batch_size": BATCH, "model": model}
    trials = [Hparams(optimizer=name, **EVERYTHING, **shared) for name in RATED]
    for slot, hparams in enumerate(trials):
        lane.admit(slot, slot + 7, hparams)
    found = []
    for epoch in range(4):
        if epoch == 2:
            for slot in (0, 1):
                lane.release(slot)
                lane.admit(slot, slot + 31, Hparams(learning_rate=0.02, **shared))
        found += [
            [report.train_loss, report.val_loss, report.grad_norm, *report.confusion.flatten()]
            for report in lane.train_epoch()
        ]
    assert all(row[0] < 100 for row in found)
    return found


@pytest.mark.parametrize("objective", MODELS)
def test_replayed_steps_give_the_curves_of_steps_one_by_one(objective: str) -> None:
    plain = curves(open_lane(objective, None), MODELS[objective])
    lane = open_lane(objective, record_operations)
    replayed = curves(lane, MODELS[objective])
    assert lane.note is None
    assert lane._recorder is not None
    assert lane._recorder._replays
    # Batches are trimmed to fewer lengths, and a sum over more zeros rounds otherwise.
    torch.testing.assert_close(
        torch.tensor(replayed, dtype=torch.float64),
        torch.tensor(plain, dtype=torch.float64),
        rtol=2e-5,
        atol=1e-6,
    )


def test_batches_are_trimmed_to_eight_lengths_at_most() -> None:
    lane = open_lane("sequence-rnn", record_operations)
    lane.admit(0, 7, Hparams(batch_size=BATCH, model=MODELS["sequence-rnn"]))
    longest = lane._train.lengths_on_host
    assert longest is not None
    seen = {lane._train.longest(longest.argsort()[i : i + 1], 8) for i in range(len(longest))}
    assert len(seen) <= 8
    assert max(seen) == longest.max()
    assert len(set(longest.tolist())) > 8


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("objective_name", MODELS)
def test_cuda_graphs_give_the_curves_of_steps_one_by_one(objective_name: str) -> None:
    objective = find_objective(objective_name)
    found = []
    for is_recorded in (False, True):
        trainer = ModelTrainer(objective, objective.load(None), device="cuda")
        train = capacity.few_examples(trainer._train, NUM_STEPS * BATCH - 2)
        validation = capacity.few_examples(trainer._validation, 40)
        key = trainer.fusion_key(Hparams(batch_size=BATCH, model=MODELS[objective_name]))
        lane = trainer._open_lane(key, 0, train, validation)
        assert lane._record is not None
        if not is_recorded:
            lane._record = None
        found.append(curves(lane, MODELS[objective_name]))
        assert lane.note is None
    plain, replayed = (torch.tensor(each, dtype=torch.float64) for each in found)
    torch.testing.assert_close(replayed[:, :3], plain[:, :3], rtol=1e-3, atol=1e-4)
