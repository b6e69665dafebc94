"""Numbers, names and times as people read them."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sweeps.read import words

NAN = float("nan")


@pytest.mark.parametrize("missing", [None, NAN, np.nan, pd.NA, pd.NaT])
def test_what_is_missing_is_a_dash(missing: Any) -> None:
    for write in (words.score, words.whole, words.number, words.setting, words.signed):
        assert write(missing) == "-"
    assert words.duration(NAN) == words.moment(None) == words.moment(pd.NaT) == "-"
    assert not any(map(words.is_missing, (0, 0.0, "", False, np.float64(0.5))))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.99876, "0.9988"),  # two digits of its distance to 1
        (0.99995, "0.99995"),  # three digits would say 1
        (0.9, "0.9"),
        (0.00123456, "0.00123"),
        (12345.6, "12,346"),
        (999.7, "1,000"),
        (1e12, "1e+12"),
        (50, "50"),
        (1000, "1000"),  # as it is typed
        (True, "yes"),
        ("adam\x1b[1m", "adam [1m"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_settings_are_short_and_cannot_steer_a_terminal(value: object, expected: str) -> None:
    assert words.setting(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (812.0, "13 min 32 s"),
        (7_500.0, "2 h 5 min"),
        (200_000.0, "2 d 7 h"),
    ],
)
def test_durations_are_two_units(seconds: float, expected: str) -> None:
    assert words.duration(seconds) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip_norm", "gradient clipping"),
        ("beta1", "beta 1"),
        ("model.hidden_width", "hidden width"),
        ("model.dropout", "model dropout"),
    ],
)
def test_labels_are_names_of_people(name: str, expected: str) -> None:
    assert words.label(name) == expected


def test_configuration_is_said_in_words() -> None:
    values = {
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "batch_size": 50,
        "clip_norm": words.NO_CLIPPING,
        "nesterov": True,
        "model.{odd}": 1_000_000.0,
    }
    said = "sgd, learning rate 0.5, batches of 50, no clipping, nesterov, {odd} 1,000,000"
    assert words.configuration(values) == said
    assert (
        words.configuration({"clip_norm": 5.0, "nesterov": False}) == "clipped at 5, no nesterov"
    )


def test_small_negative_numbers_have_no_sign() -> None:
    assert words.signed(-0.0001) == "0.000"
    assert words.signed(-0.0123) == "-0.012"


def test_counts_and_lists_read_as_a_sentence() -> None:
    assert [words.count(n, "trial") for n in (0, 1, 1200)] == [
        "0 trials",
        "1 trial",
        "1,200 trials",
    ]
    assert [words.listing(each) for each in ("", "a", "ab", "abc")] == [
        *("", "a", "a and b", "a, b and c")
    ]
    assert words.some(2, 5, "best trials") == "2 of the 5 best trials"
    assert words.some(1, 1, "best trials") == "the only best trial"
    assert [words.some(n, n, "trials") for n in (2, 3)] == ["both trials", "all 3 trials"]
    assert words.spans([(0, 1), (1, 3), (9, 12)]) == "1, 2-4, 5-16"
    assert words.moment(datetime(2031, 5, 7, 11, 13, tzinfo=UTC)) == "7 May 2031, 11:13 UTC"


def test_pausing_is_explained_where_trials_are_paused() -> None:
    halving = {"name": "halving", "min_epochs": 1, "reduction_factor": 4}
    config = {"pruner": halving, "max_epochs": 17}
    assert words.list_rungs(config) == [1, 4, 16]
    assert words.list_rungs(config | {"max_epochs": 16}) == [1, 4]
    said = words.explain_rungs(config)
    assert said.startswith("At epochs 1, 4 and 16 a trial is compared")
    assert "About one in 4" in said
    for other in (
        {},
        {"pruner": {"name": "median"}, "max_epochs": 17},
        config | {"max_epochs": 1},
    ):
        assert words.explain_rungs(other) == ""
