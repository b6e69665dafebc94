"""Whatever a sweep file, an override or a named trial says: settings, or lines for a person."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_spaces.hparams import ROWS
from search_spaces.mistakes import Mistakes
from search_spaces.presets import ARGUMENTS
from search_spaces.space import parse_space
from sweeps.config.errors import ConfigError, find_line
from sweeps.config.load import load_config
from sweeps.config.overrides import parse_trial
from sweeps.config.settings import SweepConfig

OBJECTIVE = "tabular-mlp"

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**20),
    st.floats(),
    st.sampled_from(["adam", "sgd", "armijo", "cosine", "plateau", "grid", "random", "none", ""]),
    st.text(max_size=5),
)
keys = st.sampled_from(
    [
        *("low", "high", "log", "int", "step", "by_optimizer", "name", "points", "model", "sgd"),
        *("hidden_width", "options", "seed", *ROWS),
    ]
)
value: st.SearchStrategy[Any] = st.recursive(
    junk,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(keys, st.text(max_size=3)), inner)
    ),
    max_leaves=6,
)
tables = st.dictionaries(
    st.one_of(st.sampled_from([*SweepConfig.model_fields, "try"]), st.text(max_size=3)),
    st.one_of(value, st.dictionaries(keys, value, max_size=4)),
    max_size=5,
)
quickly = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)


def load(*overrides: str, **options: Any) -> SweepConfig | None:
    """Return the settings, or None where they are refused."""
    try:
        return load_config(OBJECTIVE, overrides, **options)
    except ConfigError as error:
        return None if error.lines and all(error.lines) else pytest.fail("refused without a line")


@given(table=tables)
@quickly
def test_settings_are_read_or_all_mistakes_are_lines(table: dict[str, Any]) -> None:
    config = load(**{key: one for key, one in table.items() if key not in ("target", "overrides")})
    if config is not None:
        stored = json.loads(json.dumps(config.stored()))
        assert SweepConfig.from_stored(stored).stored() == stored


@given(space=st.dictionaries(st.sampled_from([*ROWS, "model"]), value, max_size=4))
@quickly
def test_a_space_that_is_read_can_be_sampled_and_written(space: dict[str, Any]) -> None:
    try:
        read = parse_space(space, ARGUMENTS[OBJECTIVE])
    except Mistakes:
        return
    hparams = read.first()
    assert parse_space(json.loads(json.dumps(read.to_table()))) == read
    for parameter, number in read.read(hparams):
        assert parameter.contains(number)


@given(text=st.text(max_size=30), path=st.sampled_from(["space.dropout", "sampler", "x", ""]))
@quickly
def test_an_override_of_any_text_is_a_setting_or_a_line(text: str, path: str) -> None:
    load(f"{path}={text}", text)
    with contextlib.suppress(ValueError):
        parse_trial(text)


@given(text=st.text(max_size=80))
@quickly
def test_a_line_is_looked_for_in_any_text(text: str) -> None:
    line = find_line(text, ("space", "dropout"))
    assert line is None or 1 <= line <= len(text.splitlines())


@pytest.mark.parametrize("text", ["[" * 5000, "x=" + "[" * 5000, "[" * 400 + "]" * 400])
def test_brackets_inside_brackets_are_a_mistake_of_the_file(text: str, tmp_path: Path) -> None:
    assert load(f"trials={text}") is None
    path = tmp_path / "sweep.toml"
    path.write_text(f"trials = {text}\n")
    with pytest.raises(ConfigError):
        load_config(str(path))
