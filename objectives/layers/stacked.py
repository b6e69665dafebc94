"""Layers that train all slots of a lane at the speed of one wide layer.

Each is, with one trial's weights, the ordinary PyTorch layer of the same name and state. A model
made of ``nn.Linear``, ``nn.Embedding`` and ``nn.Dropout`` gets them by ``batchable``. They take
the stacked weights of S slots as they are, and an input that all slots share is not copied.
Shapes: S slots, B batch, L steps, I inputs, O outputs, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from objectives.layers.dropout import with_own_dropout

#: Products with a side shorter than this go to other kernels of the matrix library, whose sums
#: depend on how many slots lie beside (500 random shapes, AVX-512, torch 2.13: with all sides of
#: 12 or more no bit differs; with a side of 1 to 10 a third of the shapes do).
NARROW = 12
# Up to so many outputs a sum each is cheaper than a product that is widened to NARROW.
_FEW_OUTPUTS = 2


def batchable(model: nn.Module) -> nn.Module:
    """Give the plain layers of the model itself the forward of this module's, and return it.

    Layers that do more than the plain one (an embedding with ``padding_idx`` or ``max_norm``,
    a subclass) are left as they are. Names of parameters do not change.
    """
    with_own_dropout(model)
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear
        elif type(module) is nn.Embedding and _is_plain_lookup(module):
            module.__class__ = Embedding
    return model


class Linear(nn.Linear):
    """``nn.Linear``; all slots are one call, and share their input where it is the same."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return (..., O) for an input of (..., I).

        With stacked weights, (S, O, I): (S, ..., O), for an input of (B, I) that all slots share,
        or (S, ..., I).
        """
        stack = in_slots((self.weight, self.bias), (2, 1))
        if stack is None:
            return super().forward(input)
        weight, bias = stack
        assert weight is not None, "a linear layer has a weight"
        return affine_of_slots(input.unsqueeze(0) if input.dim() == 2 else input, weight, bias)


class Embedding(nn.Embedding):
    """``nn.Embedding``; slots look their rows up in one stacked table, which is not copied."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return (..., I) vectors for indices of (...); (S, ..., I) with stacked weights."""
        if self.weight.dim() == 3:
            return lookup_of_slots(input.expand(self.weight.shape[0], *input.shape), self.weight)
        return super().forward(input)


def in_slots(
    tensors: Sequence[torch.Tensor | None], dims: Sequence[int]
) -> list[torch.Tensor | None] | None:
    """Return a layer's tensors as (S, *shape), or None if none of them has slots.

    Some may be frozen, and the same in all slots: these are not copied.

    Args:
        tensors: Parameters and buffers; None stays None.
        dims: Axes of each without slots.
    """
    pairs = list(zip(tensors, dims, strict=True))
    slots = next((t.shape[0] for t, dim in pairs if t is not None and t.dim() > dim), None)
    if slots is None:
        return None
    return [
        tensor if tensor is None or tensor.dim() > dim else tensor.expand(slots, *tensor.shape)
        for tensor, dim in pairs
    ]


