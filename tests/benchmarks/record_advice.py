"""Follows the advice: the advised next sweep beside one of the same epochs in the old space.

    OMP_NUM_THREADS=1 nice -n 19 python tests/benchmarks/record_advice.py

On each task of ``proof_tasks.py`` and for each seed, a sweep of random settings with a mistake, or
with none: rates too low or too high, a cap of 6 epochs, a patience of 2, or the whole space. Where
``advise`` says something, two next sweeps of as many epochs are trained, from the same new seeds:
one in the old settings (the placebo), one with all of the advice. What counts is the *test* score
of the best validation score of both sweeps together. Sweeps are halved at epochs 1, 4 and 16, but
for those of the cap and of patience, which train each trial to its end. A row a sweep is appended
to ``proof/advice.csv``; the same command goes on where it was stopped.
"""

import argparse
import ast
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from advice_sweeps import MIN_DELTA, RUNGS, find_ties_by, make_study
from bench_proof import read_targets
from proof_tasks import PROOF_TASKS, ProofTask
from record_proof import ADVICE, Bench, Trained, append_rows, read_rows
from record_tables import draw_settings

from objectives.api import Counts, find_fusion_key
from search_spaces.hparams import Hparams
from sweeps.analysis.advice import advise, change_space
from sweeps.analysis.advice_kinds import Advice
from sweeps.analysis.facts import Targets, TrialFacts, measure
from sweeps.analysis.noise import score_error
from sweeps.analysis.verdicts import judge
from sweeps.curves import epochs_since_best

