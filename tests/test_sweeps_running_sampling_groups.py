"""Trials in a row that share a shape, and asks for which there is no time to learn."""

from typing import Any

import pytest

from search_spaces.hparams import Hparams
from search_spaces.space import parse_space
from sweeps.config.sampler import SamplerConfig
from sweeps.running.sampling import Known, Sampled, Sampling

SPACE: dict[str, Any] = {
    "optimizer": ["adam", "sgd"],
    "learning_rate": {"low": 1e-4, "high": 1.0, "log": True},
    "dropout": {"low": 0.0, "high": 0.5},
    "batch_size": [50, 100],
}
Drawn = list[tuple[Hparams, Sampled]]


def sampling(name: str, space: dict[str, Any] = SPACE, seed: int = 3) -> Sampling:
    startup = {"n_startup_trials": 5} if name in ("tpe", "gp", "cmaes") else {}
    config = SamplerConfig.model_validate({"name": name, **startup})
    return Sampling(config, parse_space(space), seed)


def list_known(count: int, seed: int = 11) -> list[Known]:
    """Return random trials whose score rises with their rate."""
    drawn = sampling("random", seed=seed).ask(0, [{}] * count, [])
    return [Known(i, sampled, hp.learning_rate) for i, (hp, sampled) in enumerate(drawn)]


def rates(drawn: Drawn) -> list[float]:
    return [hparams.learning_rate for hparams, _ in drawn]


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes"])
def test_trials_of_a_group_have_the_shape_of_its_first_and_differ_in_the_rest(name: str) -> None:
    space = {**SPACE, "batch_size": [50, 100, 200], "model": {"width": [16, 32, 64], "depth": 2}}
    grouped = sampling(name, space)
    # Asked for in batches that cut groups apart.
    batches = [grouped.ask(first, [{}] * 4, [], group=5) for first in range(0, 60, 4)]
    drawn = [each for batch in batches for each in batch]
    shapes = [(hparams.batch_size, hparams.model["width"]) for hparams, _ in drawn]
    groups = [shapes[first : first + 5] for first in range(0, 60, 5)]
    assert all(len(set(group)) == 1 for group in groups)
    assert len({group[0] for group in groups}) > 4
    assert len(set(rates(drawn))) == 60
    assert len({hparams.optimizer for hparams, _ in drawn[:5]}) > 1
    # The sampler learns of the shape as though it had drawn it.
    assert all(sampled.params["batch_size"] == hp.batch_size for hp, sampled in drawn)


def test_group_that_becomes_larger_goes_on_and_smaller_ends() -> None:
    space = {**SPACE, "batch_size": list(range(10, 1000))}
    grouped, sizes = sampling("random", space), []
    for number, group in enumerate([2, 4, 4, 4, 3, 3, 1, 1]):
        ((hparams, _),) = grouped.ask(number, [{}], [], group=group)
        sizes.append(hparams.batch_size)
    assert [sizes.index(size) for size in sizes] == [0, 0, 0, 0, 4, 4, 6, 7]


def test_named_trial_keeps_what_it_names_and_belongs_to_no_group() -> None:
    space = {**SPACE, "batch_size": list(range(10, 1000))}
    fixed: list[dict[str, Any]] = [{"batch_size": 5}, {}, {"learning_rate": 3.7}, {}, {}]
    drawn = sampling("random", space).ask(0, fixed, [], group=3)
    sizes = [hparams.batch_size for hparams, _ in drawn]
    assert (sizes[0], drawn[2][0].learning_rate) == (5, 3.7)
    assert sizes[1] == sizes[3] == sizes[4] != sizes[2]


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes"])
def test_quick_ask_is_random_whatever_is_known(name: str) -> None:
    asked = [
        rates(sampling(name).ask(29, [{}] * 7, known, is_quick=True))
        for known in (list_known(29), list_known(29, seed=5), [])
    ]
    assert asked[0] == asked[1] == asked[2] == rates(sampling("random").ask(29, [{}] * 7, []))


def test_quick_ask_takes_a_quasi_random_sequence_no_point() -> None:
    sequence = sampling("qmc")
    drawn = sequence.ask(0, [{}] * 8, [])
    drawn += sequence.ask(8, [{}] * 8, [], is_quick=True)
    assert drawn == sampling("qmc").ask(0, [{}] * 16, [])
