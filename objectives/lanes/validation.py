"""The validation of all slots of a lane at once: losses, counts of each class and predictions.

Shapes: S slots, N validation examples, B batch, C classes.
"""

from collections.abc import Callable

import numpy as np
import torch

from objectives.api import MAX_MATRIX_CLASSES, Counts
from objectives.lanes.batches import TensorSplit
from objectives.lanes.rows import Group
from objectives.layers.program import Program
from objectives.optimizers import losses


class Validation:
    """A split to validate on, in the batches that every epoch takes it in.

    Args:
        split: The examples; the true class of a distribution is its likeliest.
        num_classes: C.

    A prediction is a class by index; of examples that may have several labels it is a number with
    a bit for each.
    """

    def __init__(self, split: TensorSplit, num_classes: int) -> None:
        self.num_classes = num_classes
        self.num_examples = len(split)
        self._has_labels = split.targets.dtype == torch.bool
        self._bits_C = torch.arange(num_classes, device=split.targets.device)
        self.dtype = torch.uint8 if num_classes <= 256 else torch.int32
        if self._has_labels and num_classes > 8:
            self.dtype = torch.int64
        self._split = split
        batches = split.evaluation_batches(num_classes)
        self.longest_batch = max(map(len, batches))
        device = split.targets.device
        self._batches = [
            (torch.from_numpy(rows).to(device), split.longest(rows)) for rows in batches
        ]
        if self._has_labels:
            self._support_C = split.targets.sum(dim=0).cpu().numpy()
        else:
            true_N = losses.true_classes(split.targets).cpu().numpy()
            self._support_C = np.bincount(true_N, minlength=num_classes).astype(np.int64)

    @torch.no_grad()
    def run(
        self,
        program: Program,
        own: Group,
        predictions_SN: torch.Tensor,
        on_step: Callable[[], None] | None = None,
    ) -> tuple[list[float], list[Counts]]:
        """Return each slot's mean loss and its counts.

        Args:
            program: The model.
            own: Every trained parameter and own buffer, (S, *shape).
            predictions_SN: Where to write the predicted classes, of type ``dtype``.
            on_step: Called after each batch.
        """
        slots, device = len(predictions_SN), predictions_SN.device
        loss_sums_S = torch.zeros(slots, dtype=torch.float64, device=device)
        has_matrix = self.num_classes <= MAX_MATRIX_CLASSES and not self._has_labels
        counter = _Counter(slots, self.num_classes, device, has_matrix=has_matrix)
        program.model.eval()
        for index_B, longest in self._batches:
            inputs, targets = self._split.take(index_B, longest)
            logits_SBC = program.logits(own, inputs)
            loss_sums_S += losses.cross_entropy(logits_SBC, targets) * len(index_B)
            if self._has_labels:
                present_SBC = logits_SBC > 0
                predicted_SB = (present_SBC << self._bits_C).sum(dim=-1)
                counter.add_labels(targets, present_SBC)
            else:
                predicted_SB = logits_SBC.argmax(dim=-1)
                counter.add(losses.true_classes(targets), predicted_SB)
            predictions_SN.index_copy_(1, index_B, predicted_SB.to(self.dtype))
            if on_step is not None:
                on_step()
        return (loss_sums_S / self.num_examples).tolist(), counter.counts(self._support_C)


class _Counter:
    """Counts on the device: pair by pair for few classes, else what is right and what predicted.

    With 8,000 classes the pairs of 16 slots would take 8 GB.
    """

    def __init__(
        self, slots: int, num_classes: int, device: torch.device, *, has_matrix: bool
    ) -> None:
        self._has_matrix = has_matrix
        shape = (slots, num_classes if self._has_matrix else 2, num_classes)
        self._table = torch.zeros(shape, dtype=torch.int64, device=device)
        self._starts_S1 = torch.arange(slots, device=device).unsqueeze(1) * self._table[0].numel()

    def add(self, true_B: torch.Tensor, predicted_SB: torch.Tensor) -> None:
        # scatter_add_ and not bincount, for whose result a GPU must be waited for.
        if self._has_matrix:
            cells_SB = self._starts_S1 + true_B * self._table.shape[2] + predicted_SB
            self._add(cells_SB, torch.ones_like(cells_SB))
            return
        is_right_SB = (predicted_SB == true_B).to(torch.int64)
        self._add(self._starts_S1 + predicted_SB, is_right_SB)
        cells_SB = self._starts_S1 + self._table.shape[2] + predicted_SB
        self._add(cells_SB, torch.ones_like(cells_SB))

    def add_labels(self, true_BC: torch.Tensor, predicted_SBC: torch.Tensor) -> None:
        self._table[:, 0] += (predicted_SBC & true_BC).sum(dim=1)
        self._table[:, 1] += predicted_SBC.sum(dim=1)

    def _add(self, cells_SB: torch.Tensor, values_SB: torch.Tensor) -> None:
        self._table.view(-1).scatter_add_(0, cells_SB.flatten(), values_SB.flatten())

    def counts(self, support_C: np.ndarray) -> list[Counts]:
        """Return each slot's counts, given how many examples each class has, (C,)."""
        tables = list(self._table.cpu().numpy())
        if self._has_matrix:
            return [Counts.of_matrix(table) for table in tables]
        return [Counts(right_C, support_C, predicted_C) for right_C, predicted_C in tables]


def no_counts(num_classes: int) -> Counts:
    """Return the counts of an epoch in which nothing was validated."""
    zeros_C = np.zeros(num_classes, dtype=np.int64)
    return Counts(zeros_C, zeros_C, zeros_C)
