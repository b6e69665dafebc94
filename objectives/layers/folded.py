"""Ordinary layers on the examples of many slots, one slot's behind another's.

The slots are folded into the batch: a tensor of a slot's B examples, (B, ...), is one of
(S * B, ...) here, so that what has no weights (activations, pooling, ``flatten``, ``x[:, -1]``)
runs as it is. A layer with weights takes the examples apart again: its parameters are stacked,
(S, *shape). With one trial's own parameters each is PyTorch's layer.
Shapes: S slots, B batch, C channels, I inputs, O outputs.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from objectives.layers.dropout import Dropout, with_own_dropout
from objectives.layers.folded_sequences import Attention, Gru, Lstm
from objectives.layers.stacked import affine_of_slots, in_slots, lookup_of_slots


def fold(model: nn.Module) -> nn.Module:
    """Give the layers of the model itself the forward of this module's, and return it.

    Names of parameters and buffers do not change. Layers that are not known here, subclasses
    among them, are left as they are.
    """
    with_own_dropout(model)
    for module in list(model.modules()):
        kind = _KINDS.get(type(module))
        if kind is not None and _is_plain(module):
            module.__class__ = kind
            if isinstance(module, Attention | Gru | Lstm):
                module.take_own_dropout()
        elif type(module) is nn.TransformerEncoderLayer:
            # Its fast path of inference reads the weights of its parts, which are stacked.
            module.activation_relu_or_gelu = 0
        elif type(module) is nn.TransformerEncoder:
            # Nor are the steps of an evaluation packed by their masks.
            module.enable_nested_tensor = module.use_nested_tensor = False
    dropouts = [module for module in model.modules() if isinstance(module, Dropout)]
    for salt, module in enumerate(dropouts):
        module.salt = salt
    return model


def owned_names(model: nn.Module) -> set[str]:
    """Return the names of the tensors that a folded model's layers take stacked."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if type(module) in _FOLDED
        for name in dict([*module.named_parameters(), *module.named_buffers()])
    }


class Linear(nn.Linear):
    """``nn.Linear`` of the slots."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return (S * B, ..., O) for (S * B, ..., I)."""
        stack = in_slots((self.weight, self.bias), (2, 1))
        if stack is None:
            return super().forward(input)
        weight, bias = stack
        assert weight is not None, "a linear layer has a weight"
        rows = input.reshape(weight.shape[0], -1, self.in_features)
        return affine_of_slots(rows, weight, bias).reshape(*input.shape[:-1], self.out_features)


class Embedding(nn.Embedding):
    """``nn.Embedding`` of the slots; the row of ``padding_idx`` has no gradient."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return (S * B, ..., I) for indices (S * B, ...)."""
        weight: torch.Tensor = self.weight
        if weight.dim() == 2:
            return super().forward(input)
        rows = input.reshape(weight.shape[0], -1)
        found = lookup_of_slots(rows, weight).reshape(*input.shape, self.embedding_dim)
        if self.padding_idx is None:
            return found
        return torch.where((input == self.padding_idx).unsqueeze(-1), found.detach(), found)


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` of the slots."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the input normalised, in its shape."""
        shape = self.normalized_shape
        stack = in_slots((self.weight, self.bias), (len(shape), len(shape)))
        if stack is None:
            return super().forward(input)
        return _scaled(functional.layer_norm(input, shape, eps=self.eps), *stack)


class GroupNorm(nn.GroupNorm):
    """``nn.GroupNorm`` of the slots."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the input normalised, in its shape."""
        stack = in_slots((self.weight, self.bias), (1, 1))
        if stack is None:
            return super().forward(input)
        ones = [1] * (input.dim() - 2)
        wide = (None if each is None else each.view(*each.shape, *ones) for each in stack)
        return _scaled(functional.group_norm(input, self.num_groups, eps=self.eps), *wide)


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """``nn.BatchNorm``: the channels of all slots are channels of one layer."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the input normalised, in its shape; the running statistics are rows too."""
        tensors = (self.weight, self.bias, self.running_mean, self.running_var)
        stack = in_slots(tensors, (1, 1, 1, 1))
        if stack is None:
            return super().forward(input)
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        slots = next(each.shape[0] for each in stack if each is not None)
        weight, bias, mean, variance = (None if x is None else x.reshape(-1) for x in stack)
        normed = functional.batch_norm(
            _channels_of_slots(input, slots),
            mean,
            variance,
            weight,
            bias,
            training=self.training or mean is None,
            momentum=0.0 if self.momentum is None else self.momentum,
            eps=self.eps,
        )
        return _examples_of_slots(normed, slots)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """``nn.BatchNorm1d`` of the slots."""


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` of the slots."""


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """``nn.BatchNorm3d`` of the slots."""


class _Conv(nn.modules.conv._ConvNd):
    """A convolution of the slots: the groups of one convolution."""

    convolve: Callable[..., torch.Tensor]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the responses, (S * B, O, ...), to (S * B, I, ...)."""
        stack = in_slots((self.weight, self.bias), (2 + len(self.kernel_size), 1))
        if stack is None:
            return self._conv_forward(input, self.weight, self.bias)
        weight, bias = stack
        assert weight is not None, "a convolution has a weight"
        slots = weight.shape[0]
        x = _channels_of_slots(input, slots)
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            padding_of_sides = self._reversed_padding_repeated_twice
            x = functional.pad(x, padding_of_sides, mode=self.padding_mode)
            padding = 0
        responses: torch.Tensor = type(self).convolve(
            x,
            weight.flatten(0, 1),
            None if bias is None else bias.flatten(),
            self.stride,
            padding,
            self.dilation,
            self.groups * slots,
        )
        return _examples_of_slots(responses, slots)


