"""Shapes: S slots, B batch, I inputs, O outputs, V vocabulary, each axis its own prime."""

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from objectives.layers import stacked
from objectives.layers.dropout import Dropout
from tests.rounding import assert_same_sums

S = 5
WIDE = st.integers(min_value=12, max_value=67)
NARROW = st.integers(min_value=1, max_value=11)
ROWS = st.integers(min_value=1, max_value=53)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def forward_and_gradients(
    layer: nn.Module,
    rows: dict[str, torch.Tensor],
    x: torch.Tensor,
    cotangent: torch.Tensor,
    *,
    is_shared: bool,
) -> dict[str, torch.Tensor]:
    """Outputs and gradients of stacked slots in one program."""
    leaves = {name: row.detach().requires_grad_() for name, row in rows.items()}
    inputs = x.detach().requires_grad_(not is_shared and x.is_floating_point())
    outputs = functional_call(layer, leaves, (inputs,))
    wanted = dict(leaves)
    if inputs.requires_grad:
        wanted["input"] = inputs
    grads = torch.autograd.grad((outputs * cotangent).sum(), list(wanted.values()))
    return {"output": outputs.detach(), **dict(zip(wanted, grads, strict=True))}


def plain_loop(
    plain: nn.Module,
    rows: dict[str, torch.Tensor],
    x: torch.Tensor,
    cotangent: torch.Tensor,
    *,
    is_shared: bool,
) -> dict[str, torch.Tensor]:
    """The same from PyTorch's own layer, one slot after the other."""
    found: dict[str, list[torch.Tensor]] = {}
    for slot in range(len(cotangent)):
        tensors = {n: row[slot].detach().clone().requires_grad_() for n, row in rows.items()}
        one = (x if is_shared else x[slot]).detach().clone()
        one.requires_grad_(not is_shared and x.is_floating_point())
        output = functional_call(plain, tensors, (one,))
        (output * cotangent[slot]).sum().backward()
        found.setdefault("output", []).append(output.detach())
        if one.grad is not None:
            found.setdefault("input", []).append(one.grad)
        for name, tensor in tensors.items():
            assert tensor.grad is not None
            found.setdefault(name, []).append(tensor.grad)
    return {name: torch.stack(values) for name, values in found.items()}


def assert_slots_equal(
    layer: nn.Module,
    plain: nn.Module,
    rows: dict[str, torch.Tensor],
    x: torch.Tensor,
    cotangent: torch.Tensor,
    *,
    is_shared: bool,
) -> None:
    """Close to PyTorch's layer; alone and in company equal to the bit, wherever the slot."""
    everyone = forward_and_gradients(layer, rows, x, cotangent, is_shared=is_shared)
    reference = plain_loop(plain, rows, x, cotangent, is_shared=is_shared)
    assert everyone.keys() == reference.keys()
    # Sums over the inputs, the outputs or the rows, of numbers around 1.
    num_terms = x.shape[-1] + cotangent.shape[-1] + math.prod(cotangent.shape[1:-1])
    for name, value in reference.items():
        assert_same_sums(everyone[name], value, num_terms, at_least=1.0)
    for taken in ([0], [S - 1], [3, 1, 4]):
        few = forward_and_gradients(
            layer,
            {name: row[taken].clone() for name, row in rows.items()},
            x if is_shared else x[taken].clone(),
            cotangent[taken].clone(),
            is_shared=is_shared,
        )
        for name, value in few.items():
            assert torch.equal(value, everyone[name][taken]), (name, taken)


def check_linear(
    sizes: tuple[int, int, int], *, is_shared: bool, has_bias: bool, seed: int
) -> None:
    num_rows, num_inputs, num_outputs = sizes
    generator = torch.Generator().manual_seed(seed)
    plain = nn.Linear(num_inputs, num_outputs, bias=has_bias)
    rows = {"weight": torch.randn(S, num_outputs, num_inputs, generator=generator)}
    if has_bias:
        rows["bias"] = torch.randn(S, num_outputs, generator=generator)
    # Laid out as the product of the folded weights is, so that a slot's rows are strided.
    if is_shared:
        x = torch.randn(num_rows, num_inputs, generator=generator)
    else:
        x = torch.randn(num_rows, S, num_inputs, generator=generator).movedim(1, 0)
    cotangent = torch.randn(num_rows, S, num_outputs, generator=generator).movedim(1, 0)
    fused = stacked.batchable(copy.deepcopy(plain))
    assert_slots_equal(fused, plain, rows, x, cotangent, is_shared=is_shared)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(sizes=st.tuples(ROWS, WIDE, WIDE), has_bias=st.booleans(), seed=st.integers(0, 99))
def test_wide_layer_on_a_shared_input_equals_a_loop(
    sizes: tuple[int, int, int], has_bias: bool, seed: int
) -> None:
    check_linear(sizes, is_shared=True, has_bias=has_bias, seed=seed)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(sizes=st.tuples(ROWS, WIDE, WIDE), has_bias=st.booleans(), seed=st.integers(0, 99))
def test_wide_layer_on_own_inputs_equals_a_loop(
    sizes: tuple[int, int, int], has_bias: bool, seed: int
) -> None:
    check_linear(sizes, is_shared=False, has_bias=has_bias, seed=seed)


