"""Which trial trains in which lane, and which lane is next: plain Python, no torch, no Optuna.

Trials wait for a place in a lane of their fusion key. The lanes of a trainer train in turn, an
epoch each, so every trial moves on and each freed place goes to the trial that has waited longest.
How many trials a lane should have is learned from its own epochs.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

#: An epoch must get cheaper a trial by this share where a lane has twice the trials. Wider lanes,
#: which show their scores later, were no better or worse (tests/benchmarks/RESULTS.md, "Replays:
#: who goes on").
WORTHWHILE = 0.2
#: Trials of a trainer at first, and at least.
FIRST_TRIALS, LEAST = 4, 2


@dataclass(frozen=True, slots=True)
class Waiting(Generic[Key]):
    """A trial that waits for a place in a lane of its fusion key."""

    trial: int
    key: Key
    is_alone: bool = False
    """It must train alone, because a trainer died while it trained the trial."""
    is_known: bool = False
    """It has been trained, and goes before those that have not."""


@dataclass(frozen=True, slots=True)
class Turn(Generic[Key]):
    """What a trainer does next with one lane, in the order of the fields, then an epoch."""

    lane: int
    key: Key
    data_epoch: int
    keep: tuple[int, ...] = ()
    """Trials whose last epoch was their best so far."""
    save: tuple[int, ...] = ()
    """Trials that leave once their best weights are written."""
    pause: tuple[int, ...] = ()
    """Trials that leave once their states are written."""
    drop: tuple[int, ...] = ()
    staying: tuple[int, ...] = ()
    entering: tuple[int, ...] = ()
    is_closed: bool = False
    is_trained: bool = True
    """False where weights are written: ends that wait for them do not wait for an epoch."""
    why: str = field(default="", compare=False)


@dataclass(slots=True)
class _Lane(Generic[Key]):
    trainer: int
    key: Key
    data_epoch: int
    last_turn: int
    is_exclusive: bool
    max_trials: int | None = None
    epochs: int = 0
    seconds: float = 0.0
    trials: list[int] = field(default_factory=list)
    keep: list[int] = field(default_factory=list)
    save: list[int] = field(default_factory=list)
    pause: list[int] = field(default_factory=list)
    drop: list[int] = field(default_factory=list)
    entering: list[int] = field(default_factory=list)


class LanePace:
    """What an epoch costs a trial by the number of trials in a lane, from the lanes' own epochs.

    By powers of two, so that each figure is the fastest of several epochs: one is easily slow.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, list[float]] = {}

    def add(self, trials: int, seconds: float) -> None:
        """Take in an epoch of a lane of so many trials."""
        size = 1 << (trials.bit_length() - 1)
        self._seconds.setdefault(size, []).append(seconds / trials)

    def limit(self) -> int:
        """Return how many trials pay, for all that is known.

        Twice as many as the most that have been tried, so that a lane grows until they do not.
        """
        known = {size: min(each) for size, each in self._seconds.items() if len(each) > 1}
        sizes = sorted(known)
        for few, many in pairwise(sizes):
            if known[many] > known[few] * (1.0 - WORTHWHILE):
                return max(few, LEAST)
        return max(FIRST_TRIALS, 2 * max(sizes, default=0))


