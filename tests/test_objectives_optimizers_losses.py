"""The training loss of many slots. S slots, B batch, C classes, each its own prime."""

import pytest
import torch
from torch import nn

from objectives.optimizers import losses
from search_spaces.hparams import Hparams
from tests.rounding import assert_same_sums

S, B, C = 5, 7, 3


def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits_SBC = 3.0 * torch.randn(S, B, C, generator=generator)
    # Not every class is in the batch.
    targets_B = torch.randint(C - 1, (B,), generator=generator)
    weights_SC = 0.1 + torch.rand(S, C, generator=generator)
    return logits_SBC, targets_B, weights_SC


def assert_same_losses(
    ours: torch.Tensor, theirs: torch.Tensor, grad_BC: torch.Tensor, their_grad_BC: torch.Tensor
) -> None:
    # A logit of 9 is subtracted from another before either is small.
    assert_same_sums(ours.detach(), theirs.detach(), B + C, at_least=9.0)
    assert_same_sums(grad_BC, their_grad_BC, B + C, at_least=9.0 / B)


@pytest.mark.parametrize("smoothing", [None, [0.0, 0.1, 0.5, 0.99, 0.3]], ids=["none", "each"])
def test_loss_and_gradient_equal_cross_entropy_loss(smoothing: list[float] | None) -> None:
    logits_SBC, targets_B, weights_SC = draw(2)
    logits_SBC.requires_grad_()
    smoothing_S = None if smoothing is None else torch.tensor(smoothing)
    ours_S = losses.cross_entropy(logits_SBC, targets_B, weights_SC, smoothing_S)
    (grad_SBC,) = torch.autograd.grad(ours_S.sum(), [logits_SBC])
    for slot in range(S):
        logits_BC = logits_SBC[slot].detach().requires_grad_()
        share = 0.0 if smoothing is None else smoothing[slot]
        loss = nn.CrossEntropyLoss(weights_SC[slot], label_smoothing=share)(logits_BC, targets_B)
        (grad_BC,) = torch.autograd.grad(loss, [logits_BC])
        assert_same_losses(ours_S[slot], loss, grad_SBC[slot], grad_BC)


@pytest.mark.parametrize("neighbour", [1.0, torch.inf, torch.nan])
def test_slot_is_bit_equal_beside_others_that_smooth(neighbour: float) -> None:
    logits_SBC, targets_B, weights_SC = draw(3)
    logits_SBC[2] *= neighbour
    logits_SBC.requires_grad_()
    smoothing = [0.0, 0.1, 0.2, 0.0, 0.3]
    ours_S = losses.cross_entropy(logits_SBC, targets_B, weights_SC, torch.tensor(smoothing))
    (grad_SBC,) = torch.autograd.grad(ours_S.sum(), [logits_SBC])
    for slot in (0, 1, 3, 4):
        row = slice(slot, slot + 1)
        logits_1BC = logits_SBC[row].detach().requires_grad_()
        share = torch.tensor([smoothing[slot]]) if smoothing[slot] else None
        alone = losses.cross_entropy(logits_1BC, targets_B, weights_SC[row], share)
        (grad_1BC,) = torch.autograd.grad(alone, [logits_1BC])
        assert ours_S[slot].item() == alone.item()
        assert torch.equal(grad_SBC[slot], grad_1BC[0])


def test_infinite_loss_of_a_slot_that_does_not_smooth_stays_infinite() -> None:
    logits_SBC, targets_B, weights_SC = draw(5)
    # The true class of every example is called impossible.
    logits_SBC[1] = torch.where(torch.arange(C) == 2, 0.0, -torch.inf)
    smoothing_S = torch.tensor([0.1, 0.0, 0.0, 0.0, 0.0])
    for share in (None, smoothing_S):
        assert losses.cross_entropy(logits_SBC, targets_B, weights_SC, share)[1] == torch.inf


def draw_distributions(seed: int) -> torch.Tensor:
    """Shares of the classes, (B, C), the last row a single class."""
    shares_BC = torch.rand(B, C, generator=torch.Generator().manual_seed(seed)).softmax(dim=1)
    shares_BC[-1] = torch.tensor([0.0, 1.0, 0.0])
    return shares_BC


