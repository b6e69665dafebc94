"""A trial that stands still and goes on, in whatever lane and slot, never notices.

Axes have sizes of their own: 43 training examples in batches of 10, 31 to validate on, 11
features, layers of 17 and 13, 3 classes.
"""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from objectives.api import Data, EpochReport, Split, TrialState, find_fusion_key
from objectives.lanes import checkpoints
from objectives.lanes.checkpoints import CheckpointError, RowState
from objectives.lanes.lane import ModelLane
from objectives.lanes.rows import num_bytes
from objectives.lanes.trainer import ModelTrainer
from search_spaces.hparams import OPTIMIZERS, Hparams

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_TRAIN, NUM_VALIDATION, F, C, BATCH_SIZE, SEED = 43, 31, 11, 3, 10, 7
#: Data epochs behind the trial as it begins and as it goes on, and how many it trains then.
FIRST, SECOND = (1, 2), (5, 3)


class Recurrent(nn.Module):
    """A model that is never stacked."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(1, 13, batch_first=True)
        self.norm = nn.BatchNorm1d(13)
        self.dropout = nn.Dropout(0.4)
        self.head = nn.Linear(13, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = self.layer(x.unsqueeze(-1))[1][0][0]
        logits: torch.Tensor = self.head(self.dropout(self.norm(state)))
        return logits


def mlp() -> nn.Module:
    layers = [nn.Linear(F, 17), nn.ReLU(), nn.Dropout(0.5), nn.Linear(17, 13), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(13, C))


MODELS: dict[str, Callable[[], nn.Module]] = {"mlp": mlp, "recurrent": Recurrent}


@dataclass
class Users:
    kind: str
    name: str = "users"

    def load(self, source: Path | None) -> Data:
        rng = np.random.default_rng(4)

        def split(num_examples: int) -> Split:
            x = rng.normal(size=(num_examples, F)).astype(np.float32)
            return Split(inputs=(x,), targets=x[:, :C].argmax(axis=1))

        return Data(split(NUM_TRAIN), split(NUM_VALIDATION), split(2), ("a", "b", "c"))

    def build_model(self, data: Data, **model: Any) -> nn.Module:
        return MODELS[self.kind]()


@pytest.fixture(scope="module", params=MODELS)
def trainer(request: pytest.FixtureRequest) -> ModelTrainer:
    objective = Users(request.param)
    return ModelTrainer(objective, objective.load(None), data_seed=6)


def open_lane(trainer: ModelTrainer, hparams: Hparams, data_epoch: int) -> ModelLane:
    return trainer.open_lane(find_fusion_key(hparams), data_epoch)


def as_bits(report: EpochReport) -> tuple[str, ...]:
    numbers = (report.train_loss, report.val_loss, report.grad_norm, report.learning_rate)
    assert report.counts.matrix is not None
    counts = report.counts.matrix.tolist()
    return (str(report.epoch), *(each.hex() for each in numbers), str(counts), str(report.error))


def train(lane: ModelLane, slot: int, epochs: int, path: Path) -> list[tuple[str, ...]]:
    """Train the lane; return what the slot's trial reports, and what it keeps of epoch 2."""
    found = []
    for _ in range(epochs):
        (report,) = (each for each in lane.train_epoch() if each.slot == slot)
        found.append(as_bits(report))
        if report.epoch == 2:
            lane.keep_best(slot)
    kept = (lane.save_best(slot, path / "best"), str(lane.best_predictions(slot).tolist()))
    return [*found, kept]


def uninterrupted(trainer: ModelTrainer, hparams: Hparams, path: Path) -> list[tuple[str, ...]]:
    lane = open_lane(trainer, hparams, FIRST[0])
    lane.place(0, SEED, hparams)
    curve = train(lane, 0, FIRST[1], path)
    lane.data_epoch = SECOND[0]
    return [*curve, *train(lane, 0, SECOND[1], path)]


Paused = tuple[list[tuple[str, ...]], RowState, ModelLane]


def pause(trainer: ModelTrainer, hparams: Hparams, path: Path) -> Paused:
    lane = open_lane(trainer, hparams, FIRST[0])
    lane.place(0, SEED, hparams)
    curve = train(lane, 0, FIRST[1], path)
    state = lane.copy_states([0])[0]
    lane.drop(0)
    return curve, state, lane


def given(**values: Any) -> Hparams:
    return Hparams(batch_size=BATCH_SIZE, **values)