class Conv1d(_Conv, nn.Conv1d):
    """``nn.Conv1d`` of the slots."""

    convolve = staticmethod(functional.conv1d)


class Conv2d(_Conv, nn.Conv2d):
    """``nn.Conv2d`` of the slots."""

    convolve = staticmethod(functional.conv2d)


class Conv3d(_Conv, nn.Conv3d):
    """``nn.Conv3d`` of the slots."""

    convolve = staticmethod(functional.conv3d)


_KINDS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: Linear,
    nn.Embedding: Embedding,
    nn.LayerNorm: LayerNorm,
    nn.GroupNorm: GroupNorm,
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.BatchNorm3d: BatchNorm3d,
    nn.Conv1d: Conv1d,
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
    nn.GRU: Gru,
    nn.LSTM: Lstm,
    nn.MultiheadAttention: Attention,
}
_FOLDED = frozenset(_KINDS.values()) | {Dropout}


def _is_plain(module: nn.Module) -> bool:
    """Return whether a layer of a known kind does what its folded form does."""
    if isinstance(module, nn.Embedding):
        return module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.momentum is not None or not module.track_running_stats
    if isinstance(module, nn.RNNBase):
        return module.proj_size == 0
    if isinstance(module, nn.MultiheadAttention):
        return module._qkv_same_embed_dim and module.bias_k is None and not module.add_zero_attn
    return True


def _scaled(
    normed: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None
) -> torch.Tensor:
    """Return (S * B, ...) times each slot's weight, (S, ...), plus its bias."""
    if weight is None:
        return normed
    by_slot = normed.reshape(weight.shape[0], -1, *normed.shape[1:])
    # A layer norm's shape is the last axes: what lies before them has no weight of its own.
    ones = [1] * (by_slot.dim() - weight.dim())
    weight = weight.reshape(weight.shape[0], *ones, *weight.shape[1:])
    if bias is None:
        return (by_slot * weight).reshape(normed.shape)
    return torch.addcmul(bias.view_as(weight), by_slot, weight).reshape(normed.shape)


def _channels_of_slots(x: torch.Tensor, slots: int) -> torch.Tensor:
    """Return (B, S * C, ...) for (S * B, C, ...)."""
    if slots == 1:
        return x
    return x.reshape(slots, -1, *x.shape[1:]).transpose(0, 1).flatten(1, 2)


def _examples_of_slots(x: torch.Tensor, slots: int) -> torch.Tensor:
    """Return (S * B, C, ...) for (B, S * C, ...)."""
    if slots == 1:
        return x
    by_slot = x.reshape(x.shape[0], slots, -1, *x.shape[2:])
    return by_slot.transpose(0, 1).flatten(0, 1)
