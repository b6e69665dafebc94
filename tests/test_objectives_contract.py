"""Every lane obeys ``objectives/api.py``, fused or not, and outlives a model that raises."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from objectives.api import Data, EpochReport, Objective, Split, find_fusion_key
from objectives.lanes.batches import batch_order
from objectives.lanes.lane import ModelLane
from objectives.lanes.trainer import ModelTrainer
from objectives.relation_cnn import RelationCnn
from search_spaces.hparams import Hparams
from tests.rounding import Rounding, compare_runs

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS, F, H, C = 7, 5, 13, 3
NUM_TRAIN, NUM_VALIDATION, BATCH_SIZE = 43, 31, 10


class Flat(nn.Module):
    """Features of all steps side by side; ``middle`` after the first layer."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(STEPS * F, H)
        self.middle = middle
        self.head = nn.Linear(H, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.tanh(self.middle(self.first(x.flatten(1)))))
        return logits


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(F, H, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(H, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.dropout(self.layer(x)[1][0]))
        return logits


class Noise(nn.Module):
    """Draws from torch's generator."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn(x.shape) if self.training else x


class Bounded(nn.Module):
    """A weight of 4 or more is no row of a table: what raises reads no number itself."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(H))
        self.register_buffer("table", torch.zeros(1))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = (self.scale.detach().abs() / 4).long()
        nothing = self.table.index_select(0, rows.flatten()).view_as(self.scale)
        return self.dropout(x * (self.scale + nothing).unsqueeze(-2))


class BoundedAlone(Bounded):
    """The same, which no stacked weights fit."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.scale.dim() == 1
        return super().forward(x)


@dataclass
class Users:
    """A user's objective, its model made by a function."""

    make: Callable[[], nn.Module]
    name: str = "users"

    def load(self, source: Path | None) -> Data:
        rng = np.random.default_rng(4)

        def split(num_examples: int) -> Split:
            x = rng.normal(size=(num_examples, STEPS, F)).astype(np.float32)
            return Split(inputs=(x,), targets=x.sum(axis=1)[:, :C].argmax(axis=1))

        return Data(split(NUM_TRAIN), split(NUM_VALIDATION), split(2), ("a", "b", "c"))

    def build_model(self, data: Data, **model: Any) -> nn.Module:
        return self.make()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: Flat(nn.Dropout(0.5)),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(STEPS * F, C)),
    "recurrent": Recurrent,
    "noise": lambda: Flat(Noise()),
    "batch norm": lambda: Flat(nn.BatchNorm1d(H)),
    # The other's bias is trained on rounding errors: this one can be compared.
    "norm first": lambda: nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(STEPS * F), nn.Linear(STEPS * F, C)
    ),
}


def open_lane(objective: Objective, source: Path | None = None) -> ModelLane:
    trainer = ModelTrainer(objective, objective.load(source), data_seed=6)
    return trainer.open_lane(find_fusion_key(Hparams(batch_size=BATCH_SIZE)), 0)


def relation_table(path: Path) -> Path:
    """As many sentences and classes as the users' objective has examples."""
    rows = [
        f"a <e1>mast</e1> {'of ' * (i % 5)}<e2>ship</e2>\t{'abc'[i * i % 7 % C]}\t{split}"
        for split, count in (("train", NUM_TRAIN), ("dev", NUM_VALIDATION), ("test", 2))
        for i in range(count)
    ]
    path.write_text("\n".join(["sentence\tlabel\tsplit", *rows]) + "\n")
    return path


@pytest.fixture(params=["relation-cnn", *MODELS])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> ModelLane:
    """An empty lane of each kind of model."""
    if request.param in MODELS:
        return open_lane(Users(MODELS[request.param]))
    return open_lane(RelationCnn(), relation_table(tmp_path / "d.tsv"))


def test_reports_tell_what_the_contract_says(opened: ModelLane) -> None:
    assert opened.train_epoch() == []
    assert opened.data_epoch == 0
    slots = [3] if opened.max_slots == 1 else [3, 0, 2]
    optimizers = {3: "sgd", 0: "adam", 2: "rmsprop"}
    for slot in slots:
        rate = 0.001 * (slot + 1)
        opened.place(slot, 5 + slot, Hparams(optimizer=optimizers[slot], learning_rate=rate))
    for epoch in (1, 2):
        reports = opened.train_epoch()
        assert opened.data_epoch == epoch
        # In the order of admission, though the rows may have moved.
        assert [report.slot for report in reports] == slots
        for report in reports:
            assert report.epoch == epoch
            assert report.error is None
            assert report.learning_rate == 0.001 * (report.slot + 1)
            assert report.counts.matrix.shape == (C, C)
            assert report.counts.matrix.dtype == np.int64
            assert report.counts.matrix.sum() == NUM_VALIDATION
            assert min(report.train_loss, report.val_loss, report.grad_norm) > 0
            assert report.seconds > 0
            # Plain Python: a report travels between processes and into SQL.
            assert {type(report.train_loss), type(report.val_loss)} == {float}


