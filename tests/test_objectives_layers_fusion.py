"""Shapes: S slots, B batch, F features, H hidden units, C classes, each axis its own prime."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from objectives.layers import fusion, stacked
from tests.rounding import assert_same_sums

pytestmark = pytest.mark.usefixtures("one_thread")

B, F, H, C = 5, 17, 19, 3
WORDS = 23


def features() -> torch.Tensor:
    return torch.randn(B, F, generator=torch.Generator().manual_seed(1))


def tokens() -> torch.Tensor:
    drawn = torch.randint(WORDS, (B, 7), generator=torch.Generator().manual_seed(1))
    drawn[:, -2:] = 0
    return drawn


class Around(nn.Module):
    """A layer in the middle of two linear ones."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(F, H)
        self.middle = middle
        self.head = nn.Linear(H, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.middle(self.first(x)))
        return logits


class Noise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand(x.shape)


class FunctionalDropout(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x, 0.5, self.training)


class OwnDropout(nn.Dropout):
    """Not a plain ``nn.Dropout``: its ``forward`` could do anything."""


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(H, H)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.unsqueeze(0))[0].squeeze(0)  # type: ignore[no-any-return]


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(H))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate if self.gate.sum() > 0 else x


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.rand(()) + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


class Words(nn.Module):
    """Mean of word vectors; with ``moves`` each slot computes word numbers of its own."""

    def __init__(self, *, moves: bool, padding_idx: int | None) -> None:
        super().__init__()
        self.moves = moves
        self.words = nn.Embedding(WORDS, H, padding_idx=padding_idx)
        self.head = nn.Linear(H, C)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.moves:
            tokens = tokens + (self.head.bias.detach()[0] * 0).long()
        logits: torch.Tensor = self.head(self.words(tokens).mean(dim=1))
        return logits


@pytest.mark.parametrize(
    "middle",
    [
        nn.ReLU,
        nn.GELU,
        lambda: nn.LayerNorm(H),
        lambda: nn.Dropout(0.5),
        lambda: nn.Dropout(0.5, inplace=True),
        Scale,
        lambda: nn.Sequential(nn.Linear(H, H, bias=False), nn.Tanh(), nn.Linear(H, H)),
    ],
)
def test_model_that_batches_has_no_note(middle: Callable[[], nn.Module]) -> None:
    program = fusion.program(lambda: Around(middle()), (features(),), C)
    assert program.note is None


class _Shifted(torch.autograd.Function):
    """A layer with a rule for vmap that is wrong."""

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0]

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: torch.Tensor
    ) -> tuple[torch.Tensor, int | None]:
        return x + 1, in_dims[0]


class Shifted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Shifted.apply(x)  # type: ignore[no-any-return, no-untyped-call]


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        (Shifted, "beside another trial it gives other outputs than alone"),
        (Recurrent, "cannot be batched .*: PyTorch's nn.GRU takes"),
        (Branch, "cannot be batched .*: its forward branches on the value"),
        (Noise, "cannot be batched .*: its forward draws random numbers"),
        (FunctionalDropout, "cannot be batched .*random"),
        # A subclass keeps its own forward, so it draws from torch's generator.
        (lambda: OwnDropout(0.5), "cannot be batched .*random"),
        # The bias before it has no gradient but noise, which is another in company.
        (lambda: nn.BatchNorm1d(H), "gradient of 'first.bias' .*BatchNorm1d"),
    ],
)
def test_model_that_does_not_batch_has_a_note(
    middle: Callable[[], nn.Module], reason: str
) -> None:
    program = fusion.program(lambda: Around(middle()), (features(),), C)
    assert program.note is not None
    assert "\n" not in program.note
    assert re.search(reason, program.note)


def test_unfused_model_keeps_its_own_dropout_rate() -> None:
    program = fusion.program(lambda: Around(OwnDropout(0.5)), (features(),), C)
    assert isinstance(program.model, Around)
    assert isinstance(program.model.middle, OwnDropout)
    assert program.model.middle.p == 0.5


def test_padding_row_with_another_gradient_in_company_is_found() -> None:
    # torch 2.13 moves each slot's word numbers into a stacked table, but not the padding's.
    program = fusion.program(lambda: Words(moves=True, padding_idx=0), (tokens(),), C)
    assert program.note is not None
    assert "gradient of 'words.weight'" in program.note


@pytest.mark.parametrize(("moves", "padding_idx"), [(False, 0), (False, None), (True, None)])
def test_embedding_is_fused_where_two_slots_agree(moves: bool, padding_idx: int | None) -> None:
    program = fusion.program(lambda: Words(moves=moves, padding_idx=padding_idx), (tokens(),), C)
    assert program.note is None


def test_fused_logits_and_gradients_equal_those_of_plain_modules() -> None:
    program = fusion.program(lambda: Around(nn.Tanh()), (features(),), C)
    modules = []
    for seed in (5, 6, 7):
        torch.manual_seed(seed)
        modules.append(Around(nn.Tanh()))
    rows = {
        name: torch.stack([dict(m.named_parameters())[name].detach() for m in modules])
        for name in program.trained
    }
    leaves = {name: row.requires_grad_() for name, row in rows.items()}
    logits_SBC = program.logits(leaves, (features(),))
    assert logits_SBC.shape == (3, B, C)
    grads = torch.autograd.grad(logits_SBC.square().sum(), list(leaves.values()))
    for slot, module in enumerate(modules):
        logits_BC = module(features())
        logits_BC.square().sum().backward()
        assert_same_sums(logits_SBC[slot], logits_BC, F + H)
        for name, grad in zip(leaves, grads, strict=True):
            expected = dict(module.named_parameters())[name].grad
            assert_same_sums(grad[slot], expected, F + H + C + B)


