"""The recurrent layers against ``nn.GRU`` and ``nn.LSTM``, and against themselves in company.

Shapes: S slots, B batch, L steps, F features, H hidden units, C classes, each its own prime.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from objectives.api import Data, EpochReport, find_fusion_key
from objectives.lanes.batches import batch_order
from objectives.lanes.trainer import ModelTrainer, fingerprint
from objectives.layers import fusion, stacked
from objectives.layers.recurrent import Recurrent
from objectives.sequence_rnn import SequenceRnn, SequenceRnnModel
from search_spaces.hparams import Hparams
from search_spaces.presets import ARGUMENTS
from tests.rounding import UNIT, Rounding, assert_same_sums, compare_runs

S, B, L, F, H, C = 3, 13, 11, 5, 7, 2
CELLS = ("gru", "lstm")
#: Terms of a state after L steps, of up to four gates each, and of a gradient.
STATE_TERMS = L * (F + H)
GRADIENT_TERMS = 2 * STATE_TERMS + 4 * L * H + B


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def reference_of(layer: Recurrent) -> nn.Module:
    """PyTorch's own layer with the same weights."""
    num_features, hidden = layer.input.in_features, layer.weight.shape[1]
    reference = (nn.GRU if layer.cell == "gru" else nn.LSTM)(
        num_features, hidden, batch_first=True
    )
    with torch.no_grad():
        reference.weight_ih_l0.copy_(layer.input.weight)
        reference.bias_ih_l0.copy_(layer.input.bias)
        reference.weight_hh_l0.copy_(layer.weight)
        reference.bias_hh_l0.copy_(layer.bias)
    return reference


