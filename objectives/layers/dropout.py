"""Dropout whose rate and mask are the trial's own, in place of PyTorch's."""

import math
from collections.abc import Mapping

import torch
from torch import nn

from objectives.layers import random
from objectives.layers.masks import Masks

#: PyTorch's layers that ``Dropout`` stands for, by the axes at the end that share a draw.
_AXES: dict[type[nn.Module], int] = {
    nn.Dropout: 0,
    nn.Dropout1d: 1,
    nn.Dropout2d: 2,
    nn.Dropout3d: 3,
}
_ALL = (*_AXES, nn.AlphaDropout, nn.FeatureAlphaDropout)


class Dropout(nn.Module):
    """Drops elements, or whole channels, as a lane's ``masks`` say.

    What it needs of its rate (``random.dropout_numbers``) are buffers, one of each a slot.

    Args:
        rate: Share that is dropped, in [0, 1).
        axes: Axes at the end of the input that share a draw: 0 drops elements, 2 the channels of
            pictures.
        salt: Number of the layer in its model.
    """

    last_dropped: torch.Tensor
    scale: torch.Tensor

    def __init__(self, rate: float, *, axes: int = 0, salt: int = 0) -> None:
        super().__init__()
        self.axes = axes
        self.salt = salt
        self.masks: Masks | None = None
        for name, number in self._numbers(rate).items():
            self.register_buffer(name, number, persistent=False)

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
        """Return what the input is multiplied by in training, in a shape that fits it."""
        assert self.masks is not None, "the layer is trained outside a lane"
        drawn = input.shape[: input.dim() - self.axes]
        last, scale = self.last_dropped.view(-1, 1), self.scale.view(-1, 1)
        factors = self.masks.factors(self.salt, last, scale, math.prod(drawn) // last.shape[0])
        return factors.view(*drawn, *[1] * self.axes)


def with_own_dropout(model: nn.Module) -> nn.Module:
    """Replace PyTorch's dropout layers of the model itself by ``Dropout``, and return it.

    Subclasses and ``nn.AlphaDropout`` stay as they are: see ``find_rates``.
    """
    replaced: dict[nn.Module, Dropout] = {}
    for module in list(model.modules()):
        # Not named_children, which names a layer that stands there twice only once.
        for name, child in module._modules.items():
            if child is not None and type(child) in _AXES:
                rate, axes, salt = float(child.p), _AXES[type(child)], len(replaced)  # type: ignore[arg-type]
                ours = replaced.setdefault(child, Dropout(rate, axes=axes, salt=salt))
                setattr(module, name, ours)
    return model


def find_rates(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return the layers of PyTorch that drop with a rate of their own, each with its attribute.

    Every dropout layer is one of them; an attention or a stack of recurrent layers is where it
    was built with a rate above 0.
    """
    found = [(module, "p") for module in model.modules() if isinstance(module, _ALL)]
    inside = (module for module in model.modules() if _drops_inside(module))
    return [*found, *((module, "dropout") for module in inside)]


def _drops_inside(module: nn.Module) -> bool:
    if isinstance(module, nn.RNNBase):
        return module.dropout > 0 and module.num_layers > 1
    return isinstance(module, nn.MultiheadAttention) and module.dropout > 0
