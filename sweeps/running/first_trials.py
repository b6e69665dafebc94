"""Trials that go first: those that a person named, another study's best, the points of a grid.

Which of them the study has already is read off its trials, so nothing is queued anywhere.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from search_spaces.hparams import Hparams, flatten
from storage import queries
from storage.database import StorageError
from sweeps.config.errors import ConfigError
from sweeps.config.named_trials import drop_foreign_values
from sweeps.config.settings import SweepConfig

#: Configurations that a warm start takes.
NUM_WARM_START = 5


def list_first_trials(config: SweepConfig, existing: Iterable[Hparams]) -> list[dict[str, Any]]:
    """Return the values of each trial that goes before all others and does not exist yet."""
    wanted = [dict(values) for values in config.tries]
    if config.sampler.name == "grid":
        wanted += config.space.list_grid(config.sampler.points)
    known = [one.to_values() for one in existing]
    return [values for values in wanted if not any(values.items() <= one.items() for one in known)]


def read_warm_start(config: SweepConfig, url: str) -> list[tuple[dict[str, Any], list[str], int]]:
    """Return the best configurations of the study of ``warm_start``, the best first.

    By the score at the best epoch; of equal configurations the first. Their scores are left
    behind: other data, other epochs or another seed may have made them. Does not write.

    Returns:
        For each: its values that this space can take, the names of those that it cannot, and its
        number in the other study.

    Raises:
        ConfigError: If there is no such study, or if it has no score yet.
    """
    assert config.warm_start is not None
    try:
        frame = queries.results(url, config.warm_start)
    except StorageError as error:
        raise ConfigError([f"warm_start: {error}"]) from None
    best: list[tuple[dict[str, Any], list[str], int]] = []
    for number in frame.loc[frame["rank"].notna(), "trial"]:
        params = queries.trial(url, config.warm_start, int(number))["params"]
        values, dropped = drop_foreign_values(flatten(params), config.space)
        if values and values not in [one for one, _, _ in best]:
            best.append((values, dropped, int(number)))
        if len(best) == NUM_WARM_START:
            break
    if not best:
        raise ConfigError([f"warm_start: no trial of study {config.warm_start!r} has a score"])
    return best


def describe_warm_start(config: SweepConfig, url: str) -> str:
    """Return one line for people: which trials are trained again, and what of them is dropped."""
    best = read_warm_start(config, url)
    numbers = ", ".join(str(number) for _, _, number in best)
    names = dict.fromkeys(name for _, dropped, _ in best for name in dropped)
    text = f"trials {numbers} of {config.warm_start} are trained here first"
    return f"{text}; not taken by this space and left out: {', '.join(names)}" if names else text


def add_warm_start(tries: Sequence[dict[str, Any]], more: Sequence[dict[str, Any]]) -> list[Any]:
    """Return the named trials and those of a warm start, each once."""
    return [*tries, *(values for values in more if values not in tries)]
