"""What a lane counts on validation: by class, without a table of pairs where classes are many."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn.metrics import confusion_matrix
from torch import nn

from objectives.api import MAX_MATRIX_CLASSES, Data, Split, find_fusion_key
from objectives.lanes.trainer import ModelTrainer
from search_spaces.hparams import Hparams

pytestmark = pytest.mark.usefixtures("one_thread")

F, NUM_VALIDATION = 7, 1103
DIVERGING = Hparams(optimizer="sgd", learning_rate=3e38)


@dataclass
class Users:
    num_classes: int
    has_lengths: bool = False
    name: str = "users"

    def load(self, source: Path | None) -> Data:
        rng = np.random.default_rng(2)

        def split(num_examples: int) -> Split:
            x = rng.normal(size=(num_examples, F)).astype(np.float32)
            targets = rng.integers(self.num_classes, size=num_examples)
            # Validation takes examples by their lengths: not in the order that they have here.
            lengths = rng.integers(1, F + 1, size=num_examples)
            return Split((x,), targets, lengths if self.has_lengths else None)

        names = tuple(map(str, range(self.num_classes)))
        return Data(split(41), split(NUM_VALIDATION), split(2), names)

    def build_model(self, data: Data, **model: Any) -> nn.Module:
        return Trimmed(self.num_classes)


class Trimmed(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, F))

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return x @ self.weight[..., : x.shape[-1]].mT


@pytest.mark.parametrize("has_lengths", [False, True])
@pytest.mark.parametrize("num_classes", [3, MAX_MATRIX_CLASSES, MAX_MATRIX_CLASSES + 1, 257, 1009])
def test_counts_and_predictions_are_those_of_the_saved_weights(
    num_classes: int, has_lengths: bool, tmp_path: Path
) -> None:
    objective = Users(num_classes, has_lengths)
    data = objective.load(None)
    trainer = ModelTrainer(objective, data)
    assert (trainer.num_train, trainer.num_validation) == (41, NUM_VALIDATION)
    hparams = Hparams(learning_rate=0.1)
    lane = trainer.open_lane(find_fusion_key(hparams), 0)
    lane.place(1, 8, DIVERGING)
    lane.place(0, 5, hparams)
    report = lane.train_epoch()[1]
    lane.keep_best(0)
    lane.train_epoch()
    lane.save_best(0, tmp_path / "best.safetensors")
    weight = safetensors.torch.load_file(tmp_path / "best.safetensors")["weight"]
    x, true = data.validation.inputs[0].copy(), data.validation.targets
    if data.validation.lengths is not None:
        # A batch is trimmed to its longest example, and 64 of alike lengths share one.
        order = np.argsort(data.validation.lengths, kind="stable")
        for start in range(0, NUM_VALIDATION, 64):
            rows = order[start : start + 64]
            x[rows, data.validation.lengths[rows].max() :] = 0.0
    predicted = (torch.from_numpy(x) @ weight.mT).argmax(dim=1).numpy()
    kept = lane.best_predictions(0)
    assert kept.dtype == (np.uint8 if num_classes <= 256 else np.int32)
    assert kept.tolist() == predicted.tolist()
    expected = confusion_matrix(true, predicted, labels=range(num_classes))
    counts = report.counts
    assert counts.right.tolist() == np.diagonal(expected).tolist()
    assert counts.support.tolist() == expected.sum(axis=1).tolist()
    assert counts.predicted.tolist() == expected.sum(axis=0).tolist()
    for array in (counts.right, counts.support, counts.predicted):
        assert (array.dtype, array.shape) == (np.int64, (num_classes,))
    if num_classes > MAX_MATRIX_CLASSES:
        assert counts.matrix is None
    else:
        assert counts.matrix is not None
        assert counts.matrix.tolist() == expected.tolist()


def test_predictions_of_a_trial_that_kept_nothing_are_not_another_s() -> None:
    objective = Users(3)
    trainer = ModelTrainer(objective, objective.load(None))
    lane = trainer.open_lane(find_fusion_key(Hparams()), 0)
    lane.place(0, 5, Hparams())
    lane.train_epoch()
    lane.keep_best(0)
    assert lane.best_predictions(0).any()
    lane.drop(0)
    lane.place(0, 6, Hparams())
    assert not lane.best_predictions(0).any()


MANY = """
import resource
import numpy as np
import torch
from torch import nn
from objectives.api import Data, Split, find_fusion_key
from objectives.lanes.trainer import ModelTrainer
from search_spaces.hparams import Hparams

torch.set_num_threads(1)
C, SLOTS = 8009, 16
x = np.random.default_rng(0).normal(size=(211, 7)).astype(np.float32)
split = Split((x,), np.arange(211))

class Users:
    name = "users"
    def build_model(self, data, **model):
        return nn.Linear(7, C)

trainer = ModelTrainer(Users(), Data(split, split, split, tuple(map(str, range(C)))))
hparams = Hparams(batch_size=50)
lane = trainer.open_lane(find_fusion_key(hparams), 0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for slot in range(SLOTS):
    lane.place(slot, slot, hparams)
reports = lane.train_epoch()
assert all(report.counts.support.sum() == 211 for report in reports)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_validating_thousands_of_classes_takes_no_gigabytes() -> None:
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", MANY], capture_output=True, text=True, check=True, cwd=root
    )
    # A table of pairs for each slot alone would be 7,800 MiB.
    assert int(done.stdout) < 700
