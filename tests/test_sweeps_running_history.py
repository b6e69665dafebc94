"""What samplers are told of earlier trials: which of them, and what Optuna had sampled."""

import math

import optuna
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import MIXED, PLAIN

import sweeps
from search_spaces.space import SearchSpace, parse_space
from sweeps.running.sampling import MAX_HISTORY, Known, Sampled, read_sampled, select_history

SPACES = [
    parse_space(PLAIN),
    parse_space(MIXED),
    *(sweeps.load_config(name).space for name in ("relation-cnn", "tabular-mlp", "sequence-rnn")),
    parse_space(
        {
            "optimizer": ["adamw", "nadam", "adadelta", "armijo", "sgd"],
            "learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
            "beta2": {"low": 0.9, "high": 0.9999},
            "weight_decay": {"low": 1e-6, "high": 1e-1, "log": True},
            "dropout": {"low": 0.0, "high": 0.5},
            "batch_size": 32,
            "model": {"hidden_width": {"low": 16, "high": 64, "step": 16}, "hidden_depth": [1, 2]},
        }
    ),
]


@given(space=st.sampled_from(SPACES), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_what_was_sampled_is_read_back_from_the_hyperparameters(
    space: SearchSpace, seed: int
) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    hparams = space.suggest(study.ask())
    drawn = study.trials[0]
    read = read_sampled(space, hparams)
    assert read.distributions == drawn.distributions
    assert list(read.params) == list(drawn.params)
    for name, value in drawn.params.items():
        is_equal = read.params[name] == value
        # 1 - beta comes back within the last digits.
        assert is_equal or math.isclose(read.params[name], value, rel_tol=1e-11), name


def test_history_keeps_the_best_an_even_selection_and_all_that_run() -> None:
    sampled = Sampled({}, {})
    scores = [number * 7919 % 10007 / 10007 for number in range(MAX_HISTORY + 503)]
    known = [Known(number, sampled, each) for number, each in enumerate(scores)]
    known.insert(401, Known(9999, sampled, None))
    kept = select_history(known)
    numbers = [each.number for each in kept if each.score is not None]
    assert kept == [each for each in known if each in kept]
    assert (len(numbers), len(kept)) == (MAX_HISTORY, MAX_HISTORY + 1)
    best = sorted(range(len(scores)), key=lambda number: scores[number])[-50:]
    assert set(best) < set(numbers)
    fifths = [number * 5 // len(scores) for number in set(numbers) - set(best)]
    assert {fifths.count(fifth) for fifth in range(5)} <= set(range(9, 12))


def test_short_history_is_kept_whole() -> None:
    known = [Known(number, Sampled({}, {}), 0.5) for number in range(MAX_HISTORY)]
    assert select_history(known) == known
