"""The loss of many trials on one batch, each with its own class weights and label smoothing.

Equal to ``torch.nn.CrossEntropyLoss(weight=..., label_smoothing=...)`` a slot.
Shapes: S slots, B batch, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from search_spaces.hparams import Hparams


@dataclass(frozen=True, slots=True)
class Criterion:
    """How S trials judge their logits in training.

    Attributes:
        weights_SC: Weight of each class.
        smoothing_S: Label smoothing, or None: no trial smooths.
    """

    weights_SC: torch.Tensor
    smoothing_S: torch.Tensor | None

    def losses(self, logits_SBC: torch.Tensor, targets_B: torch.Tensor) -> torch.Tensor:
        """Return each slot's mean cross-entropy, (S,)."""
        return cross_entropy(logits_SBC, targets_B, self.weights_SC, self.smoothing_S)


def criterion(hparams_S: Sequence[Hparams], balanced_C: torch.Tensor) -> Criterion:
    """Return the trials' own criterion; ``balanced_C`` are the data's ``balanced_weights``."""
    even_C = torch.ones_like(balanced_C)
    weights = [balanced_C if one.class_weights == "balanced" else even_C for one in hparams_S]
    shares = [one.label_smoothing for one in hparams_S]
    smoothing_S = torch.tensor(shares, device=balanced_C.device) if any(shares) else None
    return Criterion(torch.stack(weights), smoothing_S)


def cross_entropy(
    logits_SBC: torch.Tensor,
    targets_B: torch.Tensor,
    weights_SC: torch.Tensor,
    smoothing_S: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return each slot's mean cross-entropy, (S,), weighted as ``nn.CrossEntropyLoss``.

    Args:
        logits_SBC: What the model says.
        targets_B: True classes.
        weights_SC: Weight of each class; the mean is over the weights of the true classes.
        smoothing_S: Share of each target that is spread over all classes, or None: no slot
            smooths. A slot of 0 gets the loss and gradient that it has without, to the bit.
    """
    index = targets_B.view(1, -1, 1).expand(logits_SBC.shape[0], -1, 1)
    log_shares_SBC = logits_SBC.log_softmax(dim=-1)
    losses_SB = -log_shares_SBC.gather(2, index).squeeze(2)
    weights_SB = weights_SC[:, targets_B]
    total_S = weights_SB.sum(dim=1)
    plain_S = (losses_SB * weights_SB).sum(dim=1) / total_S
    if smoothing_S is None:
        return plain_S
    # PyTorch weighs the spread part by each class's own weight, but divides by the true ones'.
    spread_SB = -(log_shares_SBC * weights_SC.unsqueeze(1)).mean(dim=-1)
    smooth_S = (1 - smoothing_S) * plain_S + smoothing_S * spread_SB.sum(dim=1) / total_S
    # Chosen, not mixed: 0 times an infinite loss would be NaN in a slot that does not smooth.
    return torch.where(smoothing_S == 0, plain_S, smooth_S)


def balanced_weights(targets: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return examples / (classes * examples of the class), (C,); an absent class counts as 1."""
    counts_C = torch.bincount(targets, minlength=num_classes).clamp_(min=1)
    return len(targets) / (num_classes * counts_C.to(torch.float32))
