"""What loss functions of torch are given: classes, distributions, and what is neither."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from objectives.check.seen import Loss, Seen

NAMES: Mapping[Any, str] = {
    functional.cross_entropy: "cross_entropy",
    functional.nll_loss: "nll_loss",
    functional.binary_cross_entropy_with_logits: "binary_cross_entropy_with_logits",
    functional.binary_cross_entropy: "binary_cross_entropy",
}
_OF_CLASSES = ("cross_entropy", "nll_loss")


@dataclass(frozen=True, slots=True, eq=False)
class LossCall:
    """A call of a loss function, to be looked at and repeated."""

    name: str
    function: Callable[..., torch.Tensor]
    given: torch.Tensor
    targets: torch.Tensor
    options: Mapping[str, Any]

    @classmethod
    def read(cls, name: str, function: Any, args: Any, kwargs: Any) -> "LossCall":
        """Return a call with its arguments by their names."""
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        options = dict(bound.arguments)
        return cls(name, function, options.pop("input"), options.pop("target"), options)

    def repeat(self, given: torch.Tensor) -> float:
        """Return the mean loss of another input."""
        return float(self.function(given, self.targets, **self.options).detach().mean())


def note(seen: Seen, call: LossCall, line: str | None) -> None:
    """Note what is wrong with the arguments of a loss function."""
    given, targets = call.given.detach(), call.targets.detach()
    is_distribution = False
    if call.name in _OF_CLASSES and given.ndim >= 2 and given.shape[1] > 1:
        sums = given.float().sum(dim=1)
        is_distribution = bool(
            (given >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
        )
    elif call.name == "binary_cross_entropy_with_logits":
        is_distribution = bool(((given >= 0) & (given <= 1)).all())
    found = seen.loss_inputs.setdefault(call.name, [])
    found.append((is_distribution, given.numel(), line))
    wrong = _find_wrong_targets(call, given, targets)
    if wrong is not None:
        seen.odd_losses.setdefault("wrong-targets", (wrong, line))


def to_loss(call: LossCall, found: Any, line: str | None, *, has_grad: bool) -> Loss:
    """Return the record of a call."""
    is_mean = call.options.get("reduction", "mean") == "mean"
    value = float(found.detach()) if is_mean and found.numel() == 1 else None
    is_of_classes = call.name in _OF_CLASSES
    return Loss(
        name=call.name,
        value=value,
        num_classes=call.given.shape[1] if is_of_classes and call.given.ndim > 1 else 2,
        targets=_read_classes(call),
        line=line,
        has_grad=has_grad,
    )


def is_multiple(value: float, loss: float) -> bool:
    """Return whether a value is a loss, or that times or divided by a whole number, in any sign.

    Gradients are accumulated of parts of a loss, and scaled for half precision.
    """
    if not value or not loss or not math.isfinite(value / loss):
        return False
    ratio = abs(value / loss)
    ratio = max(ratio, 1.0 / ratio)
    return abs(ratio - round(ratio)) < 1e-4 * ratio


def _find_wrong_targets(call: LossCall, given: torch.Tensor, targets: torch.Tensor) -> str | None:
    if not targets.numel():
        return "the loss is given no example"
    if call.name in _OF_CLASSES and not targets.is_floating_point():
        real = targets[targets != call.options.get("ignore_index", -100)]
        most = given.shape[1] if given.ndim > 1 else given.shape[0]
        if real.numel() and (int(real.min()) < 0 or int(real.max()) >= most):
            low, high = int(real.min()), int(real.max())
            return f"targets go from {low} to {high}, and the model has {most} outputs"
    elif call.name in _OF_CLASSES:
        sums = targets.float().sum(dim=1 if targets.ndim > 1 else 0)
        if bool((targets < 0).any()) or not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
            smallest, largest = float(sums.min()), float(sums.max())
            return f"targets are no distributions: a row's sum is {smallest:.3g} to {largest:.3g}"
    elif bool(((targets < 0) | (targets > 1)).any()):
        span = f"from {float(targets.min()):g} to {float(targets.max()):g}"
        return f"targets go {span}; {call.name} takes 0 to 1"
    return None


def _read_classes(call: LossCall) -> Any:
    """Return the class of each example as an array; None where targets are not of examples."""
    targets = call.targets.detach()
    if call.name in _OF_CLASSES and targets.is_floating_point():
        return targets.argmax(dim=1).cpu().numpy() if targets.ndim == 2 else None
    if call.name not in _OF_CLASSES:
        targets = targets.squeeze(-1) if targets.ndim == 2 and targets.shape[1] == 1 else targets
        targets = (targets > 0.5).long()
    return targets.cpu().numpy() if targets.ndim == 1 else None
