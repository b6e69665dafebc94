"""Steps that are recorded once on a GPU, as a CUDA graph, and replayed: one launch a step.

A small network's step is hundreds of kernels that each take less time than their launch. What a
recorded step reads and changes stays where it was: the tables of the next epoch are written over
those of the last. A recording is believed only if a replay of it agrees with the step itself.
Knows nothing of what a step does.
"""

from collections import Counter
from collections.abc import Callable

import torch

from objectives.lanes.steps import Shape, Steps

#: Fewest steps of one shape in an epoch for which a recording, which costs about two, pays.
FEWEST_STEPS = 4
#: Share of a step's length.
_TOLERANCE = 0.01

Record = Callable[[Callable[[], None]], Callable[[], None]]


class RecordingError(RuntimeError):
    """A step cannot be recorded, or its replay does something else."""


class Recorder:
    """Takes the steps of a lane's rows for as long as these stay the same tensors.

    Args:
        record: Records what a call does, done or not; returns what replays it. ``graphs()``.
        device: Where the rows are.
    """

    def __init__(self, record: Record, device: torch.device) -> None:
        self._record = record
        self._number_1 = torch.zeros(1, dtype=torch.int64, device=device)
        self._steps: Steps | None = None
        self._replays: dict[Shape, Callable[[], None]] = {}

    def run(self, steps: Steps, on_step: Callable[[], None] | None = None) -> Steps:
        """Take the steps of an epoch; return the object that holds their sums.

        Args:
            steps: The epoch's.
            on_step: Called after each step.

        Raises:
            RecordingError: If a step cannot be recorded. What the steps change is then worthless.
        """
        if self._steps is None:
            self._steps = steps
        else:
            self._steps.take_over(steps)
        self._number_1.zero_()
        left = Counter(steps.shapes)
        with self._steps.held():
            for shape in steps.shapes:
                if shape in self._replays:
                    self._replays[shape]()
                elif left[shape] < FEWEST_STEPS:
                    self._take(shape)
                else:
                    self._replays[shape] = self._recorded(shape)
                left[shape] -= 1
                if on_step is not None:
                    on_step()
        return self._steps

    def _take(self, shape: Shape) -> None:
        assert self._steps is not None, "no epoch has begun"
        self._steps.take(self._number_1, shape)
        self._number_1.add_(1)

    def _recorded(self, shape: Shape) -> Callable[[], None]:
        """Take one step of a shape; return its recording."""
        assert self._steps is not None, "no epoch has begun"
        changed = [self._number_1, *self._steps.changed()]
        before = [tensor.clone() for tensor in changed]
        # The first time by itself: libraries make their plans and buffers then.
        self._take(shape)
        after = [tensor.clone() for tensor in changed]
        try:
            _restore(changed, before)
            replay = self._record(lambda: self._take(shape))
            # Whether or not it did the step as it recorded it.
            _restore(changed, before)
            replay()
        except Exception as error:  # whatever the driver says
            raise RecordingError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
        if not all(map(_agrees, changed, after, before)):
            raise RecordingError("a replayed step does something else than the step itself")
        return replay


def graphs() -> Record:
    """Return what records on the GPU what a call does, without doing it.

    All recordings of it share their memory: nothing that one computes outlives its replay but what
    it writes to tensors from elsewhere. See "CUDA graphs" in PyTorch's notes on CUDA semantics.
    """
    pool = torch.cuda.graph_pool_handle()

    def record(take: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            take()
        return graph.replay

    return record


def _restore(tensors: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _agrees(value: torch.Tensor, reference: torch.Tensor, before: torch.Tensor) -> bool:
    """Return whether a tensor moved as the reference did, but for what kernels round."""
    if not value.is_floating_point():
        return torch.equal(value, reference)
    if not torch.equal(value.isnan(), reference.isnan()):
        return False
    # In length and not number by number: where a gradient is next to nothing, a last bit that
    # rounds otherwise turns the whole step of an optimizer that divides by its size.
    apart, moved = ((each - reference).nan_to_num(0, 0, 0).norm() for each in (value, before))
    return bool(apart <= _TOLERANCE * moved)
