"""The optimizer steps of one epoch of a lane's rows, each a function of its number alone.

All that differs from step to step stands in tables on the device: a step may be taken by its
number on the host, or by one on the device, which a recorded step counts for itself
(``recording``). Knows nothing of who joins or leaves.
Shapes: S slots, T steps of an epoch, B batch, C classes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from objectives.training import line_search, losses, optimizers
from objectives.training.batches import Rows, TensorSplit
from objectives.training.fusion import Program
from objectives.training.lane_trial import LaneTrial
from objectives.training.rows import Group, join


@dataclass(frozen=True, slots=True)
class Trained:
    """What the steps change, in place: S rows of each tensor, by name.

    Attributes:
        own: Weights and buffers.
        state: What a line search remembers.
        stepped: Weights, first and second moments, as the optimizers step them.
        scratch: Room for one of each of these.
        small: Names of the weights that are packed there.
    """

    own: Group
    state: Group
    stepped: tuple[Group, Group, Group]
    scratch: Group
    small: Sequence[str]


class Shape(NamedTuple):
    """What steps must have in common to be the same program: examples, and longest of them."""

    size: int
    longest: int | None


class Steps:
    """The steps of an epoch; ``loss_sums_S`` and ``norm_sums_S`` are what they add up.

    Args:
        program: The model.
        train: Examples to train on.
        trials: The trials of the S rows, those of one optimizer side by side.
        trained: Their tensors.
        balanced_C: The data's ``losses.balanced_weights``.
        batches: Examples of each step, T arrays.
        keys_TS: ``random.step_keys``.
        dropouts: Names of the model's dropout layers.
        num_lengths: Most lengths that batches are trimmed to; None: each to its own longest.
    """

    def __init__(
        self,
        program: Program,
        train: TensorSplit,
        trials: Sequence[LaneTrial],
        trained: Trained,
        *,
        balanced_C: torch.Tensor,
        batches: Sequence[Rows],
        keys_TS: npt.NDArray[np.int32],
        dropouts: Sequence[str],
        num_lengths: int | None = None,
    ) -> None:
        device = train.targets.device
        self.shapes = [Shape(len(batch), train.longest(batch, num_lengths)) for batch in batches]
        self.loss_sums_S = torch.zeros(len(trials), dtype=torch.float64, device=device)
        self.norm_sums_S = torch.zeros_like(self.loss_sums_S)
        self.is_search = trials[0].is_search
        self._program = program
        self._train = train
        self._trials = trials
        self._trained = trained
        self._criterion = losses.criterion([each.hparams for each in trials], balanced_C)
        self._dropouts = dropouts
        table_TB = np.zeros((len(batches), max(map(len, batches))), dtype=np.int64)
        for row, batch in zip(table_TB, batches, strict=True):
            row[: len(batch)] = batch
        self._index_TB = torch.from_numpy(table_TB).to(device)
        self._keys_TS = torch.from_numpy(keys_TS).to(device)
        self._families = [] if self.is_search else list(self._find_families(len(batches), device))
        norms = [math.nan if (norm := each.hparams.clip_norm) is None else norm for each in trials]
        is_clipped = not all(map(math.isnan, norms))
        self._clip_norms_S = torch.tensor(norms, device=device) if is_clipped else None

    def take(self, step: optimizers.Index, shape: Shape) -> None:
        """Take one optimizer step.

        Args:
            step: Its number, from 0.
            shape: The step's own, of ``shapes``.
        """
        trained, program = self._trained, self._program
        inputs, targets_B = self._train.take(
            optimizers.at(self._index_TB, step)[: shape.size], shape.longest
        )
        keys_S = optimizers.at(self._keys_TS, step)

        def losses_at(weights: Group, own: Group) -> torch.Tensor:
            # A key of its own a pass: layers.Dropout takes one that it has met for a second call.
            own = own | {f"{name}.key": keys_S.clone() for name in self._dropouts}
            if self.is_search and program.note is not None:
                # The model may draw from torch's generator: the same in every pass of a step.
                torch.manual_seed(int(keys_S[0]))
            return self._criterion.losses(program.logits({**own, **weights}, inputs), targets_B)

        # Anew in each step: autograd remembers the stream that it met a leaf on, and a recording
        # is made on a stream of its own.
        leaves = {name: trained.own[name].detach().requires_grad_() for name in program.trained}
        losses_S = losses_at(leaves, trained.own)
        # Slots are independent, so the gradient of the sum is each trial's own.
        gradients = torch.autograd.grad(
            losses_S.sum(), list(leaves.values()), materialize_grads=True
        )
        grads = dict(zip(leaves, gradients, strict=True))
        if not self.is_search:
            grads = join(grads, program.trained, trained.small)
        # Before clipping, so that a report shows how large the gradients were.
        norms_S = optimizers.norms(grads, trained.scratch)
        if self.is_search:
            buffers = {name: trained.own[name] for name in program.own}
            line_search.step(
                # Copies of the buffers: running statistics see each batch once.
                lambda weights: losses_at(weights, {n: b.clone() for n, b in buffers.items()}),
                {name: trained.own[name] for name in program.trained},
                grads,
                losses_S=losses_S.detach(),
                norms_S=norms_S,
                hparams_S=[trial.hparams for trial in self._trials],
                epoch_share=len(targets_B) / len(self._train),
                state=trained.state,
                scratch=trained.scratch,
            )
        else:
            self._update(step, grads, norms_S)
        self.loss_sums_S += losses_S.detach() * shape.size
        self.norm_sums_S += norms_S

    def changed(self) -> list[torch.Tensor]:
        """Return what a step changes."""
        groups = (self._trained.own, *self._trained.stepped)
        tensors = [tensor for group in groups for tensor in group.values()]
        return [*tensors, self.loss_sums_S, self.norm_sums_S]

    def take_over(self, other: "Steps") -> None:
        """Become the steps of another epoch of the same trials, in the same tensors."""
        assert [one.number for one in self._trials] == [one.number for one in other._trials]
        self.shapes, self._trials = other.shapes, other._trials
        for tensor, value in zip(self._tables(), other._tables(), strict=True):
            tensor.copy_(value)

    def _tables(self) -> list[torch.Tensor]:
        """Return what differs from epoch to epoch."""
        rates = [table for _, family in self._families for table in family.tables.values()]
        return [self._index_TB, self._keys_TS, self.loss_sums_S, self.norm_sums_S, *rates]

    def rates(self) -> list[float]:
        """Return the learning rate that each trial reports of the epoch, once it is over."""
        if self.is_search:
            return line_search.mean_steps(self._trained.state, len(self.shapes))
        return [trial.rate.learning_rate for trial in self._trials]

    def _update(self, step: optimizers.Index, grads: Group, norms_S: torch.Tensor) -> None:
        """Let each optimizer family step its own rows."""
        if self._clip_norms_S is not None:
            clipped = optimizers.clip(list(grads.values()), norms_S, self._clip_norms_S)
            grads = dict(zip(grads, clipped, strict=True))
        for rows, family in self._families:
            optimizers.step(family, step, [self._tensors(n, g, rows) for n, g in grads.items()])

    def _tensors(self, name: str, grad: torch.Tensor, rows: slice) -> optimizers.Tensors:
        param, first, second = (group[name][rows] for group in self._trained.stepped)
        scratch = self._trained.scratch[name][rows]
        return optimizers.Tensors(param, grad[rows], first, second, scratch)

    def _find_families(
        self, num_steps: int, device: torch.device
    ) -> Iterator[tuple[slice, optimizers.Family]]:
        """Yield the rows of each optimizer, and its family."""
        first = 0
        for _, alike in groupby(self._trials, key=lambda trial: trial.hparams.optimizer):
            trials = list(alike)
            family = optimizers.Family(
                [trial.hparams for trial in trials],
                [trial.rate.learning_rate for trial in trials],
                [trial.steps for trial in trials],
                num_steps=num_steps,
                device=device,
            )
            yield slice(first, first + len(trials)), family
            first += len(trials)
