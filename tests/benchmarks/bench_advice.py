"""How often a sweep is told something where nothing helps, and where something would.

    python tests/benchmarks/bench_advice.py null --studies 20 [--tables mnist1d-one ...]
    python tests/benchmarks/bench_advice.py planted --studies 5

Sweeps are drawn from tables of real learning curves (``tables/README.md``), with random sampling
and halving at epochs 1, 4 and 16, or with every trial trained to the cap. In ``null`` the curves
are dealt out to the settings anew, so that no setting matters: `shuffled` deals those of the whole
table, `equal` those within a standard error of the best. In ``planted`` the space, the cap or the
number of trials is cut so that a better one is in the rest of the table; the truth is what equally
many settings of the advised range reach there.
"""

import argparse
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from advice_sweeps import TABLES, Curves, ask, choose_seed, error_of, read_curves, space_of
from numpy.typing import NDArray

from sweeps.analysis.advice_kinds import Advice, Kind

_HIGH_DROPOUT = 0.3
# Fewest trials of a sweep that is worth the name; fewer settings of a table are left out.
_FEWEST = 40
#: Kinds of advice that change what is sampled.
OF_SPACE = (Kind.RATE, Kind.EDGE)


def run_null(names: Sequence[str], studies: int) -> None:
    """Print how often anything is said where no setting matters."""
    print("| table | curves | sweeps | told of the space | told anything | kinds |")
    print("|---|---|---|---|---|---|")
    totals: dict[str, list[int]] = {"shuffled": [0, 0, 0], "equal": [0, 0, 0]}
    for name in names:
        for how in totals:
            rng = np.random.default_rng(11)
            kinds: Counter[str] = Counter()
            of_space = said = 0
            for number in range(studies):
                curves = read_curves(name, choose_seed(name, number))
                best = curves.best
                pool = np.arange(len(best))
                if how == "equal":
                    pool = np.flatnonzero(best >= best.max() - 1.5 * error_of(name, best.max()))
                rows = rng.choice(pool, 54 if how == "shuffled" else 30, replace=how == "equal")
                others = rng.choice(len(best), len(rows), replace=False)
                found = ask(
                    curves,
                    rows,
                    space=space_of(curves),
                    params=[curves.params[row] for row in others],
                    is_halving=bool(number % 2),
                )
                kinds.update(each.kind.name for each in found)
                of_space += any(each.kind in OF_SPACE for each in found)
                said += bool(found)
            for at, value in enumerate((studies, of_space, said)):
                totals[how][at] += value
            told = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
            print(f"| {name} | {how} | {studies} | {of_space} | {said} | {told} |", flush=True)
    for how, (count, of_space, said) in totals.items():
        print(f"| all | {how} | {count} | {of_space / count:.1%} | {said / count:.1%} | |")


@dataclass(frozen=True)
class Planted:
    """A sweep with a known mistake.

    Attributes:
        name: What is wrong.
        kinds: Advice that is right.
        option: What one of its options begins with; a ``+`` or ``-``: raise or lower it.
        is_in: Which settings the wrong space has.
        change: Makes the wrong space of the whole one.
        worth: Which settings the right space has: sweeps where it is not better by a standard
            error are left out; None: not asked.
        how: Arguments of ``ask``.
        trials: Of the sweep.
        around: An optimizer, alone: its rates are a decade on both sides of its best one, so that
            advice on them is wrong.
        about: What an option that is right names.
    """

    name: str
    kinds: tuple[Kind, ...]
    option: str
    is_in: Callable[[Mapping[str, Any]], bool]
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda space: space
    worth: Callable[[Mapping[str, Any]], bool] | None = None
    how: Mapping[str, Any] | None = None
    trials: int = 54
    around: str | None = None
    about: str = ""


