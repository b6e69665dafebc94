"""The scheduler alone, against a model that counts."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sweeps.running.scheduler import LEAST, LanePace, Scheduler, Turn, Waiting

KEYS = ("wide", "deep", "narrow")


def add(scheduler: Scheduler[str], *trials: int, key: str = "wide") -> None:
    for trial in trials:
        scheduler.add(Waiting(trial, key))


def train(scheduler: Scheduler[str], trainer: int = 0, seconds: float = 1.0) -> Turn[str]:
    """Take a trainer's next turn and end it."""
    turn = scheduler.next_turn(trainer)
    assert turn is not None
    scheduler.advance(turn.lane, trained=1, seconds=seconds)
    return turn


def test_trials_of_one_key_share_a_lane_up_to_its_limit() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=7, max_trials=3)
    add(scheduler, 0, 1, 2, 3, 4)
    assert scheduler.next_turn(0) == Turn(1, "wide", 0, entering=(0, 1, 2))
    assert scheduler.num_waiting == 2


def test_trainer_takes_no_more_than_its_capacity_and_its_share() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=3)
    add(scheduler, *range(11))
    first, second = scheduler.next_turn(0, num_free=2), scheduler.next_turn(1, num_free=1)
    assert first == Turn(1, "wide", 0, entering=(0, 1, 2))
    assert second == Turn(2, "wide", 0, entering=(3, 4, 5))
    few: Scheduler[str] = Scheduler(capacity=7)
    add(few, 0, 1, 2)
    turns = [few.next_turn(0, num_free=2), few.next_turn(1, num_free=1)]
    assert [turn.entering for turn in turns if turn is not None] == [(0, 1), (2,)]


def test_freed_place_goes_to_the_trial_that_has_waited_longest() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=2)
    add(scheduler, 0, 1, 2, 3)
    train(scheduler)
    scheduler.leave(0, is_saved=False)
    assert scheduler.next_turn(0) == Turn(1, "wide", 1, drop=(0,), staying=(1,), entering=(2,))


def test_paused_trial_leaves_with_the_next_epoch_and_may_come_back() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=3)
    add(scheduler, 0, 1, 2, 3)
    train(scheduler)
    for trial in (0, 2):
        scheduler.keep(trial)
        assert scheduler.pause(trial)
    assert scheduler.num_waiting == 1
    turn = train(scheduler)
    assert turn == Turn(1, "wide", 1, (0, 2), pause=(0, 2), staying=(1,), entering=(3,))
    add(scheduler, 4)
    scheduler.add(Waiting(2, "wide", is_known=True))  # ahead of a trial that has waited longer
    assert train(scheduler) == Turn(1, "wide", 2, staying=(1, 3), entering=(2,))


def test_trial_that_has_not_entered_has_no_state_and_waits_again() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=5)
    for trial, key in enumerate(KEYS):
        add(scheduler, trial, key=key)
    train(scheduler)  # the turns of the other lanes have not come yet
    add(scheduler, 3)
    assert [scheduler.pause(trial) for trial in scheduler.placed_with(0)] == [True, False, False]
    assert (scheduler.num_waiting, scheduler.placed_with(0)) == (3, [])
    turns = [scheduler.next_turn(0, may_train=False) for _ in range(4)]
    closing = [Turn(n, key, int(n == 1), is_closed=True) for n, key in enumerate(KEYS, start=1)]
    closing[0] = replace(closing[0], pause=(0,))
    assert turns == [*(replace(each, is_trained=False) for each in closing), None]
    entered = [train(scheduler).entering for _ in range(3)]
    assert entered == [(3,), (1,), (2,)]


def test_states_are_written_at_once_where_nothing_trains_any_more() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=5)
    add(scheduler, 0, 1)
    train(scheduler)
    scheduler.pause(0)
    turn = scheduler.next_turn(0, may_train=False)
    assert turn == Turn(1, "wide", 1, pause=(0,), staying=(1,), is_trained=False)
    assert scheduler.next_turn(0, may_train=False) is None


