import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from objectives.api import Data, Split, find_fusion_key
from objectives.lanes import weights
from objectives.lanes.trainer import ModelTrainer
from search_spaces.hparams import Hparams
from tests.rounding import assert_same_sums

pytestmark = pytest.mark.usefixtures("one_thread")


class Tied(nn.Module):
    """Two names for one matrix, a weight of no axes, a running statistic and a frozen table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(torch.eye(13)[:7])
        self.first = nn.Linear(13, 13)
        self.second = nn.Linear(13, 13)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.rand(()) + 1)
        self.norm = nn.BatchNorm1d(13)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(13, 3)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.first(self.table(numbers).sum(dim=1))) * self.scale
        logits: torch.Tensor = self.head(self.dropout(torch.tanh(self.second(hidden))))
        return logits


class Numbers:
    name = "numbers"

    def load(self, source: Path | None) -> Data:
        rng = np.random.default_rng(2)

        def split(num_examples: int) -> Split:
            numbers = rng.integers(7, size=(num_examples, 5))
            return Split(inputs=(numbers,), targets=numbers.sum(axis=1) % 3)

        return Data(split(67), split(37), split(2), class_names=("a", "b", "c"))

    def build_model(self, data: Data, **model: Any) -> nn.Module:
        return Tied()


class Mlp(Numbers):
    def build_model(self, data: Data, **model: Any) -> nn.Module:
        return nn.Sequential(
            nn.Embedding(7, 13),
            nn.Flatten(),
            nn.Linear(65, 17),
            nn.ReLU(),
            nn.Dropout(0.4),
            nn.Linear(17, 3),
        )


@pytest.mark.parametrize("objective", [Mlp(), Numbers()])
def test_saved_weights_give_the_score_of_their_epoch_again(
    objective: Numbers, tmp_path: Path
) -> None:
    data = objective.load(None)
    trainer = ModelTrainer(objective, data)
    hparams = Hparams(learning_rate=0.02, batch_size=10)
    lane = trainer.open_lane(find_fusion_key(hparams), 0)
    lane.place(0, 5, hparams)
    if lane.max_slots is None:
        lane.place(1, 6, hparams.model_copy(update={"learning_rate": 1e30}))
    best = [lane.train_epoch() for _ in range(3)][-1][0]
    lane.keep_best(0)
    lane.train_epoch()
    path = tmp_path / "new" / "folder" / "best.safetensors"
    digest = lane.save_best(0, path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    module = objective.build_model(data)
    module.load_state_dict(safetensors.torch.load_file(path), strict=True)
    module.eval()
    with torch.no_grad():
        logits = module(torch.from_numpy(data.validation.inputs[0]))
    confusion = np.zeros((3, 3), dtype=np.int64)
    np.add.at(confusion, (data.validation.targets, logits.argmax(dim=1).numpy()), 1)
    assert confusion.tolist() == best.counts.matrix.tolist()
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(data.validation.targets))
    num_inputs = sum(weight.shape[-1] for weight in module.parameters() if weight.dim() == 2)
    assert_same_sums(torch.tensor(best.val_loss), loss, num_inputs + len(logits))


def test_digest_is_that_of_the_file_and_of_the_tensors(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(7.0), "b": torch.arange(6, dtype=torch.int64).view(2, 3).mT}
    first = weights.save(tensors, tmp_path / "first.safetensors")
    second = weights.save(tensors, tmp_path / "second.safetensors")
    assert first == second
    contents = (tmp_path / "first.safetensors").read_bytes()
    assert first == hashlib.sha256(contents).hexdigest()
    loaded = safetensors.torch.load_file(tmp_path / "first.safetensors")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("has_previous", [False, True])
def test_failure_while_writing_leaves_the_folder_as_it_was(
    failing: str, has_previous: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.safetensors"
    if has_previous:
        weights.save({"a": torch.zeros(3)}, path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        weights.save({"a": torch.ones(5)}, path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