def last_states(reference: nn.Module, steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    packed = nn.utils.rnn.pack_padded_sequence(
        steps, lengths, batch_first=True, enforce_sorted=False
    )
    final: Any = reference(packed)[1]
    return (final[0] if isinstance(final, tuple) else final).squeeze(0)


def draw_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    steps = torch.randn(B, L, F, generator=generator)
    lengths = torch.randint(1, L + 1, (B,), generator=generator)
    lengths[0], lengths[1] = 1, L
    return steps, lengths


@pytest.mark.parametrize("cell", CELLS)
def test_states_and_gradients_equal_those_of_pytorch(cell: str) -> None:
    torch.manual_seed(1)
    layer = Recurrent(F, H, cell=cell)
    reference = reference_of(layer)
    steps, lengths = draw_batch()
    steps.requires_grad_()
    ours, theirs = layer(steps, lengths), last_states(reference, steps, lengths)
    assert_same_sums(ours, theirs, STATE_TERMS)
    own = [steps, layer.input.weight, layer.input.bias, layer.weight, layer.bias]
    gradients = torch.autograd.grad(ours.square().sum(), own)
    names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    expected = torch.autograd.grad(
        theirs.square().sum(), [steps, *(getattr(reference, name) for name in names)]
    )
    for value, other in zip(gradients, expected, strict=True):
        assert_same_sums(value, other, GRADIENT_TERMS)


@pytest.mark.parametrize("batch", [B, 3])  # 3: fewer rows than a product may have
@pytest.mark.parametrize("cell", CELLS)
def test_slots_equal_pytorch_each_with_its_own_weights(cell: str, batch: int) -> None:
    torch.manual_seed(3)
    plain = [Recurrent(F, H, cell=cell) for _ in range(S)]
    model = stacked.batchable(plain[0])
    names = [name for name, _ in model.named_parameters()]
    stack = {
        name: torch.stack([dict(layer.named_parameters())[name].detach() for layer in plain])
        for name in names
    }
    leaves = {name: tensor.requires_grad_() for name, tensor in stack.items()}
    steps, lengths = (tensor[:batch] for tensor in draw_batch())

    def call(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        result: torch.Tensor = functional_call(model, tensors, (steps, lengths))
        return result

    states_SBH = call(leaves)
    gradients = torch.autograd.grad(states_SBH.square().sum(), list(leaves.values()))
    for s, layer in enumerate(plain):
        reference = reference_of(layer)
        expected = last_states(reference, steps, lengths)
        assert_same_sums(states_SBH[s], expected, STATE_TERMS)
        expected.square().sum().backward()
        theirs = {
            "weight": reference.weight_hh_l0.grad,
            "bias": reference.bias_hh_l0.grad,
            "input.weight": reference.weight_ih_l0.grad,
            "input.bias": reference.bias_ih_l0.grad,
        }
        for name, gradient in zip(leaves, gradients, strict=True):
            assert_same_sums(gradient[s], theirs[name], GRADIENT_TERMS)


@pytest.mark.parametrize("cell", CELLS)
def test_padding_changes_nothing(cell: str) -> None:
    torch.manual_seed(4)
    model = SequenceRnnModel(F, C, cell=cell, hidden=H, dropout=0.0)
    steps, lengths = draw_batch()
    longer = torch.cat([steps, torch.full((B, 6, F), 9.0)], dim=1)
    real = torch.arange(L) < lengths.unsqueeze(1)
    other = torch.where(real.unsqueeze(-1), steps, -3.0)
    results = []
    for inputs in (steps, longer, other):
        model.zero_grad()
        logits = model(inputs, lengths)
        logits.square().sum().backward()
        results.append([logits.detach(), *(p.grad.clone() for p in model.parameters())])
    for changed in results[1:]:
        for value, expected in zip(changed, results[0], strict=True):
            assert_same_sums(value, expected, GRADIENT_TERMS)


def write_sequences(path: Path) -> Path:
    """83 sequences to train on, 41 to validate, 3 to test; 1 to 17 steps."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 18, size=127)
    labels = np.arange(127) % 3
    sequences = rng.normal(size=(lengths.sum(), 13)) + np.repeat(labels, lengths)[:, None] * 0.4
    split = np.repeat(["train", "validation", "test"], [83, 41, 3])
    np.savez(path, sequences=sequences, lengths=lengths, labels=labels, split=split)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return SequenceRnn().load(write_sequences(tmp_path_factory.mktemp("data") / "s.npz"))


def test_sequences_are_padded_and_standardised_on_real_steps(data: Data) -> None:
    steps, lengths = data.train.inputs[0], data.train.lengths
    assert lengths is not None
    assert steps.shape == (83, lengths.max(), 13)
    real = np.arange(steps.shape[1]) < lengths[:, None]
    # Each number was rounded once.
    limit = UNIT * float(abs(steps).max())
    np.testing.assert_allclose(steps[real].mean(axis=0, dtype=np.float64), 0.0, atol=limit)
    np.testing.assert_allclose(steps[real].std(axis=0, dtype=np.float64), 1.0, atol=limit)
    assert not steps[~real].any()


@pytest.mark.parametrize("cell", CELLS)
def test_model_is_fused(data: Data, cell: str) -> None:
    def build() -> nn.Module:
        return SequenceRnn().build_model(data, cell=cell)

    assert data.train.lengths is not None
    inputs = tuple(torch.from_numpy(a[:5]) for a in (*data.train.inputs, data.train.lengths))
    assert fusion.program(build, inputs, 3).note is None


def plain_epochs(
    data: Data, model: dict[str, Any], num_epochs: int, rounding: Rounding
) -> list[list[float]]:
    """Train PyTorch's layer on the batches of the lane; the loss of each epoch."""
    torch.manual_seed(4)
    same = SequenceRnn().build_model(data, **model)
    reference, output = reference_of(same.recurrent).double(), same.output.double()
    parameters = [*reference.parameters(), *output.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    assert data.train.lengths is not None
    steps, lengths = torch.from_numpy(data.train.inputs[0]), torch.from_numpy(data.train.lengths)
    steps, targets = steps.double(), torch.from_numpy(data.train.targets)
    losses = []
    for data_epoch in range(1, num_epochs + 1):
        loss_sum = 0.0
        for batch in batch_order(
            2, data_epoch, num_examples=83, batch_size=20, lengths=data.train.lengths
        ):
            optimizer.zero_grad()
            logits = output(last_states(reference, steps[batch], lengths[batch]))
            loss = nn.functional.cross_entropy(logits, targets[batch])
            loss.backward()
            rounding.gradients(parameters)
            rounding.step(optimizer)
            loss_sum += loss.item() * len(batch)
        losses.append([loss_sum / 83])
    return losses


@pytest.mark.parametrize("cell", CELLS)
def test_lane_equals_a_plain_loop_over_pytorch(data: Data, cell: str) -> None:
    trainer = ModelTrainer(SequenceRnn(), data, data_seed=2)
    model = {"cell": cell, "hidden": 17}
    hparams = Hparams(learning_rate=0.01, dropout=0.0, batch_size=20, model=model)
    lane = trainer.open_lane(find_fusion_key(hparams), 0)
    lane.place(1, 8, hparams.model_copy(update={"learning_rate": 1e30}))
    lane.place(0, 4, hparams)
    reports = [{report.slot: report for report in lane.train_epoch()} for _ in range(4)]
    ours = [[epoch[0].train_loss] for epoch in reports]
    # Up to 17 steps, forward and back.
    compare_runs(ours, partial(plain_epochs, data, model, 4), 2 * 17 * (13 + 17) + 20)


def as_bits(report: EpochReport) -> list[str]:
    numbers = (report.train_loss, report.val_loss, report.grad_norm)
    return [*(number.hex() for number in numbers), str(report.counts.matrix.tolist())]


@pytest.mark.parametrize("slot", [0, 4])
@pytest.mark.parametrize(("cell", "hidden"), [("gru", 13), ("gru", 32), ("lstm", 17)])
def test_curve_is_bit_equal_beside_a_diverging_neighbour(
    data: Data, cell: str, hidden: int, slot: int
) -> None:
    # 83 training sequences: the last batch has 3.
    trainer = ModelTrainer(SequenceRnn(), data, data_seed=3)
    model = {"cell": cell, "hidden": hidden}
    subject = Hparams(learning_rate=0.01, dropout=0.3, batch_size=20, model=model)
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
    other = Hparams(optimizer="sgd", learning_rate=0.1, batch_size=20, model=model)
    assert curve([(2, diverging), (3, other), (slot, subject)]) == alone
    assert len({str(epoch) for epoch in alone}) == 4


def test_defaults_are_those_of_the_table() -> None:
    defaults = {name: row.default for name, row in ARGUMENTS["sequence-rnn"].items()}
    model = SequenceRnnModel(F, C)
    assert model.recurrent.cell == defaults["cell"]
    assert model.recurrent.weight.shape[1] == defaults["hidden"]


def test_two_loads_of_the_shipped_data_agree() -> None:
    first, second = SequenceRnn().load(None), SequenceRnn().load(None)
    assert fingerprint(first) == fingerprint(second)
    assert first.class_names == ("6", "7", "8", "9")
    sizes = [len(split.targets) for split in (first.train, first.validation, first.test)]
    assert sizes == [840, 180, 180]
