"""Whether a model may be trained in company: a comparison with the plain module, not a belief.

A model is tried in several forms on one small batch in two slots, the fastest first, and takes
the first whose outputs and gradients are those of the plain module: a chain of plain layers
(``chain``), layers that take stacked weights (``stacked``), or slots folded into the batch
(``folded``). If none agrees, or none is faster, it is run as it is, slot by slot.
Shapes: S slots, B batch, C classes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd as Convolution
from torch.nn.modules.lazy import LazyModuleMixin

from objectives.layers import folded, random, stacked, watching
from objectives.layers.chain import Chain, Tape
from objectives.layers.chain_links import Tensors
from objectives.layers.dropout import Dropout, find_rates, with_own_dropout
from objectives.layers.masks import Masks

Inputs = tuple[torch.Tensor, ...]
Form = Literal["chain", "stacked", "folded", "plain"]

_TOLERANCE = 1e-4
#: Layers that a CPU takes slot by slot at least as fast as together (``tests/benchmarks``).
BY_SLOT_ON_CPU = (Convolution, nn.LSTM)


@dataclass(frozen=True, slots=True)
class Program:
    """A model as a function of stacked tensors.

    Attributes:
        model: The module whose ``forward`` is run; its own tensors are never read.
        form: How the slots are run: see above.
        shared: Tensors that every trial of this model has alike (frozen word vectors).
        trained: Names of the parameters that are trained; a lane holds them as (S, *shape).
        own: Names of the buffers that are a trial's own; (S, *shape).
        note: Why the model is run one slot at a time, or None if slots are fused.
        first_names: For each name of a parameter or buffer, the name it has in the other fields:
            tied weights have several names, and stand there under the first.
        places: Where each tensor stands: a module's own table of parameters or buffers, its key
            there, and its name in the other fields.
        direct: Folded: the places of what is used by no layer of ours, and is an example's.
        is_binary: The model has one output z for two classes, and its logits are (0, z).
        chain: The model as a chain of plain layers, or None if it is not one.
    """

    model: nn.Module
    form: Form
    shared: Tensors
    trained: tuple[str, ...]
    own: tuple[str, ...]
    first_names: Mapping[str, str]
    places: tuple[tuple[dict[str, Any], str, str], ...]
    direct: tuple[tuple[dict[str, Any], str], ...] = ()
    note: str | None = None
    is_binary: bool = False
    chain: Chain | None = None

    @property
    def path(self) -> Literal["plain", "stacked"]:
        """Whether slots are taken one by one, as the module is, or all at once."""
        return "plain" if self.form == "plain" else "stacked"

    def dropouts(self) -> dict[str, Dropout]:
        """Return the model's layers of our dropout by name."""
        named = self.model.named_modules()
        return {name: module for name, module in named if isinstance(module, Dropout)}

    def tensors_of(self, module: nn.Module, dropout: float | None) -> Tensors:
        """Return a trial's own tensors, (1, *shape), of a fresh module, which is changed.

        Args:
            module: As ``build`` returned it.
            dropout: The trial's rate, or None: that of each layer.
        """
        module = folded.fold(module) if self.form == "folded" else with_own_dropout(module)
        tensors = dict(_tensors(module))
        rows = {n: tensors[n].unsqueeze(0).clone() for n in (*self.trained, *self.own)}
        if dropout is not None:
            for name in self.dropouts():
                Dropout.fill(rows, name, dropout)
        return rows

    def logits(self, rows: Mapping[str, torch.Tensor], inputs: Inputs) -> torch.Tensor:
        """Return the logits of S trials on one batch, (S, B, C).

        Args:
            rows: Every trained parameter and own buffer, (S, *shape).
            inputs: The arguments of ``forward``, the same for all slots.
        """
        if self.chain is not None:
            return self.run_chain(dict(rows), inputs, None)[0]
        slots = next(iter(rows.values())).shape[0]
        if self.form != "plain":
            with self.bound(rows):
                return self.bound_logits(inputs, slots)
        alone = []
        for s in range(slots):
            with self.bound({name: tensor[s] for name, tensor in rows.items()}):
                alone.append(self.bound_logits(inputs, 1))
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
        """Let the module hold these tensors for a while, and the shared ones.

        A buffer that the model replaces (``self.seen = self.seen + 1``) is written back.
        """
        everyone = {**tensors, **self.shared}
        before = [store[key] for store, key, _ in self.places]
        try:
            # As torch.func.functional_call, which takes 0.2 ms to find the places in each call.
            for store, key, name in self.places:
                store[key] = everyone[name]
            yield
        finally:
            for (store, key, name), tensor in zip(self.places, before, strict=True):
                if store[key] is not everyone[name]:
                    everyone[name].copy_(store[key].detach())
                store[key] = tensor

    def bound_logits(self, inputs: Inputs, slots: int) -> torch.Tensor:
        """Return the logits of what the module holds: (S, B, C), or one trial's, (B, C)."""
        if self.form != "folded":
            return self._find_logits(self.model(*inputs))
        examples = inputs
        if slots > 1:
            examples = tuple(x.expand(slots, *x.shape).flatten(0, 1) for x in inputs)
        held = [store[key] for store, key in self.direct]
        try:
            for (store, key), tensor in zip(self.direct, held, strict=True):
                store[key] = _of_examples(tensor, inputs[0].shape[0])
            logits = self._find_logits(self.model(*examples))
        finally:
            for (store, key), tensor in zip(self.direct, held, strict=True):
                store[key] = tensor
        return logits.reshape(slots, -1, *logits.shape[1:])

    def _find_logits(self, output: Any) -> torch.Tensor:
        logits = find_logits(output)
        assert logits is not None, "the model's output was tried before"
        return widen(logits) if self.is_binary else logits


