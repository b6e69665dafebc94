"""Rules for settings beside one another, and settings that follow from others.

Runs nobody's code, and does not depend on the order in which settings are given.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from search_spaces.hparams import MODEL, ROWS
from search_spaces.mistakes import Kind, Mistake
from search_spaces.space import SearchSpace
from sweeps.config.named_trials import find_idle_mistakes, find_trial_mistakes
from sweeps.config.preset import Preset
from sweeps.config.settings import SweepConfig

#: Trials that a grid may have: more would be no plan but an accident.
MAX_GRID = 10_000


def find_mistakes(config: SweepConfig, preset: Preset, wrong: set[str]) -> list[Mistake]:
    """List settings that do not go together.

    Args:
        config: The settings, with their defaults where they are wrong by themselves.
        preset: The objective's: the arguments of its model.
        wrong: Names of the settings that are wrong by themselves: nothing is judged by them.
    """
    rules = [find for needs, find in _RULES if wrong.isdisjoint(needs)]
    return [mistake for find in rules for mistake in find(config, preset)]


def settle(config: SweepConfig) -> SweepConfig:
    """Return the settings with what follows from others: cosine's length, a grid's trials."""
    changes: dict[str, Any] = {}
    if "cosine" in config.space.schedules and config.space.get("schedule_epochs") is None:
        changes["space"] = config.space.pin({"schedule_epochs": config.max_epochs})
    if config.space.get("schedule_epochs") is None:
        changes["tries"] = tuple(
            {**one, "schedule_epochs": config.max_epochs}
            if one.get("schedule") == "cosine" and "schedule_epochs" not in one
            else one
            for one in config.tries
        )
    if config.trials is None:
        changes["trials"] = count_grid(config)
    return config.model_copy(update=changes)


def list_notes(config: SweepConfig) -> list[str]:
    """List warnings about settings that are allowed."""
    space = config.space
    is_balanced = "balanced" in space.list_values("class_weights")
    if not is_balanced or not any(space.list_values("label_smoothing")):
        return []
    # A class of 8 of 1,200 rows: 0.97 of macro-F1 with the weights alone, 0.004 with both.
    return [
        "class_weights = balanced and label_smoothing work against each other where a class is "
        "rare: try them one at a time"
    ]


def count_grid(config: SweepConfig) -> int | None:
    """Return how many trials a sweep of the whole grid has; None: it has no grid."""
    if config.sampler.name != "grid":
        return None
    return config.space.count_grid(config.sampler.points) + len(config.tries)


def _check_patience(config: SweepConfig, preset: Preset) -> Iterator[Mistake]:
    patience, shorter = config.patience, config.prune_patience
    if shorter > patience:
        text = f"must be <= patience, which is {patience}, got {shorter}"
        yield Mistake(("prune_patience",), text)


def _check_model(config: SweepConfig, preset: Preset) -> Iterator[Mistake]:
    text = f"is missing: build_model of {preset.place} has no default for it"
    for name in preset.required:
        if config.space.get(f"{MODEL}{name}") is None:
            yield Mistake(("space", "model", name), text, Kind.MISSING)


def _check_plateau(config: SweepConfig, preset: Preset) -> Iterator[Mistake]:
    for one in _find_plateau_mistakes(config.space, config.patience):
        yield one.below("space")


def _check_grid(config: SweepConfig, preset: Preset) -> Iterator[Mistake]:
    sampler, space = config.sampler, config.space
    if sampler.name != "grid":
        return
    ranges = [one.label for one in space.parameters if not one.choices and not one.is_single]
    if ranges and sampler.points is None:
        text = f"is missing: a grid needs it for the ranges of {', '.join(ranges)}"
        yield Mistake(("sampler", "points"), text, Kind.MISSING)
        return
    most = space.count_grid(sampler.points)
    if most > MAX_GRID:
        what = f"{sampler.points} points" if ranges else "these choices"
        text = f"makes a grid of more than {MAX_GRID:,} trials with {what}"
        yield Mistake(("sampler",), f"{text}; take fewer, or fix some")
    elif config.trials is not None and config.trials > (count_grid(config) or 0):
        text = f"must be <= {count_grid(config)}, the trials of the grid, got {config.trials}"
        yield Mistake(("trials",), text)


def _check_tries(config: SweepConfig, preset: Preset) -> Iterator[Mistake]:
    for number, values in enumerate(config.tries, start=1):
        found = find_trial_mistakes(values, config.space, preset.arguments)
        if not found:
            found = _find_plateau_mistakes(config.space.pin(values), config.patience)
        yield from (one.below("try", str(number)) for one in found)


def _check_warm_start(config: SweepConfig, preset: Preset) -> Iterator[Mistake]:
    if config.warm_start is not None and config.warm_start == config.study:
        yield Mistake(("warm_start",), "must be another study than this one")
    if config.warm_start is not None and config.sampler.name == "grid":
        yield Mistake(("warm_start",), "does not go with a grid, which is trained in full")


_Rule = Callable[[SweepConfig, Preset], Iterable[Mistake]]
#: Each rule with the settings that it looks at.
_RULES: tuple[tuple[frozenset[str], _Rule], ...] = (
    (frozenset({"patience", "prune_patience"}), _check_patience),
    (frozenset({"space"}), _check_model),
    (frozenset({"space", "patience"}), _check_plateau),
    (frozenset({"space", "sampler", "tries", "trials"}), _check_grid),
    (frozenset({"space", "patience", "tries"}), _check_tries),
    (frozenset({"study", "sampler", "warm_start"}), _check_warm_start),
)


def find_idle_rate(given: object, config: SweepConfig) -> list[Mistake]:
    """List a learning rate that a person gave and that no trial can have.

    Args:
        given: The space that the person gave, as a table; a preset's rate is no mistake.
        config: The settings; an optimizer of a named trial may have a rate.
    """
    name = "learning_rate"
    if not isinstance(given, Mapping) or given.get(name) is None:
        return []
    if any(one.get("optimizer") in ROWS[name].optimizers for one in config.tries):
        return []
    return [one.below("space") for one in find_idle_mistakes(name, config.space, by_all=True)]


def _find_plateau_mistakes(space: SearchSpace, patience: int) -> list[Mistake]:
    """List why plateau could not lower a rate before its trial stalls."""
    name = "plateau_patience"
    longest = max(map(int, space.list_values(name)), default=0)
    if longest < patience:
        return []
    default = ", its default" if space.get(name) is None else ""
    # The rate falls after plateau_patience + 1 bad epochs: one more, and an epoch has it.
    text = (
        f"must be < patience, which is {patience}, or a trial stalls before its rate falls; got "
        f"{longest}{default}; set it to {patience // 2}, or patience to {longest + 2}"
    )
    return [Mistake((name,), text)]
