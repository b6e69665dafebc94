"""Whether a model may be trained in company: a comparison with the plain module, not a belief.

A model is tried in several forms on one small batch in two slots, the fastest first, and takes
the first whose outputs and gradients are those of the plain module: a chain of plain layers
(``chain``), layers that take stacked weights (``stacked``), or slots folded into the batch
(``folded``). If none agrees, or none is faster, it is run as it is, slot by slot.
Shapes: S slots, B batch, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd as Convolution
from torch.nn.modules.lazy import LazyModuleMixin

from objectives.layers import folded, random, stacked, watching
from objectives.layers.chain import Chain
from objectives.layers.chain_links import Tensors
from objectives.layers.dropout import Dropout, find_rates, with_own_dropout
from objectives.layers.masks import Masks
from objectives.layers.program import Form, Inputs, Program, find_logits, widen

_TOLERANCE = 1e-4
#: Layers that a CPU takes slot by slot at least as fast as together (``tests/benchmarks``).
BY_SLOT_ON_CPU = (Convolution, nn.LSTM)


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

    # Built anew for each form: what a copy of a model holds, such as a function that calls its
    # layers, may still be the original's.
    as_it_is = make("plain", with_own_dropout(_built(build, 0)))
    # A dropout that ours does not stand for draws, even if it was built with a rate of 0.
    if draws or any(attribute == "p" for _, attribute in find_rates(as_it_is.model)):
        why = "its forward draws random numbers; nn.Dropout can be batched"
        return replace(as_it_is, note=f"it cannot be batched over trials: {why}")
    silent = with_own_dropout(_built(build, 0))
    _silence_dropout(silent)
    apart = _difference(make("plain", silent), plain, inputs)
    if apart is not None:
        raise ValueError(f"the model does not train with the weights that it is given: {apart}")
    if watching.reads_values(plain[0], inputs, [n for n in first if n not in shared]):
        why = "its forward branches on the value of a tensor"
        return replace(as_it_is, note=f"it cannot be batched over trials: {why}")
    batchable = make("stacked", stacked.batchable(_built(build, 0)))
    chain = Chain.find(batchable.model, trained)
    if chain is not None:
        chained = replace(batchable, form="chain", chain=chain)
        if _difference(chained, plain, inputs) is None:
            return chained
    if not find_rates(batchable.model) and _difference(batchable, plain, inputs) is None:
        return batchable
    slow = next((m for m in plain[0].modules() if isinstance(m, BY_SLOT_ON_CPU)), None)
    if slow is not None and inputs[0].device.type == "cpu":
        layer = f"nn.{type(slow).__name__}"
        return replace(as_it_is, note=f"a CPU takes its {layer} trial by trial at least as fast")
    as_folded = make("folded", folded.fold(_built(build, 0)))
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


def _difference(candidate: Program, plain: list[nn.Module], inputs: Inputs) -> str | None:
    """Return what differs between two fused slots and the plain modules, or None."""
    rows = {}
    for name, tensor in _tensors(candidate.model):
        if name not in candidate.shared:
            rows[name] = torch.stack([dict(_tensors(m)).get(name, tensor) for m in plain])
    at_once = 1 if candidate.form == "plain" else len(plain)
    masks = Masks(torch.zeros((1, at_once), dtype=torch.int32, device=inputs[0].device))
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
    return _difference_in_evaluation(candidate, rows, plain, inputs)


@torch.no_grad()
def _difference_in_evaluation(
    candidate: Program, rows: Tensors, plain: list[nn.Module], inputs: Inputs
) -> str | None:
    """Return what differs in evaluation, of one example and of all, or None."""
    try:
        for module in (candidate.model, *plain):
            module.eval()
        for examples in (tuple(x[:1] for x in inputs), inputs):
            try:
                logits = [find_logits(module(*examples)) for module in plain]
            except Exception:  # what the module alone cannot do it need not do in company
                continue
            try:
                found_SBC = candidate.logits(rows, examples)
            except Exception as error:  # whatever a person's model raises on other shapes
                why = (str(error).strip().splitlines() or [type(error).__name__])[0]
                return f"it cannot be evaluated beside another trial: {why}"
            for slot, logits_BC in enumerate(logits):
                assert logits_BC is not None, "the model's output was tried before"
                own_BC = widen(logits_BC) if candidate.is_binary else logits_BC
                is_like = found_SBC.shape == (len(plain), *own_BC.shape)
                if not is_like or not _close(found_SBC[slot], own_BC, _size(own_BC)):
                    return "beside another trial it is evaluated otherwise than alone"
    finally:
        for module in (candidate.model, *plain):
            module.train()
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