def test_trainer_whose_lanes_gain_from_no_company_has_two_trials_at_once() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=7)
    add(scheduler, 0)

    def train_alone() -> tuple[int, ...]:
        turn = train(scheduler)
        scheduler.limit(turn.lane, 1)  # as each answer says
        return turn.entering

    assert train_alone() == (0,)
    for trial, key in enumerate(("deep", "narrow", "wide"), start=1):
        add(scheduler, trial, key=key)
    assert [train_alone() for _ in range(3)] == [(), (1,), ()]
    assert scheduler.placed_with(0) == [0, 1]
    assert scheduler.width == LEAST == 2
    scheduler.leave(0, is_saved=False)
    closing = Turn(1, "wide", 3, drop=(0,), is_closed=True, is_trained=False)
    assert scheduler.next_turn(0) == closing
    assert [train_alone() for _ in range(3)] == [(), (2,), ()]
    assert scheduler.num_waiting == 1


def test_known_trial_goes_first_then_one_that_a_lane_has_room_for() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=3)
    add(scheduler, 0)
    train(scheduler)
    add(scheduler, 1, key="deep")
    add(scheduler, 2)
    scheduler.add(Waiting(3, "narrow", is_known=True))
    assert [train(scheduler).entering for _ in range(2)] == [(2,), (3,)]
    assert scheduler.num_waiting == 1


@pytest.mark.parametrize(
    ("is_worthwhile", "entered"),
    [(True, [4, 0, 0, 4, 0, 8, 0, 16]), (False, [4, 0, 0, 4, 0, 0, 0, 0])],
)
def test_lane_grows_twofold_while_company_makes_an_epoch_cheaper(
    is_worthwhile: bool, entered: list[int]
) -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=64)
    add(scheduler, *range(64))
    found = []
    for _ in entered:
        turn = scheduler.next_turn(0)
        assert turn is not None
        found.append(len(turn.entering))
        trained = len(scheduler.placed_with(0))
        scheduler.advance(turn.lane, trained=trained, seconds=1.0 if is_worthwhile else trained)
    assert found == entered
    assert scheduler.width == (32 if is_worthwhile else 4)


def test_lanes_of_a_trainer_train_in_turn() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=5)
    for trial, key in enumerate(KEYS):
        add(scheduler, trial, key=key)
    assert [train(scheduler).lane for _ in range(7)] == [1, 2, 3, 1, 2, 3, 1]


def test_lane_that_may_have_one_trial_gets_no_second() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=5)
    add(scheduler, 0)
    lane = train(scheduler).lane
    scheduler.limit(lane, 1)
    add(scheduler, 1)
    assert train(scheduler).entering == ()
    scheduler.leave(0, is_saved=False)
    closing = scheduler.next_turn(0)
    assert closing == Turn(1, "wide", 2, drop=(0,), is_closed=True, is_trained=False)
    assert train(scheduler).entering == (1,)


def test_weights_are_written_before_the_next_epoch_and_after_the_last() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=5)
    add(scheduler, 0, 1, 2)
    train(scheduler)
    for trial in (0, 2):
        scheduler.keep(trial)
    scheduler.leave(0, is_saved=True)
    scheduler.leave(1, is_saved=False)
    add(scheduler, 3)
    first = scheduler.next_turn(0)
    saving = Turn(1, "wide", 1, (0, 2), save=(0,), drop=(1,), staying=(2,), is_trained=False)
    assert first == saving
    assert train(scheduler) == Turn(1, "wide", 1, staying=(2,), entering=(3,))
    scheduler.leave(2, is_saved=True)
    scheduler.leave(3, is_saved=True)
    last = scheduler.next_turn(0, may_train=False)
    assert last == Turn(1, "wide", 2, save=(2, 3), is_closed=True, is_trained=False)
    assert scheduler.next_turn(0) is None


