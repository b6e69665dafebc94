"""Samplers by name, and the seeds of a study.

Knows Optuna's samplers; knows neither studies nor trials.
"""

import hashlib
import heapq
import importlib.util
import logging
import warnings
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any, cast

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, TrialState

from search_spaces.space import SearchSpace
from sweeps.config_choices import SamplerConfig
from sweeps.config_errors import ConfigError
from sweeps.parameters import Parameter, list_parameters

if TYPE_CHECKING:
    from optuna.study import Study

#: Finished trials that TPE learns from; see ``select_history``.
MAX_HISTORY = 1000
_BEST_OF_HISTORY = 100

#: What a sampler needs beside Optuna: the extra of its name installs it.
_PACKAGES = {"cmaes": ("cmaes",), "gp": ("scipy", "torch"), "qmc": ("scipy",)}


def require_packages(config: SamplerConfig) -> None:
    """Check that what the sampler needs is installed.

    Raises:
        ConfigError: If it is not; the line names the extra that installs it.
    """
    for package in _PACKAGES.get(config.name, ()):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                [
                    f"sampler {config.name!r} needs the package {package}, which is not "
                    f"installed: pip install 'bestepoch[{config.name}]'"
                ]
            )


def make_sampler(
    config: SamplerConfig, seed: int, *, trial_number: int, space: SearchSpace | None = None
) -> BaseSampler:
    """Return a fresh sampler for one ask, seeded by the study's seed and the trial's number.

    A fresh one an ask, because two workers with one sampler seed ask for identical points. What
    a sampler cannot model it samples at random, ``config_choices.describe_sampler`` says what;
    Optuna's own warnings about it, one a parameter and trial, are off.

    Args:
        config: The ``[sampler]`` of the sweep. A grid's trials are queued with all their
            parameters (``queued.py``), so its sampler has nothing left to sample.
        seed: The study's seed.
        trial_number: Trials that the study has so far; the number that the ask will get.
        space: The search space; ``qmc`` needs it.
    """
    # NumPy's RandomState takes 32 bits.
    sampler_seed = _hash("sampler", seed, trial_number) >> 32
    with warnings.catch_warnings():
        # TPE's ``group`` and QMCSampler are experimental; a person can do nothing about it.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if config.name == "qmc":
            assert space is not None, "qmc is made for a search space"
            return _WholeSpaceQmc(space, seed=_hash("qmc", seed, 0) >> 33, trial_seed=sampler_seed)
        return _make_seeded(config, sampler_seed)


def _make_seeded(config: SamplerConfig, seed: int) -> BaseSampler:
    if config.name in ("random", "grid"):
        return RandomSampler(seed=seed)
    startup = config.n_startup_trials
    assert startup is not None, "SamplerConfig fills the settings of its sampler"
    if config.name == "gp":
        # Optuna says at its first use that it would be a little faster with greenlet.
        logging.getLogger("optuna._gp.batched_lbfgsb").setLevel(logging.ERROR)
        return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
    if config.name == "cmaes":
        return CmaEsSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
    return _BoundedTpe(
        n_startup_trials=startup, multivariate=True, group=True, constant_liar=True, seed=seed
    )


def trial_seed(seed: int, trial_number: int) -> int:
    """Return the seed of a trial's weights and dropout masks: 63 bits, equal on every machine."""
    return _hash("trial", seed, trial_number) >> 1


def audit_draw(seed: int, trial_number: int) -> float:
    """Return the number in [0, 1) that decides whether a trial is audited."""
    return _hash("audit", seed, trial_number) / 2**64


def to_distribution(parameter: Parameter) -> BaseDistribution:
    """Return a parameter as Optuna stores it."""
    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    low, high, log = parameter.low, parameter.high, parameter.log
    if parameter.is_int:
        step = int(parameter.step or 1)
        return IntDistribution(int(low), int(high), log=log, step=step)
    return FloatDistribution(low, high, log=log, step=parameter.step)


class _BoundedTpe(TPESampler):
    """TPE that learns from 1,000 trials at most, so that an ask stays quick in a long study.

    TPE compares the density of the best 25 trials with that of all others. The best stay, and of
    the others an even selection: their density is the same, estimated from fewer points.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._view: _BoundedStudy | None = None

    def infer_relative_search_space(
        self, study: "Study", trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters that are modelled jointly, as TPE does."""
        return super().infer_relative_search_space(self._bounded(study, trial), trial)

    def sample_relative(
        self, study: "Study", trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values for those parameters, as TPE does."""
        return super().sample_relative(self._bounded(study, trial), trial, search_space)

    def sample_independent(
        self,
        study: "Study",
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a value for one parameter, as TPE does."""
        view = self._bounded(study, trial)
        return super().sample_independent(view, trial, param_name, param_distribution)

    def _bounded(self, study: "Study", trial: FrozenTrial) -> "Study":
        # One view an ask: what it has read is read once, and only the next ask sees more.
        if self._view is None or self._view.trial != trial.number:
            self._view = _BoundedStudy(study, trial.number)
        return cast("Study", self._view)


class _BoundedStudy:
    """A study as a sampler sees it in one ask: few of its finished trials."""

    def __init__(self, study: "Study", trial: int) -> None:
        self.trial = trial
        self._study = study
        self._trials: list[FrozenTrial] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool, states: Container[TrialState], use_cache: bool = False
    ) -> list[FrozenTrial]:
        assert not deepcopy, "TPE changes no trial"
        if self._trials is None:
            self._trials = select_history(self._study.get_trials(deepcopy=False))
        return [trial for trial in self._trials if trial.state in states]


def select_history(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that TPE learns from, by number: all, or 1,000 of the finished ones.

    Of these the 100 with the highest value (pruned ones only after all others, as TPE ranks
    them), and an even selection of the rest. All that wait or run are kept.
    """
    finished = [trial for trial in trials if trial.state.is_finished()]
    if len(finished) <= MAX_HISTORY:
        return list(trials)
    complete = {t.number: cast(float, t.value) for t in finished if t.state == TrialState.COMPLETE}
    best = set(heapq.nlargest(_BEST_OF_HISTORY, complete, key=complete.__getitem__))
    others = [trial.number for trial in finished if trial.number not in best]
    room = MAX_HISTORY - len(best)
    kept = best | {others[i * len(others) // room] for i in range(room)}
    kept.update(trial.number for trial in trials if not trial.state.is_finished())
    return [trial for trial in trials if trial.number in kept]


class _WholeSpaceQmc(QMCSampler):
    """A scrambled Sobol sequence over all parameters of a space, conditional ones included.

    Optuna's takes the parameters of the first finished trial and samples all others at random,
    and every trial until one has finished. A trial takes the coordinates that it has a use for.

    The sequence has the study's seed, not the trial's: Optuna counts its points in the study by
    that seed, and with a new one each time every ask would be the first point of a sequence.
    """

    def __init__(self, space: SearchSpace, *, seed: int, trial_seed: int) -> None:
        super().__init__(
            qmc_type="sobol",
            scramble=True,
            seed=seed,
            independent_sampler=RandomSampler(seed=trial_seed),
            warn_independent_sampling=False,
        )
        parameters, _ = list_parameters(space)
        self._whole_space = {
            name: to_distribution(parameters[name])
            for name in sorted(parameters)
            if not parameters[name].is_single
        }

    def infer_relative_search_space(
        self, study: "Study", trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all parameters, in an order that does not depend on what was asked before."""
        return self._whole_space


def _hash(use: str, seed: int, trial_number: int) -> int:
    # Not hash(): Python salts that of a text, by process.
    text = f"{use}:{seed}:{trial_number}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
