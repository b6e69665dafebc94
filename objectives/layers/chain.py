"""A model that is a chain of plain layers, run and differentiated for all slots without autograd.

What autograd keeps and calls for each layer takes two fifths of a small network's step (a lane of
one 64-16-16-1 perceptron on 200 rows, AMD EPYC core: 121 us against 212). Knows no loss.
Shapes: S slots, B batch, I inputs, C classes.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import nn

from objectives.layers import stacked
from objectives.layers.dropout import Dropout
from objectives.layers.masks import Masks

_Kind = Literal["linear", "relu", "tanh", "dropout", "relu and dropout"]
_KINDS: dict[type[nn.Module], _Kind] = {
    stacked.Linear: "linear",
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    Dropout: "dropout",
}


class _Link(NamedTuple):
    """A layer of the chain; ``name`` is that of its parameters or its rate in the model."""

    kind: _Kind
    name: str
    salt: int = 0


Tensors = dict[str, torch.Tensor]
#: What each layer was given or gave, as its gradient needs it.
Tape = list[torch.Tensor]


@dataclass(frozen=True, slots=True)
class Chain:
    """Linear layers with ReLU, Tanh and dropout between them, on one input.

    Attributes:
        links: The layers, the first of them linear.
        flattens: Whether the input is flattened to one row an example.
    """

    links: tuple[_Link, ...]
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
        links: list[_Link] = []
        for part in parts[1:] if flattens else parts:
            kind = _KINDS.get(type(part))
            if kind is None or _is_watched(part):
                return None
            if isinstance(part, Dropout) and part.axes > 0:
                return None
            if kind == "dropout" and links and links[-1].kind == "relu":
                links.pop()
                kind = "relu and dropout"
            salt = part.salt if isinstance(part, Dropout) else 0
            links.append(_Link(kind, first_names[part], salt))
        # A layer or a weight that stands there twice is named once.
        names = {name for name, parameter in model.named_parameters()}
        num_linear = [link.kind for link in links].count("linear")
        is_plain = (
            len(links) > 0
            and links[0].kind == "linear"
            and names == set(trained)
            and num_linear == sum(name.endswith("weight") for name in names)
            and all(each.dtype == torch.float32 for each in model.parameters())
        )
        return cls(tuple(links), flattens) if is_plain else None

    def run(
        self, rows: Tensors, inputs: tuple[torch.Tensor, ...], masks: Masks | None
    ) -> tuple[torch.Tensor, Tape]:
        """Return the logits, (S, B, C), and what ``gradients`` needs.

        Args:
            rows: The model's tensors, (S, *shape).
            inputs: One, (B, I), or of more axes if it is flattened.
            masks: What draws dropout, or None: nothing is dropped.
        """
        (x,) = inputs
        x = x.flatten(1) if self.flattens else x
        assert x.dim() == 2, "a chain takes a row an example"
        slots = rows[f"{self.links[0].name}.weight"].shape[0]
        h = x.unsqueeze(0).expand(slots, -1, -1)
        tape: Tape = []
        is_own = False  # whether h may be written over: a linear layer's result is nobody else's
        for kind, name, salt in self.links:
            if kind == "linear":
                tape.append(h)
                h = stacked.affine(h, rows[f"{name}.weight"], rows.get(f"{name}.bias"))
                is_own = True
                continue
            if kind == "tanh":
                h = h.tanh_() if is_own else h.tanh()
            elif kind != "dropout":
                h = h.relu_() if is_own else h.relu()
            is_own = False
            if kind in ("relu", "tanh"):
                tape.append(h)
            elif masks is not None:
                last, scale = (rows[f"{name}.{key}"] for key in ("last_dropped", "scale"))
                count = h[0].numel()
                factors = masks.factors(salt, last.unsqueeze(1), scale.unsqueeze(1), count)
                factors = factors.view(h.shape)
                if kind == "dropout":
                    tape.append(factors)
                    h = h * factors
                else:
                    h.mul_(factors)
                    tape.append(h)
            else:
                tape.append(h)
        return h, tape

    def gradients(self, rows: Tensors, tape: Tape, grad: torch.Tensor) -> Tensors:
        """Return the gradients of the weights, given that of the logits, (S, B, C).

        They are those of a pass in training: with masks.
        """
        found: Tensors = {}
        for i in range(len(self.links) - 1, -1, -1):
            kind, name, _ = self.links[i]
            kept = tape[i]
            if kind == "linear":
                weight = rows[f"{name}.weight"]
                grad_x, grad_weight, grad_bias = stacked.affine_gradients(
                    grad, kept, weight, needs_x=i > 0
                )
                found[f"{name}.weight"] = grad_weight
                if f"{name}.bias" in rows:
                    found[f"{name}.bias"] = grad_bias
                if grad_x is not None:
                    grad = grad_x
            elif kind == "tanh":
                grad = grad * (1 - kept * kept)
            elif kind == "dropout":
                grad = grad * kept
            else:
                grad = torch.ops.aten.threshold_backward(grad, kept, 0.0)
                if kind == "relu and dropout":
                    # What was above 0 and kept is above 0 still: no scale makes it smaller.
                    grad = grad.mul_(rows[f"{name}.scale"].view(-1, 1, 1))
        return found


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
