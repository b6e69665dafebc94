"""How many trials are in flight, and how many are asked for at once.

A sampler learns nothing from trials in flight, and a pruner has nothing to compare with, so few
are in flight where one of the two learns; more where all trials can share a lane.
"""

import math

from search_spaces.ranges import Range
from search_spaces.space import SearchSpace
from sweeps.config import SweepConfig

#: Of 64 trials of tabular-mlp 4 to 64 at once end within a standard error of each other, many
#: sooner; of 24 trials of relation-cnn, which more slots hardly speed up, 12 at once take longer
#: than 8, for fewer are pruned (tests/benchmarks/RESULTS.md).
_MIN_IN_FLIGHT = 8
_IN_FLIGHT_SHARE = 3
#: A lane of more slots is hardly faster a trial, and as a whole slower to show its first epoch.
_MOST_IN_FLIGHT = 512
#: With many shapes few trials share a lane, and each that trains beside others delays them all.
#: 400 trials of 18 shapes, 60 s, 2 trainers: 0.957 with 16 to 32 in flight, 0.888 with 133.
_MIXED_A_TRAINER = 16
#: Trials for each trainer that are asked for before the first trains, where an ask takes long.
_FIRST_BATCH = 16


def choose_capacity(config: SweepConfig, num_trainers: int) -> int:
    """Return how many trials of a study may train at once, over all trainers."""
    learns = config.sampler.name not in ("random", "qmc", "grid") or config.pruner.name != "none"
    most = max(config.trials // _IN_FLIGHT_SHARE, _MIN_IN_FLIGHT)
    if not learns:
        most = max(_MIN_IN_FLIGHT, min(config.trials, _MOST_IN_FLIGHT))
    if count_shapes(config.space) > 1:
        most = min(most, _MIXED_A_TRAINER * num_trainers)
    return max(most, num_trainers)


def count_shapes(space: SearchSpace) -> float:
    """Return how many shapes of lanes a space has: batch sizes times models; inf for a range."""
    specs = [space.batch_size, *space.model.values()]
    counts = [
        math.inf if isinstance(spec, Range) else len(spec) if isinstance(spec, tuple) else 1
        for spec in specs
    ]
    return math.prod(counts)


class Intake:
    """Says how many trials to ask for now.

    Args:
        config: The sweep's settings.
        capacity: Trials that may train at once.
        num_trainers: Trainers among which they are shared.
    """

    def __init__(self, config: SweepConfig, capacity: int, num_trainers: int) -> None:
        self._target = config.trials
        self._capacity = capacity
        self._spare = max(1, capacity // 8)
        is_quick = config.sampler.name in ("random", "grid")
        self._batch = capacity if is_quick else min(_FIRST_BATCH * num_trainers, capacity)

    def count(self, *, begun: int, in_flight: int, waiting: int) -> int:
        """Return how many trials to ask for.

        At first twice as many each time, since the first train while the next are asked for; then
        some at a time, before none waits, because a batch costs little more than one.

        Args:
            begun: Trials that the study has.
            in_flight: Trials of these that have not ended, ``waiting`` ones included.
            waiting: Trials without a place.
        """
        is_filling = in_flight < self._capacity
        if waiting > (self._spare if is_filling else self._spare // 2):
            return 0
        most = self._capacity + self._spare - in_flight
        wanted = min(self._batch if is_filling else self._spare - waiting, most)
        wanted = max(0, min(wanted, self._target - begun))
        if is_filling and wanted:
            self._batch *= 2
        return wanted
