"""Sweeps that are drawn from tables of real curves, and the advice that they get."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from record_tables import read_table
from replay_tables import NUM_VALIDATION
from tasks import RATES, TASKS

from search_spaces.hparams import flatten
from sweeps.analysis.advice import advise
from sweeps.analysis.advice_kinds import Advice
from sweeps.analysis.facts import Targets, TrialFacts, measure
from sweeps.analysis.ties import Ties
from sweeps.analysis.verdicts import judge
from sweeps.curves import epochs_since_best
from sweeps.read.study import Study

TABLES = Path(__file__).parent / "tables"
RUNGS = (1, 4, 16)
#: Of scores of two trials over validation sets, as the stored predictions of sweeps show.
CORRELATION = 0.7
MIN_DELTA, PATIENCE = 0.001, 15


@dataclass(frozen=True)
class Curves:
    """One seed of a table: settings, and arrays (settings, epochs)."""

    name: str
    params: Sequence[Mapping[str, Any]]
    score: NDArray[np.float64]
    train: NDArray[np.float64]
    val: NDArray[np.float64]

    @property
    def best(self) -> NDArray[np.float64]:
        """The best score of each setting; -1 where it has none."""
        return np.nan_to_num(self.score, nan=-1.0).max(axis=1)


def read_curves(name: str, seed: int) -> Curves:
    """Return the recorded settings of a table with the curves of one of its seeds."""
    table = read_table(TABLES / f"{name}.npz")
    rows = np.flatnonzero(table.slots[seed])
    arrays = [each[seed][rows].astype(np.float64) for each in (table.score, table.train_loss)]
    return Curves(
        name,
        [table.params[row] for row in rows],
        *arrays,
        table.val_loss[seed][rows].astype(float),
    )


def choose_seed(name: str, number: int) -> int:
    """Return a recorded seed of a table."""
    return number % 3 if name in ("adult-one", "adult-mixed", "mnist1d-one") else 0


def error_of(name: str, score: float) -> float:
    """Return about the standard error of a score over this table's validation examples."""
    return math.sqrt(max(score * (1 - score), 1e-4) / NUM_VALIDATION[name.split("-")[0]])


def train(
    curves: Curves,
    rows: NDArray[np.int64],
    params: Sequence[Mapping[str, Any]],
    *,
    cap: int,
    patience: int,
    is_halving: bool,
) -> list[TrialFacts]:
    """Return the facts of these settings' trials, trained by a sweep's rules."""
    ends, outcomes = np.full(len(rows), cap), ["exhausted"] * len(rows)
    alive = list(range(len(rows)))
    for rung in RUNGS if is_halving else ():
        if rung >= cap:
            break
        best = {i: np.nan_to_num(curves.score[rows[i], :rung], nan=-1).max() for i in alive}
        order = sorted(alive, key=lambda i: -best[i])
        kept = set(order[: -(-len(alive) // 4)])
        for i in alive:
            if i not in kept:
                ends[i], outcomes[i] = rung, "behind"
        alive = sorted(kept)
    facts = []
    for i, row in enumerate(rows):
        end, outcome = int(ends[i]), outcomes[i]
        for epoch in range(1, end + 1):
            scores = curves.score[row, :epoch].tolist()
            if not math.isfinite(scores[-1]):
                end, outcome = epoch, "diverged"
                break
            if epochs_since_best(scores, MIN_DELTA) >= patience:
                end, outcome = epoch, "stalled"
                break
        own = curves.score[row, :end]
        facts.append(
            measure(
                i,
                own.tolist(),
                train_losses=curves.train[row, :end].tolist(),
                val_losses=curves.val[row, :end].tolist(),
                targets=Targets(),
                error=error_of(curves.name, float(np.nan_to_num(own).max())),
                params=params[i],
                outcome=outcome,
            )
        )
    return facts


def make_study(
    facts: Sequence[TrialFacts],
    space: Mapping[str, Any],
    *,
    objective: str,
    cap: int,
    patience: int,
) -> Study:
    """Return a study of these trials, with what advice reads of one."""
    results = pd.DataFrame(
        {
            "trial": [each.trial for each in facts],
            "best_score": [each.best_score for each in facts],
            "outcome": [each.outcome for each in facts],
            "epochs_run": [each.epochs for each in facts],
        }
    ).sort_values("best_score", ascending=False)
    is_ranked = results["outcome"] != "diverged"
    results["rank"] = is_ranked.cumsum().where(is_ranked)
    config = {
        "objective": objective,
        "max_epochs": cap,
        "min_delta": MIN_DELTA,
        "patience": patience,
        "max_total_epochs": sum(each.epochs for each in facts),
        "sampler": {"name": "random"},
        "space": space,
    }
    empty = pd.DataFrame()
    now = datetime(2026, 1, 1, tzinfo=UTC)
    about = ("s", "s", objective, now, config, (), None, {}, None, None, False)
    return Study(*about, results, empty, empty, {}, {}, None, frozenset({"s"}))


def find_ties_by(study: Study, error: float) -> Ties:
    """Return ties by the error of the best score and the usual correlation."""
    ranked = study.ranked
    if ranked.empty:
        return Ties(None)
    best = float(ranked["best_score"].iloc[0])
    margin = 2 * error * math.sqrt(2 * (1 - CORRELATION))
    tied = ranked.loc[ranked["best_score"] > best - margin, "trial"]
    return Ties(int(ranked["trial"].iloc[0]), frozenset(tied.tolist()), error=error)


def ask(
    curves: Curves,
    rows: NDArray[np.int64],
    *,
    space: Mapping[str, Any],
    params: Sequence[Mapping[str, Any]] | None = None,
    cap: int = 50,
    patience: int = PATIENCE,
    is_halving: bool = True,
) -> tuple[Advice, ...]:
    """Return the advice of a sweep over these settings of a table."""
    given = [curves.params[row] for row in rows] if params is None else params
    facts = train(curves, rows, given, cap=cap, patience=patience, is_halving=is_halving)
    objective = TASKS[curves.name.split("-")[0]].objective
    study = make_study(facts, space, objective=objective, cap=cap, patience=patience)
    error = error_of(curves.name, float(study.ranked["best_score"].max()))
    return advise(study, facts, judge(facts), find_ties_by(study, error))


def space_of(curves: Curves) -> dict[str, Any]:
    """Return the space that a table was drawn from."""
    space = dict(RATES)
    flat = [flatten(each) for each in curves.params]
    for name in sorted({key for each in flat for key in each if key.startswith("model.")}):
        values = sorted({each[name] for each in flat}, key=str)
        own = values if len(values) > 1 else values[0]
        space.setdefault("model", {})[name.removeprefix("model.")] = own
    sizes = sorted({each["batch_size"] for each in flat})
    return space | {"batch_size": sizes if len(sizes) > 1 else sizes[0]}
