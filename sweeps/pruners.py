"""Pruners that Optuna's own cannot be asked for through running bests alone: successive halving.

Knows curves of numbers; Optuna is imported when the first trial is compared.
"""

import binascii
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.study import Study


@dataclass(frozen=True, slots=True)
class HalvingPruner:
    """Optuna's ``SuccessiveHalvingPruner`` on running bests, alone or in Hyperband's brackets.

    Trials are compared at the epochs ``min_epochs * reduction_factor ** k`` and at no other; at
    each the best ``1 / reduction_factor`` go on. Optuna's keeps what each trial had there as an
    attribute of the trial in the study that it is given. Here a study is made for each question,
    from the curves, so that a trial that is taken up again, or that another worker trained, is
    compared as if it had been here all the time.

    Attributes:
        name: ``asha`` or ``hyperband``.
        min_epochs: The first epoch at which trials are compared, in Hyperband's first bracket.
        reduction_factor: One trial in so many goes on.
    """

    name: str
    min_epochs: int
    reduction_factor: int

    def is_behind(
        self, bests: Sequence[float], others: Iterable[Sequence[float]], *, max_epochs: int
    ) -> bool:
        """Return whether the trial is to end at its last epoch.

        Args:
            bests: Running best per epoch of the trial; epoch 1 first, the last one no NaN.
            others: The same of those that it is compared with; of a pruned one to its end.
            max_epochs: The last epoch that a trial can have; it decides the number of brackets.
        """
        from optuna.pruners import SuccessiveHalvingPruner
        from optuna.trial import TrialState, create_trial

        bracket = self._find_bracket(bests, max_epochs)
        rungs = self._list_rungs(bracket, max_epochs)
        epoch = len(bests)
        if epoch not in rungs:
            return False
        study = make_scratch_study()
        for other in others:
            if self._find_bracket(other, max_epochs) == bracket:
                reached = _list_attributes(other, rungs)
                study.add_trial(create_trial(value=other[-1], system_attrs=reached))
        # The pruner writes to the trial's place in the study, so that it must have one.
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                intermediate_values={epoch: bests[-1]},
                system_attrs=_list_attributes(bests[:-1], rungs),
            )
        )
        pruner = SuccessiveHalvingPruner(
            min_resource=self.min_epochs,
            reduction_factor=self.reduction_factor,
            min_early_stopping_rate=bracket,
        )
        return bool(pruner.prune(study, study.get_trials(deepcopy=False)[-1]))

    def _list_rungs(self, bracket: int, max_epochs: int) -> list[int]:
        rungs = [self.min_epochs * self.reduction_factor**bracket]
        while rungs[-1] * self.reduction_factor <= max_epochs:
            rungs.append(rungs[-1] * self.reduction_factor)
        return rungs

    def _find_bracket(self, bests: Sequence[float], max_epochs: int) -> int:
        """Return the trial's bracket; the first one gets the most trials, as in Optuna.

        Optuna takes the checksum of the study's name and the trial's number. The first score
        says as well which trial it is, on each worker and in each attempt.
        """
        if self.name != "hyperband" or max_epochs < self.min_epochs:
            return 0
        factor, num_brackets = self.reduction_factor, 1
        while self.min_epochs * factor**num_brackets <= max_epochs:
            num_brackets += 1
        budgets = [
            math.ceil(num_brackets * factor**power / (power + 1))
            for power in reversed(range(num_brackets))
        ]
        place = binascii.crc32(repr(float(bests[0])).encode()) % sum(budgets)
        for bracket, budget in enumerate(budgets):
            place -= budget
            if place < 0:
                return bracket
        raise AssertionError("a checksum beyond all brackets")


def make_scratch_study() -> "Study":
    """Return a new study in memory, without Optuna's line about it on stderr."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)


def _list_attributes(bests: Sequence[float], rungs: Sequence[int]) -> dict[str, float]:
    """Return what ``SuccessiveHalvingPruner`` has written of a trial, by its names."""
    return {
        f"completed_rung_{number}": bests[epoch - 1]
        for number, epoch in enumerate(rungs)
        if epoch <= len(bests) and not math.isnan(bests[epoch - 1])
    }