TRIALS = {
    **{name: given(optimizer=name) for name in OPTIMIZERS},
    "momentum": given(optimizer="sgd", learning_rate=0.1, momentum=0.9, nesterov=True),
    "dropout": given(learning_rate=0.01, dropout=0.2),
    "clipping": given(learning_rate=0.01, clip_norm=0.05),
    "decay": given(optimizer="adamw", learning_rate=0.01, weight_decay=0.1),
    "balanced": given(class_weights="balanced", label_smoothing=0.1),
    # A rate so high that the loss rises: the plateau's counter stands at 1 as the trial pauses.
    "plateau": given(optimizer="sgd", learning_rate=3.0, schedule="plateau", plateau_patience=1),
    "cosine": given(schedule="cosine", schedule_epochs=5),
    "warmup": given(schedule="warmup", warmup_epochs=4),
}


def neighbour_of(lane: ModelLane, hparams: Hparams) -> RowState:
    """The state of a trial whose next loss is NaN, in a lane of any code path."""
    lane.place(9, 8, hparams)
    state = lane.copy_states([9])[9]
    lane.drop(9)
    for name, tensor in state.rows.own.items():
        if tensor.is_floating_point() and "dropout" not in name:
            tensor.mul_(torch.nan)
    return state


def as_file(states: Mapping[int, TrialState], folder: Path) -> bytes:
    checkpoints.save_states(states, folder / "states")
    return (folder / "states").read_bytes()


@pytest.mark.parametrize("trial", TRIALS)
def test_trial_goes_on_in_another_lane_and_slot_beside_one_that_diverges(
    trainer: ModelTrainer, trial: str, tmp_path: Path
) -> None:
    hparams = TRIALS[trial]
    curve, state, _ = pause(trainer, hparams, tmp_path)
    assert state.rate.bad_epochs == (1 if trial == "plateau" else 0)
    path = tmp_path / "lane.safetensors"
    lane = open_lane(trainer, hparams, SECOND[0])
    checkpoints.save_states({7: neighbour_of(lane, hparams), 13: state}, path)
    states = checkpoints.load_states(path, [13, 7])
    lane.place(1, 8, hparams, states[7])
    lane.place(4, SEED, hparams, states[13])
    curve += train(lane, 4, SECOND[1], tmp_path)
    assert curve == uninterrupted(trainer, hparams, tmp_path)
    # Every epoch is another one, and what was kept before the pause is kept after it.
    assert len(set(curve)) == len(curve) - 1
    (neighbour, _) = lane.train_epoch()
    assert np.isnan(neighbour.train_loss)


@pytest.mark.parametrize("way", ["same slot", "another slot", "another lane", "paused twice"])
def test_trial_goes_on_as_if_it_had_never_stopped(
    trainer: ModelTrainer, way: str, tmp_path: Path
) -> None:
    hparams = TRIALS["dropout"]
    curve, state, lane = pause(trainer, hparams, tmp_path)
    if way == "another lane":
        lane = open_lane(trainer, hparams, 0)
    # The lane trains another trial meanwhile, in the slot that became free.
    lane.place(0, 99, hparams)
    lane.train_epoch()
    lane.drop(0)
    lane.data_epoch = SECOND[0]
    slot = 4 if way == "another slot" else 0
    lane.place(slot, SEED, hparams, state)
    if way == "paused twice":
        again = lane.copy_states([slot])[slot]
        lane.drop(slot)
        lane.place(slot, SEED, hparams, again)
    assert lane.copy_states([slot])[slot].epochs == FIRST[1]
    curve += train(lane, slot, SECOND[1], tmp_path)
    assert curve == uninterrupted(trainer, hparams, tmp_path)


def test_state_is_a_copy_that_no_later_epoch_changes(
    trainer: ModelTrainer, tmp_path: Path
) -> None:
    hparams = TRIALS["adam"]
    lane = open_lane(trainer, hparams, 0)
    lane.place(0, SEED, hparams)
    lane.train_epoch()
    state = lane.copy_states([0])[0]
    before = as_file({0: state}, tmp_path)
    lane.train_epoch()
    lane.keep_best(0)
    assert as_file({0: state}, tmp_path) == before
    assert as_file({0: lane.copy_states([0])[0]}, tmp_path) != before


def test_states_of_many_slots_are_those_of_each(trainer: ModelTrainer, tmp_path: Path) -> None:
    lane = open_lane(trainer, TRIALS["adam"], 0)
    for slot, name in ((5, "cosine"), (0, "plateau"), (2, "adam")):
        lane.place(slot, slot, TRIALS[name])
        lane.train_epoch()
    together = lane.copy_states([2, 5])
    assert list(together) == [2, 5]
    for slot in (2, 5):
        alone = lane.copy_states([slot])
        assert as_file({0: together[slot]}, tmp_path) == as_file({0: alone[slot]}, tmp_path)


