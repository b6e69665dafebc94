"""The scheduler alone, against a model that counts."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sweeps.running.scheduler import LanePace, Scheduler, Turn, Waiting

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
    assert scheduler.next_turn(0) == Turn(1, "wide", 1, drop=(0,), entering=(2,))


def test_trial_with_a_clock_joins_only_a_lane_that_shows_it() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=5)
    add(scheduler, 0)
    train(scheduler)
    scheduler.add(Waiting(1, "wide", data_epoch=5))
    scheduler.add(Waiting(2, "wide", data_epoch=1))
    assert train(scheduler) == Turn(1, "wide", 1, entering=(2,))
    assert train(scheduler) == Turn(2, "wide", 5, entering=(1,))


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
    assert first == Turn(1, "wide", 1, (0, 2), save=(0,), drop=(1,), is_trained=False)
    assert train(scheduler) == Turn(1, "wide", 1, entering=(3,))
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


def test_suspect_trains_alone_in_its_trainer_until_it_is_cleared() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=5)
    add(scheduler, 0, 1)
    assert train(scheduler).entering == (0, 1)
    scheduler.lose(0)
    for trial in (0, 1):
        scheduler.add(Waiting(trial, "wide", 0, is_suspect=True))
    add(scheduler, 2)
    # The other trainer takes what is above suspicion, this one a suspect at a time.
    assert train(scheduler, trainer=0).entering == (0,)
    assert train(scheduler, trainer=1).entering == (2,)
    assert train(scheduler, trainer=0).entering == ()
    scheduler.clear(0)
    assert train(scheduler, trainer=0).entering == (1,)
    scheduler.clear(1)
    turns = [train(scheduler, trainer=0).lane for _ in range(4)]
    assert len(set(turns)) == 2  # both lanes, in turn


def test_suspects_are_tried_although_their_trainer_is_gone() -> None:
    scheduler: Scheduler[str] = Scheduler(capacity=5)
    add(scheduler, 3)
    train(scheduler, trainer=1)
    scheduler.add(Waiting(0, "wide", is_suspect=True))
    assert train(scheduler, trainer=1).entering == (0,)


@pytest.mark.parametrize(
    ("epochs", "limit"),
    [
        ([], None),
        ([(4, 1.0)], None),  # nothing to compare with
        ([(4, 4.0), (8, 4.4)], None),  # 1.0 s a trial, then 0.55
        ([(4, 4.0), (8, 8.0)], 7),  # no cheaper a trial: no more than the fewer
        ([(4, 4.0), (8, 9.0), (9, 5.0)], None),  # one slow epoch, then a fast one
        ([(1, 1.0), (2, 1.1), (4, 2.2)], 3),
    ],
)
def test_lane_grows_while_an_epoch_gets_cheaper_a_trial(
    epochs: list[tuple[int, float]], limit: int | None
) -> None:
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
        self.suspects: set[int] = set()
        self.keys: dict[int, str] = {}
        self.ended: set[int] = set()
        self.leaving: set[int] = set()

    @rule(key=st.sampled_from(KEYS), data_epoch=st.none() | st.integers(0, 3))
    def add(self, key: str, data_epoch: int | None) -> None:
        self.keys[self.num_trials] = key
        self.scheduler.add(Waiting(self.num_trials, key, data_epoch))
        self.waiting.add(self.num_trials)
        self.num_trials += 1

    @rule(trainer=st.integers(0, 2), ends=st.booleans(), pick=st.integers(0, 99))
    def train(self, trainer: int, ends: bool, pick: int) -> None:
        turn = self.scheduler.next_turn(trainer, num_free=1 + pick % 3)
        if turn is None:
            return
        self.leaving.difference_update(turn.save, turn.drop)
        if not turn.is_trained:
            return
        for trial in turn.entering:
            self.waiting.remove(trial)  # raises if it was placed twice
            self.running[trial] = (trainer, turn.lane)
        trials = [each for each, place in self.running.items() if place == (trainer, turn.lane)]
        assert {self.keys[each] for each in trials} == {turn.key}
        assert len(trials) == 1 or not self.suspects.intersection(trials)
        self.scheduler.advance(turn.lane, trained=len(trials), seconds=1.0)
        for each in self.suspects.intersection(trials):
            self.suspects.remove(each)
            self.scheduler.clear(each)
        if ends:
            ended = trials[pick % len(trials)]
            del self.running[ended]
            self.scheduler.leave(ended, is_saved=pick % 2 == 0)
            self.leaving.add(ended)
            self.ended.add(ended)

    @rule(trainer=st.integers(0, 2), lane=st.integers(0, 99))
    def die(self, trainer: int, lane: int) -> None:
        self.leaving.clear()  # what a dead trainer was to write, another trains again
        for each in self.scheduler.lose(trainer):
            place = self.running.pop(each, None)
            if place is not None and place[1] % 2 == lane % 2:
                self.suspects.add(each)
            is_suspect = each in self.suspects
            self.scheduler.add(Waiting(each, self.keys[each], is_suspect=is_suspect))
            self.waiting.add(each)

    @invariant()
    def no_trial_is_lost_and_no_trainer_overfull(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        # Some have a place in a lane whose turn has not come yet.
        assert self.scheduler.num_waiting <= len(self.waiting)
        assert len(self.waiting) + len(self.running) + len(self.ended) == self.num_trials
        lanes = list(self.running.values())
        if self.max_trials is not None:
            assert all(lanes.count(place) <= self.max_trials for place in lanes)

    def teardown(self) -> None:
        """Each waiting trial gets its turn: with trials ending, all end."""
        if not hasattr(self, "scheduler"):
            return
        for _ in range(8 * self.num_trials + 8):
            for trainer in (0, 1, 2):
                self.train(trainer, True, 0)
        assert self.ended == set(range(self.num_trials))
        assert not self.leaving


SchedulerMachine.TestCase.settings = settings(max_examples=60, deadline=None)
TestSchedulerMachine = SchedulerMachine.TestCase