def test_trial_that_memory_has_no_room_for_waits_and_its_lane_grows_no_more() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=5)
    add(scheduler, 0, 1, 2)
    train(scheduler)
    scheduler.put_back(Waiting(2, "wide"))
    assert train(scheduler).entering == ()
    scheduler.leave(0, is_saved=False)
    assert train(scheduler).entering == (2,)


def test_trial_trains_alone_in_its_trainer_until_it_is_cleared() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=5)
    add(scheduler, 0, 1)
    assert train(scheduler).entering == (0, 1)
    scheduler.lose(0)
    for trial in (0, 1):
        scheduler.add(Waiting(trial, "wide", is_alone=True))
    add(scheduler, 2)
    # The other trainer takes the others, this one a trial at a time.
    assert train(scheduler, trainer=0).entering == (0,)
    assert train(scheduler, trainer=1).entering == (2,)
    assert train(scheduler, trainer=0).entering == ()
    scheduler.clear(0)
    assert train(scheduler, trainer=0).entering == (1,)
    scheduler.clear(1)
    turns = [train(scheduler, trainer=0).lane for _ in range(4)]
    assert len(set(turns)) == 2  # both lanes, in turn


def test_trials_are_tried_alone_although_their_trainer_is_gone() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=5)
    add(scheduler, 3)
    train(scheduler, trainer=1)
    scheduler.add(Waiting(0, "wide", is_alone=True))
    assert train(scheduler, trainer=1).entering == (0,)


@pytest.mark.parametrize(
    ("epochs", "limit"),
    [
        ([], 4),
        ([(4, 1.0)], 4),  # one epoch is easily slow
        ([(4, 1.0)] * 2, 8),  # twice as many are tried
        ([(1, 1.0)] * 2, 4),
        ([(5, 1.0), (7, 1.0)], 8),  # counted as four
        ([*[(4, 4.0)] * 2, (8, 8.0), (8, 4.4)], 16),  # a slow one, then 0.55 s a trial, not 1.0
        ([*[(4, 4.0)] * 2, *[(8, 6.2)] * 2], 16),  # 0.78 s: worth it
        ([*[(4, 4.0)] * 2, *[(8, 6.6)] * 2], 4),  # 0.83 s: not
        ([*[(1, 1.0)] * 2, *[(2, 1.1)] * 2, *[(4, 2.2)] * 2, *[(8, 2.3)] * 2], 2),
        ([*[(1, 1.0)] * 2, *[(2, 2.0)] * 2], LEAST),
    ],
)
def test_pace_says_how_many_trials_pay(epochs: list[tuple[int, float]], limit: int) -> None:
    pace = LanePace()
    for trials, seconds in epochs:
        pace.add(trials, seconds)
    assert pace.limit() == limit