def affine_of_slots(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Return (S, ..., O) for x (S or 1, ..., I) and weights (S, O, I)."""
    slots, outputs, num_inputs = weight.shape
    rows = x if x.dim() == 3 else x.reshape(x.shape[0], -1, num_inputs)
    affine: torch.Tensor = _AffineOfSlots.apply(rows.expand(slots, -1, -1), weight, bias)  # type: ignore[no-untyped-call]
    return affine if x.dim() == 3 else affine.reshape(slots, *x.shape[1:-1], outputs)


class _AffineOfSlots(torch.autograd.Function):
    """``affine`` as one function in place of ten views and sums.

    What autograd keeps for each of those costs a step of a small network more than its arithmetic.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        result = affine(x, weight, bias)
        # A copy of a part: what autograd is given may be written over by the next layer.
        return result.clone() if result._is_view() else result

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = affine_gradients(
            grads[0], x, weight, needs_x=ctx.needs_input_grad[0]
        )
        return grad_x, grad_weight, grad_bias if ctx.has_bias else None


def affine(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return x (S, N, I) @ weight (S, O, I).mT + bias (S, O) or None, (S, N, O).

    Slots that share x (at stride 0) read the same memory: a product a slot in one call, which is
    at least as fast as one product of all slots' columns, because neither weights nor results nor
    gradients are copied side by side first (200 x 64 inputs, 128 slots of 16 outputs, AMD EPYC
    core: 0.67 ms forward as before, 0.67 back for 0.84).
    """
    num_rows, outputs = x.shape[1], weight.shape[1]
    if outputs <= _FEW_OUTPUTS:
        sums = [(x * weight[:, None, o]).sum(-1, True) for o in range(outputs)]
        product = _side_by_side(sums, dim=-1)
        return product if bias is None else product.add_(bias.unsqueeze(1))
    x, weight = _widened(x), _widened(weight)
    if bias is not None and outputs < NARROW:
        bias = functional.pad(bias, (0, NARROW - outputs))
    if bias is None:
        result = torch.bmm(x, weight.mT)
    else:
        result = torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
    is_wider = result.shape[1:] != (num_rows, outputs)
    return result[:, :num_rows, :outputs] if is_wider else result


def affine_gradients(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, *, needs_x: bool
) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
    """Return the gradients of ``affine``'s x (None if not needed), weight and bias."""
    # Contiguous first: a sum over strided rows depends on how many slots lie beside it.
    grad = grad.contiguous()
    num_rows, outputs, num_inputs = x.shape[1], *weight.shape[1:]
    grad_bias, grad_x = grad.sum(1), None
    if outputs <= _FEW_OUTPUTS:
        columns = [grad[:, :, o, None] for o in range(outputs)]
        grad_weight = _side_by_side([(column * x).sum(1, True) for column in columns], dim=1)
        if needs_x:
            grad_x = columns[0] * weight[:, None, 0]
            for o, column in enumerate(columns[1:], start=1):
                grad_x = grad_x.addcmul_(column, weight[:, None, o])
        return grad_x, grad_weight, grad_bias
    grad, x, weight = _widened(grad), _widened(x), _widened(weight)
    grad_weight = torch.bmm(grad.mT, x)
    if grad_weight.shape[1:] != (outputs, num_inputs):
        grad_weight = grad_weight[:, :outputs, :num_inputs]
    if needs_x:
        grad_x = torch.bmm(grad, weight)
        if grad_x.shape[1:] != (num_rows, num_inputs):
            grad_x = grad_x[:, :num_rows, :num_inputs]
    return grad_x, grad_weight, grad_bias


def _widened(matrices: torch.Tensor) -> torch.Tensor:
    """Return (S, R, K) with zeros behind, up to the narrowest R and K that are bit-equal."""
    slots, rows, columns = matrices.shape
    if min(rows, columns) >= NARROW:
        return matrices
    missing = (0, max(0, NARROW - columns), 0, max(0, NARROW - rows))
    is_shared = slots > 1 and matrices.stride(0) == 0
    one = functional.pad(matrices[:1] if is_shared else matrices, missing)
    return one.expand(slots, -1, -1)


def _side_by_side(parts: list[torch.Tensor], *, dim: int) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)


def lookup_of_slots(indices: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return (S, ..., I) for indices (S, ...) and tables (S, V, I), which are not copied."""
    slots, rows, _ = weight.shape
    starts = torch.arange(0, slots * rows, rows, device=indices.device)
    stacked = indices + starts.view(slots, *[1] * (indices.dim() - 1))
    return functional.embedding(stacked, weight.reshape(slots * rows, -1))


def _is_plain_lookup(layer: nn.Embedding) -> bool:
    return (
        layer.padding_idx is None
        and layer.max_norm is None
        and not layer.scale_grad_by_freq
        and not layer.sparse
    )
