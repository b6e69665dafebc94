"""The links of a chain: each layer's result for all slots, and its gradients.

``run`` returns the result, what ``back`` needs, and whether the result may be written over by the
next link; ``back`` adds the gradients of its weights to ``found`` and returns that of its input.
Shapes: S slots, B batch, F features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from objectives.layers.masks import Masks
from objectives.layers.stacked import affine, affine_gradients

Tensors = dict[str, torch.Tensor]
Result = tuple[torch.Tensor, Any, bool]


class Link(Protocol):
    """A layer of a chain."""

    def run(self, h: torch.Tensor, rows: Tensors, masks: Masks | None, *, is_own: bool) -> Result:
        """Return the result, (S, B, F); without masks nothing is dropped, as in evaluation."""

    def back(
        self, grad: torch.Tensor, kept: Any, rows: Tensors, found: Tensors, *, needs_x: bool
    ) -> torch.Tensor:
        """Return the gradient of ``h``; where it is not needed anything."""


@dataclass(frozen=True, slots=True)
class Affine:
    """``nn.Linear``."""

    name: str

    def run(self, h: torch.Tensor, rows: Tensors, masks: Masks | None, *, is_own: bool) -> Result:
        """See ``Link``."""
        return affine(h, rows[f"{self.name}.weight"], rows.get(f"{self.name}.bias")), h, True

    def back(
        self, grad: torch.Tensor, kept: Any, rows: Tensors, found: Tensors, *, needs_x: bool
    ) -> torch.Tensor:
        """See ``Link``."""
        weight, bias = f"{self.name}.weight", f"{self.name}.bias"
        grad_x, found[weight], grad_bias = affine_gradients(
            grad, kept, rows[weight], needs_x=needs_x
        )
        if bias in rows:
            found[bias] = grad_bias
        return grad if grad_x is None else grad_x


@dataclass(frozen=True, slots=True)
class Activation:
    """A function of each number; ``back`` of its result, or of what it was given."""

    forward: Callable[[torch.Tensor], torch.Tensor]
    inplace: Callable[[torch.Tensor], torch.Tensor] | None
    gradient: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    is_relu: bool = False

    def run(self, h: torch.Tensor, rows: Tensors, masks: Masks | None, *, is_own: bool) -> Result:
        """See ``Link``."""
        if self.inplace is None:
            return self.forward(h), h, False
        result = self.inplace(h) if is_own else self.forward(h)
        return result, result, False

    def back(
        self, grad: torch.Tensor, kept: Any, rows: Tensors, found: Tensors, *, needs_x: bool
    ) -> torch.Tensor:
        """See ``Link``."""
        return self.gradient(grad, kept)


@dataclass(frozen=True, slots=True)
class Drop:
    """``Dropout``, or ReLU and dropout in one; ``name`` is that of its rate in the model."""

    name: str
    salt: int
    after_relu: bool = False

    def run(self, h: torch.Tensor, rows: Tensors, masks: Masks | None, *, is_own: bool) -> Result:
        """See ``Link``."""
        if self.after_relu:
            h = h.relu_() if is_own else h.relu()
        if masks is None:
            return h, None, False
        last, scale = (rows[f"{self.name}.{key}"] for key in ("last_dropped", "scale"))
        count = h[0].numel()
        factors = masks.factors(self.salt, last.unsqueeze(1), scale.unsqueeze(1), count)
        factors = factors.view(h.shape)
        if not self.after_relu:
            return h * factors, factors, False
        h.mul_(factors)
        return h, h, False

    def back(
        self, grad: torch.Tensor, kept: Any, rows: Tensors, found: Tensors, *, needs_x: bool
    ) -> torch.Tensor:
        """See ``Link``."""
        if not self.after_relu:
            dropped: torch.Tensor = grad * kept
            return dropped
        shown: torch.Tensor = torch.ops.aten.threshold_backward(grad, kept, 0.0)
        return shown.mul_(rows[f"{self.name}.scale"].view(-1, 1, 1))


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """``nn.BatchNorm1d``: sums over the examples of a slot, contiguous, as in ``affine``."""

    name: str
    momentum: float
    eps: float

    def run(self, h: torch.Tensor, rows: Tensors, masks: Masks | None, *, is_own: bool) -> Result:
        """See ``Link``; in training the running statistics are updated.

        Raises:
            ValueError: If a batch in training has one example, as PyTorch's layer.
        """
        mean_SF, variance_SF = (rows[f"{self.name}.running_{key}"] for key in ("mean", "var"))
        if masks is None:
            scale = (variance_SF + self.eps).rsqrt_().unsqueeze(1)
            normed = (h - mean_SF.unsqueeze(1)).mul_(scale)
            return _scaled(normed, self.name, rows), None, True
        batch = h.shape[1]
        if batch == 1:
            raise ValueError("Expected more than 1 value per channel when training")
        h = h.contiguous()
        means = h.mean(1, keepdim=True)
        normed = h - means
        variances = (normed * normed).mean(1, keepdim=True)
        kept = 1 - self.momentum
        mean_SF.mul_(kept).add_(means[:, 0], alpha=self.momentum)
        unbiased = self.momentum * batch / (batch - 1)
        variance_SF.mul_(kept).add_(variances[:, 0], alpha=unbiased)
        rows[f"{self.name}.num_batches_tracked"].add_(1)
        scale = variances.add_(self.eps).rsqrt_()
        normed.mul_(scale)
        return _scaled(normed, self.name, rows), (normed, scale), True

    def back(
        self, grad: torch.Tensor, kept: Any, rows: Tensors, found: Tensors, *, needs_x: bool
    ) -> torch.Tensor:
        """See ``Link``."""
        normed, scale = kept
        sums, products = _weight_gradients(grad, normed, self.name, found)
        share = -1 / normed.shape[1]
        moved: torch.Tensor = normed * products.unsqueeze(1)
        moved = moved.add_(sums.unsqueeze(1)).mul_(share).add_(grad)
        slope: torch.Tensor = scale * rows[f"{self.name}.weight"].unsqueeze(1)
        return moved.mul_(slope)


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """``nn.LayerNorm`` over the features of an example."""

    name: str
    eps: float

    def run(self, h: torch.Tensor, rows: Tensors, masks: Masks | None, *, is_own: bool) -> Result:
        """See ``Link``."""
        h = h.contiguous()
        normed = h - h.mean(-1, keepdim=True)
        scale = (normed * normed).mean(-1, keepdim=True).add_(self.eps).rsqrt_()
        normed.mul_(scale)
        return _scaled(normed, self.name, rows), (normed, scale), True

    def back(
        self, grad: torch.Tensor, kept: Any, rows: Tensors, found: Tensors, *, needs_x: bool
    ) -> torch.Tensor:
        """See ``Link``."""
        normed, scale = kept
        _weight_gradients(grad, normed, self.name, found)
        grad = grad * rows[f"{self.name}.weight"].unsqueeze(1)
        mean = grad.mean(-1, keepdim=True)
        projected = (grad * normed).mean(-1, keepdim=True)
        return (grad - mean).sub_(normed * projected).mul_(scale)


def _scaled(normed: torch.Tensor, name: str, rows: Tensors) -> torch.Tensor:
    weight, bias = (rows[f"{name}.{key}"].unsqueeze(1) for key in ("weight", "bias"))
    return torch.addcmul(bias, normed, weight)


def _weight_gradients(
    grad: torch.Tensor, normed: torch.Tensor, name: str, found: Tensors
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of a norm's bias and weight, (S, F), and keep them in ``found``."""
    sums, products = grad.contiguous().sum(1), (grad * normed).sum(1)
    found[f"{name}.bias"], found[f"{name}.weight"] = sums, products
    return sums, products


def _relu(layer: nn.Module) -> Activation:
    return Activation(
        torch.relu,
        torch.relu_,
        lambda grad, y: torch.ops.aten.threshold_backward(grad, y, 0.0),
        is_relu=True,
    )


def _tanh(layer: nn.Module) -> Activation:
    return Activation(torch.tanh, torch.tanh_, lambda grad, y: grad * (1 - y * y))


def _gelu(layer: nn.Module) -> Activation:
    assert isinstance(layer, nn.GELU)
    kind = layer.approximate
    return Activation(
        lambda x: functional.gelu(x, approximate=kind),
        None,
        lambda grad, x: torch.ops.aten.gelu_backward(grad, x, approximate=kind),
    )


def _silu(layer: nn.Module) -> Activation:
    return Activation(functional.silu, None, torch.ops.aten.silu_backward)


#: Activations by the layer they stand for. A layer that is not here is left to autograd.
ACTIVATIONS: Mapping[type[nn.Module], Callable[[nn.Module], Activation]] = {
    nn.ReLU: _relu,
    nn.Tanh: _tanh,
    nn.GELU: _gelu,
    nn.SiLU: _silu,
}
