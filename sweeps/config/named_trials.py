"""Trials that a person names: their values under the names of a sweep file, checked and applied.

A name is that of a hyperparameter (``beta1``, ``model.filters``), never Optuna's. Knows no Optuna.
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from search_spaces.hparams import (
    OPTIMIZERS,
    OPTIMIZERS_WITH,
    SCHEDULES,
    SCHEDULES_WITH,
    Hparams,
)
from search_spaces.mistakes import Mistake, Mistakes, show_value
from search_spaces.space import BETAS, SearchSpace, parse_space
from sweeps.config.preset import find_model_space_mistakes
from sweeps.parameters import Parameter, Probe, answer_at_random, draw_probes

_MODEL = "model."
#: One ``name=value`` of a named trial, up to its comma; a quoted value may hold commas.
_PART = re.compile(r"""((?:[^,=]*=\s*(?:"(?:\\.|[^"\\])*"|'[^']*'))?[^,]*),""")
_DRAWS = 64


def flatten_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's values by name; ``model`` and ``betas`` become their own members."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": one for key, one in value.items()}
        elif name == "betas" and isinstance(value, list | tuple):
            flat |= dict(zip(BETAS, value, strict=True))
        else:
            flat[name] = value
    return flat


def pin_values(space: SearchSpace, values: Mapping[str, Any]) -> SearchSpace:
    """Return the space with these hyperparameters fixed, whatever its ranges say."""
    model = {name: value for name, value in values.items() if name.startswith(_MODEL)}
    fields = {name: value for name, value in values.items() if name not in model}
    own = {name.removeprefix(_MODEL): value for name, value in model.items()}
    return space.model_copy(update={**fields, "model": {**space.model, **own}})


def find_value(hparams: Hparams, name: str) -> Any:
    """Return the value that a trial has of a hyperparameter; None: it has none."""
    if name in BETAS:
        return None if hparams.betas is None else hparams.betas[BETAS.index(name)]
    if name.startswith(_MODEL):
        return hparams.model.get(name.removeprefix(_MODEL))
    return getattr(hparams, name, None)


def find_value_mistakes(
    values: Mapping[str, Any], space: SearchSpace, objective: str
) -> list[Mistake]:
    """List what is wrong with a fixed trial; a value outside the space's range is not wrong."""
    found: list[Mistake] = []
    for name, value in values.items():
        found += _find_limit_mistakes(name, value, objective)
    if found:
        return found
    pinned = pin_values(space, values)
    unused: set[str] = set()
    for draw in range(_DRAWS):
        # Hparams refuses what no single value shows, such as two that do not go together.
        try:
            hparams = pinned.suggest(Probe(answer_at_random(draw)))
        except ValueError as error:
            return [Mistake((), f"is no trial: {_first_line(error)}")]
        unused |= {name for name in values if find_value(hparams, name) != values[name]}
    return [Mistake((name,), _explain_unused(name, pinned)) for name in values if name in unused]


def find_unused_rate_mistakes(
    given: object, space: SearchSpace, tries: Sequence[Mapping[str, Any]]
) -> list[Mistake]:
    """List a learning rate that a person gave and that no trial of the space can have.

    Args:
        given: What the person gave of the space, as a table; a preset's rate is no mistake.
        space: The whole space.
        tries: The trials that the person named: their optimizer may have a rate.
    """
    rate = "learning_rate"
    if not isinstance(given, Mapping) or given.get(rate) is None:
        return []
    optimizers = {*space.optimizers, *(one["optimizer"] for one in tries if "optimizer" in one)}
    if optimizers & OPTIMIZERS_WITH[rate]:
        return []
    return [Mistake((rate,), _explain_unused(rate, space))]


