"""A search space: what each hyperparameter may be in a study, and what follows from it.

Knows which trial has which hyperparameter; knows no sampler, no file and no objective.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from search_spaces.hparams import (
    MODEL,
    OPTIMIZERS,
    ROWS,
    Hparams,
    ModelValue,
    Row,
    find_row,
)
from search_spaces.mistakes import Mistake, Mistakes, show_value, unknown_key, wrong
from search_spaces.parameters import Parameter, TrialLike
from search_spaces.ranges import Range, Spec, describe_spec, parse_spec


@dataclass(frozen=True)
class SearchSpace:
    """What may vary in a study; a hyperparameter that it does not name has its default.

    What a trial's optimizer or schedule does not have is not sampled for it. An optimizer's own
    range is a parameter of its own to Optuna, hence a group for ``TPESampler(group=True)``.

    Attributes:
        specs: A fixed value, choices or a range by name (``learning_rate``, ``model.filters``), in
            the order of ``Hparams``.
    """

    specs: Mapping[str, Spec] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Spec:
        return self.specs[name]

    def get(self, name: str) -> Spec | None:
        """Return what it says of a hyperparameter; None: nothing."""
        return self.specs.get(name)

    @property
    def optimizers(self) -> tuple[str, ...]:
        """The optimizers that a trial can have."""
        return _list_names(self.specs.get("optimizer", "adam"))

    @property
    def schedules(self) -> tuple[str, ...]:
        """The schedules of the learning rate that a trial can have."""
        if ROWS["schedule"].optimizers.isdisjoint(self.optimizers):
            return ("constant",)
        return _list_names(self.specs.get("schedule", "constant"))

    @cached_property
    def kinds(self) -> tuple[tuple[str, str], ...]:
        """The optimizer and the schedule of each kind of trial; they decide what it has."""
        rated = ROWS["schedule"].optimizers
        return tuple(
            (optimizer, schedule)
            for optimizer in self.optimizers
            for schedule in (self.schedules if optimizer in rated else ("constant",))
        )

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """All that a sampler may draw, a choice of one included."""
        found = (
            self.find(name, optimizer)
            for name in self.specs
            for optimizer, schedule in self.kinds
            if find_row(name).is_of(optimizer, schedule)
        )
        by_name = {one.name: one for one in found if isinstance(one, Parameter)}
        return tuple(by_name.values())

    @property
    def varying(self) -> tuple[str, ...]:
        """The names of the hyperparameters of which trials may have two values or more."""
        names = dict.fromkeys(one.row.name for one in self.parameters if not one.is_single)
        return tuple(names)

    def find(self, name: str, optimizer: str) -> Parameter | ModelValue | None:
        """Return what trials of an optimizer draw of a hyperparameter, or its fixed value."""
        spec = self.specs.get(name)
        if not isinstance(spec, Range):
            return Parameter(find_row(name), spec) if isinstance(spec, tuple) else spec
        own = spec.by_optimizer.get(optimizer)
        if own is None:
            return Parameter(find_row(name), spec, others=frozenset(spec.by_optimizer))
        return Parameter(find_row(name), own, optimizer) if isinstance(own, Range) else own

    def suggest(self, trial: TrialLike) -> Hparams:
        """Return the trial's hyperparameters, asking it for those that vary and apply."""
        values: dict[str, Any] = {"optimizer": "adam", "schedule": "constant"}
        for name in self.specs:
            if find_row(name).is_of(values["optimizer"], values["schedule"]):
                found = self.find(name, values["optimizer"])
                values[name] = found.suggest(trial) if isinstance(found, Parameter) else found
        return Hparams.from_values(values)

    def read(self, hparams: Hparams) -> Iterator[tuple[Parameter, ModelValue]]:
        """Yield what a sampler would have drawn for a trial, and the value that it has.

        A choice that the space does not have is left out; a number outside its range is not.
        """
        values = hparams.to_values()
        for name in self.specs:
            found = self.find(name, hparams.optimizer)
            if not isinstance(found, Parameter) or name not in values:
                continue
            if not found.choices or values[name] in found.choices:
                yield found, values[name]

    def first(self) -> Hparams:
        """Return a trial with the first choice and the lowest number of everything."""
        return Hparams.from_values(next(self.list_grid(points=2)))

    def list_grid(self, points: int | None) -> Iterator[dict[str, ModelValue]]:
        """Yield the values of each trial of its grid; the last hyperparameter runs fastest.

        Choices are taken in full, and ``points`` values of a range, evenly on its scale; what a
        trial does not have is not multiplied.

        Args:
            points: Values of each range; 1: its middle. None will do where nothing is a range.
        """
        for axes in self._list_axes(points):
            for values in itertools.product(*axes.values()):
                yield dict(zip(axes, values, strict=True))

    def count_grid(self, points: int | None) -> int:
        """Return how many trials its grid has."""
        return sum(
            math.prod(len(values) for values in axes.values()) for axes in self._list_axes(points)
        )

    def list_values(self, name: str) -> list[ModelValue]:
        """Return the values of a hyperparameter over all its trials: choices, ends of ranges."""
        found = [
            value
            for optimizer, schedule in self.kinds
            if find_row(name).is_of(optimizer, schedule)
            for value in self._spread(name, optimizer, 2)
        ]
        return list(dict.fromkeys(found))

    def _list_axes(self, points: int | None) -> Iterator[dict[str, list[ModelValue]]]:
        for optimizer, schedule in self.kinds:
            kind = {"optimizer": optimizer, "schedule": schedule}
            yield {
                name: [kind[name]] if name in kind else self._spread(name, optimizer, points or 1)
                for name in self.specs
                if find_row(name).is_of(optimizer, schedule)
            }

    def _spread(self, name: str, optimizer: str, points: int) -> list[ModelValue]:
        found = self.find(name, optimizer)
        if isinstance(found, Parameter):
            return found.spread(points)
        value = find_row(name).default if found is None else found
        return [] if value is None else [value]

    def pin(self, values: Mapping[str, ModelValue]) -> "SearchSpace":
        """Return the space with these hyperparameters fixed, whatever its ranges say."""
        return SearchSpace(_sort({**self.specs, **values}))

    def can_draw(self, name: str, value: ModelValue) -> bool:
        """Return whether each trial could get a value of a hyperparameter: all have it."""
        row = find_row(name)
        for optimizer, schedule in self.kinds:
            if not row.is_of(optimizer, schedule):
                return False
            found = self.find(name, optimizer)
            allowed = row.default if found is None else found
            if not (
                allowed.contains(value) if isinstance(allowed, Parameter) else allowed == value
            ):
                return False
        return True

    def list_lacking(self, name: str) -> tuple[list[str], list[str]]:
        """Return the optimizers and the schedules that its trials can have without this."""
        row = find_row(name)
        optimizers = [one for one in self.optimizers if one not in row.optimizers]
        return optimizers, [one for one in self.schedules if one not in row.schedules]

    def describe(self) -> list[tuple[str, str]]:
        """List (name, text) for people: what can be sampled, and what is fixed."""
        lines = []
        for name, spec in self.specs.items():
            only = self._describe_owners(name)
            if only is not None:
                lines.append((name, describe_spec(spec, is_beta=find_row(name).is_beta) + only))
        return lines

    def _describe_owners(self, name: str) -> str | None:
        """Return ", sgd only" or ", not armijo" where some trials lack it, None where all do."""
        text = ""
        possible = (self.optimizers, self.schedules)
        for names, lacking in zip(possible, self.list_lacking(name), strict=True):
            owners = [one for one in names if one not in lacking]
            if not owners:
                return None
            if lacking == ["armijo"] and len(owners) > 1:
                text += ", not armijo"
            elif lacking:
                text += f", {'/'.join(owners)} only"
        return text

    def to_table(self) -> dict[str, Any]:
        """Return the space as it would stand in a sweep file, in JSON values."""
        table: dict[str, Any] = {}
        for name, spec in self.specs.items():
            value: Any = list(spec) if isinstance(spec, tuple) else spec
            value = spec.to_table() if isinstance(spec, Range) else value
            if name.startswith(MODEL):
                table.setdefault("model", {})[name.removeprefix(MODEL)] = value
            else:
                table[name] = value
        return table


