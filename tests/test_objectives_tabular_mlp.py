"""The network against one written with PyTorch's own layers, and against itself in company.

Shapes: S slots, B batch, F features, C classes, each axis its own prime.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from objectives.api import Data, DataError, EpochReport, find_fusion_key
from objectives.lanes.batches import batch_order
from objectives.lanes.trainer import ModelTrainer, fingerprint
from objectives.layers import fusion
from objectives.layers.program import widen
from objectives.tabular_mlp import TabularMlp, TabularMlpModel
from search_spaces.hparams import Hparams
from search_spaces.presets import ARGUMENTS
from tests.rounding import UNIT, Rounding, assert_same_sums, compare_runs

F, B = 17, 13


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_table(path: Path, num_classes: int) -> Path:
    """83 rows to train on, 41 to validate, 3 to test."""
    rng = np.random.default_rng(5)
    features = rng.normal(3.0, 2.0, size=(127, F))
    scores = (features - 3.0) @ rng.normal(size=(F, num_classes))
    np.savez(
        path,
        x=features,
        label=scores.argmax(axis=1),
        split=np.repeat(["train", "validation", "test"], [83, 41, 3]),
    )
    return path


@pytest.fixture(scope="module", params=[2, 3])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Data:
    path = tmp_path_factory.mktemp("data") / "t.npz"
    return TabularMlp().load(write_table(path, request.param))


def test_two_classes_have_one_output_and_the_loss_of_bce() -> None:
    torch.manual_seed(1)
    model = TabularMlpModel(F, 1, hidden_width=11)
    assert [tuple(p.shape) for p in model.parameters()][-2:] == [(1, 11), (1,)]
    inputs, targets = torch.randn(B, F), torch.arange(B) % 2
    logits_BC = widen(model(inputs))
    assert logits_BC.shape == (B, 2)
    z_B = model(inputs).squeeze(1)
    ours = nn.functional.cross_entropy(logits_BC, targets)
    theirs = nn.functional.binary_cross_entropy_with_logits(z_B, targets.float())
    assert_same_sums(ours, theirs, F + 11 + 11 + B)
    parameters = list(model.parameters())
    gradients = [torch.autograd.grad(loss, parameters) for loss in (ours, theirs)]
    for value, expected in zip(*gradients, strict=True):
        assert_same_sums(value, expected, 2 * (F + 11 + 11) + B)
    assert logits_BC.argmax(dim=1).tolist() == (z_B > 0).long().tolist()


def test_default_for_two_classes_is_64_16_16_1() -> None:
    model = TabularMlp().build_model(TabularMlp().load(None))
    shapes = [tuple(p.shape) for p in model.parameters() if p.dim() == 2]
    assert shapes == [(16, 64), (16, 16), (1, 16)]
    defaults = {name: row.default for name, row in ARGUMENTS["tabular-mlp"].items()}
    assert defaults == {"hidden_width": 16, "hidden_depth": 2}


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_depth_is_the_number_of_hidden_layers(data: Data, depth: int) -> None:
    model = TabularMlp().build_model(data, hidden_width=7, hidden_depth=depth)
    assert sum(isinstance(layer, nn.ReLU) for layer in model.hidden) == depth
    outputs = 1 if len(data.class_names) == 2 else 3
    assert model(torch.zeros(B, F)).shape == (B, outputs)


def test_features_are_standardised_on_train(data: Data) -> None:
    x = data.train.inputs[0]
    assert x.shape == (83, F)
    assert x.dtype == np.float32
    # Each number was rounded once.
    limit = UNIT * float(abs(x).max())
    np.testing.assert_allclose(x.mean(axis=0, dtype=np.float64), 0.0, atol=limit)
    np.testing.assert_allclose(x.std(axis=0, dtype=np.float64), 1.0, atol=limit)
    assert (abs(data.validation.inputs[0].mean(axis=0)) > 1e-3).any()
    assert data.class_names == tuple("012"[: len(data.class_names)])


def plain_epochs(data: Data, num_epochs: int, rounding: Rounding) -> list[list[float]]:
    """Train PyTorch's own layers on the batches of the lane; the loss of each epoch."""
    torch.manual_seed(4)
    num_classes = len(data.class_names)
    # The two-class model draws the weights of one output.
    outputs = 1 if num_classes == 2 else num_classes
    reference = nn.Sequential(
        nn.Linear(F, 13), nn.ReLU(), nn.Linear(13, 13), nn.ReLU(), nn.Linear(13, outputs)
    ).double()
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01)
    inputs, targets = (
        torch.from_numpy(data.train.inputs[0]).double(),
        torch.from_numpy(data.train.targets),
    )
    losses = []
    for data_epoch in range(1, num_epochs + 1):
        loss_sum = 0.0
        for batch in batch_order(2, data_epoch, num_examples=83, batch_size=20):
            optimizer.zero_grad()
            output = reference(inputs[batch])
            if num_classes == 2:
                loss = nn.functional.binary_cross_entropy_with_logits(
                    output.squeeze(1), targets[batch].double()
                )
            else:
                loss = nn.functional.cross_entropy(output, targets[batch])
            loss.backward()
            rounding.gradients(reference.parameters())
            rounding.step(optimizer)
            loss_sum += loss.item() * len(batch)
        losses.append([loss_sum / 83])
    return losses