def test_slot_can_be_given_again(opened: ModelLane) -> None:
    opened.place(0, 1, Hparams())
    with pytest.raises(AssertionError, match="slot 0 is taken"):
        opened.place(0, 2, Hparams())
    (first,) = opened.train_epoch()
    opened.drop(0)
    assert opened.train_epoch() == []
    opened.place(0, 1, Hparams())
    (second,) = opened.train_epoch()
    assert (first.epoch, second.epoch) == (1, 1)


def test_weights_can_be_saved_before_the_first_epoch(opened: ModelLane, tmp_path: Path) -> None:
    opened.place(0, 1, Hparams())
    path = tmp_path / "initial.safetensors"
    opened.save_best(0, path)
    opened.train_epoch()
    again = tmp_path / "again.safetensors"
    opened.save_best(0, again)
    # Nothing was kept: the epoch did not change them.
    assert path.read_bytes() == again.read_bytes()


def numbers(report: EpochReport) -> tuple[str, ...]:
    floats = (report.train_loss, report.val_loss, report.grad_norm)
    return (*(value.hex() for value in floats), str(report.counts.matrix.tolist()))


def curve(objective: Objective, epochs: int = 3) -> list[tuple[str, ...]]:
    lane = open_lane(objective)
    lane.place(0, 5, Hparams(learning_rate=0.01))
    return [numbers(lane.train_epoch()[0]) for _ in range(epochs)]


@pytest.mark.parametrize("name", MODELS)
def test_curve_does_not_depend_on_the_global_generator(name: str) -> None:
    torch.manual_seed(1)
    first = curve(Users(MODELS[name]))
    torch.manual_seed(2)
    expected = torch.rand(1)
    torch.manual_seed(2)
    assert curve(Users(MODELS[name])) == first
    if name != "noise":  # the self-check calls the model once
        assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", ["recurrent", "noise", "batch norm"])
def test_ordinary_model_learns_fused_or_not(name: str) -> None:
    lane = open_lane(Users(MODELS[name]))
    if name == "noise":
        assert (lane.max_slots, lane.path) == (1, "plain")
        assert lane.note is not None
        assert lane.note.startswith("one slot: ")
    else:
        assert (lane.max_slots, lane.path, lane.note) == (None, "stacked", None)
    lane.place(0, 5, Hparams(learning_rate=0.01, dropout=0.1))
    losses = [lane.train_epoch()[0].train_loss for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]


def plain_epochs(objective: Objective, num_epochs: int, rounding: Rounding) -> list[list[float]]:
    """Train as anyone would, on the batches of the lane; the losses of each epoch."""
    data = objective.load(None)
    torch.manual_seed(5)
    module = objective.build_model(data).double()
    for child in module.modules():
        if isinstance(child, nn.Dropout):
            child.p = 0.0
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    x, val_x = (torch.from_numpy(s.inputs[0]).double() for s in (data.train, data.validation))
    targets = torch.from_numpy(data.train.targets)
    losses = []
    for data_epoch in range(1, num_epochs + 1):
        loss_sum = 0.0
        module.train()
        for batch in batch_order(6, data_epoch, num_examples=NUM_TRAIN, batch_size=BATCH_SIZE):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(x[batch]), targets[batch])
            loss.backward()
            rounding.gradients(module.parameters())
            rounding.step(optimizer)
            loss_sum += loss.item() * len(batch)
        module.eval()
        with torch.no_grad():
            logits = module(val_x)
        val_loss = nn.functional.cross_entropy(logits, torch.from_numpy(data.validation.targets))
        losses.append([loss_sum / NUM_TRAIN, val_loss.item()])
    return losses


#: The most that a model here sums: all steps of a sequence, forward and back, and the batch.
NUM_TERMS = 2 * STEPS * (F + H) + BATCH_SIZE


@pytest.mark.parametrize("name", ["mlp", "linear", "recurrent", "norm first"])
def test_lane_of_one_slot_equals_a_plain_loop(name: str) -> None:
    objective = Users(MODELS[name])
    lane = open_lane(objective)
    lane.place(0, 5, Hparams(learning_rate=0.01, dropout=0.0))
    ours = [lane.train_epoch()[0] for _ in range(8)]
    compare_runs(
        [[report.train_loss, report.val_loss] for report in ours],
        partial(plain_epochs, objective, 8),
        NUM_TERMS,
    )


