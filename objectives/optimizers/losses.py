"""The loss of many trials on one batch, each with its own class weights and label smoothing.

Equal to ``torch.nn.CrossEntropyLoss(weight=..., label_smoothing=...)`` a slot, whether a target is
a class or a distribution over the classes, and to ``BCEWithLogitsLoss`` where it is a set of
labels.
Shapes: S slots, B batch, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from search_spaces.hparams import Hparams


@dataclass(frozen=True, slots=True)
class Criterion:
    """How S trials judge their logits in training.

    Attributes:
        weights_SC: Weight of each class, or None: all of every trial weigh 1.
        smoothing_S: Label smoothing, or None: no trial smooths.
        first_smoothing: That of the first trial.
    """

    weights_SC: torch.Tensor | None
    smoothing_S: torch.Tensor | None
    first_smoothing: float

    def losses(self, logits_SBC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each slot's mean cross-entropy, (S,); see ``cross_entropy``."""
        return cross_entropy(logits_SBC, targets, self.weights_SC, self.smoothing_S)

    def loss_of_first(self, logits_BC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the first trial's loss, (), as PyTorch's own function computes it."""
        weights_C = None if self.weights_SC is None else self.weights_SC[0]
        if targets.dtype == torch.bool:
            return functional.binary_cross_entropy_with_logits(
                logits_BC, _smooth_labels(targets, self.first_smoothing), pos_weight=weights_C
            )
        return functional.cross_entropy(
            logits_BC, targets, weights_C, label_smoothing=self.first_smoothing
        )

    def with_gradient(
        self, logits_SBC: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses, (S,), and the gradient of their sum to the logits, (S, B, C).

        Args:
            logits_SBC: What the model says; its own graph is left alone.
            targets: As ``cross_entropy`` takes them.
        """
        if self.weights_SC is None and self.smoothing_S is None and targets.dim() == 1:
            return _with_gradient_of_classes(logits_SBC.detach(), targets)
        leaf = logits_SBC.detach().requires_grad_()
        losses_S = self.losses(leaf, targets)
        (gradient_SBC,) = torch.autograd.grad(losses_S, leaf, torch.ones_like(losses_S))
        return losses_S.detach(), gradient_SBC


def criterion(hparams_S: Sequence[Hparams], balanced_C: torch.Tensor) -> Criterion:
    """Return the trials' own criterion; ``balanced_C`` are the data's ``balanced_weights``."""
    even_C = torch.ones_like(balanced_C)
    weights = [balanced_C if one.class_weights == "balanced" else even_C for one in hparams_S]
    shares = [one.label_smoothing for one in hparams_S]
    smoothing_S = torch.tensor(shares, device=balanced_C.device) if any(shares) else None
    is_weighted = any(one.class_weights == "balanced" for one in hparams_S)
    weights_SC = torch.stack(weights) if is_weighted else None
    return Criterion(weights_SC, smoothing_S, shares[0])


def cross_entropy(
    logits_SBC: torch.Tensor,
    targets: torch.Tensor,
    weights_SC: torch.Tensor | None = None,
    smoothing_S: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return each slot's mean cross-entropy, (S,), weighted as ``nn.CrossEntropyLoss``.

    Args:
        logits_SBC: What the model says.
        targets: True classes, (B,), distributions over the classes, (B, C), or which labels each
            example has, (B, C) bool, whose loss is the mean of the binary cross-entropies.
        weights_SC: Weight of each class, or None: all weigh 1, to the bit the same. For classes
            the mean is over the weights of the true ones; for distributions it is over the
            examples, as PyTorch's. Of labels, it is how much more a present one weighs.
        smoothing_S: Share of each target that is spread over all classes, or None: no slot
            smooths. A slot of 0 gets the loss and gradient that it has without, to the bit.
    """
    if targets.dim() == 1:
        return _of_classes(logits_SBC, targets, weights_SC, smoothing_S)
    if targets.dtype == torch.bool:
        return _of_labels(logits_SBC, targets, weights_SC, smoothing_S)
    return _of_distributions(logits_SBC, targets, weights_SC, smoothing_S)


def true_classes(targets: torch.Tensor) -> torch.Tensor:
    """Return the class of each target, (B,); of a distribution the likeliest, earliest on ties."""
    return targets if targets.dim() == 1 else targets.argmax(dim=-1)


def balanced_weights(targets: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return examples / (classes * examples of the class), (C,); 0 for an absent class.

    So label smoothing draws no example to a class that is never right (pytorch#104776). A
    distribution counts for each class by its share; a sum below 1 counts as 1. Of a label it is
    the number of examples without it for each one that has it.
    """
    if targets.dim() == 1:
        counts_C = torch.bincount(targets, minlength=num_classes)
    else:
        counts_C = targets.sum(dim=0, dtype=torch.float64)
    if targets.dtype == torch.bool:
        odds_C = (len(targets) - counts_C).clamp(min=1) / counts_C.clamp(min=1)
        return torch.where(counts_C > 0, odds_C, 0.0).to(torch.float32)
    weights_C = len(targets) / (num_classes * counts_C.clamp(min=1).to(torch.float32))
    return torch.where(counts_C > 0, weights_C, 0.0)


def _of_classes(
    logits_SBC: torch.Tensor,
    targets_B: torch.Tensor,
    weights_SC: torch.Tensor | None,
    smoothing_S: torch.Tensor | None,
) -> torch.Tensor:
    log_shares_SCB = _log_shares(logits_SBC)
    index = targets_B.view(1, 1, -1).expand(logits_SBC.shape[0], -1, -1)
    true_SB = log_shares_SCB.gather(1, index).squeeze(1)
    if weights_SC is None:
        total_S: float | torch.Tensor = float(targets_B.shape[0])
        plain_S = true_SB.sum(dim=1) / -total_S
    else:
        weights_SB = weights_SC[:, targets_B]
        total_S = weights_SB.sum(dim=1)
        plain_S = (true_SB * weights_SB).sum(dim=1) / -total_S
    if smoothing_S is None:
        return plain_S
    # PyTorch weighs the spread part by each class's own weight, but divides by the true ones'.
    spread_SB = -_weighed(log_shares_SCB, weights_SC).mT.contiguous().mean(dim=-1)
    smooth_S = (1 - smoothing_S) * plain_S + smoothing_S * spread_SB.sum(dim=1) / total_S
    # Chosen, not mixed: 0 times an infinite loss would be NaN in a slot that does not smooth.
    return torch.where(smoothing_S == 0, plain_S, smooth_S)


def _with_gradient_of_classes(
    logits_SBC: torch.Tensor, targets_B: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what autograd makes of ``_of_classes``, to the bit, in a third of the calls."""
    log_shares_SCB = _log_shares(logits_SBC)
    index = targets_B.view(1, 1, -1).expand(logits_SBC.shape[0], -1, -1)
    total = float(targets_B.shape[0])
    losses_S = log_shares_SCB.gather(1, index).squeeze(1).sum(dim=1) / -total
    share = float(np.float32(1.0) / np.float32(-total))
    gradient_SCB = torch.zeros_like(log_shares_SCB).scatter_(1, index, share)
    gradient_SCB = torch.ops.aten._log_softmax_backward_data(
        gradient_SCB, log_shares_SCB, 1, gradient_SCB.dtype
    )
    return losses_S, gradient_SCB.mT


def _of_distributions(
    logits_SBC: torch.Tensor,
    targets_BC: torch.Tensor,
    weights_SC: torch.Tensor | None,
    smoothing_S: torch.Tensor | None,
) -> torch.Tensor:
    targets_SCB = targets_BC.mT.unsqueeze(0)
    if smoothing_S is not None:
        share_S11 = smoothing_S.view(-1, 1, 1)
        # A share of 0 leaves every bit: times 1, plus 0.
        targets_SCB = targets_SCB * (1 - share_S11) + share_S11 / targets_BC.shape[1]
    shares_SCB = _weighed(_log_shares(logits_SBC) * targets_SCB, weights_SC)
    # Contiguous first: a sum over strided rows depends on how many slots lie beside it.
    losses_SB = -shares_SCB.mT.contiguous().sum(dim=-1)
    return losses_SB.sum(dim=1) / len(targets_BC)


def _of_labels(
    logits_SBC: torch.Tensor,
    targets_BC: torch.Tensor,
    weights_SC: torch.Tensor | None,
    smoothing_S: torch.Tensor | None,
) -> torch.Tensor:
    smoothing = 0.0 if smoothing_S is None else smoothing_S.view(-1, 1, 1)
    present = _smooth_labels(targets_BC, smoothing)
    present_SBC = -functional.logsigmoid(logits_SBC) * present
    if weights_SC is not None:
        present_SBC = present_SBC * weights_SC.unsqueeze(1)
    losses_SBC = present_SBC - functional.logsigmoid(-logits_SBC) * (1 - present)
    # Contiguous first, as below.
    return losses_SBC.contiguous().flatten(1).sum(dim=1) / targets_BC.numel()


def _smooth_labels(targets_BC: torch.Tensor, smoothing: float | torch.Tensor) -> torch.Tensor:
    # A share of 0 leaves every bit: times 1, plus 0.
    return targets_BC.to(torch.float32) * (1 - smoothing) + smoothing / 2


def _log_shares(logits_SBC: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of each class's share, (S, C, B)."""
    # Over the middle axis, because over few classes on the last one nothing is vectorized
    # (64 slots x 200 examples x 2 classes: 42 us with the copy in place of 284).
    return logits_SBC.mT.contiguous().log_softmax(dim=1)


def _weighed(values_SCB: torch.Tensor, weights_SC: torch.Tensor | None) -> torch.Tensor:
    return values_SCB if weights_SC is None else values_SCB * weights_SC.unsqueeze(-1)
