"""Runs a person's loop epoch by epoch: in a thread of its own, which stands still in between.

Torch's, NumPy's and Python's generators are those of one process, so each loop gets its own
numbers back before it goes on.
"""

import queue
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from objectives.api import Counts, EpochReport
from objectives.loops.trial import Order, OwnTrial, TrialPaused

_NUMPY_SEEDS = 2**32


class Generators:
    """The state of all generators, as a part of a checkpoint."""

    def __init__(self, device: str) -> None:
        self._is_cuda = device.startswith("cuda")

    def state_dict(self) -> dict[str, Any]:
        """Return what each generator would draw next."""
        kind, keys, place, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
        state = {
            "torch": torch.get_rng_state(),
            "numpy": [str(kind), torch.from_numpy(np.array(keys, np.int64)), place],
            "gauss": [has_gauss, gauss],
            "python": random.getstate(),
        }
        return state | ({"cuda": torch.cuda.get_rng_state()} if self._is_cuda else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let each generator draw what it would have."""
        torch.set_rng_state(state["torch"])
        kind, keys, place = state["numpy"]
        words = keys.numpy().astype(np.uint32)
        np.random.set_state((kind, words, place, *state["gauss"]))  # noqa: NPY002
        random.setstate(state["python"])
        if self._is_cuda:
            torch.cuda.set_rng_state(state["cuda"])

    def seed(self, seed: int) -> None:
        """Begin anew."""
        torch.manual_seed(seed)
        np.random.seed(seed % _NUMPY_SEEDS)  # noqa: NPY002
        random.seed(seed)


class LoopRun:
    """A trial of a loop that trains when it is told to. For one thread.

    Args:
        function: The loop.
        make_trial: Returns its trial, given who follows it.
        state: Where it goes on, if its loop names a checkpoint; None: it begins.
    """

    def __init__(
        self,
        function: Callable[[OwnTrial], object],
        make_trial: Callable[["LoopRun"], OwnTrial],
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.trial = make_trial(self)
        self.best: dict[str, torch.Tensor] = {}
        """Weights of the best epoch, of the first module of the checkpoint; empty without one."""
        self.best_counts: Counts | None = None
        self._counts: Counts | None = None
        self._function = function
        self._generators = Generators(self.trial.device)
        self._saved: dict[str, Any] | None = None
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[EpochReport | BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._has_ended = False
        if state is not None:
            self.best = dict(state["best"])
            counts = state["best_counts"]
            self.best_counts = None if counts is None else _read_counts(counts)
            self.trial.restore(state, hidden=self._generators)

    def train_epoch(self) -> EpochReport:
        """Let the loop go on for an epoch, and return what it recorded.

        Raises:
            BaseException: What the loop raised, or LoopError if it ended without a record.
        """
        before = self._generators.state_dict()
        if self._saved is None:
            self._generators.seed(self.trial.seed)
            self._thread.start()
        else:
            self._generators.load_state_dict(self._saved)
            self._orders.put(Order.GO_ON)
        answer = self._answers.get()
        self._saved = self._generators.state_dict()
        self._generators.load_state_dict(before)
        if isinstance(answer, EpochReport):
            self._counts = answer.counts
            return answer
        self._has_ended = True
        if answer is None:
            raise RuntimeError("the loop ended before it recorded the epoch: trial.record(...)")
        raise answer

    def take(self, trial: OwnTrial, report: EpochReport) -> Order:
        """Hand over an epoch and wait for the next order; called in the loop's thread."""
        self._answers.put(report)
        return self._orders.get()

    def keep_best(self) -> None:
        """Keep the present weights, if the loop names a checkpoint."""
        self.best_counts = self._counts
        module = next((each for each in self.trial.parts if isinstance(each, nn.Module)), None)
        if module is not None:
            state = module.state_dict()
            self.best = {
                name: each.detach().cpu().clone()
                for name, each in state.items()
                if isinstance(each, torch.Tensor)
            }

    def copy_state(self) -> dict[str, Any] | None:
        """Return all that the trial is after its last epoch; None without a checkpoint."""
        if not self.trial.parts:
            return None
        assert self._saved is not None, "it has had no epoch"
        counts = self.best_counts
        return {
            "epochs": self.trial.epochs_done,
            "parts": [part.state_dict() for part in self.trial.parts],
            "hidden": self._saved,
            "best": self.best,
            "best_counts": None if counts is None else _write_counts(counts),
        }

    def leave(self, order: Order) -> None:
        """End the loop: it returns, or is interrupted if it is paused."""
        if self._thread.is_alive() and not self._has_ended:
            self._orders.put(order)
            self._thread.join()

    def _run(self) -> None:
        try:
            self._function(self.trial)
            self.trial.end()
        except TrialPaused:
            pass
        except BaseException as error:
            self._answers.put(error)
            return
        self._answers.put(None)


def _write_counts(counts: Counts) -> list[torch.Tensor | None]:
    arrays = (counts.right, counts.support, counts.predicted, counts.matrix)
    return [None if each is None else torch.from_numpy(np.array(each)) for each in arrays]


def _read_counts(stored: list[torch.Tensor | None]) -> Counts:
    right, support, predicted, matrix = (None if each is None else each.numpy() for each in stored)
    assert right is not None and support is not None and predicted is not None  # noqa: PT018
    return Counts(right, support, predicted, matrix)
