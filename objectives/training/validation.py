"""The validation of all slots of a lane at once: losses and confusion matrices.

Shapes: S slots, B batch, C classes.
"""

import numpy as np
import numpy.typing as npt
import torch

from objectives.training import losses
from objectives.training.batches import TensorSplit
from objectives.training.fusion import Program
from objectives.training.rows import Group


@torch.no_grad()
def validate(
    program: Program, own: Group, split: TensorSplit, num_classes: int
) -> tuple[list[float], list[npt.NDArray[np.int64]]]:
    """Return each slot's mean loss and confusion matrix, (C, C), on a split.

    Args:
        program: The model.
        own: Every trained parameter and own buffer, (S, *shape).
        split: Examples to validate on; the true class of a distribution is its likeliest.
        num_classes: C.
    """
    slots = len(next(iter(own.values())))
    device = split.targets.device
    loss_sums_S = torch.zeros(slots, dtype=torch.float64, device=device)
    counts = torch.zeros(slots * num_classes**2, dtype=torch.int64, device=device)
    slot_base = torch.arange(slots, device=device).unsqueeze(1) * num_classes**2
    program.model.eval()
    batches = split.evaluation_batches()
    ones = torch.ones(slots * max(map(len, batches)), dtype=torch.int64, device=device)
    for batch in batches:
        inputs, targets = split.batch(batch)
        logits_SBC = program.logits(own, inputs)
        losses_S = losses.cross_entropy(logits_SBC, targets)
        loss_sums_S += losses_S * len(batch)
        cells = slot_base + losses.true_classes(targets) * num_classes + logits_SBC.argmax(dim=-1)
        # Not bincount, for whose result a GPU must be waited for.
        counts.scatter_add_(0, cells.flatten(), ones[: cells.numel()])
    confusions = counts.view(slots, num_classes, num_classes).cpu().numpy()
    return (loss_sums_S / len(split)).tolist(), list(confusions)
