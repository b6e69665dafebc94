"""Replays rules for who goes on over tables of real learning curves, lanes and slots included.

    python tests/benchmarks/bench_replay.py rules|epochs|slots|shapes|samplers
        [--taskset FILE] [--only TABLE] [--repeats 16]

``rules``: by the seconds that a sweep takes, without another budget; ``epochs``: at the end of a
budget of epochs; ``slots``, ``shapes`` and ``samplers`` vary those for the default rule. What is
printed is the normalised regret of the best score so far: 0 is the best setting of the table, 1
the median one. ``worse by`` is the upper end of the 90 % interval of the difference to the old
default with the same settings in the same order, at the moment and table where it is worst.

A replay takes two cores of the sweep's seconds and some milliseconds of ours. The engine's own
``sweeps/running/rungs.py`` decides; costs are those of ``replay_costs.py``.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from replay_draws import RandomDraw, TpeDraw
from replay_engine import Draw, Rule, replay
from replay_rules import OldDefault, Promotion, Rounds, Stall, ThenTheBest
from replay_tables import Table, read_own, read_taskset

TABLES = Path(__file__).parent / "tables"
SECONDS = (2.0, 4.0, 7.5, 15.0, 30.0, 60.0)
EPOCHS = (100, 200, 400, 800, 1600)
#: Of a small network, which TaskSet does not say: 36 ms for one slot, 101 ms for 16.
TASKSET_COST = (0.032, 0.0043)
Z_90 = 1.645

Make = Callable[[Table, int], Rule]


@dataclass(frozen=True, slots=True)
class Case:
    """What is replayed.

    Attributes:
        label: For people.
        make: Returns the rule for a table and a budget in epochs, 0 if there is none.
        slots: Trials at once a trainer; None: as many as pay.
        siblings: New trials of one shape in a row; None: as many as a trainer has at once, where
            lanes pay at all.
        draw: Returns the sampler for a table and a seed.
    """

    label: str
    make: Make
    slots: int | None = None
    siblings: int | None = None
    draw: Callable[[Table, int], Draw] = RandomDraw


OLD = Case("old default: median from epoch 6, stall 6", lambda t, _: OldDefault(t), None, 1)
DEFAULT = Case("promotion 1, 1 in 4 (default)", lambda t, b: Promotion(t, b))
RULES = (
    Case("every trial to its end", lambda t, _: Stall(t, patience=None)),
    Case("stall after 6", lambda t, _: Stall(t)),
    Case("old default, shapes in groups", lambda t, _: OldDefault(t)),
    DEFAULT,
    Case("promotion 1, 1 in 3", lambda t, b: Promotion(t, b, 1, 3)),
    Case("promotion 1, 1 in 2", lambda t, b: Promotion(t, b, 1, 2)),
    Case("promotion 3, 1 in 3", lambda t, b: Promotion(t, b, 3, 3)),
    Case("promotion 3, 1 in 4", lambda t, b: Promotion(t, b, 3, 4)),
    Case("default without noise", lambda t, b: Promotion(t, b, has_noise=False)),
    Case("default by the best so far", lambda t, b: Promotion(t, b, compare="best")),
    Case("default by the loss", lambda t, b: Promotion(t, b, compare="loss")),
    Case("default, stall after 6", lambda t, b: Promotion(t, b, patience=6)),
    Case("default, stall after 10", lambda t, b: Promotion(t, b, patience=10)),
    Case("default, stall after 20", lambda t, b: Promotion(t, b, patience=20)),
    Case("default, no stall", lambda t, b: Promotion(t, b, patience=None)),
)
BUDGET_RULES = (
    *RULES,
    Case("default, first rung not held", lambda t, b: Promotion(t, b, may_hold=False)),
    Case("default with noise at the first rung", lambda t, b: Promotion(t, b, is_exact=False)),
    Case("default, new trials to the end", lambda t, b: Promotion(t, b, is_open=True)),
    Case("rounds 1, 1 in 4, sized by the budget", lambda t, b: Rounds(t, b)),
    Case("rounds 1, 1 in 3, sized by the budget", lambda t, b: Rounds(t, b, 1, 3)),
    Case("1 epoch, then the best 3", lambda t, b: ThenTheBest(t, b, 1)),
    Case("3 epochs, then the best 3", lambda t, b: ThenTheBest(t, b, 3)),
)


def slot_cases() -> Iterable[Case]:
    """Return the default and the old default with 1 to 128 trials at once."""
    for slots in (1, 2, 4, 8, 16, 32, 64, 128):
        yield Case(f"{slots} at once", DEFAULT.make, slots)
        yield Case(f"{slots} at once, old default", OLD.make, slots, 1)


def shape_cases() -> Iterable[Case]:
    """Return the default with the shapes of new trials in groups."""
    for siblings in (1, 2, 4, 8, 16, 32, 64):
        yield Case(f"{siblings} of a shape in a row", DEFAULT.make, None, siblings)


def sampler_cases() -> Iterable[Case]:
    """Return the default with each sampler; the table of settings must be our own."""
    yield DEFAULT
    yield Case("default, TPE", DEFAULT.make, draw=TpeDraw)
    yield Case("default, TPE, no groups", DEFAULT.make, None, 1, TpeDraw)
    yield Case("old default, TPE", OLD.make, None, 1, TpeDraw)


def measure(
    case: Case, tables: list[Table], repeats: int, *, by_epochs: bool
) -> NDArray[np.float64]:
    """Return regrets (repeats, moments), each with another order of a table's settings."""
    regrets = []
    for seed in range(repeats):
        table = tables[seed % len(tables)]
        slots = case.slots or table.width
        row = []
        for budget in EPOCHS if by_epochs else (0,):
            run = replay(
                table,
                case.draw(table, seed),
                case.make(table, budget),
                slots=slots,
                siblings=case.siblings or (slots if table.width > 2 else 1),
                max_epochs=budget or None,
                max_s=None if budget else SECONDS[-1],
            )
            moments = (np.inf,) if budget else SECONDS
            row += [table.regret(run.best_after(seconds=each)) for each in moments]
        regrets.append(row)
    return np.array(regrets)


