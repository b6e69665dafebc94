"""Whether a model may be trained in company: a comparison with the plain module, not a belief.

``vmap`` refuses some layers and gets others silently wrong (``nn.Embedding(padding_idx=0)`` on
indices that each slot computes: the padding row's gradient is zero in slot 0 and not in the
others), so each model is tried on one small batch in two slots before it is fused.
Shapes: S slots, B batch, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.func import functional_call, vmap

from objectives.training import layers

Tensors = dict[str, torch.Tensor]
Inputs = tuple[torch.Tensor, ...]

#: Attribute of a model that is written for stacked weights: given (S, *shape) for each of its
#: own tensors and the inputs of one batch, its ``forward`` returns (S, B, C), without ``vmap``.
#: Said by the model, believed only if the comparison agrees.
STACKABLE = "takes_stacked_weights"

_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Program:
    """A model as a function of stacked tensors.

    Attributes:
        model: The module whose ``forward`` is run; its own tensors are never read.
        shared: Tensors that every trial of this model has alike (frozen word vectors).
        trained: Names of the parameters that are trained; a lane holds them as (S, *shape).
        own: Names of the buffers that are a trial's own; (S, *shape).
        note: Why the model is run one slot at a time, or None if slots are fused.
        first_names: For each name of a parameter or buffer, the name it has in the other fields:
            tied weights have several names, and stand there under the first.
        is_stackable: The model takes stacked weights as they are.
    """

    model: nn.Module
    shared: Tensors
    trained: tuple[str, ...]
    own: tuple[str, ...]
    note: str | None
    first_names: Mapping[str, str]
    is_stackable: bool = False

    def logits(self, rows: Mapping[str, torch.Tensor], inputs: Inputs) -> torch.Tensor:
        """Return the logits of S trials on one batch, (S, B, C).

        Args:
            rows: Every trained parameter and own buffer, (S, *shape).
            inputs: The arguments of ``forward``, the same for all slots.
        """
        if self.is_stackable:
            return self._call(dict(rows), inputs)
        if self.note is None:
            forward = vmap(self._call, in_dims=(0, None), randomness="error")
            return forward(dict(rows), inputs)
        alone = [
            self._call({name: rows[name][s] for name in rows}, inputs)
            for s in range(next(iter(rows.values())).shape[0])
        ]
        return torch.stack(alone)

    def _call(self, tensors: Tensors, inputs: Inputs) -> torch.Tensor:
        result = functional_call(self.model, {**tensors, **self.shared}, inputs)
        assert isinstance(result, torch.Tensor)
        return result


def program(build: Callable[[], nn.Module], inputs: Inputs, num_classes: int) -> Program:
    """Return the model as a program, fused if two slots agree with the plain module.

    Args:
        build: Returns a fresh module; its initial weights come from torch's generator.
        inputs: A small batch, two or more examples.
        num_classes: Width of the logits, C.

    Raises:
        ValueError: If the module's output is not (B, C).
    """
    plain = [_built(build, seed) for seed in (0, 1)]
    # Before the silence: a subclass of nn.Dropout stays in the program, with its rate.
    fused = layers.batchable(plain[0])
    for module in plain:
        _silence_dropout(module)
    batch = inputs[0].shape[0]
    shape = tuple(plain[0](*inputs).shape)
    if shape != (batch, num_classes):
        raise ValueError(
            f"the model's output must be (batch, classes) = {(batch, num_classes)}, got {shape}"
        )
    # The first module has run and the second has not: a buffer that a forward pass changes
    # (running statistics) differs, and so is a trial's own.
    first, second = (dict(_tensors(module)) for module in plain)
    trained = tuple(name for name, p in plain[0].named_parameters() if p.requires_grad)
    shared = {
        name: tensor
        for name, tensor in first.items()
        if name not in trained and torch.equal(tensor, second[name])
    }
    own = tuple(n for n, _ in _tensors(fused) if n not in trained and n not in shared)
    candidate = Program(fused, shared, trained, own, None, _first_names(fused))
    if getattr(fused, STACKABLE, False):
        stacked = replace(candidate, is_stackable=True)
        if _difference(stacked, plain, inputs) is None:
            return stacked
    return replace(candidate, note=_difference(candidate, plain, inputs))


def _built(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def _tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    named = [*module.named_parameters(), *module.named_buffers()]
    return [(name, tensor.detach()) for name, tensor in named]


def _first_names(module: nn.Module) -> dict[str, str]:
    everyone = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in everyone}


def _silence_dropout(module: nn.Module) -> None:
    for child in module.modules():
        if isinstance(child, nn.Dropout):
            child.p = 0.0


def _difference(candidate: Program, plain: list[nn.Module], inputs: Inputs) -> str | None:
    """Return what differs between two fused slots and the plain modules, or None."""
    rows = {}
    for name, tensor in _tensors(candidate.model):
        if name not in candidate.shared:
            both = [dict(_tensors(m)).get(name, tensor) for m in plain]
            rows[name] = torch.stack(both)
    for name, child in candidate.model.named_modules():
        if isinstance(child, layers.Dropout):
            rows[f"{name}.rate"].zero_()
    leaves = {name: rows[name].requires_grad_() for name in candidate.trained}
    try:
        logits_SBC = candidate.logits(rows, inputs)
        # Weights that differ from class to class and row to row: a plain sum would hide a swap.
        probe = torch.linspace(-1, 1, logits_SBC[0].numel()).view_as(logits_SBC[0])
        probe = probe.to(logits_SBC)
        fused_grads = torch.autograd.grad(
            (logits_SBC * probe).sum(), list(leaves.values()), materialize_grads=True
        )
    except Exception as error:  # whatever vmap raises on a layer it cannot batch
        reason = str(error).strip().splitlines()
        return f"it cannot be batched ({reason[0] if reason else type(error).__name__})"
    for slot, module in enumerate(plain):
        logits_BC = module(*inputs)
        parameters = dict(module.named_parameters())
        own = [parameters[name] for name in candidate.trained]
        grads = torch.autograd.grad((logits_BC * probe).sum(), own, materialize_grads=True)
        if not _close(logits_SBC[slot], logits_BC):
            return f"slot {slot} gives other outputs in company than alone"
        for name, fused_grad, grad in zip(candidate.trained, fused_grads, grads, strict=True):
            if not _close(fused_grad[slot], grad):
                return f"slot {slot} gives another gradient of {name!r} in company than alone"
    return None


def _close(value: torch.Tensor, reference: torch.Tensor) -> bool:
    # NaN in the data is no fault of fusing: what trains on it diverges, alone or in company.
    sizes = reference.detach().abs().nan_to_num(nan=0.0, posinf=0.0)
    atol = _TOLERANCE * max(float(sizes.max()) if sizes.numel() else 0.0, 1e-6)
    return torch.allclose(value, reference, rtol=_TOLERANCE, atol=atol, equal_nan=True)