def _rate(low: float, high: float, *optimizers: str) -> dict[str, Any]:
    own = list(optimizers) or ["adam", "rmsprop", "sgd"]

    def is_in(params: Mapping[str, Any]) -> bool:
        return params["optimizer"] in own and low <= params["learning_rate"] <= high

    def change(space: dict[str, Any]) -> dict[str, Any]:
        changed = space | {
            "optimizer": own,
            "learning_rate": {"low": low, "high": high, "log": True},
        }
        if "rmsprop" not in own:  # a range of its own would be refused
            changed["momentum"] = {"low": 0.0, "high": 0.95}
        if "sgd" not in own:
            del changed["momentum"]
        if "adam" not in own:
            del changed["beta1"], changed["beta2"]
        return changed

    def is_better(params: Mapping[str, Any]) -> bool:
        rate, middle = params["learning_rate"], math.sqrt(low * high)
        ends = (middle, 3 * high) if low < 2e-5 else (low / 3, middle)
        return params["optimizer"] in own and ends[0] <= rate <= ends[1]

    return {"is_in": is_in, "change": change, "worth": is_better}


def _surround(planted: Planted, curves: Curves) -> Planted:
    """Return it with the rates of its optimizer around the mean of its five best settings."""
    name = planted.around
    assert name is not None
    own = [i for i, each in enumerate(curves.params) if each["optimizer"] == name]
    best = sorted(own, key=lambda i: -curves.best[i])[:5]
    middle = 10 ** float(np.mean([math.log10(curves.params[i]["learning_rate"]) for i in best]))
    return replace(planted, **{**_rate(middle / 10, middle * 10, name), "worth": None})


def _any(params: Mapping[str, Any]) -> bool:
    return True


WHOLE = {"is_halving": False}
PLANTED = (
    Planted("all rates too low", (Kind.RATE,), "+", **_rate(1e-5, 1e-3)),
    Planted("all rates too high", (Kind.RATE,), "-", **_rate(0.03, 1.0)),
    Planted("rates of adam too low", (Kind.RATE,), "+", **_rate(1e-5, 5e-4, "adam")),
    Planted("rates of adam too high", (Kind.RATE,), "-", **_rate(0.02, 1.0, "adam")),
    Planted("rates of sgd too low", (Kind.RATE,), "+", **_rate(1e-5, 5e-3, "sgd")),
    Planted("rates of rmsprop too high", (Kind.RATE,), "-", **_rate(0.01, 1.0, "rmsprop")),
    Planted(
        "rates of sgd and adam too low", (Kind.RATE,), "+", **_rate(1e-5, 1e-3, "adam", "sgd")
    ),
    Planted("cap of 6 epochs", (Kind.EPOCHS,), "max_epochs=+", _any, how={"cap": 6, **WHOLE}),
    Planted("cap of 10 epochs", (Kind.EPOCHS,), "max_epochs=+", _any, how={"cap": 10, **WHOLE}),
    Planted(
        "dropout too high",
        (Kind.EDGE,),
        "-",
        lambda params: params["dropout"] >= _HIGH_DROPOUT,
        lambda space: space | {"dropout": {"low": _HIGH_DROPOUT, "high": 0.6}},
        lambda params: _HIGH_DROPOUT - 0.15 <= params["dropout"] <= _HIGH_DROPOUT + 0.15,
        about="space.dropout",
    ),
    Planted("nothing", (Kind.RATE,), "", _any),
    Planted("nothing: a decade around adam's best", (Kind.RATE,), "", _any, around="adam"),
    Planted("nothing: around sgd's best", (Kind.RATE,), "", _any, around="sgd"),
    Planted("nothing: around rmsprop's best", (Kind.RATE,), "", _any, around="rmsprop"),
)


def _direction(advice: Advice, space: Mapping[str, Any]) -> str:
    """Return ``+`` or ``-``: whether the advised range reaches beyond the high or the low end."""
    ends = dict(option.split(" ", 1)[1].split("=", 1) for option in advice.options)
    old = space[next(iter(ends)).split(".")[1]]
    new = max(float(value) for key, value in ends.items() if key.endswith("high"))
    return "+" if new > old["high"] else "-"


