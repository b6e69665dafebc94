"""Draws the hyperparameters of several new trials in memory, for samplers that write nothing.

Optuna's ``ask`` reads all trials that run and writes each parameter by itself: 27 ms a trial
beside 250 others (SQLite). Here the study is read once, trials drawn before count as running, and
what is drawn is for the caller to write at once. Values are those of ``ask``, which a test holds.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from search_spaces.hparams import Hparams
from search_spaces.space import SearchSpace
from sweeps.parameters import Parameter, Probe
from sweeps.samplers import select_history, to_distribution

if TYPE_CHECKING:
    from optuna.study import Study

#: Samplers that neither read nor write more than trials.
IN_MEMORY = ("random", "tpe")


def draw_trials(
    study: "Study",
    space: SearchSpace,
    trials: Sequence[FrozenTrial],
    *,
    numbers: Sequence[int],
    make_sampler: Callable[[int], BaseSampler],
) -> list[tuple[FrozenTrial, Hparams]]:
    """Return new trials of a study, not written anywhere, and what each is trained with.

    Args:
        study: The study, for its directions.
        space: What is drawn from.
        trials: All trials that the study has.
        numbers: The numbers that the new ones will get.
        make_sampler: Returns the sampler for a trial's number.
    """
    view = _StudyInMemory(study, select_history(trials))
    drawn: list[tuple[FrozenTrial, Hparams]] = []
    for number in numbers:
        trial = _empty_trial(number)
        hparams = space.suggest(Probe(_sample_with(make_sampler(number), view, trial)))
        view.trials.append(trial)
        drawn.append((trial, hparams))
    return drawn


class _StudyInMemory:
    """A study as a sampler sees it: with the trials that are given, all else its own."""

    def __init__(self, study: "Study", trials: list[FrozenTrial]) -> None:
        self._study = study
        self._storage = self
        self.trials = trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, deepcopy: bool = True) -> list[FrozenTrial]:
        """Return the trials that were given, and those drawn since."""
        assert not deepcopy, "a sampler changes no trial"
        return list(self.trials)

    def set_trial_system_attr(self, trial_id: int, key: str, value: object) -> None:
        """Drop what TPE would tell others of a trial whose parameters are not written yet."""


def _sample_with(
    sampler: BaseSampler, view: _StudyInMemory, trial: FrozenTrial
) -> Callable[[Parameter], Any]:
    """Return what answers for a trial as ``optuna.Trial`` does, and writes it down in it."""
    study = cast("Study", view)
    sampler.before_trial(study, trial)
    joint = sampler.infer_relative_search_space(study, trial)
    values = sampler.sample_relative(study, trial, joint)

    def answer(parameter: Parameter) -> Any:
        name, distribution = parameter.name, to_distribution(parameter)
        if name in trial.params:
            return trial.params[name]
        if parameter.is_single:
            value = parameter.choices[0] if parameter.choices else parameter.low
        elif name in values and distribution._contains(
            distribution.to_internal_repr(values[name])
        ):
            value = values[name]
        else:
            value = sampler.sample_independent(study, trial, name, distribution)
        trial.distributions[name] = distribution
        trial.params[name] = value
        return value

    return answer


def _empty_trial(number: int) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime.now(),
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        # Not yet written, so there is none; a sampler that asked for it would find no trial.
        trial_id=-1,
    )
