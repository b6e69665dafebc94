"""Layers that train all slots of a lane at the speed of one wide layer.

Each is, with one trial's weights, the ordinary PyTorch layer of the same name and state. A model
made of ``nn.Linear``, ``nn.Embedding`` and ``nn.Dropout`` gets them by ``batchable``. They take
the stacked weights of S slots as they are, and in a model that needs ``vmap`` they have a rule
under it: there each call of a function of our own costs about 0.4 ms, whatever it computes.
Shapes: S slots, B batch, L steps, I inputs, O outputs, V vocabulary.
"""

import copy
import weakref
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from objectives.layers import random
from objectives.layers.masks import Masks

#: Products with a side shorter than this go to other kernels of the matrix library, whose sums
#: depend on how many slots lie beside (500 random shapes, AVX-512, torch 2.13: with all sides of
#: 12 or more no bit differs; with a side of 1 to 10 a third of the shapes do).
NARROW = 12
# Up to so many outputs a sum each is cheaper than a product that is widened to NARROW.
_FEW_OUTPUTS = 2


def batchable(model: nn.Module) -> nn.Module:
    """Return a copy of the model with its plain layers replaced by those of this module.

    Layers that do more than the plain one (an embedding with ``padding_idx`` or ``max_norm``,
    a subclass) are left as they are. Names of parameters do not change.
    """
    copied = with_own_dropout(copy.deepcopy(model))
    for module in copied.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear
        elif type(module) is nn.Embedding and _is_plain_lookup(module):
            module.__class__ = Embedding
    return copied


def with_own_dropout(model: nn.Module) -> nn.Module:
    """Replace each ``nn.Dropout`` of the model itself by ``Dropout``, and return it."""
    dropouts: dict[nn.Module, Dropout] = {}
    for module in list(model.modules()):
        # Not named_children, which names a layer that stands there twice only once.
        for name, child in module._modules.items():
            if type(child) is nn.Dropout:
                ours = dropouts.setdefault(child, Dropout(child.p, salt=len(dropouts)))
                setattr(module, name, ours)
    return model


class Linear(nn.Linear):
    """``nn.Linear``; all slots are one call, and share their input where it is the same."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return (..., O) for an input of (..., I).

        With stacked weights, (S, O, I): (S, ..., O), for an input of (B, I) that all slots share,
        or (S, ..., I).
        """
        weight: torch.Tensor = self.weight
        bias: torch.Tensor | None = self.bias
        if weight.dim() == 3 or (bias is not None and bias.dim() == 2):
            # One of the two may be frozen, and the same in all slots.
            if bias is not None and bias.dim() == 2:
                weight = weight.expand(bias.shape[0], -1, -1)
            elif bias is not None:
                bias = bias.expand(weight.shape[0], -1)
            return _affine_of_slots(input, None if input.dim() == 2 else 0, weight, bias)
        return cast(torch.Tensor, _Affine.apply(input, self.weight, self.bias))  # type: ignore[no-untyped-call]


class Embedding(nn.Embedding):
    """``nn.Embedding``; slots look their rows up in one stacked table, which is not copied."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return (..., I) vectors for indices of (...); (S, ..., I) with stacked weights."""
        if self.weight.dim() == 3:
            return _lookup_of_slots(input, None, self.weight)
        return _Lookup.apply(input, self.weight)  # type: ignore[no-any-return, no-untyped-call]