class Scheduler(Generic[Key]):
    """The waiting and the training trials of all trainers.

    Args:
        capacity: Most trials that a trainer has at once.
        max_trials: Most trials that a lane has; None: as many as pay.
    """

    def __init__(self, capacity: int, max_trials: int | None = None) -> None:
        assert capacity >= 1, f"a trainer needs a trial, got {capacity=}"
        self._capacity = capacity
        self._max_trials = max_trials
        self._waiting: list[Waiting[Key]] = []
        self._lanes: dict[int, _Lane[Key]] = {}
        self._lane_of: dict[int, int] = {}
        self._paces: dict[Key, LanePace] = {}
        # Trainers that train trials that must train alone, one after the other, and nothing else.
        self._reserved: set[int] = set()
        self._turns = 0
        self._lanes_opened = 0
        self._width = FIRST_TRIALS

    @property
    def width(self) -> int:
        """Trials that a trainer should have at once, as far as is known."""
        return min(self._max_trials or self._width, self._capacity)

    @property
    def num_waiting(self) -> int:
        """Trials without a place."""
        return len(self._waiting)

    def add(self, waiting: Waiting[Key]) -> None:
        """Take in a trial that waits for a place."""
        self._waiting.append(waiting)

    def next_turn(
        self,
        trainer: int,
        num_free: int = 1,
        *,
        may_train: bool = True,
        room: int | None = None,
    ) -> Turn[Key] | None:
        """Place what can be placed with a trainer that is free; return what it does next.

        Weights are written first; then the lane that has waited longest trains.

        Args:
            trainer: The trainer.
            num_free: Trainers that are free now: it takes its share of the trials that wait.
            may_train: False once the run is to stop.
            room: Most trials that may join its lanes; None: as many as fit.

        Returns:
            None if the trainer has nothing to do.
        """
        for number, lane in self._lanes_of(trainer).items():
            if lane.save or not lane.trials or (lane.pause and not may_train):
                return self._begin_turn(number, "trials leave it", is_trained=False)
        if not may_train:
            return None
        single = [each for each in self._waiting if each.is_alone]
        has_room = len(self.placed_with(trainer)) < self._capacity
        if single and has_room and not self._reserved:
            self._reserved.add(trainer)
        if trainer in self._reserved:
            alone = [i for i, lane in self._lanes_of(trainer).items() if lane.is_exclusive]
            if not alone and single and has_room:
                alone = [self._place_alone(trainer, single[0])]
            if alone:
                return self._begin_turn(alone[0], "a trial is tried alone")
            self._reserved.discard(trainer)
        share = -(-self.num_waiting // num_free)
        share = share if room is None else min(share, room)
        while share > 0 and self._place(trainer):
            share -= 1
        own = self._lanes_of(trainer)
        if not own:
            return None
        number = min(own, key=lambda i: own[i].last_turn)
        took = f", an epoch took {own[number].seconds:.3g} s" if own[number].epochs else ""
        return self._begin_turn(number, f"has waited longest of {len(own)}{took}")

    def advance(self, lane: int, *, trained: int, seconds: float) -> None:
        """Move a lane's clock by the epoch in which it trained some trials, and end its turn."""
        self._turns += 1
        one = self._lanes[lane]
        one.data_epoch += 1
        one.last_turn = self._turns
        one.epochs += 1
        one.seconds = seconds
        # In its first epoch a lane also checks its model, and libraries make their plans.
        if trained and one.epochs > 1:
            pace = self._paces.setdefault(one.key, LanePace())
            pace.add(trained, seconds)
            self._width = pace.limit()

    def limit(self, lane: int, max_trials: int) -> None:
        """Let a lane have at most so many trials from now on; those that it has stay."""
        if lane in self._lanes:
            self._lanes[lane].max_trials = max_trials
        if max_trials == 1:
            self._width = LEAST

    def clear(self, trial: int) -> None:
        """Let a trial that trains alone train beside others from now on."""
        self._lanes[self._lane_of[trial]].is_exclusive = False

    def keep(self, trial: int) -> None:
        """Let the trial's present weights be kept with the lane's next turn."""
        self._lanes[self._lane_of[trial]].keep.append(trial)

    def leave(self, trial: int, *, is_saved: bool) -> None:
        """Take a trial out of its lane; its best weights are written first, or it has none."""
        lane = self._take_out(trial)
        (lane.save if is_saved else lane.drop).append(trial)

    def pause(self, trial: int) -> bool:
        """Take a trial out of its lane once its state is written.

        Returns:
            False if it has not entered it yet: then it waits again.
        """
        lane = self._take_out(trial)
        if trial in lane.entering:
            lane.entering.remove(trial)
            self.add(Waiting(trial, lane.key))
            return False
        lane.pause.append(trial)
        return True

    def placed_with(self, trainer: int) -> list[int]:
        """Return the trials that have a place with a trainer."""
        return [each for lane in self._lanes_of(trainer).values() for each in lane.trials]

    def new_lane(self) -> int:
        """Return the number of a lane that nobody has had."""
        self._lanes_opened += 1
        return self._lanes_opened

    def _take_out(self, trial: int) -> _Lane[Key]:
        lane = self._lanes[self._lane_of.pop(trial)]
        lane.trials.remove(trial)
        return lane

    def put_back(self, waiting: Waiting[Key]) -> None:
        """Let a trial that its lane had no memory for wait again; the lane grows no more."""
        lane = self._lanes[self._lane_of.pop(waiting.trial)]
        lane.trials.remove(waiting.trial)
        lane.max_trials = max(1, len(lane.trials))
        self._waiting.insert(0, waiting)

    def lose(self, trainer: int) -> list[int]:
        """Forget the lanes of a trainer that has died; return the trials that were in them."""
        self._reserved.discard(trainer)
        return [each for number in self._lanes_of(trainer) for each in self.lose_lane(number)]

    def lose_lane(self, lane: int) -> list[int]:
        """Forget a lane that is gone; return the trials that were in it."""
        lost = self._lanes.pop(lane).trials if lane in self._lanes else []
        for trial in lost:
            del self._lane_of[trial]
        return lost

    def _lanes_of(self, trainer: int) -> dict[int, _Lane[Key]]:
        return {i: lane for i, lane in self._lanes.items() if lane.trainer == trainer}

    def _begin_turn(self, number: int, why: str, *, is_trained: bool = True) -> Turn[Key]:
        lane = self._lanes[number]
        turn = Turn(
            number,
            lane.key,
            lane.data_epoch,
            keep=tuple(lane.keep),
            save=tuple(lane.save),
            pause=tuple(lane.pause),
            drop=tuple(lane.drop),
            staying=tuple(each for each in lane.trials if each not in lane.entering),
            entering=tuple(lane.entering) if is_trained else (),
            is_closed=not lane.trials,
            is_trained=is_trained,
            why=why,
        )
        lane.keep, lane.save, lane.pause, lane.drop = [], [], [], []
        if is_trained:
            lane.entering = []
        if turn.is_closed:
            del self._lanes[number]
        return turn

    def _place_alone(self, trainer: int, waiting: Waiting[Key]) -> int:
        """Give a trial a lane of its own."""
        self._waiting.remove(waiting)
        number = self._open(trainer, waiting)
        self._enter(number, waiting.trial)
        return number

    def _place(self, trainer: int) -> bool:
        """Give a place to a waiting trial that can have one; return whether one could.

        Known ones go first, then those that a lane has room for, then who has waited longest. It
        joins the fullest lane of its key; where there is no such lane at all, it opens one.
        """
        own = self._lanes_of(trainer)
        if sum(len(lane.trials) for lane in own.values()) >= self.width:
            return False
        candidates = []
        for waiting in self._waiting:
            fitting = [i for i, lane in own.items() if _fits(waiting, lane)]
            free = [i for i in fitting if self._has_room(i)]
            if not waiting.is_alone and (free or not fitting):
                candidates.append((waiting, free))
        if not candidates:
            return False
        chosen, lanes = max(candidates, key=lambda each: (each[0].is_known, bool(each[1])))
        self._waiting.remove(chosen)
        lane = max(lanes, key=lambda i: len(own[i].trials), default=None)
        self._enter(self._open(trainer, chosen) if lane is None else lane, chosen.trial)
        return True

    def _enter(self, lane: int, trial: int) -> None:
        self._lanes[lane].trials.append(trial)
        self._lanes[lane].entering.append(trial)
        self._lane_of[trial] = lane

    def _open(self, trainer: int, waiting: Waiting[Key]) -> int:
        # A lane that opens waits for its turn behind those that run.
        self._turns += 1
        number = self.new_lane()
        self._lanes[number] = _Lane(trainer, waiting.key, 0, self._turns, waiting.is_alone)
        return number

    def _has_room(self, number: int) -> bool:
        lane = self._lanes[number]
        limits = [self._max_trials or self._find_width(lane.key), lane.max_trials]
        return all(limit is None or len(lane.trials) < limit for limit in limits)

    def _find_width(self, key: Key) -> int:
        """Return how many trials of a key pay; where nothing is known of it, of another."""
        return self._paces[key].limit() if key in self._paces else self._width


def _fits(waiting: Waiting[Key], lane: _Lane[Key]) -> bool:
    return lane.key == waiting.key and not lane.is_exclusive
