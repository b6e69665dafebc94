"""Shapes: S slots, B batch, L steps, K inputs of a window, F filters, each axis its own prime."""

import pytest
import torch
from torch.nn import functional

from objectives.layers.convolution import largest_response, windows
from tests.rounding import assert_same_sums

pytestmark = pytest.mark.usefixtures("one_thread")

S = 5


def draw(
    sizes: tuple[int, int, int, int, int], *, is_first_shared: bool
) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """First and second windows and weights, lengths, and a cotangent (S, B, F)."""
    batch, steps, first, second, filters = sizes
    generator = torch.Generator().manual_seed(sum(sizes))
    shapes = [
        (() if is_first_shared else (S,)) + (batch, steps, first),
        (S, filters, first),
        (S, batch, steps, second),
        (S, filters, second),
    ]
    tensors = [torch.randn(*shape, generator=generator) for shape in shapes]
    lengths = torch.randint(1, steps + 1, (batch,), generator=generator)
    lengths[0] = steps
    return tensors, lengths, torch.randn(S, batch, filters, generator=generator)


def fused(
    tensors: list[torch.Tensor],
    lengths: torch.Tensor,
    cotangent: torch.Tensor,
    *,
    is_first_shared: bool,
) -> list[torch.Tensor]:
    leaves = [t.clone().requires_grad_(t.dim() > 3 or i > 0) for i, t in enumerate(tensors)]
    output = largest_response(*leaves, lengths)
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    return [output.detach(), *torch.autograd.grad((output * cotangent).sum(), wanted)]


def reference(
    tensors: list[torch.Tensor],
    lengths: torch.Tensor,
    cotangent: torch.Tensor,
    *,
    is_first_shared: bool,
) -> list[torch.Tensor]:
    """A masked maximum by PyTorch's own operations, one slot after the other."""
    results = []
    for slot in range(len(cotangent)):
        own = [t if i == 0 and is_first_shared else t[slot] for i, t in enumerate(tensors)]
        leaves = [
            t.clone().requires_grad_(i > 0 or not is_first_shared) for i, t in enumerate(own)
        ]
        response = torch.cat([leaves[0], leaves[2]], -1) @ torch.cat([leaves[1], leaves[3]], -1).mT
        real = torch.arange(response.shape[1]) < lengths.unsqueeze(1)
        largest = response.masked_fill(~real.unsqueeze(-1), -torch.inf).max(dim=1).values
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        grads = torch.autograd.grad((largest * cotangent[slot]).sum(), wanted)
        results.append([largest.detach(), *grads])
    return [torch.stack(values) for values in zip(*results, strict=True)]


SIZES = [
    (7, 11, 51, 31, 17),
    (1, 1, 51, 31, 17),  # one example of one step
    (3, 2, 51, 31, 17),  # fewer than 12 rows
    (53, 7, 23, 5, 19),  # narrow second features: few numbers a position
    (7, 11, 13, 3, 17),
    (7, 11, 2, 31, 17),
    (7, 11, 51, 31, 1),  # one filter
    (2, 257, 13, 5, 3),  # more steps than a byte can rank
]