def test_lane_equals_a_plain_loop(data: Data) -> None:
    trainer = ModelTrainer(TabularMlp(), data, data_seed=2)
    hparams = Hparams(learning_rate=0.01, dropout=0.0, batch_size=20, model={"hidden_width": 13})
    lane = trainer.open_lane(find_fusion_key(hparams), 0)
    lane.place(1, 8, hparams.model_copy(update={"learning_rate": 1e30}))
    lane.place(0, 4, hparams)
    reports = [{report.slot: report for report in lane.train_epoch()} for _ in range(5)]
    ours = [[epoch[0].train_loss] for epoch in reports]
    compare_runs(ours, partial(plain_epochs, data, 5), 2 * (F + 13 + 13) + 20)


def test_model_is_fused(data: Data) -> None:
    def build() -> nn.Module:
        return TabularMlp().build_model(data)

    inputs = (torch.from_numpy(data.train.inputs[0][:5]),)
    assert fusion.program(build, inputs, len(data.class_names)).note is None


def as_bits(report: EpochReport) -> list[str]:
    numbers = (report.train_loss, report.val_loss, report.grad_norm)
    return [*(number.hex() for number in numbers), str(report.counts.matrix.tolist())]


@pytest.mark.parametrize("slot", [0, 4])
@pytest.mark.parametrize("width", [16, 13])
def test_curve_is_bit_equal_beside_a_diverging_neighbour(
    data: Data, slot: int, width: int
) -> None:
    # 83 training rows: the last batch has 3.
    trainer = ModelTrainer(TabularMlp(), data, data_seed=3)
    subject = Hparams(
        learning_rate=0.01, dropout=0.3, batch_size=20, model={"hidden_width": width}
    )
    diverging = subject.model_copy(update={"learning_rate": 3e38})

    def curve(company: list[tuple[int, Hparams]]) -> list[list[str]]:
        lane = trainer.open_lane(find_fusion_key(subject), 0)
        for seed, (place, hparams) in enumerate(company):
            lane.place(place, 7 if hparams is subject else 20 + seed, hparams)
        place = next(place for place, hparams in company if hparams is subject)
        found = []
        for _ in range(4):
            found += [as_bits(report) for report in lane.train_epoch() if report.slot == place]
        return found

    alone = curve([(0, subject)])
    other = Hparams(optimizer="sgd", learning_rate=0.1, batch_size=20, model=subject.model)
    assert curve([(2, diverging), (3, other), (slot, subject)]) == alone
    assert len({str(epoch) for epoch in alone}) == 4


def test_mistake_in_a_file_is_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,lable\n1,a\n")
    with pytest.raises(DataError, match="no column 'label'"):
        TabularMlp().load(path)


def test_two_loads_of_the_shipped_data_agree() -> None:
    first, second = TabularMlp().load(None), TabularMlp().load(None)
    assert fingerprint(first) == fingerprint(second)
    assert first.class_names == ("<=50K", ">50K")
    sizes = [len(split.targets) for split in (first.train, first.validation, first.test)]
    assert sizes == [26_049, 6_512, 16_281]
    assert first.train.inputs[0].shape[1] == 64