def limit(case: NDArray[np.float64], old: NDArray[np.float64]) -> float:
    """Return the upper end of the 90 % interval of the difference, at the worst moment."""
    apart = case - old
    return float((apart.mean(0) + Z_90 * apart.std(0, ddof=1) / len(apart) ** 0.5).max())


def print_regrets(
    cases: Iterable[Case], groups: dict[str, list[list[Table]]], repeats: int, *, by_epochs: bool
) -> None:
    """Print a line for each case: mean regret by group, and how it compares with the old rule."""
    measured: dict[str, list[list[NDArray[np.float64]]]] = {}

    def measure_all(case: Case) -> list[list[NDArray[np.float64]]]:
        return [
            [measure(case, seeds, repeats, by_epochs=by_epochs) for seeds in tables]
            for tables in groups.values()
        ]

    old = measure_all(OLD)
    print(f"| rule | {' | '.join(groups)} | median difference | worse by |")
    print("|---" * (len(groups) + 3) + "|")
    for case in (OLD, *cases):
        regrets = measure_all(case)
        means = [np.mean([each.mean() for each in group]) for group in regrets]
        pairs = [
            pair for group in zip(regrets, old, strict=True) for pair in zip(*group, strict=True)
        ]
        median = np.median([(new - before).mean() for new, before in pairs])
        worst = max(limit(new, before) for new, before in pairs)
        cells = " | ".join(f"{mean:.3f}" for mean in means)
        print(f"| {case.label} | {cells} | {median:+.3f} | {worst:+.3f} |", flush=True)
        measured[case.label] = regrets
    if DEFAULT.label in measured:
        print_moments(list(groups), old, measured[DEFAULT.label], by_epochs=by_epochs)


def print_moments(
    names: list[str],
    old: list[list[NDArray[np.float64]]],
    new: list[list[NDArray[np.float64]]],
    *,
    by_epochs: bool,
) -> None:
    """Print the old and the new default at each moment, with standard errors."""
    moments = [f"{each} epochs" for each in EPOCHS] if by_epochs else [f"{t:g} s" for t in SECONDS]
    print("\nold default -> default (standard error of the difference)\n")
    print(f"| | {' | '.join(moments)} |")
    print("|---" * (len(moments) + 1) + "|")
    for name, olds, news in zip(names, old, new, strict=True):
        before, after = np.concatenate(olds), np.concatenate(news)
        error = (after - before).std(0, ddof=1) / len(after) ** 0.5
        cells = [
            f"{b:.3f} -> {a:.3f} ({e:.3f})"
            for b, a, e in zip(before.mean(0), after.mean(0), error, strict=True)
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    studies: dict[str, Iterable[Case]] = {
        "rules": RULES,
        "epochs": BUDGET_RULES,
        "slots": slot_cases(),
        "shapes": shape_cases(),
        "samplers": sampler_cases(),
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", choices=studies)
    parser.add_argument("--tables", type=Path, default=TABLES, help="folder of our tables")
    parser.add_argument("--taskset", type=Path, help="curves of TaskSet, as an npz file")
    parser.add_argument("--only", action="append", help="this table of ours; repeat")
    parser.add_argument("--repeats", type=int, default=16)
    arguments = parser.parse_args()
    groups = {
        path.stem: [read_own(path)]
        for path in sorted(arguments.tables.glob("*.npz"))
        if not arguments.only or path.stem in arguments.only
    }
    if arguments.taskset and arguments.study != "samplers":
        tasks = read_taskset(arguments.taskset, TASKSET_COST)
        groups["TaskSet"] = [[task] for task in tasks]
    by_epochs = arguments.study == "epochs"
    print_regrets(studies[arguments.study], groups, arguments.repeats, by_epochs=by_epochs)


if __name__ == "__main__":
    main()
