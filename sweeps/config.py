"""A sweep's settings: preset, sweep file, ``--set`` and options, merged and checked at once.

Knows what a sweep file may say; knows nothing of how a sweep is run. Imports neither torch nor
Optuna, so that a mistake is answered at once.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from search_spaces import space as search_space
from search_spaces.hparams import OPTIMIZERS
from search_spaces.mistakes import Mistake, Mistakes, list_mistakes, show_value, suggest_names
from search_spaces.presets import PRESETS, SWEEP_DEFAULTS, find_model_space_mistakes
from search_spaces.space import Range, SearchSpace, describe_spec
from sweeps.config_choices import (
    STRICT,
    Positive,
    PrunerConfig,
    SamplerConfig,
    find_grid_mistakes,
)
from sweeps.config_errors import ConfigError, Source
from sweeps.fixed_trials import check_trials, flatten_values, parse_value
from sweeps.parameters import list_grid

_TRIALS = 24


def _count_trials(settings: dict[str, Any]) -> int:
    """Return how many trials a study has where nobody says it."""
    sampler, space = settings.get("sampler"), settings.get("space")
    if not isinstance(sampler, SamplerConfig) or sampler.name != "grid":
        return _TRIALS
    if not isinstance(space, SearchSpace):
        return _TRIALS
    return len(list_grid(space, sampler.points)) + len(settings.get("tries", ()))


class SweepConfig(BaseModel):
    """All settings of a sweep. What is not given comes from the objective's preset.

    Raises:
        pydantic.ValidationError: If a setting is wrong; ``load_config`` says so in one line each.
    """

    model_config = ConfigDict(**STRICT, validate_by_name=True, validate_by_alias=True)

    objective: str
    study: str = ""
    """Name of the study; the objective's name unless told."""
    max_minutes: Annotated[float, Field(gt=0.0)] | None = None
    """Minutes after which no further epoch starts; None: no limit."""
    max_epochs: Positive = 40
    patience: Positive = 6
    """Epochs without a rise above ``min_delta`` after which a trial has stalled."""
    prune_patience: Positive = 3
    """The same for a trial below the median; equal to ``patience``: no such rule."""
    min_delta: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.001
    """Smallest rise of the macro-F1 that counts, in macro-F1 points."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: Annotated[Path, Field(strict=False)] | None = None
    """The data file; None: the one that ships with the project."""
    workers: Positive | None = None
    """Worker processes; None: one a core."""
    slots: Positive = 4
    """Most trials that a lane trains at once."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    space: SearchSpace = Field(default_factory=SearchSpace)
    sampler: SamplerConfig = SamplerConfig()
    pruner: PrunerConfig = PrunerConfig()
    tries: Annotated[tuple[dict[str, Any], ...], Field(alias="try", strict=False)] = ()
    """Trials to run first, by hyperparameter; what they leave out is sampled."""
    warm_start: str | None = None
    """A study of the same database, whose best configurations are trained here first."""
    trials: Positive = Field(default_factory=_count_trials)
    """Trials that the study has in the end; those of a grid unless told, else 24."""
    storage: str | None = None
    """URL of the database; None: the default one."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        given = {key: value for key, value in values.items() if value is not None}
        objective = given.get("objective")
        if not isinstance(objective, str) or objective not in PRESETS:
            return given
        filled = {"study": objective, **SWEEP_DEFAULTS.get(objective, {}), **given}
        if isinstance(given.get("space", {}), Mapping):
            filled["space"] = merge_space(PRESETS[objective], given.get("space", {}))
        patience = filled.get("patience")
        # A person who shortens the patience did not ask for a mistake in the preset's other one.
        if "prune_patience" not in given and isinstance(patience, int):
            shortest = filled.get("prune_patience", cls.model_fields["prune_patience"].default)
            filled["prune_patience"] = max(1, min(shortest, patience))
        return filled

    @field_validator("objective")
    @classmethod
    def _know_objective(cls, objective: str) -> str:
        if objective not in PRESETS:
            hint = suggest_names(objective, PRESETS)
            raise Mistakes([Mistake((), f"is unknown: {objective!r}; {hint}")])
        return objective

    @field_validator("study")
    @classmethod
    def _fit_study_name(cls, study: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", study):
            text = f"must be 1 to 128 letters, digits, '.', '_' or '-', got {show_value(study)}"
            raise Mistakes([Mistake((), text)])
        return study

    @field_validator("prune_patience")
    @classmethod
    def _fit_patience(cls, prune_patience: int, info: ValidationInfo) -> int:
        patience = info.data.get("patience")
        if patience is not None and prune_patience > patience:
            text = f"must be <= patience, which is {patience}, got {prune_patience}"
            raise Mistakes([Mistake((), text)])
        return prune_patience

    @field_validator("space")
    @classmethod
    def _fit_model(cls, space: SearchSpace, info: ValidationInfo) -> SearchSpace:
        mistakes = find_model_space_mistakes(space, info.data.get("objective", ""))
        if mistakes:
            raise Mistakes(mistakes)
        return space

    @field_validator("sampler")
    @classmethod
    def _fit_grid(cls, sampler: SamplerConfig, info: ValidationInfo) -> SamplerConfig:
        space = info.data.get("space")
        mistakes = [] if space is None else find_grid_mistakes(sampler, space)
        if mistakes:
            raise Mistakes(mistakes)
        return sampler

    @field_validator("tries", mode="before")
    @classmethod
    def _flatten_tries(cls, tries: object) -> object:
        if not isinstance(tries, list | tuple):
            return tries
        flat = [flatten_values(one) if isinstance(one, Mapping) else one for one in tries]
        return [one for i, one in enumerate(flat) if one not in flat[:i]]

    @field_validator("tries")
    @classmethod
    def _fit_tries(
        cls, tries: tuple[dict[str, Any], ...], info: ValidationInfo
    ) -> tuple[dict[str, Any], ...]:
        space = info.data.get("space")
        if space is not None:
            mistakes = check_trials(tries, space, info.data.get("objective", ""))
            if mistakes:
                raise Mistakes(mistakes)
        return tries

    @field_validator("warm_start")
    @classmethod
    def _fit_warm_start(cls, warm_start: str | None, info: ValidationInfo) -> str | None:
        sampler = info.data.get("sampler")
        if warm_start is not None and warm_start == info.data.get("study"):
            raise Mistakes([Mistake((), "must be another study than this one")])
        if warm_start is not None and sampler is not None and sampler.name == "grid":
            raise Mistakes([Mistake((), "does not go with a grid, which is trained in full")])
        return warm_start

    @field_validator("trials")
    @classmethod
    def _fit_trials(cls, trials: int, info: ValidationInfo) -> int:
        if "sampler" in info.data and info.data["sampler"].name == "grid":
            most = _count_trials(info.data)
            if trials > most:
                text = f"must be <= {most}, the trials of the grid, got {trials}"
                raise Mistakes([Mistake((), text)])
        return trials

    def settings(self) -> dict[str, Any]:
        """Return what decides the study's results, in JSON values, for ``describe_changes``.

        Left out are those that decide how many results there are, where and how soon: study,
        trials, try, warm_start, max_minutes, workers, slots, device, storage; and what has no
        effect.
        """
        kept = {
            "objective",
            "data",
            "max_epochs",
            "patience",
            "prune_patience",
            "min_delta",
            "seed",
        }
        settings = self.model_dump(mode="json", include=kept)
        if self.data is not None:
            settings["data"] = str(self.data.resolve())
        settings["sampler"] = self.sampler.model_dump(mode="json", exclude_none=True)
        settings["pruner"] = self.pruner.model_dump(mode="json", exclude_none=True)
        settings["space"] = self.space.to_table()
        return settings


def load_config(target: str, overrides: Sequence[str] = (), **options: object) -> SweepConfig:
    """Return the settings of a sweep: preset < file < ``overrides`` < ``options``.

    Args:
        target: An objective's name, or the path of a sweep file, which ends in ``.toml``.
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
        values = merge_tables(values, _nest(path, parse_value(raw)))
        written.append((path, f"--set {override}"))
    for name, value in options.items():
        if value is None:
            continue
        is_short = name in ("sampler", "pruner") and isinstance(value, str)
        values = merge_tables(values, {name: {"name": value} if is_short else value})
        written.append(((name,), f"--{name.replace('_', '-')}"))
    config, mistakes = _check(values)
    source = Source(target, text, tuple(written))
    if readable:
        lines += [source.to_line(mistake) for mistake in mistakes]
    if config is None or lines:
        raise ConfigError(lines)
    return config


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List how two ``SweepConfig.settings()`` differ, such as ``patience: 6 -> 8``."""
    before, after = dict(_flatten(old)), dict(_flatten(new))
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key}: {_show_setting(before, key)} -> {_show_setting(after, key)}"
        for key in keys
        if before.get(key) != after.get(key) or (key in before) != (key in after)
    ]


def merge_tables(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the keys of ``over``; a table merges key by key, all else replaces."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge_tables(below, value)
        else:
            merged[key] = value
    return merged


def merge_space(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a preset's space with what a person gave of it, hyperparameter by hyperparameter.

    The preset's ranges of optimizers that the person left out are dropped: in a person's own
    table they would be a mistake.
    """
    merged = merge_tables(preset, given)
    chosen = merged.get("optimizer")
    optimizers = chosen if isinstance(chosen, list | tuple) else [chosen]
    for name, spec in merged.items():
        by_optimizer = spec.get("by_optimizer") if isinstance(spec, Mapping) else None
        if not isinstance(by_optimizer, Mapping):
            continue
        table = given.get(name)
        own = table.get("by_optimizer") if isinstance(table, Mapping) else None
        kept = [*optimizers, *(own if isinstance(own, Mapping) else ())]
        fitting = {one: sub for one, sub in by_optimizer.items() if one in kept}
        merged[name] = {**spec, "by_optimizer": fitting}
    return merged