def test_frozen_parameters_are_shared_only_if_every_trial_has_them_alike() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same = nn.Parameter(torch.eye(F), requires_grad=False)
            self.drawn = nn.Parameter(torch.randn(F, F), requires_grad=False)
            self.register_buffer("scale", torch.ones(F))
            self.head = nn.Linear(F, C)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x @ self.same @ self.drawn * self.scale)  # type: ignore[no-any-return]

    program = fusion.program(Frozen, (features(),), C)
    assert program.note is None
    assert set(program.shared) == {"same", "scale"}
    assert set(program.own) == {"drawn"}
    assert set(program.trained) == {"head.weight", "head.bias"}


def test_buffer_that_forward_changes_is_a_trial_s_own() -> None:
    program = fusion.program(lambda: Around(nn.BatchNorm1d(H)), (features(),), C)
    names = {f"middle.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")}
    assert names <= set(program.own)


def test_nan_in_the_data_is_no_reason_to_train_one_slot_at_a_time() -> None:
    x = features()
    x[2] = torch.nan
    assert fusion.program(lambda: Around(nn.Tanh()), (x,), C).note is None


def test_wrong_width_is_a_mistake_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(batch, classes\) = \(5, 4\), got \(5, 3\)"):
        fusion.program(lambda: Around(nn.ReLU()), (features(),), C + 1)


def test_self_check_leaves_the_generator_and_the_dropout_rates_alone() -> None:
    built: list[nn.Dropout] = []

    def build() -> nn.Module:
        built.append(nn.Dropout(0.25))
        return Around(built[-1])

    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    program = fusion.program(build, (features(),), C)
    assert torch.equal(torch.rand(1), expected)
    dropouts = [m for m in program.model.modules() if isinstance(m, stacked.Dropout)]
    assert [float(dropout.scale) for dropout in dropouts] == [pytest.approx(1 / 0.75)]


class OneOutput(nn.Module):
    """One output for two classes; ``branches`` so that it cannot be fused."""

    def __init__(self, *, branches: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(F, 1)
        self.branches = branches

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z: torch.Tensor = self.layer(x)
        return z if not self.branches or z.sum() > -1e9 else -z


@pytest.mark.parametrize("branches", [False, True])
def test_one_output_for_two_classes_trains_as_bce_with_logits(branches: bool) -> None:
    program = fusion.program(lambda: OneOutput(branches=branches), (features(),), 2)
    assert (program.note is not None) == branches
    plain = OneOutput(branches=branches)
    rows = {name: p.detach()[None].repeat_interleave(3, 0) for name, p in plain.named_parameters()}
    leaves = {name: row.requires_grad_() for name, row in rows.items()}
    targets = torch.arange(B) % 2
    logits_SBC = program.logits(leaves, (features(),))
    assert logits_SBC.shape == (3, B, 2)
    loss = functional.cross_entropy(logits_SBC[1], targets)
    z_B = plain(features()).squeeze(1)
    expected = nn.BCEWithLogitsLoss()(z_B, targets.float())
    assert_same_sums(loss, expected, F + B)
    assert logits_SBC[1].argmax(dim=1).tolist() == (z_B > 0).long().tolist()
    grads = torch.autograd.grad(loss, list(leaves.values()))
    for grad, theirs in zip(
        grads, torch.autograd.grad(expected, list(plain.parameters())), strict=True
    ):
        assert_same_sums(grad[1], theirs, F + B)


def test_one_output_for_more_classes_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"got \(5, 1\)"):
        fusion.program(lambda: OneOutput(branches=False), (features(),), C)


class Stackable(nn.Module):
    """Takes stacked weights; ``shift`` spoils what it does with them."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.first = nn.Linear(F, H)
        self.bias = nn.Parameter(torch.zeros(H))
        self.head = nn.Linear(H, C)
        self.shift = shift

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x) + self.bias.unsqueeze(-2)
        if self.bias.dim() == 2:
            hidden = hidden + self.shift
        logits: torch.Tensor = self.head(torch.relu(hidden))
        return logits


def test_model_that_takes_stacked_weights_is_run_without_vmap() -> None:
    program = fusion.program(lambda: Stackable(0.0), (features(),), C)
    assert (program.is_stackable, program.note) == (True, None)


def test_model_that_is_wrong_on_stacked_weights_is_run_under_vmap() -> None:
    program = fusion.program(lambda: Stackable(0.25), (features(),), C)
    assert (program.is_stackable, program.note) == (False, None)


def test_ordinary_perceptron_is_run_without_vmap() -> None:
    def build() -> nn.Module:
        middle = (nn.Linear(H, H), nn.ReLU(), nn.Dropout(0.5))
        return nn.Sequential(nn.Linear(F, H), nn.Tanh(), *middle, nn.Linear(H, C))

    assert fusion.program(build, (features(),), C).is_stackable


def test_stacked_weights_and_vmap_give_the_same_bits() -> None:
    stacked = fusion.program(lambda: Stackable(0.0), (features(),), C)
    batched = replace(stacked, is_stackable=False)
    draw = torch.Generator().manual_seed(2)
    rows = {
        name: torch.randn(3, *tensor.shape, generator=draw)
        for name, tensor in stacked.model.named_parameters()
    }
    assert torch.equal(stacked.logits(rows, (features(),)), batched.logits(rows, (features(),)))
