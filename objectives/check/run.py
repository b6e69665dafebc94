"""Checks a loop: runs it for a few epochs while it is watched."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from objectives.api import EpochReport
from objectives.check.findings import CheckResult
from objectives.check.rules import judge
from objectives.check.watch import LoopWatch
from objectives.loops.trial import Order, OwnTrial
from objectives.metric_names import DEFAULT_METRIC
from objectives.places import find_line

#: Epochs that are watched: what is wrong in the second shows that the first was an accident.
EPOCHS = 2


class CheckEnded(BaseException):
    """Ends the loop: its check has taken long enough."""


def check_loop(
    objective: Callable[[Any], object],
    params: Mapping[str, Any],
    *,
    metric: str = DEFAULT_METRIC,
    class_names: Sequence[str] = (),
    device: str = "cpu",
    max_epochs: int = 40,
    limit_s: float = 60.0,
) -> CheckResult:
    """Return what is wrong with a loop.

    Args:
        objective: The loop.
        params: Hyperparameters of the trial that it is run for.
        metric: The score of what the loop records.
        class_names: Names of the classes by index.
        device: Where it trains.
        max_epochs: What the loop is told as ``trial.max_epochs``.
        limit_s: Seconds after which the check ends with what it has seen.
    """
    deadline = time.monotonic() + limit_s

    def on_step() -> None:
        if time.monotonic() > deadline:
            raise CheckEnded

    watch = LoopWatch(on_step)
    trial = OwnTrial(
        params,
        _Follower(watch),
        device=device,
        max_epochs=max_epochs,
        metric=metric,
        class_names=class_names,
    )
    try:
        with watch:
            objective(trial)
            trial.end()
    except CheckEnded:
        pass
    except (Exception, SystemExit) as error:
        first = str(error).strip().splitlines()
        text = f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
        watch.seen.error = (text, find_line(error))
    return judge(watch.seen)


class _Follower:
    """Tells a watch of each epoch, and ends the loop after a few."""

    def __init__(self, watch: LoopWatch) -> None:
        self._watch = watch

    def take(self, trial: OwnTrial, report: EpochReport) -> Order:
        """Take in an epoch."""
        self._watch.end_epoch(trial.targets, trial.predictions)
        return Order.GO_ON if report.epoch < EPOCHS else Order.STOP