class Dropout(nn.Module):
    """``nn.Dropout`` whose rate and mask are the trial's own: a hash of its step's key.

    What it needs of its rate (``random.dropout_numbers``) and ``key`` are buffers, so that a lane
    passes one of each a slot. With ``masks`` it asks these, and has no use for a key.
    """

    last_dropped: torch.Tensor
    scale: torch.Tensor
    key: torch.Tensor

    def __init__(self, rate: float, salt: int = 0) -> None:
        super().__init__()
        self.salt = salt
        self.masks: Masks | None = None
        self._calls = 0
        self._last_key: weakref.ref[torch.Tensor] | None = None
        for name, number in self._numbers(rate).items():
            self.register_buffer(name, number, persistent=False)
        self.register_buffer("key", torch.zeros((), dtype=torch.int32), persistent=False)

    @classmethod
    def fill(cls, tensors: Mapping[str, torch.Tensor], name: str, rate: float) -> None:
        """Write a rate into the buffers of the layer of this name in its model."""
        for key, number in cls._numbers(rate).items():
            tensors[f"{name}.{key}"].fill_(number)

    @staticmethod
    def _numbers(rate: float) -> dict[str, torch.Tensor]:
        return dict(zip(("last_dropped", "scale"), random.dropout_numbers(rate), strict=True))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the input with the rate's share zeroed and the rest scaled by 1 / (1 - rate)."""
        return input * self.factors(input) if self.training else input

    def factors(self, input: torch.Tensor) -> torch.Tensor:
        """Return what the input is multiplied by in training, in its shape."""
        key, last, scale = self.key, self.last_dropped, self.scale
        count = input.numel()
        if self.masks is not None:
            last, scale = last.view(-1, 1), scale.view(-1, 1)
            factors = self.masks.factors(self.salt, last, scale, count // last.shape[0])
            return factors.view(input.shape)
        if key.dim() == 1:  # one a slot: each slot counts its own elements
            count = input[0].numel()
            key, last, scale = (each.unsqueeze(1) for each in (key, last, scale))
        salt = self.salt + (self._count_call() << 16)
        return random.dropout_factors(key, last, scale, count, salt).view(input.shape)

    def _count_call(self) -> int:
        """Return how often this step has called the layer before, from the key it brought."""
        # One layer used twice in a model must not drop the same places twice.
        key = self.key
        is_again = self._last_key is not None and self._last_key() is key
        self._calls = self._calls + 1 if is_again else 0
        self._last_key = weakref.ref(key)
        return self._calls


class _Affine(torch.autograd.Function):
    """x @ weight.T + bias; under ``vmap`` one call for all slots.

    One function for weights and bias, because each call of one under ``vmap`` costs about
    0.4 ms, whatever it computes.
    """

    @staticmethod
    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return functional.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.has_bias = inputs[2] is not None

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        grad_bias = rows.sum(0) if ctx.has_bias else None
        return grad @ weight, rows.mT @ x.reshape(-1, x.shape[-1]), grad_bias

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
    ) -> tuple[torch.Tensor, int]:
        x_dim, weight_dim, bias_dim = in_dims
        weight = _for_slots(weight, weight_dim, info.batch_size)
        if bias is not None:
            bias = _for_slots(bias, bias_dim, info.batch_size)
        return _affine_of_slots(x, x_dim, weight, bias), 0


def _affine_of_slots(
    x: torch.Tensor, x_dim: int | None, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Return (S, ..., O) for x (..., I), its slots at ``x_dim``, and (S, O, I) weights."""
    slots, outputs, num_inputs = weight.shape
    x = x.unsqueeze(0) if x_dim is None else x.movedim(x_dim, 0)
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


class _Lookup(torch.autograd.Function):
    """Rows of a table; under ``vmap`` the slots' tables lie one behind the other."""

    @staticmethod
    def forward(indices: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.embedding(indices, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.num_rows = inputs[1].shape[0]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, torch.Tensor]:
        (grad,) = grads
        (indices,) = ctx.saved_tensors
        table = grad.new_zeros(ctx.num_rows, grad.shape[-1])
        return None, table.index_add_(0, indices.reshape(-1), grad.reshape(-1, grad.shape[-1]))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], indices: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, int]:
        indices_dim, weight_dim = in_dims
        if weight_dim is None:
            return functional.embedding(indices.movedim(cast(int, indices_dim), 0), weight), 0
        return _lookup_of_slots(indices, indices_dim, weight.movedim(weight_dim, 0)), 0


def _lookup_of_slots(
    indices: torch.Tensor, indices_dim: int | None, weight: torch.Tensor
) -> torch.Tensor:
    """Return (S, ..., I) for indices (...), their slots at ``indices_dim``, and (S, V, I) rows."""
    slots, rows, _ = weight.shape
    if indices_dim is not None:
        indices = indices.movedim(indices_dim, 0)
    lead = indices.dim() if indices_dim is None else indices.dim() - 1
    starts = torch.arange(slots, device=indices.device) * rows
    stacked = indices + starts.view(slots, *([1] * lead))
    return functional.embedding(stacked, weight.reshape(slots * rows, -1))


def _for_slots(tensor: torch.Tensor, dim: int | None, slots: int) -> torch.Tensor:
    """Return a tensor with the slots in front; one that all slots share is not copied."""
    if dim is None:
        return tensor.unsqueeze(0).expand(slots, *tensor.shape)
    return tensor.movedim(dim, 0)


def _is_plain_lookup(layer: nn.Embedding) -> bool:
    return (
        layer.padding_idx is None
        and layer.max_norm is None
        and not layer.scale_grad_by_freq
        and not layer.sparse
    )