def _read_target(target: str) -> tuple[str, dict[str, Any], list[str]]:
    """Return the text and the values of a sweep file or an objective, and why it has none."""
    if not target.endswith(".toml"):
        if target in PRESETS:
            return "", {"objective": target}, []
        hint = suggest_names(target, PRESETS)
        return "", {}, [f"{target}: no such objective, nor a sweep file (.toml); {hint}"]
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
    return text, values, []


def _nest(path: Sequence[str], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    nested: dict[str, Any] = value
    return nested


def _check(values: Mapping[str, Any]) -> tuple[SweepConfig | None, list[Mistake]]:
    try:
        return SweepConfig.model_validate(values), []
    except ValidationError as error:
        mistakes = list_mistakes(error, _find_known_keys)
    # Pydantic's own line on a default that waits for a setting with a mistake of its own.
    mistakes = [one for one in mistakes if "default factory" not in one.text]
    objective = values.get("objective")
    if isinstance(objective, str) and objective in PRESETS:
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


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and "low" in value:
            # Compared as a range: an older study's table lacks the keys that came later.
            yield f"{prefix}{key}", Range.model_validate(value)
        elif isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _show_setting(settings: Mapping[str, Any], key: str) -> str:
    if key not in settings:
        return "not set"
    value = settings[key]
    if key == "data" and value is None:
        return "what ships with the objective"
    if isinstance(value, Range):
        return describe_spec(value)
    return " | ".join(map(str, value)) if isinstance(value, list) else str(value)
