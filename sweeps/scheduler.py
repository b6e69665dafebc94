"""Which trial trains in which slot, and whose turn it is: plain Python, no torch, no Optuna.

A worker's trials wait for a place in a lane of their fusion key. Lanes train in turn, an epoch
each, so every trial moves on and each freed slot goes to the trial that has waited longest.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Waiting(Generic[Key]):
    """A trial that waits for a slot.

    Attributes:
        trial: Its number.
        key: Its fusion key.
        data_epoch: The clock that its lane must show, because an earlier attempt entered at it;
            None: any.
    """

    trial: int
    key: Key
    data_epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Placement(Generic[Key]):
    """A trial's place: slot ``slot`` of lane ``lane``, whose clock shows ``data_epoch``."""

    trial: int
    lane: int
    slot: int
    key: Key
    data_epoch: int
    is_new_lane: bool


@dataclass(slots=True)
class _Lane(Generic[Key]):
    key: Key
    data_epoch: int
    max_slots: int
    last_turn: int
    trials: dict[int, int] = field(default_factory=dict)
    """Trial by slot."""


class Scheduler(Generic[Key]):
    """The waiting and the running trials of one worker.

    Args:
        max_slots: Most trials that a lane trains at once.
    """

    def __init__(self, max_slots: int) -> None:
        assert max_slots >= 1, f"a lane needs a slot, got {max_slots=}"
        self._max_slots = max_slots
        self._waiting: list[Waiting[Key]] = []
        self._lanes: dict[int, _Lane[Key]] = {}
        self._turns = 0
        self._lanes_opened = 0

    @property
    def num_waiting(self) -> int:
        """Trials without a slot."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Trials with a slot."""
        return sum(len(lane.trials) for lane in self._lanes.values())

    def add(self, waiting: Waiting[Key]) -> None:
        """Take in a trial that waits for a slot."""
        self._waiting.append(waiting)

    def place(self) -> Placement[Key] | None:
        """Give a slot to the longest waiting trial that can have one; None if there is none.

        It joins the fullest lane of its key, and of its clock if it has one; where there is no
        such lane at all, it opens one.
        """
        for waiting in self._waiting:
            fitting = [i for i, lane in self._lanes.items() if _fits(waiting, lane)]
            free = [i for i in fitting if self._has_room(i)]
            if fitting and not free:
                continue
            is_new_lane = not free
            lane_id = self._open(waiting) if is_new_lane else max(free, key=self._fullness)
            lane = self._lanes[lane_id]
            slot = next(i for i in range(lane.max_slots) if i not in lane.trials)
            lane.trials[slot] = waiting.trial
            self._waiting.remove(waiting)
            return Placement(waiting.trial, lane_id, slot, lane.key, lane.data_epoch, is_new_lane)
        return None

    def limit(self, lane: int, max_slots: int) -> None:
        """Let the lane have at most so many slots; it must not have more trials already."""
        assert len(self._lanes[lane].trials) <= max_slots, "a running trial cannot lose its slot"
        self._lanes[lane].max_slots = max_slots

    def next_lane(self) -> int | None:
        """Return the lane whose turn it is, the one that has waited longest; None if none runs."""
        return min(self._lanes, key=lambda i: self._lanes[i].last_turn, default=None)

    def advance(self, lane: int) -> None:
        """Move the lane's clock by the epoch that it has trained, and end its turn."""
        self._turns += 1
        self._lanes[lane].data_epoch += 1
        self._lanes[lane].last_turn = self._turns

    def release(self, lane: int, slot: int) -> bool:
        """Free a slot; return whether the lane is empty, which closes it."""
        del self._lanes[lane].trials[slot]
        if self._lanes[lane].trials:
            return False
        del self._lanes[lane]
        return True

    def trial_in(self, lane: int, slot: int) -> int:
        """Return the trial that holds a slot."""
        return self._lanes[lane].trials[slot]

    def _open(self, waiting: Waiting[Key]) -> int:
        # A lane that opens waits for its turn behind those that run.
        self._turns += 1
        self._lanes_opened += 1
        self._lanes[self._lanes_opened] = _Lane(
            waiting.key, waiting.data_epoch or 0, self._max_slots, self._turns
        )
        return self._lanes_opened

    def _has_room(self, lane: int) -> bool:
        return len(self._lanes[lane].trials) < self._lanes[lane].max_slots

    def _fullness(self, lane: int) -> int:
        return len(self._lanes[lane].trials)


def _fits(waiting: Waiting[Key], lane: _Lane[Key]) -> bool:
    return lane.key == waiting.key and waiting.data_epoch in (None, lane.data_epoch)
