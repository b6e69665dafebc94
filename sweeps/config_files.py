"""Reads a sweep's settings from a sweep file, ``--set`` and options, and lists all mistakes."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from objectives.references import ObjectiveError
from search_spaces import space as search_space
from search_spaces.hparams import OPTIMIZERS
from search_spaces.mistakes import Mistake, list_mistakes, suggest_names
from search_spaces.presets import PRESETS
from search_spaces.space import SearchSpace
from sweeps.config import SweepConfig
from sweeps.config_choices import PrunerConfig, SamplerConfig
from sweeps.config_errors import ConfigError, Source
from sweeps.config_merge import merge_tables
from sweeps.config_objective import (
    find_model_space_mistakes,
    find_preset,
    is_known,
    resolve_objective,
)
from sweeps.fixed_trials import find_unused_rate_mistakes, parse_value


def load_config(target: str, overrides: Sequence[str] = (), **options: object) -> SweepConfig:
    """Return the settings of a sweep: preset < file < ``overrides`` < ``options``.

    Args:
        target: An objective (its name, or ``file.py``, ``file.py:Class``,
            ``package.module:Class``), or the path of a sweep file, which ends in ``.toml``.
        overrides: ``key.path=value`` each; the value is TOML, or else a bare text.
        options: Settings by name; None is not given. ``sampler`` and ``pruner`` may be a name.

    Raises:
        ConfigError: All mistakes at once, one line each, with the file's line or the option.
    """
    written: list[tuple[tuple[str, ...], str]] = []
    text, values, lines = _read_target(target)
    readable = not lines
    for override in overrides:
        key, is_assignment, raw = override.partition("=")
        path = tuple(part.strip() for part in key.split("."))
        if not is_assignment or not all(path):
            lines.append(f"--set {override}: expected key=value, such as space.dropout=0.5")
            continue
        value = parse_value(raw)
        if value == {}:
            lines.append(
                f"--set {override}: an empty table changes nothing, since tables are merged key "
                f"by key; set the keys of {key.strip()} that are to change"
            )
            continue
        values = merge_tables(values, _nest(path, value))
        written.append((path, f"--set {override}"))
    for name, value in options.items():
        if value is None:
            continue
        is_short = name in ("sampler", "pruner") and isinstance(value, str)
        values = merge_tables(values, {name: {"name": value} if is_short else value})
        written.append(((name,), f"--{name.replace('_', '-')}"))
    source = Source(target, text, tuple(written))
    _require_objective(values.get("objective"), source)
    config, mistakes = _check(values)
    if readable:
        lines += [source.to_line(mistake) for mistake in mistakes]
    if config is None or lines:
        raise ConfigError(lines)
    return config


def _read_target(target: str) -> tuple[str, dict[str, Any], list[str]]:
    """Return the text and the values of a sweep file or an objective, and why it has none."""
    if not target.endswith(".toml"):
        if is_known(target):
            return "", {"objective": target}, []
        hint = suggest_names(target, PRESETS)
        kinds = "no such objective, nor a sweep file (.toml) or a file of yours (.py)"
        return "", {}, [f"{target}: {kinds}; {hint}"]
    path = Path(target)
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        return "", {}, [f"{target}: cannot be read: {error.strerror or error}"]
    except UnicodeDecodeError as error:
        return "", {}, [f"{target}: is not UTF-8 text (byte {error.start})"]
    except tomllib.TOMLDecodeError as error:
        return "", {}, [f"{target}: is not valid TOML: {error}"]
    if isinstance(values.get("data"), str):
        values["data"] = path.parent / values["data"]
    if isinstance(values.get("objective"), str):
        values["objective"] = resolve_objective(values["objective"], path.parent)
    return text, values, []


def _require_objective(objective: object, source: Source) -> None:
    """Raise at once where a person's own objective cannot be used: no setting can be judged.

    Raises:
        ConfigError: One line a mistake.
    """
    if not isinstance(objective, str) or not is_known(objective):
        return
    try:
        find_preset(resolve_objective(objective))
    except ObjectiveError as error:
        lines = str(error).splitlines()
        if source.text:
            place = source.to_line(Mistake(("objective",), ""))
            lines = [f"{place}: {line}" for line in lines]
        raise ConfigError(lines) from error


def _nest(path: Sequence[str], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    nested: dict[str, Any] = value
    return nested


def _check(values: Mapping[str, Any]) -> tuple[SweepConfig | None, list[Mistake]]:
    try:
        config = SweepConfig.model_validate(values)
        unused = find_unused_rate_mistakes(values.get("space"), config.space, config.tries)
        return config, [one._replace(path=("space", *one.path)) for one in unused]
    except ValidationError as error:
        mistakes = list_mistakes(error, _find_known_keys)
    # Pydantic's own line on a default that waits for a setting with a mistake of its own.
    mistakes = [one for one in mistakes if "default factory" not in one.text]
    objective = values.get("objective")
    if isinstance(objective, str) and is_known(objective):
        objective = resolve_objective(objective)
        mistakes += _find_hidden_mistakes(values.get("space"), objective)
        return None, list(dict.fromkeys(mistakes))
    # Without a preset half a range is no mistake of the person's.
    mistakes = [one for one in mistakes if one.text != "is missing"]
    if objective is None:
        known = ", ".join(PRESETS)
        mistakes.insert(0, Mistake(("objective",), f"is missing; known: {known}"))
    return None, mistakes


def _find_hidden_mistakes(space: object, objective: str) -> list[Mistake]:
    """List what Pydantic hides: it does not judge a model's limits in a space with a mistake."""
    model = space.get("model") if isinstance(space, Mapping) else None
    found: list[Mistake] = []
    for name, spec in (model if isinstance(model, Mapping) else {}).items():
        try:
            alone = SearchSpace(optimizer=list(OPTIMIZERS), model={name: spec})
        except ValidationError:
            continue
        found += find_model_space_mistakes(alone, objective)
    return [one._replace(path=("space", *one.path)) for one in found]


def _find_known_keys(path: tuple[str, ...]) -> Sequence[str]:
    if path[:1] == ("space",):
        return search_space.find_known_keys(path[1:])
    tables: dict[tuple[str, ...], type[BaseModel]] = {
        ("sampler",): SamplerConfig,
        ("pruner",): PrunerConfig,
    }
    fields = tables.get(path, SweepConfig).model_fields
    return tuple(field.alias or name for name, field in fields.items())
