"""A model that is a chain of plain layers, run and differentiated for all slots without autograd.

What autograd keeps and calls for each layer takes two fifths of a small network's step (a lane of
one 64-16-16-1 perceptron on 200 rows, AMD EPYC core: 121 us against 212). Knows no loss.
Shapes: S slots, B batch, F features, C classes.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from objectives.layers import stacked
from objectives.layers.chain_links import (
    ACTIVATIONS,
    Activation,
    Affine,
    BatchNorm,
    Drop,
    LayerNorm,
    Link,
    Tensors,
)
from objectives.layers.dropout import Dropout
from objectives.layers.masks import Masks

#: What each layer was given or gave, as its gradient needs it.
Tape = list[Any]


@dataclass(frozen=True, slots=True)
class Chain:
    """Linear layers with norms, activations and dropout between them, on one input.

    Attributes:
        links: The layers, the first of them linear.
        flattens: Whether the input is flattened to one row an example.
    """

    links: tuple[Link, ...]
    flattens: bool

    @classmethod
    def find(cls, model: nn.Module, trained: Collection[str]) -> "Chain | None":
        """Return the model as a chain, or None if it is not one.

        Args:
            model: The model, as ``stacked.batchable`` returns it.
            trained: Names of the parameters that are trained: all must be.
        """
        parts = list(_walk(model))
        flattens = bool(parts) and type(parts[0]) is nn.Flatten
        first_names = {part: name for name, part in model.named_modules()}
        links: list[Link] = []
        for part in parts[1:] if flattens else parts:
            link = None if _is_watched(part) else _make_link(part, first_names[part])
            if link is None:
                return None
            if isinstance(link, Drop) and links and isinstance(links[-1], Activation):
                # What was above 0 and kept is above 0 still: no scale makes it smaller.
                link = Drop(link.name, link.salt, after_relu=links[-1].is_relu)
                if link.after_relu:
                    links.pop()
            links.append(link)
        # A layer or a weight that stands there twice is named once.
        names = {name for name, _ in model.named_parameters()}
        num_weighted = sum(isinstance(each, Affine | BatchNorm | LayerNorm) for each in links)
        is_plain = (
            len(links) > 0
            and isinstance(links[0], Affine)
            and names == set(trained)
            and num_weighted == sum(name.endswith("weight") for name in names)
            and all(each.dtype == torch.float32 for each in model.parameters())
        )
        return cls(tuple(links), flattens) if is_plain else None

    def run(
        self, rows: Tensors, inputs: tuple[torch.Tensor, ...], masks: Masks | None
    ) -> tuple[torch.Tensor, Tape]:
        """Return the logits, (S, B, C), and what ``gradients`` needs.

        Args:
            rows: The model's tensors, (S, *shape).
            inputs: One, (B, F), or of more axes if it is flattened.
            masks: What draws dropout in training, or None: this is an evaluation.
        """
        (x,) = inputs
        x = x.flatten(1) if self.flattens else x
        assert x.dim() == 2, "a chain takes a row an example"
        first = self.links[0]
        assert isinstance(first, Affine), "a chain begins with a linear layer"
        h = x.unsqueeze(0).expand(rows[f"{first.name}.weight"].shape[0], -1, -1)
        tape: Tape = []
        is_own = False  # whether h may be written over: only this chain has it
        for link in self.links:
            h, kept, is_own = link.run(h, rows, masks, is_own=is_own)
            tape.append(kept)
        return h, tape

    def gradients(self, rows: Tensors, tape: Tape, grad: torch.Tensor) -> Tensors:
        """Return the gradient of each weight, given that of the logits, (S, B, C).

        They are those of a pass in training: with masks.
        """
        found: Tensors = {}
        for i in range(len(self.links) - 1, -1, -1):
            grad = self.links[i].back(grad, tape[i], rows, found, needs_x=i > 0)
        return found


def _make_link(part: nn.Module, name: str) -> Link | None:
    if type(part) is stacked.Linear:
        return Affine(name)
    if type(part) in ACTIVATIONS:
        return ACTIVATIONS[type(part)](part)
    if type(part) is Dropout and part.axes == 0:
        return Drop(name, part.salt)
    if type(part) is nn.BatchNorm1d and part.affine and part.track_running_stats:
        return None if part.momentum is None else BatchNorm(name, part.momentum, part.eps)
    if type(part) is nn.LayerNorm and len(part.normalized_shape) == 1:
        is_whole = part.weight is not None and part.bias is not None
        return LayerNorm(name, part.eps) if is_whole else None
    return None


def _walk(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of nested ``nn.Sequential``, one that stands there twice twice."""
    if type(module) is nn.Identity:
        return
    is_sequence = isinstance(module, nn.Sequential) and not _is_watched(module)
    if not is_sequence or type(module).forward is not nn.Sequential.forward:
        yield module
        return
    for child in module._modules.values():
        if child is not None:
            yield from _walk(child)


def _is_watched(layer: nn.Module) -> bool:
    """Return whether a hook wants to see what goes through a layer."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks)
    return any((*hooks, layer._backward_hooks, layer._backward_pre_hooks))
