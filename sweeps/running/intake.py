"""How many trials are in flight, how many are asked for at once, and when none starts any more.

A sampler learns nothing from trials in flight, and wide lanes show their first epochs late, so few
are in flight where a sampler learns or trials are compared.
"""

import math
from collections.abc import Sequence

from search_spaces.ranges import Range
from search_spaces.space import SearchSpace
from sweeps.budget import Budget
from sweeps.config.settings import SweepConfig
from sweeps.running.audit import is_audited
from sweeps.running.rungs import may_start

#: Most trials that a trainer has at once where trials are learned from: 4 to 8 were best on every
#: table of tests/benchmarks/RESULTS.md, "Replays: who goes on". A GPU takes for a step of 128
#: trials 2.6 times what it takes for one, so its lanes may grow wider.
_ON_CPU, _ON_GPU = 8, 64
#: The same where nobody learns from a trial: a lane of more slots is hardly faster a trial.
_MOST = 256
#: Trials that are asked for before the first trains, where an ask takes long.
_FIRST_BATCH = 8


def choose_capacity(config: SweepConfig, devices: Sequence[str]) -> int:
    """Return the most trials that a trainer has at once."""
    if config.slots is not None:
        return config.slots
    learns = config.sampler.name not in ("random", "qmc", "grid") or config.pruner.name != "none"
    if not learns:
        return _MOST
    return _ON_CPU if devices[0] == "cpu" else _ON_GPU


def is_grouped(config: SweepConfig) -> bool:
    """Return whether new trials in a row get one shape, so that they can share a lane.

    The regret at equal seconds was then half of that of shapes drawn one by one (the same
    replays).
    """
    draws_freely = config.sampler.name not in ("grid", "qmc")
    return draws_freely and config.pruner.name == "halving" and count_shapes(config.space) > 1


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
    """

    def __init__(self, config: SweepConfig) -> None:
        self._config = config
        self._budget = Budget(config.trials, config.max_total_epochs)
        # The first train while the next are asked for: twice as many each time.
        self._batch = math.inf if config.sampler.name in ("random", "grid") else _FIRST_BATCH
        # Of those that come to a first rung three in four make room at once.
        self._turnover = 4 / 3 if config.pruner.name == "halving" else 8

    def may_start(self, *, begun: int, spent: int, committed: int) -> bool:
        """Return whether one more trial may start.

        Args:
            begun: Trials that the study has.
            spent: Epochs that they have had.
            committed: Epochs that those in flight may take yet.
        """
        config, pruner = self._config, self._config.pruner
        if self._is_spent(begun=begun, spent=spent):
            return False
        if config.max_total_epochs is None:
            return True
        if pruner.name != "halving":  # nothing pauses: each takes what it needs
            need = spent + committed + config.max_epochs
            return begun == 0 or need <= config.max_total_epochs
        trials = range(begun + 1) if config.audit else ()
        return may_start(
            begun,
            config.max_total_epochs,
            first=pruner.min_epochs,
            factor=pruner.reduction_factor,
            max_epochs=config.max_epochs,
            audited=sum(is_audited(config.seed, n, share=config.audit) for n in trials),
        )

    def _is_spent(self, *, begun: int, spent: int) -> bool:
        return self._budget.is_spent(trials=begun, epochs=spent)

    def count(
        self,
        *,
        begun: int,
        spent: int,
        committed: int,
        capacity: int,
        in_flight: int,
        waiting: int,
        fixed: int = 0,
    ) -> int:
        """Return how many trials to ask for.

        Some at a time, before none waits, because a batch costs little more than one.

        Args:
            begun: Trials that the study has.
            spent: Epochs that they have had.
            committed: Epochs that those in flight may take yet.
            capacity: Trials that may train at once.
            in_flight: Trials that wait or train, ``waiting`` ones included.
            waiting: Trials without a place.
            fixed: Trials that a person has given and that have not begun: they begin as long as
                anything is left of the budget.
        """
        spare = max(1, int(capacity / self._turnover))
        is_filling = in_flight < capacity
        if waiting > (spare if is_filling else spare // 2):
            return 0
        most = capacity + spare - in_flight
        wanted = max(0, min(self._batch if is_filling else spare - waiting, most))
        allowed = 0
        while allowed < wanted:
            now = begun + allowed
            # Each in flight needs an epoch at least.
            is_spent = self._is_spent(begun=now, spent=spent + in_flight + allowed)
            more = committed + allowed * self._config.max_epochs
            if is_spent or (
                allowed >= fixed and not self.may_start(begun=now, spent=spent, committed=more)
            ):
                break
            allowed += 1
        if is_filling and allowed:
            self._batch *= 2
        return allowed