def find_logits(output: Any) -> torch.Tensor | None:
    """Return the logits of what a ``forward`` returned, or None if it holds none.

    A tensor is they; of a tuple they are the first part, of a dict what is called ``logits``, and
    of any other object its attribute of this name.
    """
    if isinstance(output, Mapping):
        output = output.get("logits")
    elif isinstance(output, tuple | list):
        output = output[0] if output else None
    elif not isinstance(output, torch.Tensor):
        output = getattr(output, "logits", None)
    return output if isinstance(output, torch.Tensor) else None


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
    original = deepcopy(plain[0])
    for module in plain:
        _silence_dropout(module)
    with torch.random.fork_rng():
        before = torch.get_rng_state()
        logits = find_logits(plain[0](*inputs))
        draws = not torch.equal(torch.get_rng_state(), before)
    shape = None if logits is None else tuple(logits.shape)
    batch = inputs[0].shape[0]
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

    def make(form: Form, model: nn.Module) -> Program:
        names = _first_names(model)
        own = tuple(n for n, _ in _tensors(model) if n not in trained and n not in shared)
        places = _find_places(model, names)
        made = Program(model, form, shared, trained, own, names, places, is_binary=is_binary)
        if form != "folded":
            return made
        owned = folded.owned_names(model) | shared.keys()
        direct = tuple((store, key) for store, key, name in places if name not in owned)
        return replace(made, direct=direct)

    as_it_is = make("plain", with_own_dropout(deepcopy(original)))
    # A dropout that ours does not stand for draws, even if it was built with a rate of 0.
    if draws or any(attribute == "p" for _, attribute in find_rates(as_it_is.model)):
        why = "its forward draws random numbers; nn.Dropout can be batched"
        return replace(as_it_is, note=f"it cannot be batched over trials: {why}")
    if watching.reads_values(plain[0], inputs, [n for n in first if n not in shared]):
        why = "its forward branches on the value of a tensor"
        return replace(as_it_is, note=f"it cannot be batched over trials: {why}")
    batchable = make("stacked", stacked.batchable(original))
    chain = Chain.find(batchable.model, trained)
    if chain is not None:
        chained = replace(batchable, form="chain", chain=chain)
        if _difference(chained, plain, inputs) is None:
            return chained
    if not find_rates(batchable.model) and _difference(batchable, plain, inputs) is None:
        return batchable
    slow = next((m for m in original.modules() if isinstance(m, BY_SLOT_ON_CPU)), None)
    if slow is not None and inputs[0].device.type == "cpu":
        layer = f"nn.{type(slow).__name__}"
        return replace(as_it_is, note=f"a CPU takes its {layer} trial by trial at least as fast")
    as_folded = make("folded", folded.fold(deepcopy(original)))
    note = _difference(as_folded, plain, inputs)
    return as_folded if note is None else replace(as_it_is, note=note)


