"""Asks Optuna's samplers for new trials, in memory and through its public interface alone.

For each batch of asks a new in-memory study is made from the trials that are worth learning from:
a trial that was told cannot be reopened, and running trials grow better from epoch to epoch. So
every sampler works as it is. What a sampler sees is not what Optuna's copy in the database shows:
TPE ranks all COMPLETE trials before any PRUNED one, so that 2 % of diverged trials, told as
COMPLETE, made 41 % of its proposals diverge. Here each trial that has an epoch is COMPLETE with
its best score so far, and a diverged one has the lowest score of all.
"""

import heapq
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search_spaces.hparams import Hparams
from search_spaces.parameters import Parameter
from search_spaces.ranges import Range
from search_spaces.space import SearchSpace
from sweeps.config.sampler import SamplerConfig, find_sampler_class
from sweeps.running.seeds import sampler_seed, sequence_seed

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

#: Trials that a sampler learns from. An ask beside 100 / 300 / 1,000 / 3,000 trials takes 6 / 9 /
#: 22 / 65 ms.
MAX_HISTORY = 100
_BEST_OF_HISTORY = 50


@dataclass(frozen=True, slots=True)
class Sampled:
    """What Optuna knows of a trial's hyperparameters, under its own names."""

    params: Mapping[str, Any]
    distributions: Mapping[str, "BaseDistribution"]


@dataclass(frozen=True, slots=True)
class Known:
    """A trial as the sampler sees it."""

    number: int
    sampled: Sampled
    score: float | None
    """Its best score so far; None: it has no epoch yet."""


class Sampling:
    """Draws a study's new trials. For one thread."""

    def __init__(self, config: SamplerConfig, space: SearchSpace, seed: int) -> None:
        self._config = config
        self._space = space
        self._seed = seed
        # What decides the tensors' shapes of the present group, and how many trials it has had.
        self._shape: dict[str, Any] = {}
        self._grouped = 0
        self._sequence: optuna.Study | None = None

    def ask(
        self,
        first: int,
        fixed: Sequence[Mapping[str, Any]],
        known: Sequence[Known],
        *,
        group: int = 1,
        is_quick: bool = False,
    ) -> list[tuple[Hparams, Sampled]]:
        """Return new trials: hyperparameters, and what Optuna calls them.

        A pure function of its arguments, the study's seed and the shape of the present group.

        Args:
            first: Number of the first new trial; the others count on from it.
            fixed: For each new trial, the values that a person fixed of it; mostly empty.
            known: The study's trials, those that have failed left out.
            group: Trials in a row that get the batch size and the model of the first of them, so
                that they can share a lane; 1: each its own.
            is_quick: Draw at random, because there is no time to learn from them.
        """
        with _quiet():
            study = self._make_study(first, known, is_quick=is_quick)
            asked = []
            for values in fixed:
                is_grouped = not values and 0 < self._grouped < group
                pinned = self._shape if is_grouped else values
                hparams = self._space.pin(pinned).suggest(study.ask())
                if not values:
                    self._grouped = self._grouped + 1 if is_grouped else 1
                    self._shape = _find_shape(hparams)
                asked.append((hparams, read_sampled(self._space, hparams)))
            return asked

    def _make_study(self, first: int, known: Sequence[Known], *, is_quick: bool) -> "optuna.Study":
        import optuna

        if self._config.name == "qmc":
            return self._advance_sequence(first)
        if is_quick:
            sampler = make_sampler(SamplerConfig(name="random"), sampler_seed(self._seed, first))
            return optuna.create_study(direction="maximize", sampler=sampler)
        frozen = [_freeze(each) for each in select_history(known)]
        sampler = make_sampler(self._config, sampler_seed(self._seed, first), frozen)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(frozen)
        return study

    def _advance_sequence(self, first: int) -> "optuna.Study":
        """Return the study of a quasi-random sequence that stands at a trial.

        The sampler counts the points that it has given in its study, so this one lives on.
        """
        import optuna

        if self._sequence is None:
            sampler = _make_sequence(self._space, self._seed)
            self._sequence = optuna.create_study(direction="maximize", sampler=sampler)
        for _ in range(first - len(self._sequence.get_trials(deepcopy=False))):
            self._space.suggest(self._sequence.ask())
        return self._sequence


def _find_shape(hparams: Hparams) -> dict[str, Any]:
    """Return what decides a trial's lane, under the names of a sweep file."""
    shape = {"batch_size": hparams.batch_size}
    return shape | {f"model.{name}": value for name, value in hparams.model.items()}


