"""Shapes: S slots, B batch, F features, H hidden units, C classes, each axis its own prime."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from objectives.layers import fusion
from objectives.layers.dropout import Dropout
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x, 0.5, self.training)


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(H))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate if self.gate.sum() > 0 else x


class Product(nn.Module):
    """A weight that is used in a way that no layer knows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(H, H))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight)


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.rand(()) + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


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


class Shifted(nn.Linear):
    """Right in one trial, and wrong on stacked weights and folded examples."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if len(x) == B and x.dim() == 2 else x


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        (lambda: Shifted(H, H), "beside another trial it gives other outputs than alone"),
        (Product, "cannot be batched over trials: "),
        (Branch, "cannot be batched .*: its forward branches on the value"),
        (Noise, "cannot be batched .*: its forward draws random numbers"),
        (FunctionalDropout, "cannot be batched .*random"),
        (lambda: OwnDropout(0.5), "cannot be batched .*random"),
        (lambda: nn.AlphaDropout(0.5), "cannot be batched .*random"),
        (lambda: nn.Conv1d(B, B, 1), "a CPU takes its nn.Conv1d trial by trial"),
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
    dropouts = [m for m in program.model.modules() if isinstance(m, Dropout)]
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


@pytest.mark.parametrize(
    ("build", "form"),
    [
        (lambda: Stackable(0.0), "stacked"),
        (lambda: Stackable(0.25), "plain"),
        (lambda: Around(nn.LayerNorm(H)), "folded"),
        (lambda: nn.Sequential(nn.Linear(F, H), nn.Tanh(), nn.Linear(H, C)), "chain"),
        (lambda: nn.Sequential(nn.Linear(F, H), nn.Softplus(), nn.Linear(H, C)), "stacked"),
    ],
)
def test_model_takes_the_first_form_that_agrees(build: Callable[[], nn.Module], form: str) -> None:
    program = fusion.program(build, (features(),), C)
    assert (program.form, program.note is None) == (form, form != "plain")