@pytest.mark.parametrize("smoothing", [None, [0.0, 0.1, 0.5, 0.99, 0.3]], ids=["none", "each"])
def test_loss_of_distributions_equals_cross_entropy_loss(smoothing: list[float] | None) -> None:
    logits_SBC, _, weights_SC = draw(11)
    targets_BC = draw_distributions(13)
    logits_SBC.requires_grad_()
    smoothing_S = None if smoothing is None else torch.tensor(smoothing)
    ours_S = losses.cross_entropy(logits_SBC, targets_BC, weights_SC, smoothing_S)
    (grad_SBC,) = torch.autograd.grad(ours_S.sum(), [logits_SBC])
    for slot in range(S):
        logits_BC = logits_SBC[slot].detach().requires_grad_()
        share = 0.0 if smoothing is None else smoothing[slot]
        loss = nn.CrossEntropyLoss(weights_SC[slot], label_smoothing=share)(logits_BC, targets_BC)
        (grad_BC,) = torch.autograd.grad(loss, [logits_BC])
        assert_same_losses(ours_S[slot], loss, grad_SBC[slot], grad_BC)


@pytest.mark.parametrize("neighbour", [1.0, torch.inf, torch.nan])
def test_slot_of_distributions_is_bit_equal_beside_others(neighbour: float) -> None:
    logits_SBC, _, weights_SC = draw(17)
    targets_BC = draw_distributions(19)
    logits_SBC[2] *= neighbour
    logits_SBC.requires_grad_()
    smoothing = [0.0, 0.1, 0.2, 0.0, 0.3]
    ours_S = losses.cross_entropy(logits_SBC, targets_BC, weights_SC, torch.tensor(smoothing))
    (grad_SBC,) = torch.autograd.grad(ours_S.sum(), [logits_SBC])
    for slot in (0, 1, 3, 4):
        row = slice(slot, slot + 1)
        logits_1BC = logits_SBC[row].detach().requires_grad_()
        share = torch.tensor([smoothing[slot]]) if smoothing[slot] else None
        alone = losses.cross_entropy(logits_1BC, targets_BC, weights_SC[row], share)
        (grad_1BC,) = torch.autograd.grad(alone, [logits_1BC])
        assert ours_S[slot].item() == alone.item()
        assert torch.equal(grad_SBC[slot], grad_1BC[0])


def test_distribution_names_its_likeliest_class_and_the_earliest_of_equal_ones() -> None:
    targets_BC = torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [0.0, 0.5, 0.5]])
    assert losses.true_classes(targets_BC).tolist() == [1, 0, 1]
    assert losses.true_classes(torch.tensor([2, 0])).tolist() == [2, 0]


def test_balanced_weights_count_the_shares_of_distributions() -> None:
    classes_N = torch.tensor([0, 0, 0, 1, 1])
    one_hot_NC = nn.functional.one_hot(classes_N, C).float()
    expected = losses.balanced_weights(classes_N, C)
    assert torch.equal(losses.balanced_weights(one_hot_NC, C), expected)
    # Sums of 3.0, 1.5 and 0.5, which counts as 1.
    soft_NC = torch.tensor([[0.5, 0.5, 0.0]] * 2 + [[1.0, 0.0, 0.0]] * 2 + [[0.0, 0.5, 0.5]])
    expected_C = [5 / (3 * 3.0), 5 / (3 * 1.5), 5 / 3]
    assert losses.balanced_weights(soft_NC, C).tolist() == pytest.approx(expected_C)


def test_criterion_holds_what_the_trials_ask_for() -> None:
    balanced_C = losses.balanced_weights(torch.tensor([0, 0, 0, 1, 1]), C)
    # The third class is absent: with a weight, smoothing would draw all examples to it.
    assert balanced_C.tolist() == pytest.approx([5 / 9, 5 / 6, 0.0])
    plain, balanced = Hparams(), Hparams(class_weights="balanced")
    assert losses.criterion([plain, balanced], balanced_C).smoothing_S is None
    criterion = losses.criterion([balanced, plain, Hparams(label_smoothing=0.25)], balanced_C)
    assert criterion.weights_SC.tolist() == [balanced_C.tolist(), [1.0] * C, [1.0] * C]
    assert criterion.smoothing_S is not None
    assert criterion.smoothing_S.tolist() == [0.0, 0.0, 0.25]
