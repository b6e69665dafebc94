"""Gradient descent whose rows each search their own step on the batch, by backtracking.

A step is taken if it brings a share of the decrease that the gradient promises (Armijo 1966),
judged by the same batch and the same masks; else it is shrunk and judged again (Truong and Nguyen
2018, "Backtracking gradient descent method and some applications in large scale optimisation";
Vaswani et al. 2019, "Painless stochastic gradient"). Knows no model and no lane.
Shapes: S slots.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from search_spaces.hparams import Hparams

Group = dict[str, torch.Tensor]
#: A trial's first search begins with the one, and none begins with more than the other.
FIRST_STEP, LARGEST_STEP = 1.0, 10.0
#: A search ends without a step below this share of the step that it began with, which the largest
#: ``shrink``, 0.9, reaches after 110 probes.
SMALLEST_SHARE, MAX_PROBES = 1e-5, 110
# Vaswani et al.'s: the step of a batch may be twice that of an epoch before. To begin each search
# with twice the last step took 2.0 probes a step instead of 1.01 and scored less: 0.589 instead of
# 0.698 on relation-cnn (8 epochs), 0.785 instead of 0.790 on tabular-mlp (12 epochs, seed 0): the
# large steps suit the masks and the examples of their own batch alone.
_GROWTH_AN_EPOCH = 2.0


def first_state(device: torch.device) -> Group:
    """Return what the search of one trial remembers, (1,) each, before its first batch."""
    first = torch.full((1,), FIRST_STEP, dtype=torch.float64, device=device)
    return {"start": first, "taken": torch.zeros_like(first)}


@torch.no_grad()
def step(
    probe: Callable[[Group], torch.Tensor],
    weights: Group,
    grads: Mapping[str, torch.Tensor],
    *,
    losses_S: torch.Tensor,
    norms_S: torch.Tensor,
    hparams_S: Sequence[Hparams],
    epoch_share: float,
    state: Group,
    scratch: Group,
) -> int:
    """Search and take one step of S trials, in place; return how many probes it took.

    A slot that accepts none keeps its weights, and its next search begins where this one did: a
    batch that is fitted to the last bit says nothing of the step for the next. One whose loss or
    gradient is NaN or infinite takes a step of NaN, which its weights do not survive, so that it
    is judged as diverged.

    Args:
        probe: Returns each slot's loss on this batch, (S,), at other weights; it must draw the
            masks that ``losses_S`` were computed with.
        weights: What is trained, (S, *shape) each.
        grads: Their gradients.
        losses_S: Loss at the weights as they are.
        norms_S: L2 norm of each slot's whole gradient.
        hparams_S: Each trial's hyperparameters.
        epoch_share: Share of the epoch's examples that the batch has, in (0, 1].
        state: What ``first_state`` returns, (S,) each. ``start`` is where the slot's next search
            begins, ``taken`` the sum of its steps.
        scratch: Room for the weights of a probe, (S, *shape) each; its contents are lost.
    """
    values = np.array([(one.sufficient_decrease, one.shrink) for one in hparams_S], dtype=float)
    share_S, shrink_S = torch.from_numpy(values).to(losses_S.device).unbind(1)
    # In float64: 0.1 * step * norm^2 is small beside the loss that it is taken from.
    loss_S, slope_S = losses_S.double(), share_S * norms_S.double().square()
    is_lost_S = ~(loss_S.isfinite() & slope_S.isfinite())
    is_done_S = is_lost_S.clone()
    taken_S = torch.where(is_lost_S, torch.nan, 0.0).to(loss_S)
    trial_S = state["start"].clone()
    smallest_S = trial_S * SMALLEST_SHARE
    probes = 0
    # Slots are masked, never skipped, so that no slot's step depends on when the others end. To
    # ask whether all are done waits for the device, for less time than a probe takes.
    while probes < MAX_PROBES and not bool(is_done_S.all()):
        for name, weight in weights.items():
            _move(weight, grads[name], trial_S, out=scratch[name])
        # A loss of NaN is not below anything.
        bound_S = loss_S - trial_S * slope_S
        is_found_S = ~is_done_S & (probe(scratch).double() <= bound_S)
        taken_S = torch.where(is_found_S, trial_S, taken_S)
        trial_S = trial_S * shrink_S
        is_done_S = is_done_S | is_found_S | (trial_S < smallest_S)
        probes += 1
    for name, weight in weights.items():
        weight.copy_(_move(weight, grads[name], taken_S, out=scratch[name]))
    next_S = (taken_S * _GROWTH_AN_EPOCH**epoch_share).clamp(max=LARGEST_STEP)
    state["start"].copy_(torch.where(taken_S == 0, state["start"], next_S))
    state["taken"].add_(taken_S)
    return probes


def mean_steps(state: Group, num_steps: int) -> list[float]:
    """Return each slot's mean step over the epoch that ended, and begin the next one's sum."""
    means: list[float] = (state["taken"] / num_steps).tolist()
    state["taken"].zero_()
    return means


def _move(
    weight: torch.Tensor, grad: torch.Tensor, step_S: torch.Tensor, *, out: torch.Tensor
) -> torch.Tensor:
    """Return the weights after a step, written to ``out``."""
    rows = step_S.to(weight.dtype).view(-1, *[1] * (weight.dim() - 1))
    # Two operations, each rounded once: a fused one rounds differently at the end of a vector.
    torch.mul(grad, rows, out=out)
    return torch.sub(weight, out, out=out)