class SchedulerMachine(RuleBasedStateMachine):
    """Adds, trains and ends trials, and lets trainers die, in any order."""

    @initialize(capacity=st.integers(1, 5), max_trials=st.none() | st.integers(1, 3))
    def start(self, capacity: int, max_trials: int | None) -> None:
        self.capacity, self.max_trials = capacity, max_trials
        self.scheduler: Scheduler[str] = Scheduler(capacity, max_trials)
        self.num_trials = 0
        self.waiting: set[int] = set()
        self.running: dict[int, tuple[int, int]] = {}
        self.single: set[int] = set()
        self.keys: dict[int, str] = {}
        self.ended: set[int] = set()
        self.leaving: set[int] = set()
        #: Their states are being written; and those whose states have been.
        self.pausing: dict[int, int] = {}
        self.paused: list[int] = []

    @rule(key=st.sampled_from(KEYS))
    def add(self, key: str) -> None:
        self.keys[self.num_trials] = key
        self.scheduler.add(Waiting(self.num_trials, key))
        self.waiting.add(self.num_trials)
        self.num_trials += 1

    @rule(trainer=st.integers(0, 2), ends=st.booleans(), pick=st.integers(0, 99))
    def train(self, trainer: int, ends: bool, pick: int) -> None:
        turn = self.scheduler.next_turn(trainer, num_free=1 + pick % 3)
        if turn is None:
            return
        self.leaving.difference_update(turn.save, turn.drop)
        for each in turn.pause:
            assert self.pausing.pop(each) == trainer
            self.paused.append(each)
        inside = [each for each, place in self.running.items() if place == (trainer, turn.lane)]
        assert sorted(turn.staying) == sorted(inside)
        if not turn.is_trained:
            return
        for trial in turn.entering:
            self.waiting.remove(trial)  # raises if it was placed twice
            self.running[trial] = (trainer, turn.lane)
        trials = [each for each, place in self.running.items() if place == (trainer, turn.lane)]
        assert {self.keys[each] for each in trials} == {turn.key}
        assert len(trials) == 1 or not self.single.intersection(trials)
        self.scheduler.advance(turn.lane, trained=len(trials), seconds=1.0)
        for each in self.single.intersection(trials):
            self.single.remove(each)
            self.scheduler.clear(each)
        if ends:
            ended = trials[pick % len(trials)]
            del self.running[ended]
            self.scheduler.leave(ended, is_saved=pick % 2 == 0)
            self.leaving.add(ended)
            self.ended.add(ended)

    @rule(pick=st.integers(0, 99))
    def pause(self, pick: int) -> None:
        placed = [each for trainer in range(3) for each in self.scheduler.placed_with(trainer)]
        if not placed or self.single:
            return
        trial = placed[pick % len(placed)]
        has_entered = trial in self.running
        assert self.scheduler.pause(trial) == has_entered
        if has_entered:
            self.pausing[trial] = self.running.pop(trial)[0]

    @rule()
    def promote(self) -> None:
        while self.paused:
            trial = self.paused.pop()
            self.scheduler.add(Waiting(trial, self.keys[trial], is_known=True))
            self.waiting.add(trial)

    @rule(trainer=st.integers(0, 2), lane=st.integers(0, 99))
    def die(self, trainer: int, lane: int) -> None:
        self.leaving.clear()  # what a dead trainer was to write, another trains again
        for each in [each for each, own in self.pausing.items() if own == trainer]:
            del self.pausing[each]
            self.paused.append(each)
        for each in self.scheduler.lose(trainer):
            place = self.running.pop(each, None)
            if place is not None and place[1] % 2 == lane % 2:
                self.single.add(each)
            is_alone = each in self.single
            self.scheduler.add(Waiting(each, self.keys[each], is_alone=is_alone))
            self.waiting.add(each)

    @invariant()
    def no_trial_is_lost_and_no_trainer_overfull(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        # Some have a place in a lane whose turn has not come yet.
        assert self.scheduler.num_waiting <= len(self.waiting)
        idle = len(self.waiting) + len(self.pausing) + len(self.paused)
        assert idle + len(self.running) + len(self.ended) == self.num_trials
        assert all(len(self.scheduler.placed_with(each)) <= self.capacity for each in range(3))
        lanes = list(self.running.values())
        if self.max_trials is not None:
            assert all(lanes.count(place) <= self.max_trials for place in lanes)

    def teardown(self) -> None:
        """Each waiting trial gets its turn: with trials ending, all end."""
        if not hasattr(self, "scheduler"):
            return
        for _ in range(8 * self.num_trials + 8):
            self.promote()
            for trainer in (0, 1, 2):
                self.train(trainer, True, 0)
        assert self.ended == set(range(self.num_trials))
        assert not self.leaving
        assert not self.pausing


SchedulerMachine.TestCase.settings = settings(max_examples=60, deadline=None)
TestSchedulerMachine = SchedulerMachine.TestCase