def run_planted(names: Sequence[str], studies: int) -> None:
    """Print how many planted problems are found, and what following the advice brings."""
    print("| wrong | tables | sweeps | right | opposite | nothing | true gain |")
    print("|---|---|---|---|---|---|---|")
    for planted in PLANTED:
        right = wrong = nothing = total = 0
        used = set()
        gained: list[float] = []
        for name in names:
            rng = np.random.default_rng(13)
            for number in range(studies):
                curves = read_curves(name, choose_seed(name, number))
                if planted.around is not None:
                    planted = _surround(planted, curves)
                pool = np.array([i for i, p in enumerate(curves.params) if planted.is_in(p)])
                if len(pool) < min(planted.trials, _FEWEST):
                    continue
                rows = rng.choice(pool, min(planted.trials, len(pool)), replace=False)
                space = planted.change(space_of(curves))
                found = ask(curves, rows, space=space, **(planted.how or {}))
                if planted.worth is not None:
                    better = np.array([i for i, p in enumerate(curves.params) if planted.worth(p)])
                    best = curves.best
                    if _reach(best, better, rows, rng) - _reach(best, pool, rows, rng) < error_of(
                        name, float(best.max())
                    ):
                        continue
                total += 1
                used.add(name)
                nothing += not found
                own = [each for each in found if each.kind in planted.kinds]
                own = [each for each in own if planted.about in each.options[0]]
                if planted.kinds[0] in OF_SPACE:
                    signs = [_direction(each, space) for each in own]
                    right += planted.option in signs
                    wrong += any(sign != planted.option for sign in signs)
                else:
                    right += bool(own)
                if own and planted.kinds[0] is Kind.RATE:
                    gained.append(_true_gain(curves, rows, own[0], planted, rng))
        gain = f"{np.nanmean(gained):.3f}" if gained else ""
        cells = (planted.name, len(used), total, right, wrong, nothing, gain)
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def _true_gain(
    curves: Curves,
    rows: NDArray[np.int64],
    advice: Advice,
    planted: Planted,
    rng: np.random.Generator,
) -> float:
    """Return the mean best of equally many settings in the advised range, minus in the old one."""
    ends = dict(option.split(" ", 1)[1].split("=", 1) for option in advice.options)
    low, high = sorted(float(value) for value in ends.values())
    path = next(iter(ends)).split(".")
    own = path[3] if "by_optimizer" in path else None

    def is_new(params: Mapping[str, Any]) -> bool:
        if own is None or params["optimizer"] == own:
            return low <= params["learning_rate"] <= high
        return planted.is_in(params)

    olds = {str(curves.params[row]["optimizer"]) for row in rows}
    new = np.array(
        [i for i, p in enumerate(curves.params) if p["optimizer"] in olds and is_new(p)]
    )
    old = np.array([i for i, p in enumerate(curves.params) if planted.is_in(p)])
    if len(new) < 5:
        return math.nan
    size = min(len(new), len(rows)) // 2
    best = curves.best

    return _reach(best, new, rows[: 2 * size], rng) - _reach(best, old, rows[: 2 * size], rng)


def _reach(
    best: NDArray[np.float64],
    pool: NDArray[np.int64],
    rows: NDArray[np.int64],
    rng: np.random.Generator,
) -> float:
    """Return the mean best of half as many settings as a sweep has, or of half of the pool."""
    size = min(len(pool), len(rows)) // 2
    return float(np.mean([best[rng.choice(pool, size, replace=False)].max() for _ in range(50)]))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("what", choices=("null", "planted"))
    parser.add_argument("--studies", type=int, default=10)
    names = sorted(path.stem for path in TABLES.glob("*.npz"))
    parser.add_argument("--tables", nargs="*", default=names)
    given = parser.parse_args()
    (run_null if given.what == "null" else run_planted)(given.tables, given.studies)


if __name__ == "__main__":
    main()
