"""Whether a model may be trained in company: a comparison with the plain module, not a belief.

``vmap`` refuses some layers and gets others silently wrong (``nn.Embedding(padding_idx=0)`` on
indices that each slot computes: the padding row's gradient is zero in slot 0 and not in the
others), so each model is tried on one small batch in two slots before it is fused.
Shapes: S slots, B batch, C classes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.func import vmap
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from objectives.layers import random, stacked
from objectives.layers.chain import Chain, Tape, Tensors
from objectives.layers.masks import Masks

Inputs = tuple[torch.Tensor, ...]

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
        places: Where each tensor stands: a module's own table of parameters or buffers, its key
            there, and its name in the other fields.
        is_stackable: The model takes stacked weights as they are: given (S, *shape) for each of
            its own tensors, its ``forward`` returns (S, B, C), without ``vmap``.
        is_binary: The model has one output z for two classes, and its logits are (0, z).
        chain: The model as a chain of plain layers, or None if it is not one.
    """

    model: nn.Module
    shared: Tensors
    trained: tuple[str, ...]
    own: tuple[str, ...]
    note: str | None
    first_names: Mapping[str, str]
    places: tuple[tuple[dict[str, Any], str, str], ...]
    is_stackable: bool = False
    is_binary: bool = False
    chain: Chain | None = None

    @property
    def path(self) -> Literal["plain", "stacked"]:
        """Whether slots are taken one by one, as the module is, or all at once."""
        return "stacked" if self.note is None else "plain"

    def logits(self, rows: Mapping[str, torch.Tensor], inputs: Inputs) -> torch.Tensor:
        """Return the logits of S trials on one batch, (S, B, C).

        Args:
            rows: Every trained parameter and own buffer, (S, *shape).
            inputs: The arguments of ``forward``, the same for all slots.
        """
        if self.chain is not None:
            (x,) = inputs
            logits_SBC, _ = self.chain.run(dict(rows), (x,), None)
            return widen(logits_SBC) if self.is_binary else logits_SBC
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

    def run_chain(
        self, rows: Tensors, inputs: Inputs, masks: Masks | None
    ) -> tuple[torch.Tensor, Tape]:
        """Return what ``Chain.run`` does, its logits widened."""
        assert self.chain is not None, "the model is no chain"
        logits_SBC, tape = self.chain.run(rows, inputs, masks)
        return widen(logits_SBC) if self.is_binary else logits_SBC, tape

    def chain_gradients(self, rows: Tensors, tape: Tape, gradient_SBC: torch.Tensor) -> Tensors:
        """Return the gradients of the weights, given that of the logits."""
        assert self.chain is not None, "the model is no chain"
        grad = gradient_SBC[..., 1:] if self.is_binary else gradient_SBC
        return self.chain.gradients(rows, tape, grad)

    @contextmanager
    def bound(self, tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Let the module hold these tensors for a while, and the shared ones."""
        everyone = {**tensors, **self.shared}
        before = [store[key] for store, key, _ in self.places]
        try:
            for store, key, name in self.places:
                store[key] = everyone[name]
            yield
        finally:
            for (store, key, _), tensor in zip(self.places, before, strict=True):
                store[key] = tensor

    def bound_logits(self, inputs: Inputs) -> torch.Tensor:
        """Return the logits of what the module holds: (S, B, C), or one trial's, (B, C)."""
        result = self.model(*inputs)
        assert isinstance(result, torch.Tensor)
        return widen(result) if self.is_binary else result

    def _call(self, tensors: Tensors, inputs: Inputs) -> torch.Tensor:
        # As torch.func.functional_call, which takes 0.2 ms to find the places anew in each call.
        with self.bound(tensors):
            return self.bound_logits(inputs)


def widen(z: torch.Tensor) -> torch.Tensor:
    """Return (0, z) as the logits of two classes, (..., B, 2), for one output of (..., B, 1).

    Softmax cross-entropy on these is binary cross-entropy with logits on z, because
    softmax((0, z)) is (sigmoid(-z), sigmoid(z)): the trainer knows one loss alone.
    """
    return torch.cat([torch.zeros_like(z), z], dim=-1)


def program(build: Callable[[], nn.Module], inputs: Inputs, num_classes: int) -> Program:
    """Return the model as a program, fused if two slots agree with the plain module.

    Args:
        build: Returns a fresh module; its initial weights come from torch's generator.
        inputs: A small batch, two or more examples.
        num_classes: Width of the logits, C.

    Raises:
        ValueError: If the module's output is neither (B, C) nor, for two classes, (B, 1).
    """
    plain = [_built(build, seed) for seed in (0, 1)]
    # Before the silence: a subclass of nn.Dropout stays in the program, with its rate.
    fused = stacked.batchable(plain[0])
    for module in plain:
        _silence_dropout(module)
    batch = inputs[0].shape[0]
    shape = tuple(plain[0](*inputs).shape)
    is_binary = num_classes == 2 and shape == (batch, 1)
    if shape != (batch, num_classes) and not is_binary:
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
    names = _first_names(fused)
    places = _find_places(fused, names)
    candidate = Program(fused, shared, trained, own, None, names, places, is_binary=is_binary)
    chain = Chain.find(fused, trained)
    if chain is not None:
        chained = replace(candidate, chain=chain, is_stackable=True)
        if _difference(chained, plain, inputs) is None:
            return chained
    note = _difference(candidate, plain, inputs)
    if note is not None:
        return replace(candidate, note=note)
    # Without vmap, which costs a step of a small network more than its arithmetic: layers of ours
    # and what works on the last axes take stacked weights as they are. Only after vmap, which
    # finds what one batch cannot show, such as a branch on the value of a tensor.
    as_stacked = replace(candidate, is_stackable=True)
    return as_stacked if _difference(as_stacked, plain, inputs) is None else candidate


def as_plain(program: Program, build: Callable[[], nn.Module], note: str) -> Program:
    """Return the program that runs the module as it is, one trial at a time; ``note`` says why."""
    model = stacked.with_own_dropout(_built(build, 0))
    names = _first_names(model)
    return replace(
        program,
        model=model,
        note=note,
        first_names=names,
        places=_find_places(model, names),
        is_stackable=False,
        chain=None,
    )


def _built(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        random.seed_generators(seed)
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


def _find_places(
    module: nn.Module, first_names: Mapping[str, str]
) -> tuple[tuple[dict[str, Any], str, str], ...]:
    return tuple(
        (store, key, first_names[f"{prefix}.{key}" if prefix else key])
        for prefix, part in module.named_modules()
        for store in (part._parameters, part._buffers)
        for key, tensor in store.items()
        if tensor is not None
    )


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
        if isinstance(child, stacked.Dropout):
            stacked.Dropout.fill(rows, name, 0.0)
    try:
        logits_SBC, probe, fused_grads = _probe(candidate, rows, inputs)
    except Exception as error:  # whatever vmap raises on a layer it cannot batch
        return _explain(error, candidate.model)
    if logits_SBC.shape[:2] != (2, len(inputs[0])):
        return f"beside another trial its output has the shape {tuple(logits_SBC.shape)}"
    beside = _name_layer(candidate.model, BatchNorm, " (it has {})")
    for slot, module in enumerate(plain):
        logits_BC = module(*inputs)
        logits_BC = widen(logits_BC) if candidate.is_binary else logits_BC
        parameters = dict(module.named_parameters())
        own = [parameters[name] for name in candidate.trained]
        grads = torch.autograd.grad((logits_BC * probe).sum(), own, materialize_grads=True)
        if not _close(logits_SBC[slot], logits_BC):
            return f"beside another trial it gives other outputs than alone{beside}"
        for name, grad in zip(candidate.trained, grads, strict=True):
            if not _close(fused_grads[name][slot], grad):
                text = f"beside another trial it gets another gradient of {name!r} than alone"
                return text + beside
    return None


def _probe(
    candidate: Program, rows: Tensors, inputs: Inputs
) -> tuple[torch.Tensor, torch.Tensor, Tensors]:
    """Return the logits of two slots, weights for a sum of one slot's, and that sum's gradients.

    The weights differ from class to class and row to row: a plain sum would hide a swap.
    """
    if candidate.chain is not None:
        masks = Masks(torch.zeros((1, 2), dtype=torch.int32, device=inputs[0].device))
        logits_SBC, tape = candidate.run_chain(rows, inputs, masks)
        probe = _weights_like(logits_SBC[0])
        gradients = candidate.chain_gradients(rows, tape, probe.expand_as(logits_SBC))
        return logits_SBC, probe, gradients
    leaves = {name: rows[name].requires_grad_() for name in candidate.trained}
    logits_SBC = candidate.logits(rows, inputs)
    probe = _weights_like(logits_SBC[0])
    found = torch.autograd.grad(
        (logits_SBC * probe).sum(), list(leaves.values()), materialize_grads=True
    )
    return logits_SBC, probe, dict(zip(leaves, found, strict=True))


def _weights_like(logits: torch.Tensor) -> torch.Tensor:
    return torch.linspace(-1, 1, logits.numel()).view_as(logits).to(logits)


def _explain(error: Exception, model: nn.Module) -> str:
    """Return why ``vmap`` refused a model, in the words of whoever wrote it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = " ".join(lines)
    if "data-dependent" in text:
        why = "its forward branches on the value of a tensor"
    elif "random" in text:
        why = "its forward draws random numbers; nn.Dropout can be batched"
    elif layer := _name_layer(model, nn.RNNBase, "{}"):
        why = f"PyTorch's {layer} takes one model's weights at a time"
    else:
        why = lines[0]
    return f"it cannot be batched over trials: {why}"


def _name_layer(model: nn.Module, kind: type[nn.Module], text: str) -> str:
    """Return the text with the name of the first layer of a kind, or nothing."""
    found = next((module for module in model.modules() if isinstance(module, kind)), None)
    return "" if found is None else text.format(f"nn.{type(found).__name__}")


def _close(value: torch.Tensor, reference: torch.Tensor) -> bool:
    # NaN in the data is no fault of fusing: what trains on it diverges, alone or in company.
    sizes = reference.detach().abs().nan_to_num(nan=0.0, posinf=0.0)
    atol = _TOLERANCE * max(float(sizes.max()) if sizes.numel() else 0.0, 1e-6)
    return torch.allclose(value, reference, rtol=_TOLERANCE, atol=atol, equal_nan=True)