def make_sampler(
    config: SamplerConfig, seed: int, history: Sequence["FrozenTrial"] = ()
) -> "BaseSampler":
    """Return a fresh sampler with a seed.

    Args:
        config: The ``[sampler]`` of the sweep; ``options`` go to the sampler's class.
        seed: 32 bits.
        history: What it will learn from; ``cmaes`` begins where the best of them are, because its
            own state lives in trials that this study does not have.
    """
    from optuna import samplers

    options = dict(config.options)
    startup = config.n_startup_trials
    if config.name in ("random", "grid"):  # a grid's trials are fixed in full
        return samplers.RandomSampler(seed=seed)
    if config.name == "tpe":
        defaults = {"multivariate": True, "group": True, "constant_liar": True}
        settings = {**defaults, "n_startup_trials": startup, **options}
        return samplers.TPESampler(seed=seed, **settings)
    if config.name == "gp":
        # Optuna says at its first use that it would be a little faster with greenlet.
        logging.getLogger("optuna._gp.batched_lbfgsb").setLevel(logging.ERROR)
        settings = {"n_startup_trials": startup, "warn_independent_sampling": False, **options}
        return samplers.GPSampler(seed=seed, **settings)
    if config.name == "cmaes":
        source = _share_numbers([trial for trial in history if trial.state.is_finished()])
        if len(source) < (startup or 1):
            return samplers.RandomSampler(seed=seed)
        settings = {"warn_independent_sampling": False, **options}
        return samplers.CmaEsSampler(seed=seed, source_trials=source, **settings)
    kind = find_sampler_class(config.name)
    seeded = {"seed": seed} if "seed" in inspect.signature(kind).parameters else {}
    sampler: BaseSampler = kind(**seeded, **options)
    return sampler


def read_sampled(space: SearchSpace, hparams: Hparams) -> Sampled:
    """Return a trial's hyperparameters as Optuna would have sampled them from the space.

    A value outside the space's range, which a person may have fixed, widens its distribution; a
    choice that the space does not have is left out, and so is all that the space fixes.
    """
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}
    for parameter, value in space.read(hparams):
        params[parameter.name] = told = parameter.to_optuna(value)
        distributions[parameter.name] = _to_distribution(parameter, told)
    return Sampled(params, distributions)


def select_history(known: Sequence[Known]) -> list[Known]:
    """Return the trials that are worth learning from, by number: at most 100 with a score.

    The 50 with the highest score, and an even selection of the rest; all without a score, which
    run, are kept.
    """
    scored = [each for each in known if each.score is not None]
    if len(scored) <= MAX_HISTORY:
        return list(known)
    best = heapq.nlargest(_BEST_OF_HISTORY, scored, key=lambda each: each.score or 0.0)
    kept = {each.number for each in best}
    others = [each.number for each in scored if each.number not in kept]
    room = MAX_HISTORY - len(kept)
    kept |= {others[i * len(others) // room] for i in range(room)}
    return [each for each in known if each.score is None or each.number in kept]


def _freeze(known: Known) -> "FrozenTrial":
    from optuna.trial import TrialState, create_trial

    return create_trial(
        state=TrialState.RUNNING if known.score is None else TrialState.COMPLETE,
        value=known.score,
        params=dict(known.sampled.params),
        distributions=dict(known.sampled.distributions),
    )


def _share_numbers(trials: Sequence["FrozenTrial"]) -> list["FrozenTrial"]:
    """Return trials with the ranges of numbers that all of them share; none where there is none.

    That is what ``CmaEsSampler`` models, and it takes source trials of exactly these parameters.
    """
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import create_trial

    shared = {
        name: one
        for name, one in (trials[0].distributions if trials else {}).items()
        if not isinstance(one, CategoricalDistribution) and not one.single()
        if all(trial.distributions.get(name) == one for trial in trials)
    }
    return [
        create_trial(
            value=trial.value,
            params={name: trial.params[name] for name in shared},
            distributions=shared,
        )
        for trial in (trials if shared else ())
    ]


def _to_distribution(parameter: Parameter, value: Any = None) -> "BaseDistribution":
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    spec = parameter.spec
    if not isinstance(spec, Range):
        return CategoricalDistribution(spec)
    (low, high), log, step = parameter.ends, parameter.is_log, spec.step
    if value is not None and not low <= value <= high:
        low, high, step = min(low, value), max(high, value), None
        log = log and low > 0.0
    if spec.is_int:
        return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
    return FloatDistribution(low, high, log=log, step=step)


def _make_sequence(space: SearchSpace, seed: int) -> "BaseSampler":
    """Return a scrambled Sobol sequence over all parameters of a space, conditional ones included.

    Optuna's takes the parameters of the first finished trial and samples all others at random,
    and every trial until one has finished. A trial takes the coordinates that it has a use for.
    """
    from optuna.samplers import QMCSampler, RandomSampler

    parameters = sorted(space.parameters, key=lambda each: each.name)
    whole = {each.name: _to_distribution(each) for each in parameters if not each.is_single}

    class WholeSpaceSequence(QMCSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return whole

    return WholeSpaceSequence(
        qmc_type="sobol",
        scramble=True,
        seed=sequence_seed(seed),
        independent_sampler=RandomSampler(seed=sequence_seed(seed)),
        warn_independent_sampling=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna about each study of ours, and about experimental samplers."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
