"""Asks the sampler for new trials, as far as the budget allows them and trainers want them."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.running.intake import Intake, is_grouped
from sweeps.running.run_state import Run
from sweeps.running.sampling import Sampling
from sweeps.running.scheduler import LEAST
from sweeps.running.trial import new_trial

#: Share of a core that may go into asking a sampler, and seconds that it may take at once; what
#: is wanted beyond that is drawn at random, because epochs are cheaper than to learn from them.
ASKING_SHARE, ASKING_S = 0.1, 0.5


class Asking:
    """Adds new trials to a run.

    Args:
        run: The run.
        first: Values of each trial that goes before all others that are asked for.
    """

    def __init__(self, run: Run, first: Sequence[Mapping[str, Any]]) -> None:
        config = run.config
        self._run = run
        self._first = list(first)
        self._intake = Intake(config)
        self._sampling = Sampling(config.sampler, config.space, config.seed)
        self._is_grid = config.sampler.name == "grid"
        self._is_grouped = is_grouped(config)
        self._asking_s, self._began = 0.0, time.monotonic()

    @property
    def capacity(self) -> int:
        """Trials that should train at once."""
        return self._run.scheduler.width * len(self._run.loaded.devices)

    def may_ask(self) -> bool:
        """Return whether one more trial may start."""
        is_left = not self._is_grid or bool(self._first)
        return is_left and self._intake.may_start(
            begun=len(self._run.trials), spent=self._run.spent, committed=self._committed
        )

    def may_compare_all(self) -> bool:
        """Return whether the budget has epochs to halve all trials that have begun.

        It may not where a person has given more of them, as points of a grid.
        """
        begun = max(len(self._run.trials) - 1, 0)
        return self._intake.may_start(
            begun=begun, spent=self._run.spent, committed=self._committed
        )

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
            new_trial(number + i, run.config.seed, hparams, sampled)
            for i, (hparams, sampled) in enumerate(asked)
        ]
        run.book.begin(new)
        for each in new:
            run.trials[each.number] = each
            run.wait(each)
        return True

    @property
    def _committed(self) -> int:
        """Epochs that the trials in flight may take yet."""
        run = self._run
        return sum(run.config.max_epochs - each.epochs for each in run.list_unfinished())

    def _count(self) -> int:
        """Return how many trials to ask for now."""
        run = self._run
        count = self._intake.count(
            begun=len(run.trials),
            spent=run.spent,
            committed=self._committed,
            capacity=self.capacity,
            in_flight=len(run.list_unfinished()),
            waiting=run.scheduler.num_waiting,
            fixed=len(self._first),
        )
        return min(count, len(self._first)) if self._is_grid else count
