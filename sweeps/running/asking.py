"""Asks the sampler for new trials: how many are in flight, how many at once, and until when.

A sampler learns nothing from trials in flight, and wide lanes show their first epochs late, so few
are in flight where a sampler learns or trials are compared.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.hparams import MODEL
from search_spaces.ranges import Range
from search_spaces.space import SearchSpace
from sweeps.budget import Budget
from sweeps.config.settings import SweepConfig
from sweeps.running.judge import is_audited
from sweeps.running.run_state import Run
from sweeps.running.rungs import may_start
from sweeps.running.sampling import Sampling
from sweeps.running.scheduler import LEAST
from sweeps.running.trial import new_trial

#: Share of a core that may go into asking a sampler, and seconds that it may take at once; what
#: is wanted beyond that is drawn at random, because epochs are cheaper than to learn from them.
ASKING_SHARE, ASKING_S = 0.1, 0.5
#: Most trials that a trainer has at once where trials are learned from: 4 to 8 were best on every
#: table of tests/benchmarks/RESULTS.md, "Replays: who goes on". A GPU takes for a step of 128
#: trials 2.6 times what it takes for one, so its lanes may grow wider.
_ON_CPU, _ON_GPU = 8, 64
#: The same where nobody learns from a trial: a lane of more slots is hardly faster a trial.
_MOST = 256
#: Trials that are asked for before the first trains, where an ask takes long.
_FIRST_BATCH = 8


def choose_capacity(config: SweepConfig, devices: Sequence[str], *, is_loop: bool = False) -> int:
    """Return the most trials that a trainer has at once."""
    if is_loop:
        return 1
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
    shapes = [name for name in space.specs if name == "batch_size" or name.startswith(MODEL)]
    counts = [
        math.inf if isinstance(spec, Range) else len(spec) if isinstance(spec, tuple) else 1
        for spec in map(space.get, shapes)
    ]
    return math.prod(counts)


class Intake:
    """How many trials the budget allows, and how many to ask for now."""

    def __init__(self, config: SweepConfig) -> None:
        self._config = config
        self._budget = Budget(config.trials, config.max_total_epochs)
        # The first train while the next are asked for: twice as many each time.
        self._batch = math.inf if config.sampler.name in ("random", "grid") else _FIRST_BATCH
        # Of those that come to a first rung three in four make room at once.
        self._turnover = 4 / 3 if config.pruner.name == "halving" else 8
        # By number of trials, how many of them are audited.
        self._num_audited = [0]

    def allows(self, trials: int, *, spent: int, committed: int) -> bool:
        """Return whether the budget has epochs for so many trials; the first one always starts.

        Args:
            trials: Trials of the study, from 1; the last of them has not started.
            spent: Epochs that trials have had.
            committed: Epochs that those in flight may take yet.
        """
        config, pruner = self._config, self._config.pruner
        if self._budget.is_spent(trials=trials - 1, epochs=spent):
            return False
        if config.max_total_epochs is None or trials == 1:
            return True
        if pruner.name != "halving":  # nothing pauses: each takes what it needs
            return spent + committed + config.max_epochs <= config.max_total_epochs
        return may_start(
            trials - 1,
            config.max_total_epochs,
            first=pruner.min_epochs,
            factor=pruner.reduction_factor,
            max_epochs=config.max_epochs,
            audited=self._count_audited(trials),
        )

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
            if self._budget.is_spent(trials=now, epochs=spent + in_flight + allowed):
                break
            more = committed + allowed * self._config.max_epochs
            if allowed >= fixed and not self.allows(now + 1, spent=spent, committed=more):
                break
            allowed += 1
        if is_filling and allowed:
            self._batch *= 2
        return allowed

    def _count_audited(self, trials: int) -> int:
        seed, share, known = self._config.seed, self._config.audit, self._num_audited
        while share and len(known) <= trials:
            known.append(known[-1] + is_audited(seed, len(known) - 1, share=share))
        return known[trials] if share else 0


class Asking:
    """Adds new trials to a run; ``first`` has the values of each that goes before all others."""

    def __init__(self, run: Run, first: Sequence[Mapping[str, Any]]) -> None:
        config = run.config
        self._run = run
        self._first = list(first)
        self._intake = Intake(config)
        self._sampling = Sampling(config.sampler, config.space, config.seed)
        self._is_grid = config.sampler.name == "grid"
        # An own loop reads what its space names; defaults of others would be told as its own.
        names = frozenset(name.partition(".")[0] for name in config.space.specs)
        self._stored = names if run.loaded.is_loop else None
        self._is_grouped = is_grouped(config)
        self._asking_s, self._began = 0.0, time.monotonic()

    @property
    def capacity(self) -> int:
        """Trials that should train at once."""
        return self._run.scheduler.width * len(self._run.loaded.devices)

    @property
    def has_more(self) -> bool:
        """Whether one more trial may start."""
        is_left = not self._is_grid or bool(self._first)
        return is_left and self._allows(len(self._run.trials) + 1)

    @property
    def can_compare_all(self) -> bool:
        """Whether the budget has epochs to halve all trials that have begun.

        It may not where a person has given more of them, as points of a grid.
        """
        return self._allows(max(1, len(self._run.trials)))

    def ask(self) -> bool:
        """Ask for new trials, write them, and let them wait for a place; return whether it did."""
        run = self._run
        count = 0 if run.ending is not None else self._count()
        if count == 0:
            return False
        number = max(run.trials, default=-1) + 1
        fixed, self._first = self._first[:count], self._first[count:]
        fixed += [{}] * (count - len(fixed))
        is_quick = self._asking_s > ASKING_SHARE * (time.monotonic() - self._began) + ASKING_S
        began = time.thread_time()
        width = run.scheduler.width
        # Nothing is learned from when trials are drawn at random.
        known = () if is_quick else [each.as_known(run.lowest) for each in run.trials.values()]
        asked = self._sampling.ask(
            number,
            fixed,
            [each for each in known if each is not None],
            group=width if self._is_grouped and width > LEAST else 1,
            is_quick=is_quick,
        )
        self._asking_s += time.thread_time() - began
        new = [
            new_trial(number + i, run.config.seed, hparams, sampled, stored=self._stored)
            for i, (hparams, sampled) in enumerate(asked)
        ]
        run.writer.begin(new)
        for each in new:
            run.wait(each)
        return True

    def _allows(self, trials: int) -> bool:
        return self._intake.allows(trials, spent=self._run.spent, committed=self._committed)

    @property
    def _committed(self) -> int:
        """Epochs that the trials in flight may take yet."""
        max_epochs = self._run.config.max_epochs
        return sum(max_epochs - each.epochs for each in self._run.unfinished.values())

    def _count(self) -> int:
        """Return how many trials to ask for now."""
        run = self._run
        count = self._intake.count(
            begun=len(run.trials),
            spent=run.spent,
            committed=self._committed,
            capacity=self.capacity,
            in_flight=len(run.unfinished),
            waiting=run.scheduler.num_waiting,
            fixed=len(self._first),
        )
        return min(count, len(self._first)) if self._is_grid else count
