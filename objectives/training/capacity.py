"""How many slots a lane should have: a few steps are timed while the slots double.

Small models are bound by what a step costs whatever it computes, so more slots are nearly free;
large ones by arithmetic, where more slots only leave the processor's cache. Which it is, is
measured for each lane, on its own batches. On a CPU in processor time of this thread: a worker's
other thread and the machine's other work would count too, and once gave a lane one slot for 128.
"""

import time
from collections.abc import Callable, Mapping

import numpy as np
import psutil
import torch

from objectives.api import Lane, SlotChoice
from objectives.training.batches import TensorSplit
from search_spaces.hparams import Hparams

#: A step must get cheaper a trial by this share, or the doubling was not worth its memory.
_WORTHWHILE = 0.05
#: Share of the free memory that a lane may take: validation and other lanes need theirs.
_MEMORY_SHARE = 0.4
#: Steps of an epoch that is timed.
STEPS = 8
_ROUNDS = 2
_ENOUGH_S = 0.4
#: Seconds of looking below which a doubling that did not pay is not yet the end.
_CHEAP_S = 1.5


def choose_slots(
    open_lane: Callable[[], Lane], hparams: Hparams, *, most: int, num_workers: int
) -> SlotChoice:
    """Return the number of slots that costs a trial least, by powers of two up to ``most``.

    Doubling stops where a step no longer gets cheaper a trial, or where the next doubling might
    not fit into memory. A figure may be a bad moment's: where a look costs little, the next
    doubling and a second look decide. One slot is always measured, so the choice is never slower
    than it.

    Args:
        open_lane: Returns an empty lane whose epoch has ``STEPS`` steps.
        hparams: Those of the first trial; the model, the batch and the optimizer count.
        most: Most slots to try, 1 or more.
        num_workers: Processes that share the memory.
    """
    seconds: dict[int, float] = {}
    slots, chosen, misses, spent_from = 1, 1, 0, _now_s()
    while True:
        lane = open_lane()
        before = _free_bytes()
        for slot in range(slots):
            lane.admit(slot, slot, hparams)
        seconds[slots] = _time_epoch(lane) / STEPS / slots
        used = max(0, before - _free_bytes())
        if slots > 1 and not _pays(seconds, slots, chosen):
            seconds[slots] = min(seconds[slots], _time_epoch(lane) / STEPS / slots)
        if slots == 1 or _pays(seconds, slots, chosen):
            chosen, misses = slots, 0
        else:
            misses += 1
        is_cheap = _now_s() - spent_from < _CHEAP_S
        if misses > (1 if is_cheap else 0):
            break
        # Other processes take and give memory meanwhile, so this is an estimate.
        if slots * 2 > most or 2 * used > before * _MEMORY_SHARE / num_workers:
            break
        slots *= 2
    return SlotChoice(chosen, tuple(seconds.items()))


def _pays(seconds: Mapping[int, float], slots: int, fewer: int) -> bool:
    return seconds[slots] <= seconds[fewer] * (1 - _WORTHWHILE)


def few_examples(split: TensorSplit, count: int) -> TensorSplit:
    """Return up to so many examples of a split, evenly spaced."""
    rows = np.linspace(0, len(split) - 1, min(count, len(split))).astype(np.int64)
    index = torch.from_numpy(rows).to(split.targets.device)
    return TensorSplit(
        inputs=tuple(array[index] for array in split.inputs),
        targets=split.targets[index],
        lengths=None if split.lengths is None else split.lengths[index],
        lengths_on_host=None if split.lengths_on_host is None else split.lengths_on_host[rows],
    )


def _time_epoch(lane: Lane) -> float:
    """Return the seconds of the lane's fastest epoch of a few; the first one warms up."""
    lane.train_epoch()
    best, spent = float("inf"), 0.0
    for _ in range(_ROUNDS):
        started = _now_s()
        lane.train_epoch()
        took = _now_s() - started
        best, spent = min(best, took), spent + took
        if spent > _ENOUGH_S:
            break
    return best


def _now_s() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.thread_time()


def _free_bytes() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)
