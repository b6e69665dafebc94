"""A model as a function of the weights of many trials, in one of four forms (see ``fusion``).

Shapes: S slots, B batch, C classes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from objectives.layers import folded
from objectives.layers.chain import Chain, Tape
from objectives.layers.chain_links import Tensors
from objectives.layers.dropout import Dropout, with_own_dropout
from objectives.layers.masks import Masks

Inputs = tuple[torch.Tensor, ...]
Form = Literal["chain", "stacked", "folded", "plain"]


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
        tensors = dict([*module.named_parameters(), *module.named_buffers()])
        rows = {n: tensors[n].detach().unsqueeze(0).clone() for n in (*self.trained, *self.own)}
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


def _of_examples(tensor_S: torch.Tensor, examples: int) -> torch.Tensor:
    """Return a tensor of the slots, (S, 1, ...) or (S, ...), for each example, (S * B, ...)."""
    if tensor_S.dim() == 1:
        tensor_S = tensor_S.unsqueeze(1)
    elif tensor_S.shape[1] == 1:
        tensor_S = tensor_S.squeeze(1)
    return tensor_S.repeat_interleave(examples, dim=0)