def test_file_holds_the_trials_that_were_written_together_and_nothing_that_is_run(
    trainer: ModelTrainer, tmp_path: Path
) -> None:
    lane = open_lane(trainer, TRIALS["adam"], 0)
    for slot, name in ((2, "adam"), (0, "plateau"), (5, "cosine")):
        lane.place(slot, slot, TRIALS[name])
        lane.train_epoch()
    states = {slot + 40: state for slot, state in lane.copy_states([5, 0, 2]).items()}
    path = tmp_path / "new" / "lane.safetensors"
    checkpoints.save_states(states, path)
    contents = path.read_bytes()
    size = struct.unpack("<Q", contents[:8])[0]
    header = json.loads(contents[8 : 8 + size])["__metadata__"]
    told = {
        each["trial"]: each["epochs"] for each in json.loads(header["bestepoch trials"])["trials"]
    }
    assert told == {45: 1, 40: 2, 42: 3}
    loaded = checkpoints.load_states(path, [42, 45])  # the third goes on another time
    assert list(loaded) == [42, 45]
    for trial, other in loaded.items():
        state = states[trial]
        assert isinstance(state, RowState)
        assert (other.epochs, other.rate, other.steps) == (state.epochs, state.rate, state.steps)
        for ours, theirs in zip(state.rows.groups(), other.rows.groups(), strict=True):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [each.name for each in path.parent.iterdir()] == ["lane.safetensors"]


@pytest.mark.parametrize(
    "fault",
    ["missing", "empty", "cut short", "changed", "of another kind", "text", "without the trial"],
)
def test_file_that_cannot_be_read_is_refused_in_one_line(
    trainer: ModelTrainer, fault: str, tmp_path: Path
) -> None:
    hparams = TRIALS["adam"]
    lane = open_lane(trainer, hparams, 0)
    lane.place(0, SEED, hparams)
    path = tmp_path / "lane.safetensors"
    checkpoints.save_states({0: lane.copy_states([0])[0]}, path)
    if fault == "missing":
        path.unlink()
    elif fault == "without the trial":
        checkpoints.save_states({1: lane.copy_states([0])[0]}, path)
    elif fault == "of another kind":
        lane.save_best(0, path)
    else:
        whole = path.read_bytes()
        changed = whole[:-13] + bytes([whole[-13] ^ 1]) + whole[-12:]
        contents = {"empty": b"", "cut short": whole[:-13], "text": b"not " * 13}
        path.write_bytes((contents | {"changed": changed})[fault])
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load_states(path, [0])
    assert str(caught.value).startswith(f"{path}: no checkpoint that can be read: ")
    assert "\n" not in str(caught.value)


def test_state_of_another_code_path_is_refused(trainer: ModelTrainer) -> None:
    lane = open_lane(trainer, TRIALS["armijo"], 0)
    lane.place(0, SEED, TRIALS["armijo"])
    other = open_lane(trainer, TRIALS["adam"], 0)
    with pytest.raises(AssertionError, match="another model or code path"):
        other.place(0, SEED, TRIALS["adam"], lane.copy_states([0])[0])


def test_beat_is_called_once_a_step_and_once_a_validation_batch(trainer: ModelTrainer) -> None:
    beats: list[int] = []
    key = find_fusion_key(TRIALS["adam"])
    lane = trainer.open_lane(key, 0, on_step=lambda: beats.append(1))
    lane.place(0, SEED, TRIALS["adam"])
    lane.train_epoch()
    # Five batches of ten, and one in which all of validation is taken.
    assert len(beats) == -(-NUM_TRAIN // BATCH_SIZE) + 1


def test_path_is_that_of_the_model_and_not_of_the_number_of_trials(
    trainer: ModelTrainer,
) -> None:
    lane = open_lane(trainer, TRIALS["adam"], 0)
    expected = "stacked" if lane.max_slots is None else "plain"
    seen = {lane.path}
    for slot in range(3):
        lane.place(slot, slot, TRIALS["adam"])
        lane.train_epoch()
        seen.add(lane.path)
    assert seen == {expected}


def test_row_bytes_are_near_what_a_slot_takes(trainer: ModelTrainer) -> None:
    lane = open_lane(trainer, TRIALS["adam"], 0)
    lane.place(0, SEED, TRIALS["adam"])
    state = lane.copy_states([0])[0]
    assert isinstance(state, RowState)
    row = sum(map(num_bytes, state.rows.groups()))
    # Beside the row: a copy of what an epoch changes, gradients, room for results, logits.
    assert 2 * row < lane.row_bytes < 8 * row
