"""What to change in the next sweep: three kinds of advice, each shown by comparing trials.

Everything that is tested in a study is tested together (Holm 1979), so that of studies in which
nothing helps at most 5 % are told to change something. Opens no database.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from search_spaces.presets import ARGUMENTS
from search_spaces.space import parse_space
from sweeps.analysis.advice_kinds import Advice, Kind, Tested
from sweeps.analysis.effects import (
    Effect,
    Standings,
    compare_all,
    find_effects,
    propose,
)
from sweeps.analysis.epochs import check_epochs
from sweeps.analysis.facts import TrialFacts
from sweeps.analysis.ties import Ties
from sweeps.analysis.verdicts import Judged, Reason, Verdict
from sweeps.read import words
from sweeps.read.study import Study

#: Most pieces of advice of a study.
MOST_ADVICE = 3
#: Share of studies without an effect that may be told of one.
LEVEL = 0.05


def advise(
    study: Study, facts: Sequence[TrialFacts], judged: Sequence[Judged], ties: Ties
) -> tuple[Advice, ...]:
    """Return at most three changes, in the order of ``Kind``; none where nothing is shown.

    A foreign study has no settings to change, and one in which the training data are learned and
    nothing of the validation data has none that would help.
    """
    if not study.is_sweep or _is_nothing_general(judged):
        return ()
    standings = compare_all(facts)
    tests = [*_test_ranges(study, standings), *check_epochs(study, facts, ties)]
    order = list(Kind)
    return tuple(sorted(_correct(tests), key=lambda each: order.index(each.kind))[:MOST_ADVICE])


def _correct(tests: Sequence[Tested]) -> Iterator[Advice]:
    """Yield the advice whose test holds after Holm's correction over all tests."""
    corrected = 0.0
    for index, test in enumerate(sorted(tests, key=lambda each: each.p)):
        corrected = max(corrected, min(1.0, (len(tests) - index) * test.p))
        if test.advice is not None and corrected <= LEVEL:
            yield replace(test.advice, p=corrected)


def _is_nothing_general(judged: Sequence[Judged]) -> bool:
    """Return whether trials fit the training data, and none has a score above guessing."""
    learned = (Verdict.CONVERGED, Verdict.IMPROVING, Verdict.OVERFITTING)
    return any(each.reason is Reason.NOTHING_GENERALISES for each in judged) and not any(
        each.verdict in learned for each in judged
    )


def _test_ranges(study: Study, standings: Standings) -> Iterator[Tested]:
    sampler = (study.config.get("sampler") or {}).get("name")
    for effect in find_effects(standings, study.space, sampler=sampler):
        is_worth = effect.is_open and effect.lead > study.min_delta
        yield Tested(effect.p, _move_range(study, effect) if is_worth else None)


def _move_range(study: Study, effect: Effect) -> Advice | None:
    ends = propose(effect)
    if ends is None:
        return None
    each, is_up = effect.parameter, effect.end == "high"
    low, high = ends
    path = each.path
    changes: dict[str, Any]
    if effect.choices:
        values = [v for v in effect.choices if low <= v <= high]
        changes = {path: sorted({*values, high if is_up else low})}
        said = words.listing([f"{value:g}" for value in changes[path]])
    else:
        if effect.optimizer is not None and each.optimizer is None:
            path = f"{path}.by_optimizer.{effect.optimizer}"
        changes = {f"{path}.low": low, f"{path}.high": high}
        said = f"{low:g} to {high:g}"
    if not _is_allowed(study, changes):
        return None
    of = "" if effect.optimizer is None else f" of {effect.optimizer}"
    change, side = ("Raise", "upper") if is_up else ("Lower", "lower")
    return Advice(
        Kind.RATE if each.row.name == "learning_rate" else Kind.EDGE,
        f"{change} the {words.label(each.row.name)}{of}: sample {said}.",
        f"Of {words.count(effect.trials, 'trial')}, those near the {side} end of "
        f"{each.low:g} to {each.high:g} were ahead in {effect.outer * 100:.0f} % of the "
        "comparisons with other trials after as many epochs, those in the other half in "
        f"{effect.others * 100:.0f} %.",
        options=tuple(_set(name, value) for name, value in changes.items()),
    )


def _set(name: str, value: object) -> str:
    if isinstance(value, list):
        return f"--set {shlex.quote(f'space.{name}={value}')}"
    return f"--set space.{name}={value:g}"


def _is_allowed(study: Study, changes: Mapping[str, Any]) -> bool:
    """Return whether the space may have these values (steps, limits of the objective's model).

    An objective of the user's own is not asked: that runs its code.
    """
    space = change_space(study.space, changes)
    try:
        parse_space(space, ARGUMENTS.get(study.objective))
    except ValueError:
        return False
    return True


def change_space(space: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a space as a table with other values, by their paths in it."""
    changed = _copy(space)
    for path, value in changes.items():
        table = changed
        *above, last = path.split(".")
        for name in above:
            table = table.setdefault(name, {})
        table[last] = value
    return changed


def _copy(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _copy(value) if isinstance(value, Mapping) else value
        for name, value in table.items()
    }