SEEDS, TRIALS, CHUNK = 3, 54, 12
#: Epochs of a sweep that is not halved.
EPOCHS = 144


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a sweep; rates of None are those of the whole space."""

    rates: tuple[float, float] | None = None
    cap: int = 24
    patience: int = 15
    is_halved: bool = True
    changes: tuple[tuple[str, Any], ...] = ()

    def space(self, task: ProofTask) -> dict[str, Any]:
        """Return the space of a task, changed."""
        space = task.space
        if self.rates is not None:
            low, high = self.rates
            space = space | {"learning_rate": {"low": low, "high": high, "log": True}}
        return change_space(space, dict(self.changes))

    def follow(self, advice: Sequence[Advice]) -> "Plan":
        """Return the settings with all of the advice."""
        plan, changes = self, dict(self.changes)
        for option in (each for one in advice for each in one.options):
            path, value = shlex.split(option)[1].split("=", 1)
            known = ast.literal_eval(value)
            if path == "max_epochs":
                plan = replace(plan, cap=known)
            elif path == "patience":
                plan = replace(plan, patience=known)
            else:
                changes[path.removeprefix("space.")] = known
        return replace(plan, changes=tuple(changes.items()))


PLANS: Mapping[str, Plan] = {
    "rates too low": Plan(rates=(1e-5, 1e-3)),
    "rates too high": Plan(rates=(0.03, 1.0)),
    "cap of 6": Plan(rates=(1e-4, 0.1), cap=6, is_halved=False),
    "patience of 2": Plan(rates=(1e-4, 0.1), patience=2, is_halved=False),
    "dropout too high": Plan(
        rates=(1e-3, 0.05), changes=(("dropout.low", 0.5), ("dropout.high", 0.9))
    ),
    "nothing": Plan(),
}


@dataclass(slots=True)
class Sweep:
    """What came of a sweep: its trials, their ends, and its best score with that on test."""

    settings: list[Hparams]
    trained: list[Trained]
    outcomes: list[str]
    errors: list[float]
    best: tuple[float, float] = (-1.0, 0.0)

    @property
    def epochs(self) -> int:
        """Epochs of all trials."""
        return sum(len(each.scores) for each in self.trained)


def run_sweep(task: ProofTask, plan: Plan, *, seed: int, epochs: int) -> Sweep:
    """Train a sweep: 54 trials by halving, or trials to their ends while epochs are left."""
    bench, sweep = Bench(task, seed=seed), Sweep([], [], [], [])
    drawn = draw_settings(plan.space(task), TRIALS if plan.is_halved else epochs, seed=seed)
    size = TRIALS if plan.is_halved else CHUNK
    while len(sweep.trained) < len(drawn) and (plan.is_halved or sweep.epochs < epochs):
        chunk = drawn[len(sweep.trained) :][:size]
        left = None if plan.is_halved else epochs - sweep.epochs
        number = 1_000 * seed + len(sweep.trained)
        _train_together(bench, chunk, plan, sweep, seed=number, epochs=left)
    return sweep


def _train_together(
    bench: Bench,
    settings: Sequence[Hparams],
    plan: Plan,
    sweep: Sweep,
    *,
    seed: int,
    epochs: int | None,
) -> None:
    (key,) = {find_fusion_key(each) for each in settings}
    lane = bench.trainer.open_lane(key, 0)
    for slot, hparams in enumerate(settings):
        lane.place(slot, seed + slot, hparams)
    trained, counts = [Trained() for _ in settings], [Counts.of_matrix(np.zeros((0, 0), int))] * 99
    outcomes = ["exhausted"] * len(settings)
    alive = set(range(len(settings)))
    for epoch in range(1, plan.cap + 1):
        for report in lane.train_epoch():
            if bench.add(trained[report.slot], report):
                lane.keep_best(report.slot)
                counts[report.slot] = report.counts
        ended = {slot: _find_end(trained[slot], plan) for slot in alive}
        ended = {slot: outcome for slot, outcome in ended.items() if outcome is not None}
        if plan.is_halved and epoch in RUNGS:
            order = sorted(alive, key=lambda slot: -_best(trained[slot]))
            for slot in order[-(-len(alive) // 4) :]:
                ended.setdefault(slot, "behind")
        if epoch == plan.cap:
            ended = dict.fromkeys(alive, "exhausted") | ended
        elif epochs is not None and sum(len(each.scores) for each in trained) >= epochs:
            ended = dict.fromkeys(alive, "cut short") | ended
        for slot, outcome in ended.items():
            outcomes[slot] = outcome
            score = _best(trained[slot])
            if score > sweep.best[0] and outcome != "diverged":
                sweep.best = score, bench.score_on_test(lane, slot, dict(key.model))
            lane.drop(slot)
            alive.discard(slot)
        if not alive:
            break
    sweep.settings += settings
    sweep.trained += trained
    sweep.outcomes += outcomes
    for own, slot in zip(trained, range(len(settings)), strict=True):
        matrix = counts[slot].matrix
        known = matrix is not None and matrix.size and _best(own) >= 0
        sweep.errors.append(score_error(matrix, bench.metric) if known else math.nan)


def _find_end(own: Trained, plan: Plan) -> str | None:
    if not math.isfinite(own.scores[-1]):
        return "diverged"
    return "stalled" if epochs_since_best(own.scores, MIN_DELTA) >= plan.patience else None


def _best(own: Trained) -> float:
    return max((each for each in own.scores if math.isfinite(each)), default=-1.0)


def ask(task: ProofTask, plan: Plan, sweep: Sweep, targets: Targets) -> tuple[Advice, ...]:
    """Return the advice of a sweep."""
    facts: list[TrialFacts] = [
        measure(
            trial,
            own.scores,
            train_losses=[each.train_loss for each in own.reports],
            val_losses=[each.val_loss for each in own.reports],
            targets=targets,
            error=error,
            params=hparams.to_params(),
            outcome=outcome,
        )
        for trial, (own, hparams, outcome, error) in enumerate(
            zip(sweep.trained, sweep.settings, sweep.outcomes, sweep.errors, strict=True)
        )
    ]
    study = make_study(
        facts,
        plan.space(task),
        objective=task.objective.name,
        cap=plan.cap,
        patience=plan.patience,
    )
    best = max(facts, key=lambda each: np.nan_to_num(each.best_score))
    return advise(study, facts, judge(facts), find_ties_by(study, best.error))


def record(task: ProofTask, name: str, seed: int) -> dict[str, Any]:
    """Return the row of a sweep."""
    plan = PLANS[name]
    targets = read_targets()[task.name]
    first = run_sweep(task, plan, seed=10 + seed, epochs=EPOCHS)
    advice = ask(task, plan, first, targets)
    row: dict[str, Any] = {"task": task.name, "wrong": name, "seed": seed}
    row["kinds"] = " ".join(each.kind.name.lower() for each in advice)
    row["options"] = json.dumps([each for one in advice for each in one.options])
    row["gain"] = " ".join(f"{each.gain:.4f}" for each in advice)
    sweeps = [first]
    if advice:
        sweeps += [
            run_sweep(task, each, seed=20 + seed, epochs=EPOCHS)
            for each in (plan, plan.follow(advice))
        ]
    for end, sweep in zip(("first", "again", "advised"), [*sweeps, first, first], strict=False):
        validation, test = max(first.best, sweep.best)
        row |= {f"epochs_{end}": sweep.epochs}
        row |= {f"validation_{end}": f"{validation:.4f}", f"test_{end}": f"{test:.4f}"}
    return row


def main() -> None:
    """Record the sweeps that are missing, one seed of all before the next."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    done = {(row["task"], row["wrong"], row["seed"]) for row in read_rows(ADVICE)}
    for seed in range(arguments.seeds):
        for task in PROOF_TASKS:
            for name in PLANS:
                if (task.name, name, str(seed)) not in done:
                    row = record(task, name, seed)
                    append_rows(ADVICE, [row])
                    print(row, flush=True)


if __name__ == "__main__":
    main()