@pytest.mark.parametrize("is_first_shared", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
def test_response_and_gradients_equal_a_masked_maximum(
    sizes: tuple[int, int, int, int, int], is_first_shared: bool
) -> None:
    case = draw(sizes, is_first_shared=is_first_shared)
    ours = fused(*case, is_first_shared=is_first_shared)
    theirs = reference(*case, is_first_shared=is_first_shared)
    for value, expected in zip(ours, theirs, strict=True):
        # Sums over both features, or over the batch, or over the filters, of numbers around 1.
        batch, _, first, second, filters = sizes
        assert_same_sums(value, expected, first + second + batch + filters, at_least=1.0)


@pytest.mark.parametrize("is_first_shared", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
def test_slot_is_bit_equal_alone_and_in_company(
    sizes: tuple[int, int, int, int, int], is_first_shared: bool
) -> None:
    tensors, lengths, cotangent = draw(sizes, is_first_shared=is_first_shared)
    everyone = fused(tensors, lengths, cotangent, is_first_shared=is_first_shared)
    # Not a slot at its own place alone: where in memory a row lies must not show either.
    for taken in ([0], [4], [3, 1, 2]):
        few = [t if i == 0 and is_first_shared else t[taken] for i, t in enumerate(tensors)]
        alone = fused(few, lengths, cotangent[taken], is_first_shared=is_first_shared)
        for value, expected in zip(alone, everyone, strict=True):
            assert torch.equal(value, expected[taken])


def test_function_of_one_trial_equals_one_slot() -> None:
    tensors, lengths, cotangent = draw(SIZES[0], is_first_shared=False)
    everyone = fused(tensors, lengths, cotangent, is_first_shared=False)
    leaves = [t[2].clone().requires_grad_() for t in tensors]
    output = largest_response(*leaves, lengths)
    grads = torch.autograd.grad((output * cotangent[2]).sum(), leaves)
    for value, expected in zip([output.detach(), *grads], everyone, strict=True):
        assert torch.equal(value, expected[2])


def test_steps_beyond_the_length_have_no_gradient_and_no_say() -> None:
    tensors, lengths, cotangent = draw(SIZES[0], is_first_shared=False)
    lengths[1:] = torch.tensor([1, 2, 3, 5, 7, 10])
    padding = torch.arange(tensors[0].shape[2]) >= lengths.unsqueeze(1)
    output, first_grad, _, second_grad, _ = fused(
        tensors, lengths, cotangent, is_first_shared=False
    )
    assert not first_grad[:, padding].any()
    assert not second_grad[:, padding].any()
    for i in (0, 2):
        tensors[i][:, padding] = 1e6
    assert torch.equal(fused(tensors, lengths, cotangent, is_first_shared=False)[0], output)


def test_ties_give_the_gradient_to_the_first_step() -> None:
    leaves = [torch.ones(3, 7, 13), torch.ones(17, 13), torch.ones(3, 7, 2), torch.ones(17, 2)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    largest_response(*leaves, torch.tensor([7, 5, 1])).sum().backward()
    assert leaves[0].grad is not None
    assert bool((leaves[0].grad[:, 0] == 17).all())
    assert not leaves[0].grad[:, 1:].any()


def test_slot_of_nan_leaves_the_others_unchanged() -> None:
    tensors, lengths, cotangent = draw(SIZES[0], is_first_shared=True)
    healthy = fused(tensors, lengths, cotangent, is_first_shared=True)
    tensors[1][2] = torch.nan
    tensors[3][2] = torch.inf
    beside = fused(tensors, lengths, cotangent, is_first_shared=True)
    assert beside[0][2].isnan().all()
    for value, expected in zip(beside, healthy, strict=True):
        assert torch.equal(value[[0, 1, 3, 4]], expected[[0, 1, 3, 4]])


# Shorter sequences than windows: most of what a step is put into lies outside.
@pytest.mark.parametrize("steps", [1, 2, 11])
@pytest.mark.parametrize("size", [1, 3, 5, 13])
def test_linear_layer_on_windows_is_a_convolution(size: int, steps: int) -> None:
    generator = torch.Generator().manual_seed(size)
    x = torch.randn(2, steps, 3, generator=generator).requires_grad_()
    weight = torch.randn(7, 3, size, generator=generator)
    expected = functional.conv1d(x.mT, weight, padding=size // 2).mT
    # Windows lay the features of a step side by side, conv1d the steps of a feature.
    ours = windows(x, size) @ weight.permute(0, 2, 1).reshape(7, -1).mT
    assert_same_sums(ours, expected, 3 * size, at_least=1.0)
    cotangent = torch.randn(expected.shape, generator=generator)
    (ours_grad,), (grad,) = (torch.autograd.grad(y, x, cotangent) for y in (ours, expected))
    assert_same_sums(ours_grad, grad, 7 * size, at_least=1.0)
    batched = windows(torch.stack([x, 2 * x]), size)
    assert torch.equal(batched[1], windows(2 * x, size))


def test_even_window_is_refused() -> None:
    with pytest.raises(ValueError, match="odd number of steps, got 4"):
        windows(torch.zeros(2, 5, 3), 4)
