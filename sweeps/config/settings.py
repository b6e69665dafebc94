"""A sweep's settings: preset, sweep file, ``--set`` and options, merged and checked at once.

Knows what a sweep file may say; knows nothing of how a sweep is run. Imports neither torch nor
Optuna, so that a mistake is answered at once.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from objectives.metric_names import DEFAULT_METRIC, check_metric
from objectives.references import resolve_reference
from search_spaces.mistakes import Mistake, Mistakes, is_utf8, show_value, suggest_names
from search_spaces.presets import PRESETS
from search_spaces.space import SearchSpace
from sweeps.config.fields import STRICT, Positive
from sweeps.config.merge import merge_space, merge_tables
from sweeps.config.named_trials import check_trials, flatten_values
from sweeps.config.preset import (
    CHECKED,
    Preset,
    find_missing_model_mistakes,
    find_model_space_mistakes,
    find_preset,
    is_known,
)
from sweeps.config.pruner import PrunerConfig
from sweeps.config.sampler import SamplerConfig, find_grid_mistakes
from sweeps.config.schedules import (
    find_plateau_mistakes,
    find_trial_mistakes,
    fit_cosine,
    fit_cosine_trial,
)
from sweeps.parameters import list_grid

#: What may end a sweep. If one is given, no default limits it beside that one.
_BUDGETS = ("trials", "max_total_epochs", "max_minutes")


def _count_trials(settings: dict[str, Any]) -> int | None:
    """Return how many trials a study starts if nobody says it: all of a grid, or no limit."""
    sampler, space = settings.get("sampler"), settings.get("space")
    if not isinstance(sampler, SamplerConfig) or sampler.name != "grid":
        return None
    if not isinstance(space, SearchSpace):
        return None
    return len(list_grid(space, sampler.points)) + len(settings.get("tries", ()))


def count_grid(config: "SweepConfig") -> int | None:
    """Return how many trials a sweep of the whole grid has; None: it has no grid."""
    return _count_trials(dict(config))


class SweepConfig(BaseModel):
    """All settings of a sweep. What is not given comes from the objective's preset.

    Raises:
        pydantic.ValidationError: If a setting is wrong; ``load_config`` says so in one line each.
    """

    model_config = ConfigDict(**STRICT, validate_by_name=True, validate_by_alias=True)

    objective: str
    """One that ships, or one's own: ``file.py``, ``file.py:Class``, ``package.module:Class``."""
    study: str = ""
    """Name of the study; the objective's name unless told."""
    metric: str = DEFAULT_METRIC
    """What the score is: ``macro-f1``, ``accuracy``, ..., or ``f1:CLASS``; higher is better."""
    max_total_epochs: Positive | None = None
    """Epochs that all trials of the study train together; those repeated after a crash are not
    counted. None: no limit."""
    max_minutes: Annotated[float, Field(gt=0.0)] | None = None
    """Minutes of each run after which no further epoch starts; None: no limit."""
    max_epochs: Positive = 40
    patience: Positive = 15
    """Epochs without a rise above ``min_delta`` after which a trial has stalled."""
    prune_patience: Positive = 3
    """The same for a trial below the median; equal to ``patience``: no such rule."""
    min_delta: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.001
    """Smallest rise of the score that counts, in points of the score."""
    audit: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the trials that run on to ``max_epochs`` where stopping would have ended them."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: Annotated[Path, Field(strict=False)] | None = None
    """The data file; None: the one that ships with the project."""
    label: Annotated[str, Field(min_length=1)] = "label"
    """Column of the data file that holds the classes."""
    workers: Positive | None = None
    """Worker processes; None: one a core."""
    slots: Positive | None = None
    """Most trials that a lane trains at once; None: as many as its epochs show to pay."""
    checkpoint_seconds: Annotated[float, Field(ge=0.0)] = 60.0
    """Seconds of training after which a lane's states are written: what a dead trainer costs."""
    db_wait: Annotated[float, Field(ge=0.0)] = 10.0
    """Minutes for which a run waits for a database that does not answer."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "tf32"] = "float32"
    """Of matrix products and convolutions; all else is float32. tf32 is for CUDA alone."""
    space: SearchSpace = Field(default_factory=SearchSpace)
    sampler: SamplerConfig = SamplerConfig()
    pruner: PrunerConfig = PrunerConfig()
    tries: Annotated[tuple[dict[str, Any], ...], Field(alias="try", strict=False)] = ()
    """Trials to run first, by hyperparameter; what they leave out is sampled."""
    warm_start: str | None = None
    """A study of the same database, whose best configurations are trained here first."""
    trials: Positive | None = Field(default_factory=_count_trials)
    """Most trials that the study starts; None: no limit. A grid has all of its own unless told."""
    storage: str | None = None
    """URL of the database; None: the default one."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: object, info: ValidationInfo) -> object:
        if not isinstance(values, Mapping):
            return values
        given = {key: value for key, value in values.items() if value is not None}
        if "tries" in given:
            given["try"] = given.pop("tries")
        objective = given.get("objective")
        if not isinstance(objective, str) or not is_known(objective):
            return given
        objective = given["objective"] = resolve_reference(objective)
        preset = info.context if isinstance(info.context, Preset) else find_preset(objective)
        filled = merge_tables(_without_rivals(preset.settings, given), given)
        sampler = filled.get("sampler")
        if isinstance(sampler, Mapping) and sampler.get("name") == "grid":
            filled |= {"max_total_epochs": given.get("max_total_epochs")}
        if isinstance(given.get("space", {}), Mapping):
            filled["space"] = merge_space(preset.space, given.get("space", {}))
        patience = filled.get("patience")
        # A person who shortens the patience did not ask for a mistake in the preset's other one.
        if "prune_patience" not in given and isinstance(patience, int):
            shortest = filled.get("prune_patience", cls.model_fields["prune_patience"].default)
            filled["prune_patience"] = max(1, min(shortest, patience))
        return filled

    @field_validator("objective")
    @classmethod
    def _know_objective(cls, objective: str) -> str:
        if not is_known(objective):
            hint = suggest_names(objective, PRESETS)
            raise Mistakes([Mistake((), f"is unknown: {objective!r}; {hint}")])
        return objective

    @field_validator("objective", "data", "storage")
    @classmethod
    def _be_utf8(cls, named: str | Path | None) -> str | Path | None:
        path = named.resolve() if isinstance(named, Path) else named
        if path is not None and not is_utf8(str(path)):
            raise Mistakes([Mistake((), f"must have a name in UTF-8, got {str(path)!a}")])
        return named

    @field_validator("study")
    @classmethod
    def _fit_study_name(cls, study: str) -> str:
        if not re.fullmatch(r"(?!-)[A-Za-z0-9._-]{1,128}", study):
            text = "must be 1 to 128 letters, digits, '.', '_' or '-', the first one no '-'"
            text = f"{text}, got {show_value(study)}"
            raise Mistakes([Mistake((), text)])
        return study

    @field_validator("metric")
    @classmethod
    def _know_metric(cls, metric: str) -> str:
        check_metric(metric)
        return metric

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
        objective = _objective_to_ask(info)
        mistakes = find_model_space_mistakes(space, objective)
        mistakes += find_missing_model_mistakes(space, objective)
        if "patience" in info.data:
            mistakes += find_plateau_mistakes(space, info.data["patience"])
        if mistakes:
            raise Mistakes(mistakes)
        return fit_cosine(space, info.data["max_epochs"]) if "max_epochs" in info.data else space

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
            mistakes = check_trials(tries, space, _objective_to_ask(info))
            if not mistakes and "patience" in info.data:
                mistakes = find_trial_mistakes(tries, space, info.data["patience"])
            if mistakes:
                raise Mistakes(mistakes)
            if "max_epochs" in info.data:
                epochs = info.data["max_epochs"]
                return tuple(fit_cosine_trial(one, space, epochs) for one in tries)
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
    def _fit_trials(cls, trials: int | None, info: ValidationInfo) -> int | None:
        most = _count_trials(info.data)
        if most is not None and trials is not None and trials > most:
            text = f"must be <= {most}, the trials of the grid, got {trials}"
            raise Mistakes([Mistake((), text)])
        return trials

    def stored(self) -> dict[str, Any]:
        """Return all settings in JSON values, as a study keeps them; no database, no password."""
        table = self.model_dump(mode="json", by_alias=True, exclude={"storage", "space", "data"})
        table["data"] = None if self.data is None else str(self.data.resolve())
        table["space"] = self.space.to_table()
        return table

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "SweepConfig":
        """Return what ``stored`` was made of; a person's own objective is not asked again."""
        return cls.model_validate(stored, context=CHECKED)


def _without_rivals(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a preset's settings without those that the given ones replace as a whole.

    A sampler or pruner of another name replaces the preset's, and one budget all of them.
    """
    has_budget = any(key in given for key in _BUDGETS)
    kept = {key: one for key, one in preset.items() if not has_budget or key not in _BUDGETS}
    for table in ("sampler", "pruner"):
        own, told = preset.get(table), given.get(table)
        if isinstance(own, Mapping) and isinstance(told, Mapping) and "name" in told:
            kept[table] = own if own["name"] == told["name"] else {}
    return kept


def _objective_to_ask(info: ValidationInfo) -> str:
    """Return the objective that knows the model's limits, "" where it has been asked before."""
    return "" if info.context is CHECKED else info.data.get("objective", "")
