"""The optimizer steps of one epoch of a lane's rows, each a function of its number alone.

All that differs from step to step stands in tables on the device: a step may be taken by its
number on the host, or by one on the device, which a recorded step counts for itself
(``recording``). Knows nothing of who joins or leaves.
Shapes: S slots, T steps of an epoch, B batch, C classes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from objectives.lanes.batches import Rows, TensorSplit
from objectives.lanes.passes import Passes
from objectives.lanes.rows import Group, Trained, between, join
from objectives.lanes.trial import LaneTrial
from objectives.layers.fusion import Inputs, Program
from objectives.optimizers import line_search, losses, updates


class Shape(NamedTuple):
    """What steps must have in common to be the same program: examples, and longest of them."""

    size: int
    longest: int | None


# Steps whose losses and norms are added up at once.
_KEPT_STEPS = 256

_Family = tuple[int, int, updates.Family, dict[str, tuple[torch.Tensor, ...]]]


class Steps:
    """The steps of an epoch, and the means over them.

    Args:
        program: The model.
        train: Examples to train on.
        trials: The trials of the S rows, those of one optimizer side by side.
        trained: Their tensors.
        balanced_C: The data's ``losses.balanced_weights``.
        batches: Examples of each step, T arrays.
        keys_TS: ``random.step_keys``.
        augment: Returns a step's inputs as the models get them, given its number; or None.
        num_lengths: Most lengths that batches are trimmed to, where steps are recorded; None: each
            to its own longest.
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
        augment: Callable[[int, Inputs], Inputs] | None = None,
        num_lengths: int | None = None,
    ) -> None:
        device = train.targets.device
        self.shapes = [Shape(len(batch), train.longest(batch, num_lengths)) for batch in batches]
        self.is_search = trials[0].is_search
        self._program = program
        self._train = train
        self._trials = trials
        self._trained = trained
        self._is_recorded = num_lengths is not None
        self._augment = augment
        criterion = losses.criterion([each.hparams for each in trials], balanced_C)
        self._keys_TS = torch.from_numpy(keys_TS).to(device)
        self._passes = Passes(
            program,
            trained.own,
            criterion,
            keys_TS=self._keys_TS,
            is_recorded=self._is_recorded,
            is_search=self.is_search,
        )
        order = torch.from_numpy(np.concatenate(batches)).to(device)
        self._batches = torch.split(order, [len(batch) for batch in batches])
        self._index_TB = torch.zeros(0, 0)
        if self._is_recorded:
            self._index_TB = nn.utils.rnn.pad_sequence(list(self._batches), batch_first=True)
        self._families = [] if self.is_search else list(self._find_families(len(batches), device))
        norms = [math.nan if (norm := each.hparams.clip_norm) is None else norm for each in trials]
        is_clipped = not all(map(math.isnan, norms))
        self._clip_norms_S = torch.tensor(norms, device=device) if is_clipped else None
        # Of steps that are known on the host one by one, which costs no call; else added up.
        self._each: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._sums_2S = torch.zeros(2, len(trials), dtype=torch.float64, device=device)

    def held(self) -> AbstractContextManager[None]:
        """Return the context in which the steps are taken."""
        return self._passes.held()

    def take(self, step: updates.Index, shape: Shape) -> None:
        """Take one optimizer step.

        Args:
            step: Its number, from 0.
            shape: The step's own, of ``shapes``.
        """
        trained, program = self._trained, self._program
        if isinstance(step, int):
            index_B = self._batches[step]
        else:
            index_B = updates.at(self._index_TB, step)[: shape.size]
        inputs, targets = self._train.take(index_B, shape.longest)
        if self._augment is not None:
            assert isinstance(step, int), "augmented steps are not recorded"
            inputs = self._augment(step, inputs)
        # Slots are independent, so the gradient of the sum is each trial's own.
        losses_S, grads = self._passes.gradients(step, inputs, targets)
        if not self.is_search:
            grads = join(grads, program.trained, trained.small)
        # Before clipping, so that a report shows how large the gradients were.
        norms_S = updates.norms(grads, trained.scratch)
        if self.is_search:
            line_search.step(
                lambda weights: self._passes.losses(step, inputs, targets, weights),
                {name: trained.own[name] for name in program.trained},
                grads,
                losses_S=losses_S,
                norms_S=norms_S,
                hparams_S=[trial.hparams for trial in self._trials],
                epoch_share=shape.size / len(self._train),
                state=trained.state,
                scratch=trained.scratch,
            )
        else:
            self._update(step, grads, norms_S)
        if isinstance(step, int):
            self._each.append((losses_S * shape.size, norms_S))
            if len(self._each) == _KEPT_STEPS:
                self._add_up()
        else:
            self._sums_2S[0] += losses_S * shape.size
            self._sums_2S[1] += norms_S

    def means(self) -> tuple[list[float], list[float]]:
        """Return each slot's mean loss an example, and mean gradient norm a step."""
        self._add_up()
        loss_sums_S, norm_sums_S = self._sums_2S
        return (
            (loss_sums_S / len(self._train)).tolist(),
            (norm_sums_S / len(self.shapes)).tolist(),
        )

    def _add_up(self) -> None:
        for i, each in enumerate(zip(*self._each, strict=True)):
            # A row a slot, contiguous: its sum must not depend on how many lie beside it.
            self._sums_2S[i] += torch.stack(each, dim=1).double().sum(dim=1)
        self._each.clear()

    def changed(self) -> list[torch.Tensor]:
        """Return what a step changes."""
        return [*self._trained.tensors(), self._sums_2S]

    def take_over(self, other: "Steps") -> None:
        """Become the steps of another epoch of the same trials, in the same tensors."""
        assert [one.number for one in self._trials] == [one.number for one in other._trials]
        self.shapes, self._trials = other.shapes, other._trials
        for tensor, value in zip(self._tables(), other._tables(), strict=True):
            tensor.copy_(value)

    def _tables(self) -> list[torch.Tensor]:
        """Return what differs from epoch to epoch."""
        rates = [table for _, _, family, _ in self._families for table in family.tables.values()]
        return [self._index_TB, self._keys_TS, self._sums_2S, *rates]

    def rates(self) -> list[float]:
        """Return the learning rate that each trial reports of the epoch, once it is over."""
        if self.is_search:
            return line_search.mean_steps(self._trained.state, len(self.shapes))
        return [trial.rate.learning_rate for trial in self._trials]

    def _update(self, step: updates.Index, grads: Group, norms_S: torch.Tensor) -> None:
        """Let each optimizer family step its own rows."""
        if self._clip_norms_S is not None:
            clipped = updates.clip(list(grads.values()), norms_S, self._clip_norms_S)
            grads = dict(zip(grads, clipped, strict=True))
        for start, stop, family, stepped in self._families:
            is_alone = len(self._families) == 1
            updates.step(
                family,
                step,
                [
                    # Param, first and second moment, scratch.
                    updates.Tensors(own[0], grad if is_alone else grad[start:stop], *own[1:])
                    for grad, own in ((grad, stepped[name]) for name, grad in grads.items())
                ],
            )

    def _find_families(self, num_steps: int, device: torch.device) -> Iterator[_Family]:
        """Yield each optimizer's first row, the row behind its last, its scalars and tensors."""
        first = 0
        for _, alike in groupby(self._trials, key=lambda trial: trial.hparams.optimizer):
            trials = list(alike)
            family = updates.Family(
                [trial.hparams for trial in trials],
                [trial.rate.learning_rate for trial in trials],
                [trial.steps for trial in trials],
                num_steps=num_steps,
                device=device,
            )
            stop = first + len(trials)
            groups = (*self._trained.stepped, self._trained.scratch)
            own = zip(*(between(group, first, stop).values() for group in groups), strict=True)
            yield first, stop, family, dict(zip(self._trained.scratch, own, strict=True))
            first = stop