@settings(max_examples=16, deadline=None, derandomize=True)
@given(
    sizes=st.one_of(st.tuples(ROWS, NARROW, WIDE), st.tuples(ROWS, WIDE, NARROW)),
    is_shared=st.booleans(),
    has_bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_narrow_layer_equals_a_loop(
    sizes: tuple[int, int, int], is_shared: bool, has_bias: bool, seed: int
) -> None:
    check_linear(sizes, is_shared=is_shared, has_bias=has_bias, seed=seed)


# The last batch of an epoch may have any size from 1; with 1 to 3 rows the matrix library takes
# another kernel, and the padding that avoids it must not show.
@pytest.mark.parametrize("num_rows", [1, 2, 3, 11])
@pytest.mark.parametrize("is_shared", [True, False])
def test_last_rows_of_an_epoch_are_bit_equal_in_company(num_rows: int, is_shared: bool) -> None:
    check_linear((num_rows, 13, 29), is_shared=is_shared, has_bias=True, seed=num_rows)
    check_linear((num_rows, 29, 13), is_shared=is_shared, has_bias=True, seed=num_rows)


# 1031 inputs: the library sums them in several blocks, whatever it begins the sum with.
@pytest.mark.parametrize("sizes", [(37, 1031, 29), (53, 17, 1031), (201, 64, 16), (29, 16, 1)])
@pytest.mark.parametrize("is_shared", [True, False])
def test_long_sums_are_bit_equal_in_company(sizes: tuple[int, int, int], is_shared: bool) -> None:
    check_linear(sizes, is_shared=is_shared, has_bias=True, seed=sizes[1])


@pytest.mark.parametrize("frozen", ["weight", "bias"])
@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("num_outputs", [3, 19])
def test_frozen_half_of_a_layer_is_shared_by_the_slots(
    frozen: str, is_shared: bool, num_outputs: int
) -> None:
    generator = torch.Generator().manual_seed(4)
    plain = nn.Linear(13, num_outputs)
    getattr(plain, frozen).requires_grad_(False)
    trained = "bias" if frozen == "weight" else "weight"
    shape = getattr(plain, trained).shape
    rows = {trained: torch.randn(S, *shape, generator=generator)}
    x = torch.randn(*(() if is_shared else (S,)), 7, 13, generator=generator)
    cotangent = torch.randn(S, 7, num_outputs, generator=generator)
    fused = stacked.batchable(copy.deepcopy(plain))
    assert_slots_equal(fused, plain, rows, x, cotangent, is_shared=is_shared)


def test_linear_takes_inputs_of_any_rank() -> None:
    generator = torch.Generator().manual_seed(5)
    plain = nn.Linear(17, 13)
    rows = {
        "weight": torch.randn(S, 13, 17, generator=generator),
        "bias": torch.randn(S, 13, generator=generator),
    }
    x = torch.randn(S, 2, 3, 7, 17, generator=generator)
    cotangent = torch.randn(S, 2, 3, 7, 13, generator=generator)
    fused = stacked.batchable(copy.deepcopy(plain))
    assert_slots_equal(fused, plain, rows, x, cotangent, is_shared=False)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(num_words=st.integers(2, 41), width=st.integers(1, 23), seed=st.integers(0, 99))
def test_embedding_equals_a_loop(num_words: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    plain = nn.Embedding(num_words, width)
    rows = {"weight": torch.randn(S, num_words, width, generator=generator)}
    # 43 words of at most 41: each batch has a word that stands there twice.
    tokens = torch.randint(num_words, (43,), generator=generator)
    cotangent = torch.randn(S, 43, width, generator=generator)
    fused = stacked.batchable(copy.deepcopy(plain))
    assert type(fused) is stacked.Embedding
    assert_slots_equal(fused, plain, rows, tokens, cotangent, is_shared=True)


def test_batchable_replaces_plain_layers_and_keeps_their_names() -> None:
    class Named(nn.Linear):
        pass

    model = nn.Sequential(
        nn.Linear(5, 3),
        nn.Sequential(nn.Dropout(0.25), nn.Linear(3, 2, bias=False)),
        nn.Dropout(0.75),
        nn.Embedding(7, 5),
        nn.Embedding(7, 5, padding_idx=0),
        nn.Embedding(7, 5, max_norm=1.0),
        Named(2, 2),
    )
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    fused = stacked.batchable(copy.deepcopy(model))
    assert [type(child) for child in fused] == [
        stacked.Linear,
        nn.Sequential,
        Dropout,
        stacked.Embedding,
        nn.Embedding,
        nn.Embedding,
        Named,
    ]
    assert [type(child) for child in fused[1]] == [Dropout, stacked.Linear]
    assert {fused[1][0].salt, fused[2].salt} == {0, 1}
    assert float(fused[1][0].scale) == pytest.approx(1 / 0.75)
    after = dict(fused.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert fused.state_dict().keys() == model.state_dict().keys()


def test_layers_of_one_trial_are_the_ordinary_ones() -> None:
    generator = torch.Generator().manual_seed(9)
    plain = nn.Linear(5, 3)
    x = torch.randn(2, 7, 5, generator=generator)
    fused = stacked.batchable(copy.deepcopy(plain))
    leaf, reference = x.clone().requires_grad_(), x.clone().requires_grad_()
    fused(leaf).pow(2).sum().backward()
    functional.linear(reference, plain.weight, plain.bias).pow(2).sum().backward()
    for ours, theirs in (
        (leaf.grad, reference.grad),
        (fused.weight.grad, plain.weight.grad),
        (fused.bias.grad, plain.bias.grad),
    ):
        assert_same_sums(ours, theirs, 5 + 3 + 2 * 7)
