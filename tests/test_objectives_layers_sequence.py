"""A ReLU and the dropout behind it as one function: nobody must see a difference."""

import pytest
import torch
from torch import nn

from objectives.training import layers, random

S = 5


@pytest.mark.parametrize("width", [7, layers._LARGE // S // 8], ids=["small", "large"])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("is_training", [True, False])
def test_relu_and_dropout_in_sequence_are_those_two_to_the_bit(
    width: int, inplace: bool, is_training: bool
) -> None:
    model = nn.Sequential(
        nn.Identity(), nn.ReLU(inplace), nn.Dropout(0.5), nn.ReLU(), nn.ReLU(), nn.Dropout(0.5),
        nn.ReLU(),
    )  # fmt: skip
    fused = layers.batchable(model).train(is_training)
    generator = torch.Generator().manual_seed(width)
    x = torch.randn(S, 9, width, generator=generator)
    numbers = zip(*map(random.dropout_numbers, [0.0, 0.5, 0.9, 0.3, 0.1]), strict=True)
    own = dict(zip(("last_dropped", "scale"), map(torch.stack, numbers), strict=True))
    own["key"] = torch.arange(S, dtype=torch.int32)
    tensors = {f"{at}.{key}": tensor.clone() for at in (2, 5) for key, tensor in own.items()}
    cotangent = torch.randn(x.shape, generator=generator)

    def one_by_one(value: torch.Tensor) -> torch.Tensor:
        for layer in fused:
            value = layer(value)
        return value

    results = []
    with torch.nn.utils.stateless._reparametrize_module(fused, tensors):
        for forward in (fused.forward, one_by_one):
            leaf = x.clone().requires_grad_()
            output = forward(leaf * 1)
            results.append((output, torch.autograd.grad(output, leaf, cotangent)[0]))
            for key in (2, 5):
                fused[key].key = fused[key].key.clone()
    (output, grad), (reference, reference_grad) = results
    assert torch.equal(output, reference)
    assert torch.equal(grad, reference_grad)
    assert is_training == bool((grad[1] == 0).sum() > 0.6 * grad[1].numel())


def test_relu_that_somebody_looks_at_is_called() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))
    fused = layers.batchable(model)
    seen: list[torch.Tensor] = []
    fused[0].register_forward_hook(lambda layer, inputs, output: seen.append(output))
    for name in ("key", "last_dropped", "scale"):
        setattr(fused[1], name, getattr(fused[1], name).unsqueeze(0))
    x = torch.randn(1, layers._LARGE, generator=torch.Generator().manual_seed(1))
    fused(x)
    assert torch.equal(seen[0], x.relu())
