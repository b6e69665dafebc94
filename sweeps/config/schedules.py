"""Whether the learning rate's schedules fit the epochs that a sweep gives its trials.

Knows what a space and a named trial can ask for; knows no file. Imports neither torch nor Optuna.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.hparams import OPTIMIZERS_WITH, Hparams
from search_spaces.mistakes import Mistake
from search_spaces.space import Range, SearchSpace, Spec
from sweeps.config.named_trials import pin_values


def fit_cosine(space: SearchSpace, max_epochs: int) -> SearchSpace:
    """Return the space with cosine's length set to the trials', where nobody says it."""
    if "cosine" not in space.schedules or space.schedule_epochs is not None:
        return space
    return space.model_copy(update={"schedule_epochs": max_epochs})


def fit_cosine_trial(
    values: Mapping[str, Any], space: SearchSpace, max_epochs: int
) -> dict[str, Any]:
    """Return a named trial with cosine's length, where it names cosine and nobody says it."""
    names_cosine = values.get("schedule") == "cosine" and "schedule_epochs" not in values
    if names_cosine and space.schedule_epochs is None:
        return {**values, "schedule_epochs": max_epochs}
    return dict(values)


def find_plateau_mistakes(space: SearchSpace, patience: int) -> list[Mistake]:
    """List why plateau could not lower a rate before its trial stalls; paths start in the space.

    Args:
        space: The search space.
        patience: Epochs without a rise after which a trial has stalled.
    """
    longest = _find_longest(space)
    if longest is None or longest < patience:
        return []
    default = ", its default" if space.plateau_patience is None else ""
    # The rate falls after plateau_patience + 1 bad epochs: one more, and an epoch has it.
    text = (
        f"must be < patience, which is {patience}, or a trial stalls before its rate falls; got "
        f"{longest}{default}; set it to {patience // 2}, or patience to {longest + 2}"
    )
    return [Mistake(("plateau_patience",), text)]


def find_trial_mistakes(
    trials: Sequence[Mapping[str, Any]], space: SearchSpace, patience: int
) -> list[Mistake]:
    """List the same for the named trials of a sweep; paths count them from 1."""
    return [
        mistake._replace(path=(str(number), *mistake.path))
        for number, values in enumerate(trials, start=1)
        for mistake in find_plateau_mistakes(pin_values(space, values), patience)
    ]


def _find_longest(space: SearchSpace) -> int | None:
    """Return the largest ``plateau_patience`` that a trial can have; None: none has one."""
    owners = [one for one in space.optimizers if one in OPTIMIZERS_WITH["schedule"]]
    if "plateau" not in space.schedules or not owners:
        return None
    spec = space.plateau_patience
    if spec is None:
        default = Hparams(schedule="plateau").plateau_patience
        assert default is not None, "plateau has a patience"
        return default
    return max(_find_highest(spec, optimizer) for optimizer in owners)


def _find_highest(spec: Spec, optimizer: str) -> int:
    if isinstance(spec, Range):
        own = spec.by_optimizer.get(optimizer)
        return int(spec.high) if own is None else _find_highest(own, "")
    return max(int(one) for one in (spec if isinstance(spec, tuple) else (spec,)))
