"""A split of a data set on a device, cut into batches that are trimmed to their longest example.

Shapes: N examples, B batch, L steps, C classes.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from objectives.api import Split

# Large enough to fill a core, small enough that activations stay in its cache.
_EVALUATION_BATCH = 64
# An example without steps is a row: 64 of them leave a step to its overhead.
_EVALUATION_ROWS = 512
_LENGTH_POOL = 50  # batches that examples of alike lengths are sought among
# Most logits of a slot in an evaluation batch: they are held several times, once for each slot.
_EVALUATION_LOGITS = 2**18

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TensorSplit:
    """A split's arrays as tensors; lengths also on the host, where they decide the trimming.

    Attributes:
        inputs: Arguments of the model, each (N, ...).
        targets: Classes, (N,), or distributions over them, (N, C).
        lengths: Real steps of each example, (N,), or None.
        lengths_on_host: The same as an array.
    """

    inputs: tuple[torch.Tensor, ...]
    targets: torch.Tensor
    lengths: torch.Tensor | None
    lengths_on_host: npt.NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, rows: Rows) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Return the model's inputs and the targets, (B,) or (B, C), of the examples."""
        return self.take(torch.from_numpy(rows).to(self.targets.device), self.longest(rows))

    def longest(self, rows: Rows, num_lengths: int | None = None) -> int | None:
        """Return the steps of the longest of the examples, or None where nothing is padded.

        Args:
            rows: The examples.
            num_lengths: How many results there may be: the next larger of so many is returned,
                evenly spaced up to the longest of the split. None: no such limit.
        """
        if self.lengths_on_host is None:
            return None
        longest = int(self.lengths_on_host[rows].max())
        if num_lengths is None:
            return longest
        most = int(self.lengths_on_host.max())
        unit = math.ceil(most / num_lengths)
        return min(most, unit * math.ceil(longest / unit))

    def take(
        self, index: torch.Tensor, longest: int | None
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Return what ``batch`` does, of examples that are known on the device alone.

        Args:
            index: The examples, (B,).
            longest: Steps to trim their arrays to, no fewer than any has.
        """
        # Not array[index], which takes up to three times as long for the same rows.
        inputs = tuple(array.index_select(0, index) for array in self.inputs)
        if self.lengths is not None:
            trimmed = (x[:, :longest] if x.dim() > 1 else x for x in inputs)
            inputs = (*trimmed, self.lengths.index_select(0, index))
        return inputs, self.targets.index_select(0, index)

    def evaluation_batches(self, num_classes: int) -> list[Rows]:
        """Return every example once, those of alike lengths together."""
        most = max(_EVALUATION_BATCH, _EVALUATION_LOGITS // num_classes)
        order, size = np.arange(len(self)), min(_EVALUATION_ROWS, most)
        if self.lengths_on_host is not None:
            order = np.argsort(self.lengths_on_host, kind="stable")
            size = _EVALUATION_BATCH
        return [order[i : i + size] for i in range(0, len(order), size)]


def on_device(split: Split, device: torch.device) -> TensorSplit:
    """Return the split's arrays as tensors on a device."""

    def tensor(array: npt.NDArray[Any]) -> torch.Tensor:
        with warnings.catch_warnings():
            # Of an array that cannot be written to, such as a mapped file: nothing writes to it.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return TensorSplit(
        inputs=tuple(tensor(array) for array in split.inputs),
        targets=tensor(split.targets),
        lengths=None if split.lengths is None else tensor(split.lengths),
        lengths_on_host=split.lengths,
    )


def batch_order(
    data_seed: int,
    data_epoch: int,
    *,
    num_examples: int,
    batch_size: int,
    lengths: npt.NDArray[np.int64] | None = None,
) -> list[Rows]:
    """Return the batches of a data epoch, each an array of example numbers; none is left out.

    Examples with lengths are shuffled, cut into pools of 50 batches, sorted by length inside a
    pool and cut into batches, which are shuffled: alike lengths share a batch, so that little
    padding is computed, and no two epochs group alike (torchtext's ``BucketIterator``). The last
    batch cut may be smaller, but not a single example, which has no batch statistics: it joins the
    batch before.

    Args:
        data_seed: The study's data seed.
        data_epoch: The lane's data epoch, from 1.
        num_examples: Training examples, N.
        batch_size: Examples a batch.
        lengths: Real steps of each example, (N,), or None where nothing is padded.
    """
    rng = np.random.Generator(np.random.Philox([data_seed, data_epoch]))
    order = rng.permutation(num_examples)
    if lengths is None:
        return _cut(order, batch_size)
    batches: list[Rows] = []
    pool_size = _LENGTH_POOL * batch_size
    for start in range(0, num_examples, pool_size):
        pool = order[start : start + pool_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches.extend(_cut(pool, batch_size))
    return [batches[i] for i in rng.permutation(len(batches))]


def _cut(rows: Rows, size: int) -> list[Rows]:
    ends = list(range(size, len(rows), size))
    if ends and size > 1 and len(rows) - ends[-1] == 1:
        ends.pop()
    return np.split(rows, ends)