def drop_foreign_values(
    values: Mapping[str, Any], space: SearchSpace, objective: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of another study's trial that a space can take, and the names of others.

    A space can take what it could have sampled itself: one of the choices, a number in the range,
    or the very value that it fixes.
    """
    dropped = [name for name, one in values.items() if _find_limit_mistakes(name, one, objective)]
    kept = {name: value for name, value in values.items() if name not in dropped}
    for name, value in values.items():
        if name not in kept:
            continue
        others = {key: one for key, one in kept.items() if key != name}
        if not _can_take(pin_values(space, others), name, value, pinned=pin_values(space, kept)):
            del kept[name]
            dropped.append(name)
    return kept, dropped


def parse_trial(text: str) -> dict[str, Any]:
    """Return the values of ``learning_rate=0.001,optimizer=adam``; each is TOML, or else a text.

    A comma inside a quoted value does not divide.

    Raises:
        ValueError: If a part assigns nothing, or a name comes twice.
    """
    values: dict[str, Any] = {}
    for part in _PART.findall(f"{text},"):
        name, is_assignment, raw = (piece.strip() for piece in part.partition("="))
        if not is_assignment or not name or not raw:
            raise ValueError(f"expected name=value,name=value, got {part.strip()!r}")
        if name in values:
            raise ValueError(f"names {name} twice")
        values[name] = parse_value(raw)
    return values


def parse_value(raw: str) -> Any:
    """Return a value of the command line: TOML, or else the text itself."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw


def check_trials(
    trials: Sequence[Mapping[str, Any]], space: SearchSpace, objective: str
) -> list[Mistake]:
    """List what is wrong with the fixed trials of a sweep; paths count them from 1."""
    return [
        mistake._replace(path=(str(number), *mistake.path))
        for number, values in enumerate(trials, start=1)
        for mistake in find_value_mistakes(values, space, objective)
    ]


def _find_limit_mistakes(name: str, value: Any, objective: str) -> list[Mistake]:
    if not isinstance(value, bool | int | float | str):
        return [Mistake((name,), f"must be one value, got {show_value(value)}")]
    is_model = name.startswith(_MODEL)
    key = name.removeprefix(_MODEL)
    try:
        space = parse_space({"model": {key: value}} if is_model else {name: value})
    except Mistakes as error:
        return [
            one._replace(path=(name, *one.path[2 if is_model else 1 :])) for one in error.items
        ]
    return find_model_space_mistakes(space, objective)


def _can_take(others: SearchSpace, name: str, value: Any, *, pinned: SearchSpace) -> bool:
    """Return whether the space could have sampled the value, in each of some draws of the rest."""
    for draw, fixed in enumerate(draw_probes(pinned, _DRAWS)):
        at_random = answer_at_random(draw)
        own: list[Parameter] = []

        def answer(
            asked: Parameter,
            fixed: Probe = fixed,
            own: list[Parameter] = own,
            at_random: Callable[[Parameter], Any] = at_random,
        ) -> Any:
            # After a value that does not fit, the rest may be that of another optimizer.
            if asked.name in fixed.asked or own:
                return at_random(asked)
            own.append(asked)
            told = to_optuna(asked, value)
            return told if asked.contains(told) else at_random(asked)

        hparams = others.suggest(Probe(answer))
        if not own and find_value(hparams, name) != value:
            return False
        if own and not own[0].contains(to_optuna(own[0], value)):
            return False
    return True


def _explain_unused(name: str, space: SearchSpace) -> str:
    """Return why some trial of a space has no use for a hyperparameter."""
    word = name.replace("_", " ")
    for owner, possible, owners in (
        ("optimizer", space.optimizers, OPTIMIZERS_WITH.get(name, OPTIMIZERS)),
        ("schedule", space.schedules, SCHEDULES_WITH.get(name, SCHEDULES)),
    ):
        lacking = [one for one in possible if one not in owners]
        if lacking and len(lacking) == len(possible):
            kind = "" if owner == "optimizer" else f"{owner} "
            return f"has no use: {kind}{' or '.join(lacking)} takes no {word}"
        if lacking:
            text = "has no use in each trial that this can become; fix what it depends on"
            return f"{text} ({owner}) too"
    return "has no use in each trial that this can become; fix what it depends on too"


def to_optuna(parameter: Parameter, value: Any) -> Any:
    """Return a value of a sweep file in Optuna's terms: 1 - beta for a beta."""
    if not parameter.name.startswith("one_minus_") or isinstance(value, str):
        return value
    # 1 - 0.9 is 0.09999999999999998 in binary; the ends of the range were cut in decimal.
    return float(f"{1.0 - value:.15g}")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-2] if len(lines) > 2 else lines[0] if lines else type(error).__name__