def test_trials_leave_nothing_behind_in_their_lane() -> None:
    # Running statistics are a trial's own: the second trial must not start from the first's.
    first = curve(Users(MODELS["batch norm"]))
    lane = open_lane(Users(MODELS["batch norm"]))
    lane.place(0, 8, Hparams(learning_rate=3.0))
    lane.train_epoch()
    lane.drop(0)
    lane.data_epoch = 0
    lane.place(0, 5, Hparams(learning_rate=0.01))
    assert [numbers(lane.train_epoch()[0]) for _ in range(3)] == first


# Not "batch norm": PyTorch's kernel sums channels by their number, and a bias before it magnifies
# what that changes in the last bits.
@pytest.mark.parametrize("name", ["recurrent", "noise", "norm first"])
def test_trials_of_any_path_are_bit_equal_in_company(name: str) -> None:
    lane = open_lane(Users(MODELS[name]))
    lane.place(1, 8, Hparams(learning_rate=1e30))
    lane.place(4, 5, Hparams(optimizer="sgd", learning_rate=0.01))
    lane.place(0, 5, Hparams(learning_rate=0.01))
    company = [lane.train_epoch() for _ in range(3)]
    assert [[report.slot for report in epoch] for epoch in company] == [[1, 4, 0]] * 3
    assert [numbers(epoch[2]) for epoch in company] == curve(Users(MODELS[name]))


@pytest.mark.parametrize("kind", [Bounded, BoundedAlone])
def test_exception_in_one_trial_fails_that_trial_alone(
    kind: type[Bounded], tmp_path: Path
) -> None:
    objective = Users(lambda: Flat(kind()))
    neighbours = {
        1: Hparams(learning_rate=0.01),
        4: Hparams(optimizer="sgd", learning_rate=0.1, momentum=0.9),
    }

    def neighbours_curves(raising: Hparams | None) -> tuple[list[list[EpochReport]], bytes]:
        lane = open_lane(objective)
        assert lane.path == ("stacked" if kind is Bounded else "plain")
        lane.place(1, 11, neighbours[1])
        if raising is not None:
            lane.place(2, 12, raising)
        lane.place(4, 14, neighbours[4])
        epochs = []
        for epoch in range(1, 6):
            epochs.append(lane.train_epoch())
            assert lane.data_epoch == epoch
            if epoch == 2:
                lane.keep_best(1)
            if raising is not None and epoch == 4:
                lane.drop(2)
        lane.save_best(1, tmp_path / "best.safetensors")
        return epochs, (tmp_path / "best.safetensors").read_bytes()

    without, weights_without = neighbours_curves(None)
    # About 0.75 a step and 5 steps an epoch: it leaves its bounds of 4 in the second epoch.
    beside, weights_beside = neighbours_curves(Hparams(learning_rate=0.75))
    assert weights_beside == weights_without
    for lone, company in zip(without, beside, strict=True):
        for slot in neighbours:
            ours = next(report for report in company if report.slot == slot)
            assert ours.error is None
            assert numbers(ours) == numbers(next(r for r in lone if r.slot == slot))
    raised = [report for company in beside for report in company if report.slot == 2]
    assert [[r.slot for r in company] for company in beside] == [[1, 2, 4]] * 4 + [[1, 4]]
    assert [report.error is None for report in raised] == [True, False, False, False]
    failure = raised[1]
    # One line, whatever the exception says, and the line of the file that raised it.
    assert failure.error is not None
    found = re.fullmatch(
        r"\w+Error: index out of range in self \(.*test_objectives_contract\.py:(\d+)\)",
        failure.error,
    )
    assert found is not None
    text = Path(__file__).read_text().splitlines()[int(found[1]) - 1]
    assert ".index_select(" in text
    assert (failure.epoch, failure.counts.support.sum()) == (2, 0)
    assert np.isnan([failure.train_loss, failure.val_loss, failure.grad_norm]).all()


def test_balanced_weights_leave_a_class_without_examples_out() -> None:
    class TwoOfThree(Users):
        def load(self, source: Path | None) -> Data:
            data = super().load(source)
            data.train.targets[data.train.targets == 2] = 1
            return data

    lane = open_lane(TwoOfThree(MODELS["mlp"]))
    lane.place(0, 5, Hparams(class_weights="balanced"))
    (report,) = lane.train_epoch()
    assert np.isfinite([report.train_loss, report.val_loss, report.grad_norm]).all()
