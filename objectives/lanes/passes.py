"""The passes of an epoch's steps through the model: losses of all rows, and their gradients.

Knows no optimizer. Shapes: S slots, T steps of an epoch, B batch, C classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from objectives.lanes.rows import Group
from objectives.layers import random
from objectives.layers.masks import Masks
from objectives.layers.program import Inputs, Program
from objectives.optimizers.losses import Criterion
from objectives.optimizers.updates import Index, at


class Passes:
    """Forward and backward passes of S trials on batches that they share.

    Args:
        program: The model.
        own: The trials' weights and buffers, (S, *shape).
        criterion: How they judge their logits.
        keys_TS: ``random.step_keys``.
        is_recorded: Steps are recorded: whatever a pass reads must stay where it is, and what
            autograd remembers of a leaf, the stream that it met it on, must not.
        is_search: Each pass has weights and buffers of its own.
    """

    def __init__(
        self,
        program: Program,
        own: Group,
        criterion: Criterion,
        *,
        keys_TS: torch.Tensor,
        is_recorded: bool,
        is_search: bool,
    ) -> None:
        self._program = program
        self._own = own
        self._criterion = criterion
        self._keys_TS = keys_TS
        self._is_search = is_search
        self._dropouts = program.dropouts().values()
        self._masks = Masks(keys_TS)
        is_bound = not (is_recorded or is_search)
        self._bound = self._leaves() if is_bound and program.chain is None else None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the model hold what its passes need; all of an epoch's are taken inside."""
        for layer in self._dropouts:
            layer.masks = self._masks
        try:
            if self._bound is None:
                yield
            else:
                alone = self._program.path == "plain"
                with self._program.bound(
                    {
                        name: tensor[0] if alone and name not in self._bound else tensor
                        for name, tensor in {**self._own, **self._bound}.items()
                    }
                ):
                    yield
        finally:
            for layer in self._dropouts:
                layer.masks = None

    def gradients(
        self, step: Index, inputs: Inputs, targets: torch.Tensor
    ) -> tuple[torch.Tensor, Group]:
        """Return each slot's loss, (S,), and the gradients of its weights by name.

        Args:
            step: The step's number, see ``optimizers.at``.
            inputs: The arguments of the model.
            targets: Of the batch's examples.
        """
        program = self._program
        if program.chain is not None:
            self._masks.begin(step)
            logits_SBC, tape = program.run_chain(self._own, inputs, self._masks)
            losses_S, gradient_SBC = self._criterion.with_gradient(logits_SBC, targets)
            return losses_S, program.chain_gradients(self._own, tape, gradient_SBC)
        if self._bound is not None:
            self._masks.begin(step)
            logits = program.bound_logits(inputs, self._keys_TS.shape[1])
            if program.path == "plain":
                loss = self._criterion.loss_of_first(logits, targets)
                found = _gradients(loss, self._bound)
                gradients = {name: gradient.unsqueeze(0) for name, gradient in found.items()}
                return loss.detach().unsqueeze(0), gradients
            leaves, logits_SBC = self._bound, logits
        else:
            leaves = self._leaves()
            logits_SBC = self._logits(step, inputs, {**self._own, **leaves})
        losses_S, gradient_SBC = self._criterion.with_gradient(logits_SBC, targets)
        return losses_S, _gradients(logits_SBC, leaves, gradient_SBC)

    def losses(
        self, step: Index, inputs: Inputs, targets: torch.Tensor, weights: Group
    ) -> torch.Tensor:
        """Return each slot's loss at other weights, with the masks of the step's other passes.

        Buffers are copies: running statistics see each batch once.
        """
        own = {name: self._own[name].clone() for name in self._program.own} | weights
        return self._criterion.losses(self._logits(step, inputs, own), targets)

    def _logits(self, step: Index, inputs: Inputs, rows: Group) -> torch.Tensor:
        program = self._program
        self._masks.begin(step)
        if program.chain is not None:
            return program.run_chain(rows, inputs, self._masks)[0]
        if self._is_search and program.path == "plain":
            # The model may draw from torch's generator: the same in every pass of a step.
            random.seed_generators(int(at(self._keys_TS, step)[0]))
        return program.logits(rows, inputs)

    def _leaves(self) -> Group:
        """Return the weights as leaves: stacked, or the one trial's own."""
        names = self._program.trained
        alone = self._program.path == "plain" and not self._is_search
        own = {name: self._own[name][0] if alone else self._own[name] for name in names}
        return {name: tensor.detach().requires_grad_() for name, tensor in own.items()}


def _gradients(
    output: torch.Tensor, leaves: Group, grad_output: torch.Tensor | None = None
) -> Group:
    """Return the gradients of each leaf, zeros where the output does not depend on it."""
    found = torch.autograd.grad(output, list(leaves.values()), grad_output, allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }
