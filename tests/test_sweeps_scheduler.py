"""The scheduler alone, against a model that counts."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sweeps.scheduler import Placement, Scheduler, Waiting

KEYS = ("wide", "deep", "alone")


def place_all(scheduler: Scheduler[str]) -> list[Placement[str]]:
    placements = []
    while (placement := scheduler.place()) is not None:
        placements.append(placement)
    return placements


def test_trials_of_one_key_share_a_lane_up_to_its_slots() -> None:
    scheduler: Scheduler[str] = Scheduler(max_slots=3)
    for trial in range(5):
        scheduler.add(Waiting(trial, "wide"))
    placements = place_all(scheduler)
    assert [(p.trial, p.slot, p.is_new_lane) for p in placements] == [
        (0, 0, True),
        (1, 1, False),
        (2, 2, False),
    ]
    assert (scheduler.num_running, scheduler.num_waiting) == (3, 2)


def test_freed_slot_goes_to_the_trial_that_has_waited_longest() -> None:
    scheduler: Scheduler[str] = Scheduler(max_slots=2)
    for trial in range(4):
        scheduler.add(Waiting(trial, "wide"))
    lane = place_all(scheduler)[0].lane
    scheduler.advance(lane)
    assert scheduler.release(lane, 0) is False
    (placement,) = place_all(scheduler)
    assert (placement.trial, placement.slot, placement.data_epoch) == (2, 0, 1)


def test_trial_with_a_clock_joins_only_a_lane_that_shows_it() -> None:
    scheduler: Scheduler[str] = Scheduler(max_slots=3)
    scheduler.add(Waiting(0, "wide"))
    first = place_all(scheduler)[0].lane
    scheduler.advance(first)
    scheduler.add(Waiting(1, "wide", data_epoch=5))
    scheduler.add(Waiting(2, "wide", data_epoch=1))
    other, same = place_all(scheduler)
    assert (other.is_new_lane, other.data_epoch) == (True, 5)
    assert (same.lane, same.data_epoch) == (first, 1)


def test_lanes_train_in_turn() -> None:
    scheduler: Scheduler[str] = Scheduler(max_slots=2)
    for trial, key in enumerate(KEYS):
        scheduler.add(Waiting(trial, key))
    place_all(scheduler)
    turns = []
    for _ in range(7):
        lane = scheduler.next_lane()
        assert lane is not None
        turns.append(lane)
        scheduler.advance(lane)
    assert turns == [1, 2, 3, 1, 2, 3, 1]


def test_lane_that_cannot_be_fused_keeps_one_slot() -> None:
    scheduler: Scheduler[str] = Scheduler(max_slots=4)
    scheduler.add(Waiting(0, "alone"))
    scheduler.add(Waiting(1, "alone"))
    placement = scheduler.place()
    assert placement is not None
    scheduler.limit(placement.lane, 1)
    assert scheduler.place() is None
    assert scheduler.release(placement.lane, 0) is True
    assert scheduler.place() is not None


class SchedulerMachine(RuleBasedStateMachine):
    """Adds, places, trains and ends trials in any order; each trial needs a few epochs."""

    @initialize(max_slots=st.integers(1, 5))
    def start(self, max_slots: int) -> None:
        self.max_slots = max_slots
        self.scheduler: Scheduler[str] = Scheduler(max_slots)
        self.next_trial = 0
        self.waiting: list[int] = []
        self.running: dict[int, Placement[str]] = {}
        self.limits: dict[int, int] = {}
        self.clocks: dict[int, int] = {}
        self.ended: set[int] = set()

    @rule(key=st.sampled_from(KEYS), data_epoch=st.none() | st.integers(0, 3))
    def add(self, key: str, data_epoch: int | None) -> None:
        self.scheduler.add(Waiting(self.next_trial, key, data_epoch))
        self.waiting.append(self.next_trial)
        self.next_trial += 1

    @rule()
    def place(self) -> None:
        placement = self.scheduler.place()
        if placement is None:
            return
        if placement.is_new_lane:
            assert placement.lane not in self.clocks
            self.clocks[placement.lane] = placement.data_epoch
            self.limits[placement.lane] = 1 if placement.key == "alone" else self.max_slots
            self.scheduler.limit(placement.lane, self.limits[placement.lane])
        assert placement.data_epoch == self.clocks[placement.lane]
        self.waiting.remove(placement.trial)  # raises if it was placed twice
        taken = [p.slot for p in self.running.values() if p.lane == placement.lane]
        assert placement.slot not in taken
        self.running[placement.trial] = placement

    @precondition(lambda self: self.running)
    @rule(ends=st.booleans(), pick=st.integers(0, 99))
    def train(self, ends: bool, pick: int) -> None:
        lane = self.scheduler.next_lane()
        assert lane is not None
        self.scheduler.advance(lane)
        self.clocks[lane] += 1
        if ends:
            trials = [t for t, p in self.running.items() if p.lane == lane]
            self.end(trials[pick % len(trials)])

    def end(self, trial: int) -> None:
        placement = self.running.pop(trial)
        assert self.scheduler.trial_in(placement.lane, placement.slot) == trial
        is_last = all(p.lane != placement.lane for p in self.running.values())
        assert self.scheduler.release(placement.lane, placement.slot) is is_last
        self.ended.add(trial)

    @invariant()
    def no_trial_is_lost_and_no_lane_overfull(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        assert self.scheduler.num_waiting == len(self.waiting)
        assert self.scheduler.num_running == len(self.running)
        assert len(self.waiting) + len(self.running) + len(self.ended) == self.next_trial
        for lane, limit in self.limits.items():
            assert sum(p.lane == lane for p in self.running.values()) <= limit

    def teardown(self) -> None:
        """Each waiting trial gets its turn: with trials ending, all end."""
        if not hasattr(self, "scheduler"):
            return
        for _ in range(3 * self.next_trial + 1):
            for _ in range(self.next_trial):
                self.place()
            lane = self.scheduler.next_lane()
            if lane is None:
                break
            self.scheduler.advance(lane)
            self.clocks[lane] += 1
            self.end(next(t for t, p in self.running.items() if p.lane == lane))
        assert self.ended == set(range(self.next_trial))


SchedulerMachine.TestCase.settings = settings(max_examples=60, deadline=None)
TestSchedulerMachine = SchedulerMachine.TestCase