def initialized(module: nn.Module, inputs: Inputs) -> nn.Module:
    """Return the module itself, its lazy layers initialised by a pass that changes no more."""
    if any(isinstance(each, LazyModuleMixin) for each in module.modules()):
        was_training = module.training
        with torch.no_grad():
            module.eval()(*inputs)
        module.train(was_training)
    return module


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
    for layer, attribute in find_rates(module):
        setattr(layer, attribute, 0.0)


def _of_examples(tensor_S: torch.Tensor, examples: int) -> torch.Tensor:
    """Return a tensor of the slots, (S, 1, ...) or (S, ...), for each example, (S * B, ...)."""
    if tensor_S.dim() == 1:
        tensor_S = tensor_S.unsqueeze(1)
    elif tensor_S.shape[1] == 1:
        tensor_S = tensor_S.squeeze(1)
    return tensor_S.repeat_interleave(examples, dim=0)


def _difference(candidate: Program, plain: list[nn.Module], inputs: Inputs) -> str | None:
    """Return what differs between two fused slots and the plain modules, or None."""
    rows = {}
    for name, tensor in _tensors(candidate.model):
        if name not in candidate.shared:
            rows[name] = torch.stack([dict(_tensors(m)).get(name, tensor) for m in plain])
    masks = Masks(torch.zeros((1, 2), dtype=torch.int32, device=inputs[0].device))
    for name, layer in candidate.dropouts().items():
        layer.masks = masks
        Dropout.fill(rows, name, 0.0)
    try:
        logits_SBC, probe, fused_grads = _probe(candidate, rows, inputs, masks)
    except Exception as error:  # whatever a person's model raises on other shapes
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"it cannot be batched over trials: {why}"
    finally:
        for layer in candidate.dropouts().values():
            layer.masks = None
    for slot, module in enumerate(plain):
        logits_BC = find_logits(module(*inputs))
        assert logits_BC is not None, "the model's output was tried before"
        logits_BC = widen(logits_BC) if candidate.is_binary else logits_BC
        if logits_SBC.shape != (2, *logits_BC.shape):
            return f"beside another trial its output has the shape {tuple(logits_SBC.shape)}"
        buffers = dict(module.named_buffers())
        for name in buffers.keys() & set(candidate.own):
            if not _close(rows[name][slot], buffers[name], _size(buffers[name])):
                return f"beside another trial it leaves another {name!r} than alone"
        parameters = dict(module.named_parameters())
        own = [parameters[name] for name in candidate.trained]
        grads = torch.autograd.grad((logits_BC * probe).sum(), own, materialize_grads=True)
        if not _close(logits_SBC[slot], logits_BC, _size(logits_BC)):
            return "beside another trial it gives other outputs than alone"
        # A true gradient of 0, of a bias before a batch norm, is what the others' rounding leaves.
        whole = max(map(_size, grads), default=0.0)
        for name, grad in zip(candidate.trained, grads, strict=True):
            if not _close(fused_grads[name][slot], grad, max(_size(grad), 0.1 * whole)):
                return f"beside another trial it gets another gradient of {name!r} than alone"
    return None


def _probe(
    candidate: Program, rows: Tensors, inputs: Inputs, masks: Masks
) -> tuple[torch.Tensor, torch.Tensor, Tensors]:
    """Return the logits of two slots, weights for a sum of one slot's, and that sum's gradients.

    The weights differ from class to class and row to row: a plain sum would hide a swap.
    """
    if candidate.chain is not None:
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


def _size(tensor: torch.Tensor) -> float:
    """Return the largest size of a number, NaN and infinity apart."""
    # NaN in the data is no fault of fusing: what trains on it diverges, alone or in company.
    sizes = tensor.detach().abs().nan_to_num(nan=0.0, posinf=0.0)
    return float(sizes.max()) if sizes.numel() else 0.0


def _close(value: torch.Tensor, reference: torch.Tensor, size: float) -> bool:
    atol = _TOLERANCE * max(size, 1e-6)
    value, reference = value.double(), reference.double()
    return torch.allclose(value, reference, rtol=_TOLERANCE, atol=atol, equal_nan=True)
