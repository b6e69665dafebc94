"""Replays a sweep of the fused engine over a table of curves: trainers, lanes, slots, seconds.

Two trainers of one core each. Each has lanes, one per shape, that train in turn; at the end of a
lane epoch its trials are judged together, then free slots are filled. A lane epoch of S slots
takes a + b * S seconds of one core; asks, row copies and the round trip come on top.
"""

from dataclasses import dataclass, field
from typing import Protocol

from replay_tables import Table

#: Seconds of one core to pause or promote a trial.
COPY_S = 0.001
#: From a lane epoch to the next, and more for each slot; ``bench_round_trip.py``.
ROUND_TRIP_S, ROUND_TRIP_SLOT_S = 0.004, 0.00004
#: Seconds until a trainer that has nothing to do looks again.
IDLE_S = 0.02


@dataclass(slots=True)
class Run:
    """How far a replayed sweep has come.

    Attributes:
        max_epochs: Of all trials together; None: no limit.
        max_s: Wall-clock seconds; None: no limit.
        started: Trials.
        seconds: Now.
        epochs: Trained, of all trials together.
        ages: Epochs of each trial that has started.
        training: The trials that have a place.
        bests: The best score so far of each trial that has started, -inf before the first.
        answers: (seconds, epochs, score) whenever the best score of all has risen.
    """

    max_epochs: int | None
    max_s: float | None
    started: int = 0
    seconds: float = 0.0
    epochs: int = 0
    ages: dict[int, int] = field(default_factory=dict)
    training: set[int] = field(default_factory=set)
    bests: dict[int, float] = field(default_factory=dict)
    answers: list[tuple[float, int, float]] = field(default_factory=list)

    def best_after(self, *, seconds: float = float("inf")) -> float:
        """Return the score that a person would have by then; -inf: none yet."""
        return next((s for at, _, s in reversed(self.answers) if at <= seconds), float("-inf"))


class Rule(Protocol):
    """Who goes on."""

    def judge(self, ages: dict[int, int]) -> tuple[list[int], list[int]]:
        """Return the trials that end and those that pause; ages are their epochs."""

    def resume(self, run: Run) -> int | None:
        """Return a paused trial that is to go on now, rather than a new one."""

    def may_start(self, run: Run) -> bool:
        """Return whether a new trial may start."""

    def finish(self, run: Run) -> int | None:
        """Return a paused trial that is to go on where no new one may start."""


class Draw(Protocol):
    """Proposes new trials."""

    def __call__(self, run: Run, shape: int | None) -> tuple[int, float] | None:
        """Return a new trial, of a shape if one is given, and what the ask cost in seconds."""


@dataclass(slots=True)
class _Trainer:
    lanes: dict[int, list[int]] = field(default_factory=dict)  # by shape
    last_turn: dict[int, int] = field(default_factory=dict)
    busy: int | None = None  # the shape of the lane that trains
    free_at: float = 0.0
    shape: int | None = None  # of the next new trials
    siblings: int = 0  # new trials that are still to have it


def replay(
    table: Table,
    draw: Draw,
    rule: Rule,
    *,
    slots: int,
    siblings: int = 1,
    max_epochs: int | None = None,
    max_s: float | None = None,
) -> Run:
    """Replay a sweep to its end.

    Args:
        table: The curves.
        draw: Proposes new trials.
        rule: Who goes on.
        slots: Most trials that a trainer has at once.
        siblings: So many new trials of a trainer in a row have one shape.
        max_epochs: Budget in epochs.
        max_s: Budget in seconds.
    """
    run = Run(max_epochs, max_s)
    trainers = [_Trainer(), _Trainer()]
    for turn in range(1_000_000):
        trainer = min(trainers, key=lambda each: each.free_at)
        run.seconds = trainer.free_at
        if max_s is not None and (run.seconds > max_s or run.best_after() >= table.best):
            break
        busy_s = _end_epoch(table, rule, run, trainer)
        if max_epochs is not None and run.epochs >= max_epochs:
            break
        busy_s += _fill(table, draw, rule, run, trainer, slots, siblings)
        shapes = [shape for shape, lane in trainer.lanes.items() if lane]
        if shapes:
            shape = min(shapes, key=lambda each: trainer.last_turn.get(each, -1))
            trainer.last_turn[shape], trainer.busy = turn, shape
            a, b = table.costs[shape]
            trainer.free_at += busy_s + ROUND_TRIP_S + a
            trainer.free_at += (ROUND_TRIP_SLOT_S + b) * len(trainer.lanes[shape])
        elif run.training:
            trainer.free_at += IDLE_S
        else:
            break
    return run


def _end_epoch(table: Table, rule: Rule, run: Run, trainer: _Trainer) -> float:
    """Judge the trials of the lane that has trained; return the seconds that takes."""
    if trainer.busy is None:
        return 0.0
    lane, trainer.busy = trainer.lanes[trainer.busy], None
    run.epochs += len(lane)
    for trial in lane:
        best = run.bests[trial] = table.bests[trial][run.ages[trial]]
        run.ages[trial] += 1
        if best > run.best_after():
            run.answers.append((run.seconds, run.epochs, best))
    ended, paused = rule.judge({trial: run.ages[trial] for trial in lane})
    for trial in [*ended, *paused]:
        lane.remove(trial)
        run.training.remove(trial)
    return COPY_S * len(paused)


def _fill(
    table: Table,
    draw: Draw,
    rule: Rule,
    run: Run,
    trainer: _Trainer,
    slots: int,
    siblings: int,
) -> float:
    """Fill the free slots of a trainer; return the seconds that takes."""
    took = 0.0
    for _ in range(slots - sum(map(len, trainer.lanes.values()))):
        trial, cost = rule.resume(run), COPY_S
        if trial is None and rule.may_start(run):
            asked = draw(run, trainer.shape) if trainer.siblings else None
            if asked is None:
                asked, trainer.siblings = draw(run, None), siblings
            if asked is not None:
                trial, cost = asked
                trainer.shape = int(table.shapes[trial])
                trainer.siblings -= 1
                run.started += 1
                run.ages[trial], run.bests[trial] = 0, float("-inf")
        if trial is None:
            trial = rule.finish(run)
        if trial is None:
            break
        took += cost
        run.training.add(trial)
        trainer.lanes.setdefault(int(table.shapes[trial]), []).append(trial)
    return took
