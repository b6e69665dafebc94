"""All settings of a sweep in one record, each checked by itself.

What a setting may be beside others is in ``rules``; where settings come from, in ``load``. Imports
neither torch nor Optuna, so that a mistake is answered at once.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
)

from objectives.metric_names import DEFAULT_METRIC, check_metric
from search_spaces.hparams import flatten
from search_spaces.mistakes import is_utf8, show_value, suggest_names, wrong
from search_spaces.presets import PRESETS
from search_spaces.space import SearchSpace, parse_space
from sweeps.config.fields import STRICT, Positive
from sweeps.config.preset import is_known
from sweeps.config.pruner import PrunerConfig
from sweeps.config.sampler import SamplerConfig


def _require_known(objective: str) -> str:
    if not is_known(objective):
        raise wrong(f"is unknown: {objective!r}; {suggest_names(objective, PRESETS)}")
    return objective


def _require_utf8(named: str | Path) -> str | Path:
    path = str(named.resolve() if isinstance(named, Path) else named)
    if not is_utf8(path):
        raise wrong(f"must have a name in UTF-8, got {path!a}")
    return named


def _require_plain(study: str) -> str:
    if not re.fullmatch(r"(?!-)[A-Za-z0-9._-]{1,128}", study):
        text = "must be 1 to 128 letters, digits, '.', '_' or '-', the first one no '-'"
        raise wrong(f"{text}, got {show_value(study)}")
    return study


def _require_metric(metric: str) -> str:
    check_metric(metric)
    return metric


def _read_trials(tries: object) -> tuple[dict[str, Any], ...]:
    """Return named trials, each once, their model's arguments as ``model.NAME``."""
    if not isinstance(tries, list | tuple) or not all(isinstance(one, Mapping) for one in tries):
        raise wrong(f"must be a list of tables, got {show_value(tries)}")
    flat = [flatten(one) for one in tries]
    return tuple(one for i, one in enumerate(flat) if one not in flat[:i])


Utf8 = AfterValidator(_require_utf8)


class SweepConfig(BaseModel):
    """All settings of a sweep; ``load_config`` lays them over the objective's preset.

    Raises:
        pydantic.ValidationError: If a setting is wrong; ``load_config`` says so in one line each.
    """

    model_config = ConfigDict(
        **STRICT, validate_by_name=True, validate_by_alias=True, use_attribute_docstrings=True
    )

    objective: Annotated[str, Utf8, AfterValidator(_require_known)]
    """One that ships, or one's own: ``file.py``, ``file.py:Class``, ``package.module:Class``."""
    study: Annotated[str, AfterValidator(_require_plain)]
    """Name of the study; the objective's name unless told."""
    metric: Annotated[str, AfterValidator(_require_metric)] = DEFAULT_METRIC
    """What the score is: ``macro-f1``, ``accuracy``, ..., or ``f1:CLASS``; higher is better."""
    max_total_epochs: Positive | None = None
    """Epochs that all trials of the study train together; those repeated after a crash are not
    counted. None: no limit."""
    max_minutes: Annotated[float, Field(gt=0.0)] | None = None
    """Minutes of each run after which no further epoch starts; None: no limit."""
    max_epochs: Positive = 40
    """Most epochs of one trial."""
    patience: Positive = 15
    """Epochs without a rise above ``min_delta`` after which a trial has stalled."""
    prune_patience: Positive = 3
    """The same for a trial below the median; equal to ``patience``: no such rule."""
    min_delta: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.001
    """Smallest rise of the score that counts, in points of the score."""
    audit: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the trials that run on to ``max_epochs`` where stopping would have ended them."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides the sampler's draws, each trial's weights and the order of the batches."""
    data: Annotated[Path, Field(strict=False), Utf8] | None = None
    """The data file; None: the one that ships with the project."""
    label: Annotated[str, Field(min_length=1)] = "label"
    """Column of the data file that holds the classes."""
    workers: Positive | None = None
    """Worker processes; None: one per core."""
    slots: Positive | None = None
    """Most trials that a lane trains at once; None: as many as its measured epochs justify."""
    checkpoint_seconds: Annotated[float, Field(ge=0.0)] = 60.0
    """Seconds of training after which a lane's states are written: what a dead trainer costs."""
    db_wait: Annotated[float, Field(ge=0.0)] = 10.0
    """Minutes for which a run waits for a database that does not answer."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where trials train; ``auto``: on all GPUs, or on the CPU where there is none."""
    precision: Literal["float32", "tf32"] = "float32"
    """Of matrix products, forward and backward; all else is float32. tf32 is for CUDA alone."""
    space: Annotated[
        SearchSpace, PlainValidator(parse_space), PlainSerializer(SearchSpace.to_table)
    ] = SearchSpace()
    sampler: SamplerConfig = SamplerConfig()
    pruner: PrunerConfig = PrunerConfig()
    tries: Annotated[
        tuple[dict[str, Any], ...], BeforeValidator(_read_trials), Field(alias="try")
    ] = ()
    """Trials to run first, by hyperparameter; what they leave out is sampled."""
    warm_start: str | None = None
    """Study of the same database whose best configurations are trained here first."""
    trials: Positive | None = None
    """Most trials that the study starts; None: no limit. A grid has all of its own unless told."""
    storage: Annotated[str, Utf8] | None = None
    """URL of the database; None: the default one."""

    def stored(self) -> dict[str, Any]:
        """Return all settings in JSON values, as a study keeps them; no database, no password."""
        table = self.model_dump(mode="json", by_alias=True, exclude={"storage", "data"})
        table["data"] = None if self.data is None else str(self.data.resolve())
        return table

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "SweepConfig":
        """Return what ``stored`` was made of."""
        return cls.model_validate(stored)
