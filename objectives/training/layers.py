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

from objectives.training import precision, random

#: Products with a side shorter than this go to other kernels of the matrix library, whose sums
#: depend on how many slots lie beside (500 random shapes, AVX-512, torch 2.13: with all sides of
#: 12 or more no bit differs; with a side of 1 to 10 a third of the shapes do).
NARROW = 12
#: Numbers from which a layer's results leave a core's cache, so that each pass over them counts.
_LARGE = 2**18


def batchable(model: nn.Module) -> nn.Module:
    """Return a copy of the model with its plain layers replaced by those of this module.

    Layers that do more than the plain one (an embedding with ``padding_idx`` or ``max_norm``,
    a subclass) are left as they are. Names of parameters do not change.
    """
    return make_batchable(copy.deepcopy(model))


def make_batchable(model: nn.Module) -> nn.Module:
    """Do the same to the model itself, and return it."""
    dropouts: dict[nn.Module, Dropout] = {}
    for module in list(model.modules()):
        if type(module) is nn.Linear:
            module.__class__ = Linear
        elif type(module) is nn.Sequential:
            module.__class__ = Sequential
        elif type(module) is nn.Embedding and _is_plain_lookup(module):
            module.__class__ = Embedding
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
        if self.weight.dim() == 3:
            x_dim = None if input.dim() == 2 else 0
            return _affine_of_slots(input, x_dim, self.weight, self.bias)
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
    passes one of each a slot.
    """

    last_dropped: torch.Tensor
    scale: torch.Tensor
    key: torch.Tensor

    def __init__(self, rate: float, salt: int = 0) -> None:
        super().__init__()
        self.salt = salt
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


class Sequential(nn.Sequential):
    """``nn.Sequential``; where it pays, a ReLU and the dropout behind it are one function."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return what the last layer makes of the input; to the bit what they give one by one."""
        relu: nn.Module | None = None
        for layer in self:
            if relu is not None:
                if isinstance(layer, Dropout) and layer.training and layer.key.dim() == 1:
                    input = _ReluDropout.apply(input, layer.factors(input), layer.scale)  # type: ignore[no-untyped-call]
                    relu = None
                    continue
                input, relu = relu(input), None
            if type(layer) is nn.ReLU and input.numel() >= _LARGE and not _is_watched(layer):
                relu = layer
            else:
                input = layer(input)
        return input if relu is None else relu(input)


class _ReluDropout(torch.autograd.Function):
    """relu(x) * factors of (S, ...), each factor 0 or its slot's scale, (S,), which is 1 or more.

    Half the passes over memory: 128 slots of 200 x 16 in two processes, an epoch of tabular-mlp
    1.25 -> 1.10 s. Of small results it is the slower one, by the price of a function in Python.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, factors: torch.Tensor, scale_S: torch.Tensor
    ) -> torch.Tensor:
        result = x.clamp_min(0.0).mul_(factors)
        ctx.save_for_backward(result, scale_S)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        result, scale_S = ctx.saved_tensors
        # What was above 0 and kept is above 0 still: no scale makes it smaller.
        kept = torch.ops.aten.threshold_backward(grads[0], result, 0.0)
        return kept.mul_(scale_S.view(-1, *[1] * (kept.dim() - 1))), None, None


class _Affine(torch.autograd.Function):
    """x @ weight.T + bias; under ``vmap`` one call for all slots.

    One function for weights and bias, because each call of one under ``vmap`` costs about
    0.4 ms, whatever it computes.
    """

    @staticmethod
    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return functional.linear(x, weight, bias).to(weight.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.has_bias = inputs[2] is not None
        ctx.is_bf16 = precision.is_reduced(output.device.type)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        grad_bias = rows.sum(0) if ctx.has_bias else None
        with precision.resumed(ctx.is_bf16, grad.device.type):
            grad_x, grad_weight = grad @ weight, rows.mT @ x.reshape(-1, x.shape[-1])
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), grad_bias

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
    num_rows = rows.shape[1]
    if min(outputs, num_inputs) < NARROW:
        result = _NarrowAffine.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    else:
        # The last batch may have a single row: it too must not reach the other kernels.
        is_short = num_rows < NARROW
        rows = functional.pad(rows, (0, 0, 0, NARROW - num_rows)) if is_short else rows
        result = _WideAffine.apply(rows.expand(slots, -1, -1), weight, bias)  # type: ignore[no-untyped-call]
        result = result[:, :num_rows] if is_short else result
    affine: torch.Tensor = result
    return affine if x.dim() == 3 else affine.reshape(slots, *x.shape[1:-1], outputs)


class _WideAffine(torch.autograd.Function):
    """x (S, N, I) @ weight (S, O, I).mT + bias (S, O) or None, (S, N, O).

    One function in place of ten views and sums: what autograd keeps for each of those costs a
    step of a small network more than its arithmetic. Slots that share x read the same memory: a
    product a slot in one call, which is at least as fast as one product of all slots' columns,
    because neither weights nor results nor gradients are copied side by side first (200 x 64
    inputs, 128 slots of 16 outputs, AMD EPYC core: 0.67 ms forward as before, 0.67 back for 0.84).
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        ctx.is_bf16 = precision.is_reduced(x.device.type)
        if bias is not None and not ctx.is_bf16:
            return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
        product = torch.bmm(x, weight.mT).to(weight.dtype)
        return product if bias is None else product.add_(bias.unsqueeze(1))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # Contiguous first: a sum over strided rows depends on how many slots lie beside it.
        grad = grads[0].contiguous()
        x, weight = ctx.saved_tensors
        grad_x: torch.Tensor | None = None
        with precision.resumed(ctx.is_bf16, grad.device.type):
            grad_weight = torch.bmm(grad.mT, x)
            if ctx.needs_input_grad[0]:
                grad_x = torch.bmm(grad, weight)
        return (
            None if grad_x is None else grad_x.to(x.dtype),
            grad_weight.to(weight.dtype),
            grad.sum(1) if ctx.has_bias else None,
        )


class _NarrowAffine(torch.autograd.Function):
    """The same where a side is narrow: sums in which each slot has a fixed order."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        outputs = [(x * weight[:, None, o]).sum(-1, True) for o in range(weight.shape[1])]
        product = _side_by_side(outputs, dim=-1)
        return product if bias is None else product.add_(bias.unsqueeze(1))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # Contiguous first: a sum over strided rows depends on how many slots lie beside it.
        grad = grads[0].contiguous()
        x, weight = ctx.saved_tensors
        columns = [grad[:, :, o, None] for o in range(weight.shape[1])]
        grad_weight = _side_by_side([(column * x).sum(1, True) for column in columns], dim=1)
        grad_bias = grad.sum(1) if ctx.has_bias else None
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, grad_bias
        grad_x = columns[0] * weight[:, None, 0]
        for o, column in enumerate(columns[1:], start=1):
            grad_x = grad_x.addcmul_(column, weight[:, None, o])
        return grad_x, grad_weight, grad_bias


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


def _is_watched(layer: nn.Module) -> bool:
    """Return whether a hook wants to see what goes through a layer."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks)
    return any((*hooks, layer._backward_hooks, layer._backward_pre_hooks))


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
