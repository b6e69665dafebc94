"""Reads a sweep's settings from a sweep file or a study, ``--set`` and options.

Lists all mistakes at once.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from objectives.references import ObjectiveError, resolve_reference
from search_spaces.mistakes import Kind, Mistake, Mistakes, list_mistakes, suggest_names
from search_spaces.presets import PRESETS
from search_spaces.space import SearchSpace, parse_space
from sweeps.config.commands import name_next
from sweeps.config.errors import ConfigError, Source
from sweeps.config.merge import lay_over, merge_tables
from sweeps.config.overrides import nest, read_override
from sweeps.config.preset import Preset, find_preset, is_known
from sweeps.config.rules import count_grid, find_idle_rate, find_mistakes, settle
from sweeps.config.settings import SweepConfig


def load_config(target: str, overrides: Sequence[str] = (), **options: object) -> SweepConfig:
    """Return the settings of a sweep: preset < file < ``overrides`` < ``options``.

    Args:
        target: An objective (its name, or ``file.py``, ``file.py:Class``,
            ``package.module:Class``), or the path of a sweep file, which ends in ``.toml``.
        overrides: ``key.path=value`` each; the value is TOML, or else a bare text. In ``space``
            bare values between commas are choices.
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
    settings = _recall(stored, is_new=options["study"] != like)
    values = {"objective": stored["objective"]}
    return _load(Source(f"--like {like}"), values, [], overrides, options, recalled=settings)


def _recall(stored: Mapping[str, Any], *, is_new: bool) -> dict[str, Any]:
    """Return the settings of a study, without what other settings decided."""
    settings = dict(stored)
    settings["space"], max_epochs = dict(stored["space"]), stored["max_epochs"]
    settings["try"] = [dict(each) for each in stored["try"]]
    # Cosine's length is that of a trial unless told: it follows another max_epochs.
    for values in (settings["space"], *settings["try"]):
        if values.get("schedule_epochs") == max_epochs:
            del values["schedule_epochs"]
    if is_new:
        del settings["warm_start"]
    if settings["trials"] or settings["max_total_epochs"]:
        del settings["max_minutes"]
    if settings["trials"] == count_grid(SweepConfig.from_stored(stored)):
        del settings["trials"]
    return settings


def _load(
    source: Source,
    values: dict[str, Any],
    lines: list[str],
    overrides: Sequence[str],
    options: Mapping[str, object],
    *,
    recalled: Mapping[str, Any] | None = None,
) -> SweepConfig:
    """Return ``values`` < ``overrides`` < ``options`` over a preset, or raise all mistakes.

    Args:
        source: Where the values were written.
        values: The sweep file's.
        lines: Why the file cannot be read.
        overrides: As of ``load_config``.
        options: As of ``load_config``.
        recalled: Settings of a study, in place of the preset's.
    """
    is_readable = not lines
    written: list[tuple[tuple[str, ...], str]] = []
    for override in overrides:
        try:
            path, value = read_override(override)
        except ValueError as error:
            lines.append(f"--set {override}: {error}")
            continue
        values = merge_tables(values, nest(path, value))
        written.append((path, f"--set {override}"))
    for name, option in options.items():
        if option is not None:
            key = "try" if name == "tries" else name
            values = merge_tables(values, nest((key,), option))
            written.append(((key,), f"--{name.replace('_', '-')}"))
    source = replace(source, options=tuple(written))
    preset = _ask_objective(values, source)
    if preset is not None and recalled is not None:
        others = {key: value for key, value in recalled.items() if key != "space"}
        preset = replace(preset, space=recalled["space"], settings=others)
    config, mistakes = _check(values, preset)
    refused = {one.path[1] for one in mistakes if one.path[:1] == ("try",) and len(one.path) > 1}
    if preset is not None and recalled is not None and refused and "try" not in values:
        tries = enumerate(preset.settings["try"], start=1)
        kept = [one for number, one in tries if str(number) not in refused]
        preset = replace(preset, settings={**preset.settings, "try": kept})
        config, mistakes = _check(values, preset)
    if is_readable:
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
    except RecursionError:
        return "", {}, [f"{target}: has too many brackets inside one another"]
    if isinstance(values.get("data"), str):
        values["data"] = path.parent / values["data"]
    if isinstance(values.get("objective"), str):
        values["objective"] = resolve_reference(values["objective"], path.parent)
    return text, values, []


def _ask_objective(values: Mapping[str, Any], source: Source) -> Preset | None:
    """Return the objective's preset; None: it is missing or unknown.

    The only place that asks a person's own objective, and thereby runs its code.

    Raises:
        ConfigError: If it cannot be used: no setting can be judged.
    """
    objective = values.get("objective")
    if not isinstance(objective, str) or not is_known(objective):
        return None
    try:
        return find_preset(resolve_reference(objective))
    except ObjectiveError as error:
        lines = str(error).splitlines()
        if source.text:
            place = source.to_line(Mistake(("objective",), ""))
            lines = [f"{place}: {line}" for line in lines]
        raise ConfigError(lines) from error


def _check(
    values: Mapping[str, Any], preset: Preset | None
) -> tuple[SweepConfig | None, list[Mistake]]:
    """Return the settings of values over a preset, or what is wrong with them."""
    if preset is None:
        return None, _check_without_objective(values)
    given = {key: value for key, value in values.items() if value is not None}
    filled = lay_over(preset.settings, preset.space, given)
    filled["objective"] = resolve_reference(given["objective"])
    config, mistakes = _read(filled, preset)
    if not mistakes:
        config = settle(config)
        mistakes = find_idle_rate(given.get("space"), config)
    return config, mistakes


def _read(values: Mapping[str, Any], preset: Preset) -> tuple[SweepConfig, list[Mistake]]:
    """Return a record of what is right in the values, and all mistakes."""
    mistakes: list[Mistake] = []
    space = SearchSpace()
    try:
        space = parse_space(values["space"], preset.arguments)
    except Mistakes as error:
        mistakes += [one.below("space") for one in error.items]
    told = {**values, "space": space}
    try:
        config = SweepConfig.model_validate(told)
    except ValidationError as error:
        mistakes += list_mistakes(error, SweepConfig)
        wrong = {one.path[0] for one in mistakes}
        right = {key: value for key, value in told.items() if key not in wrong}
        config = SweepConfig.model_validate({"study": "any", **right})
    wrong = {"tries" if one.path[0] == "try" else one.path[0] for one in mistakes}
    return config, [*mistakes, *find_mistakes(config, preset, wrong)]


def _check_without_objective(values: Mapping[str, Any]) -> list[Mistake]:
    """List what is wrong with settings whose objective is missing or unknown."""
    mistakes: list[Mistake] = []
    try:
        SweepConfig.model_validate({"study": "any", **values})
    except ValidationError as error:
        # Without a preset half a range is no mistake of the person's.
        mistakes = [
            one for one in list_mistakes(error, SweepConfig) if one.kind is not Kind.MISSING
        ]
    if "objective" not in values:
        text = f"is missing; known: {', '.join(PRESETS)}"
        mistakes.insert(0, Mistake(("objective",), text, Kind.MISSING))
    return mistakes