def parse_space(values: object, arguments: Mapping[str, Row] | None = None) -> SearchSpace:
    """Return the search space of a table of a sweep file.

    Args:
        values: The table.
        arguments: Those of the objective's model, by name; None: any will do.

    Raises:
        Mistakes: All mistakes at once; paths start in the table.
    """
    if isinstance(values, SearchSpace):
        return values
    if not isinstance(values, Mapping):
        raise wrong(f"must be a table, got {show_value(values)}")
    specs: dict[str, Spec] = {}
    mistakes: list[Mistake] = []
    model = values.get("model", {})
    if not isinstance(model, Mapping):
        mistakes.append(Mistake(("model",), f"must be a table, got {show_value(model)}"))
        model = {}
    for name, value in {**values, **{f"{MODEL}{key}": one for key, one in model.items()}}.items():
        if name == "model" or value is None:
            continue
        is_model = name.startswith(MODEL)
        *table, key = path = ("model", name.removeprefix(MODEL)) if is_model else (name,)
        rows = ROWS if not is_model else {key: find_row(name)} if arguments is None else arguments
        if not key.isidentifier():
            mistakes.append(Mistake(path, "is not a valid name of a Python argument"))
        elif key not in rows:
            mistakes.append(unknown_key(path, rows if table else [*rows, "model"]))
        else:
            try:
                specs[name] = parse_spec(value, rows[key])
            except Mistakes as error:
                mistakes += [one.below(*path) for one in error.items]
    space = SearchSpace(_sort(specs))
    # A space whose optimizers are wrong may have any.
    optimizers = OPTIMIZERS if any(one.path[0] == "optimizer" for one in mistakes) else None
    mistakes += _find_idle_ranges(space, optimizers or space.optimizers)
    if mistakes:
        raise Mistakes(mistakes)
    return space


def _find_idle_ranges(space: SearchSpace, optimizers: tuple[str, ...]) -> Iterator[Mistake]:
    """Yield the optimizers' own ranges that no trial could use."""
    for name, spec in space.specs.items():
        for one in spec.by_optimizer if isinstance(spec, Range) else ():
            path = (*name.split("."), "by_optimizer", one)
            if one not in OPTIMIZERS:
                yield unknown_key(path, OPTIMIZERS)
            elif one not in find_row(name).optimizers:
                yield Mistake(path, f"has no use: {one} has no {name}")
            elif one not in optimizers:
                yield Mistake(path, f"has no use: optimizer is one of {', '.join(optimizers)}")


def _sort(specs: Mapping[str, Spec]) -> dict[str, Spec]:
    """Return specs in the order of ``Hparams``, those of the model last and as they were."""
    places = {name: place for place, name in enumerate(ROWS)}
    return dict(sorted(specs.items(), key=lambda item: places.get(item[0], len(places))))


def _list_names(spec: Spec) -> tuple[str, ...]:
    return tuple(map(str, spec)) if isinstance(spec, tuple) else (str(spec),)
