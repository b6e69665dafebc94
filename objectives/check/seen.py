"""What a watch has seen of a loop: plain records, which the rules judge.

Shapes: B batch, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn


@dataclass(slots=True, eq=False)
class Call:
    """A call of a model, outside any other module's.

    Attributes:
        model: The model.
        has_grad: Whether gradients were recorded.
        is_eval: All its dropout and BatchNorm layers that are trained were in eval mode.
        is_training: One of its dropout or BatchNorm layers was in training mode.
        rows: Examples, B.
        hashes: A hash of each example's inputs.
        line: Where it was called.
        moment: Its place among all that was seen.
    """

    model: nn.Module
    has_grad: bool
    is_eval: bool
    is_training: bool
    rows: int
    hashes: tuple[int, ...]
    line: str | None
    moment: int


@dataclass(slots=True, eq=False)
class Inputs:
    """The arguments and the output of a call, to be repeated."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


@dataclass(slots=True, eq=False)
class Loss:
    """A call of a loss function of torch.

    Attributes:
        name: The function's name, such as ``cross_entropy``.
        value: Mean loss; None where it was not reduced to a mean.
        num_classes: C; 2 for one logit.
        targets: Class of each example where they are known, (B,).
        line: Where it was called, by the person.
        has_grad: Whether gradients were recorded.
    """

    name: str
    value: float | None
    num_classes: int
    targets: npt.NDArray[np.int64] | None
    line: str | None
    has_grad: bool


@dataclass(slots=True, eq=False)
class Optimized:
    """What an optimizer did."""

    optimizer: torch.optim.Optimizer
    line: str | None
    steps: int = 0
    stale_steps: int = 0
    """Steps whose gradients held those of an earlier step."""
    norms: list[float] = field(default_factory=list)
    """L2 norm of the gradient at each step."""
    reached: set[int] = field(default_factory=set)
    """Keys of parameters that have had a gradient other than zero."""
    moved: set[int] = field(default_factory=set)
    """Those of them whose gradient was more than rounding."""
    start: dict[int, torch.Tensor] = field(default_factory=dict)
    """Copies of the parameters before the first step, by key."""

    @property
    def parameters(self) -> list[torch.Tensor]:
        """All its parameters."""
        return [each for group in self.optimizer.param_groups for each in group["params"]]


@dataclass(slots=True, eq=False)
class Epoch:
    """What was seen in one epoch of the loop."""

    calls: list[Call] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    backwards: int = 0
    """Passes outside a step: those inside one are of a closure."""
    backward_values: list[float] = field(default_factory=list)
    backward_line: str | None = None
    steps: int = 0
    last_step: int = -1
    """Moment of the last step; -1: there was none."""
    targets: npt.NDArray[np.int64] | None = None
    """What the loop recorded: true classes of validation."""
    predictions: npt.NDArray[np.int64] | None = None

    @property
    def training(self) -> list[Call]:
        """Calls with gradients, up to the last step."""
        return [
            each
            for each in self.calls
            if each.has_grad and (self.last_step < 0 or each.moment < self.last_step)
        ]

    @property
    def validation(self) -> list[Call]:
        """Calls after the last step."""
        return [each for each in self.calls if each.moment > self.last_step >= 0]


@dataclass(slots=True, eq=False)
class Seen:
    """All that was seen of a loop."""

    epochs: list[Epoch] = field(default_factory=list)
    """The last one may not have ended."""
    num_ended: int = 0
    optimizers: dict[int, Optimized] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    """Names of parameters, by key."""
    trained: dict[int, nn.Module] = field(default_factory=dict)
    """Models that were called with gradients."""
    touched: set[int] = field(default_factory=set)
    """Keys of parameters that a backward pass has reached."""
    unregistered: dict[str, str | None] = field(default_factory=dict)
    """Layers that a model calls and does not contain: the class, and the model's line."""
    odd_losses: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """Wrong arguments of loss functions: by finding, the evidence and the line."""
    loss_inputs: dict[str, list[tuple[bool, int, str | None]]] = field(default_factory=dict)
    """By loss function: whether the input looks like probabilities, its numbers, the line."""
    own_batch: list[tuple[float, float, str | None]] = field(default_factory=list)
    """Loss of a step's own batch before and after it, and the step's line."""
    last_validation: Inputs | None = None
    error: tuple[str, str | None] | None = None
    """What the loop raised, and where."""

    @property
    def ended(self) -> list[Epoch]:
        """The epochs that were seen to their end."""
        return self.epochs[: self.num_ended]


Replay = Callable[[], float]
