"""Samplers by name, and the seeds of a study.

Knows Optuna's samplers; knows neither studies nor trials.
"""

import hashlib
import warnings

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from sweeps.config import SamplerConfig


def make_sampler(config: SamplerConfig, seed: int, *, trial_number: int) -> BaseSampler:
    """Return a fresh sampler for one ask, seeded by the study's seed and the trial's number.

    A fresh one an ask, because two workers with one sampler seed ask for identical points.

    Args:
        config: The ``[sampler]`` of the sweep.
        seed: The study's seed.
        trial_number: Trials that the study has so far; the number that the ask will get.
    """
    # NumPy's RandomState takes 32 bits.
    sampler_seed = _hash("sampler", seed, trial_number) >> 32
    if config.name == "random":
        return RandomSampler(seed=sampler_seed)
    with warnings.catch_warnings():
        # ``group`` has been experimental since Optuna 2.8; a person can do nothing about it.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(
            n_startup_trials=config.n_startup_trials,
            multivariate=True,
            group=True,
            constant_liar=True,
            seed=sampler_seed,
        )


def trial_seed(seed: int, trial_number: int) -> int:
    """Return the seed of a trial's weights and dropout masks: 63 bits, equal on every machine."""
    return _hash("trial", seed, trial_number) >> 1


def _hash(use: str, seed: int, trial_number: int) -> int:
    # Not hash(): Python salts that of a text, by process.
    text = f"{use}:{seed}:{trial_number}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
