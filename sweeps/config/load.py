"""Reads a sweep's settings from a sweep file or a study, ``--set`` and options.

Lists all mistakes at once.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from objectives.references import ObjectiveError, resolve_reference
from search_spaces import space as search_space
from search_spaces.hparams import OPTIMIZERS
from search_spaces.mistakes import Mistake, list_mistakes, suggest_names
from search_spaces.presets import PRESETS
from search_spaces.space import SearchSpace
from sweeps.config.commands import name_next
from sweeps.config.errors import ConfigError, Source
from sweeps.config.merge import merge_tables
from sweeps.config.named_trials import find_unused_rate_mistakes, parse_value
from sweeps.config.preset import (
    Preset,
    find_model_space_mistakes,
    find_preset,
    is_known,
)
from sweeps.config.pruner import PrunerConfig
from sweeps.config.sampler import SamplerConfig
from sweeps.config.settings import SweepConfig, count_grid


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
    text, values, lines = _read_target(target)
    return _load(Source(target, text), values, lines, overrides, options)


def load_like(like: str, overrides: Sequence[str] = (), **options: object) -> SweepConfig:
    """Return the settings of a study, changed by ``overrides`` < ``options``, to be run.

    Trials of ``try`` that have no place in the changed space are left out, unless they are given
    anew. Those of the study's warm start are among them, so that the next one has none.

    Args:
        like: The study whose settings are taken, without its limit of minutes where it has
            another limit. Its own name as ``study`` carries it on; else the next free name:
            ``edge-3`` after ``edge-2``.
        overrides: As of ``load_config``.
        options: As of ``load_config``.

    Raises:
        ConfigError: All mistakes at once.
        StorageError: If the database cannot be opened, or has no such study.
    """
    from storage import queries
    from storage.locations import resolve_url

    storage = options.get("storage")
    url = resolve_url(None if storage is None else str(storage))
    stored = queries.study_settings(url, like).config
    if "objective" not in stored:
        raise ConfigError([f"--like {like}: was not begun by bestepoch: no settings of a sweep"])
    if options.get("study") is None:
        options["study"] = name_next(like, set(queries.studies(url)["study"]))
    preset = _recall(stored, is_new=options["study"] != like)
    values = {"objective": stored["objective"]}
    return _load(Source(f"--like {like}"), values, [], overrides, options, preset=preset)


def _recall(stored: Mapping[str, Any], *, is_new: bool) -> Preset:
    """Return the settings of a study as a preset, without what other settings decided."""
    settings = {key: value for key, value in stored.items() if key != "space"}
    space, max_epochs = dict(stored["space"]), stored["max_epochs"]
    # Cosine's length is that of a trial unless told: it follows another max_epochs.
    for values in (space, *(tries := [dict(each) for each in settings.pop("try")])):
        if values.get("schedule_epochs") == max_epochs:
            del values["schedule_epochs"]
    settings["try"] = tries
    if is_new:
        del settings["warm_start"]
    if settings["trials"] or settings["max_total_epochs"]:
        del settings["max_minutes"]
    if settings["trials"] == count_grid(SweepConfig.from_stored(stored)):
        del settings["trials"]
    return Preset(space, settings)


def _load(
    source: Source,
    values: dict[str, Any],
    lines: list[str],
    overrides: Sequence[str],
    options: Mapping[str, object],
    *,
    preset: Preset | None = None,
) -> SweepConfig:
    """Return ``values`` < ``overrides`` < ``options`` over a preset, or raise all mistakes."""
    readable = not lines
    written: list[tuple[tuple[str, ...], str]] = []
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
    source = replace(source, options=tuple(written))
    _require_objective(values.get("objective"), source)
    config, mistakes = _check(values, preset)
    if preset is not None and "try" not in values:
        config, mistakes = _check_without_misfits(values, preset, config, mistakes)
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
        # An editor may have put a byte order mark at the start.
        text = path.read_text(encoding="utf-8-sig")
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
        values["objective"] = resolve_reference(values["objective"], path.parent)
    return text, values, []


def _require_objective(objective: object, source: Source) -> None:
    """Raise at once where a person's own objective cannot be used: no setting can be judged.

    Raises:
        ConfigError: One line a mistake.
    """
    if not isinstance(objective, str) or not is_known(objective):
        return
    try:
        find_preset(resolve_reference(objective))
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


def _check_without_misfits(
    values: Mapping[str, Any],
    preset: Preset,
    config: SweepConfig | None,
    mistakes: list[Mistake],
) -> tuple[SweepConfig | None, list[Mistake]]:
    """Check again without the preset's named trials that were refused, if that is all."""
    refused = {one.path[1] for one in mistakes if len(one.path) > 1 and one.path[0] == "try"}
    if not refused:
        return config, mistakes
    tries = preset.settings["try"]
    kept = [one for number, one in enumerate(tries, start=1) if str(number) not in refused]
    return _check(values, Preset(preset.space, {**preset.settings, "try": kept}))


def _check(
    values: Mapping[str, Any], preset: Preset | None = None
) -> tuple[SweepConfig | None, list[Mistake]]:
    try:
        config = SweepConfig.model_validate(values, context=preset)
        unused = find_unused_rate_mistakes(values.get("space"), config.space, config.tries)
        return config, [one._replace(path=("space", *one.path)) for one in unused]
    except ValidationError as error:
        mistakes = list_mistakes(error, _find_known_keys)
    # Pydantic's own line on a default that waits for a setting with a mistake of its own.
    mistakes = [one for one in mistakes if "default factory" not in one.text]
    objective = values.get("objective")
    if isinstance(objective, str) and is_known(objective):
        objective = resolve_reference(objective)
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
