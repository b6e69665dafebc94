"""Seconds to the macro-F1 that Optuna reaches in a fixed time, over several seeds.

    python tests/benchmarks/bench_time_to_score.py [--seconds 60] [--seeds 5] [--csv FILE]
    python tests/benchmarks/bench_time_to_score.py --objective relation-cnn --seconds 150 --seeds 3

Optuna's own way in two processes (TPE, MedianPruner, a plain PyTorch loop, SQLite) trains
trials of the objective for the fixed time; then ``bestepoch run`` gets as long. Same data, same
search space, same batch size, 30 epochs at most, one thread a process, start-up included on both
sides. Optuna's batches are trimmed to their longest example, as ours are.
"""

import argparse
import csv
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import bench_sweeps
import optuna

COLUMNS = ("seed", "optuna_macro_f1", "optuna_trials", "score", "seconds_to_optunas")
CASES = {
    "tabular-mlp": bench_sweeps.Case("tabular-mlp", 200, 0, 30),
    "relation-cnn": bench_sweeps.Case("relation-cnn", 50, 0, 30, trimmed=True),
}

PEER = """
import optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)

from search_spaces.presets import PRESETS
SPACE = PRESETS[{objective!r}]
RATES = {{name: (own["low"], own["high"])
         for name, own in SPACE["learning_rate"]["by_optimizer"].items()}}
KINDS = {{"adam": torch.optim.Adam, "adamax": torch.optim.Adamax, "rmsprop": torch.optim.RMSprop,
          "adadelta": torch.optim.Adadelta, "sgd": torch.optim.SGD}}

def objective(trial):
    name = trial.suggest_categorical("optimizer", list(KINDS))
    rate = SPACE["learning_rate"]
    low, high = RATES.get(name, (rate["low"], rate["high"]))
    suffix = "_" + name if name in RATES else ""
    options = {{"lr": trial.suggest_float("learning_rate" + suffix, low, high, log=True)}}
    if name in ("adam", "adamax"):
        beta1 = 1 - trial.suggest_float("one_minus_beta1", 0.01, 0.2, log=True)
        beta2 = 1 - trial.suggest_float("one_minus_beta2", 1e-4, 1e-2, log=True)
        options["betas"] = (beta1, beta2)
    if name == "sgd":
        options["momentum"] = trial.suggest_float("momentum", 0.0, 0.95)
    dropout = trial.suggest_float("dropout", **SPACE["dropout"])
    best = 0.0
    def report(score, epoch):
        nonlocal best
        best = max(best, score)
        trial.report(score, epoch)
        trial.set_user_attr("best", best)
        if trial.should_prune():
            raise optuna.TrialPruned
    make = lambda parameters: KINDS[name](parameters, **options)
    train(make, trial.number, report, dropout)
    return best

study = optuna.load_study(
    study_name="peer", storage={url!r},
    sampler=optuna.samplers.TPESampler(multivariate=True, group=True, seed=int(sys.argv[1])),
    pruner=optuna.pruners.MedianPruner())
study.optimize(objective, timeout=3600)
"""

OURS = """
import sys, time
import sweeps
from sweeps.running.events import EpochDone
best = 0.0
def show(event):
    global best
    if isinstance(event, EpochDone) and event.score > best:
        best = event.score
        print(time.time(), best, flush=True)
config = sweeps.load_config(sys.argv[4], [f"space.batch_size={sys.argv[5]}"],
                            storage=sys.argv[1], seed=int(sys.argv[2]),
                            trials=400, max_minutes=float(sys.argv[3]) / 60)
sweeps.run(config, on_event=show)
"""


def run_optuna(
    case: bench_sweeps.Case, seed: int, seconds: float, folder: Path
) -> tuple[float, int]:
    """Return the best macro-F1 of any epoch within the time, and the trials that were begun."""
    url = f"sqlite:///{folder}/peer.db"
    study = optuna.create_study(study_name="peer", storage=url, direction="maximize")
    script = folder / "peer.py"
    script.write_text(
        bench_sweeps.plain(case, "cpu") + PEER.format(url=url, objective=case.objective)
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), str(10 * seed + i)], env=environment
        )
        for i in range(2)
    ]
    time.sleep(seconds)
    for process in processes:
        process.kill()
        process.wait()
    trials = study.get_trials()
    return max(trial.user_attrs.get("best", 0.0) for trial in trials), len(trials)


def run_ours(
    case: bench_sweeps.Case, seed: int, seconds: float, folder: Path, target: float
) -> tuple[float, float | None]:
    """Return the best macro-F1 within the time, and the seconds after which it beat ``target``."""
    started = time.time()
    command = [sys.executable, "-c", OURS, f"sqlite:///{folder}/ours.db", str(seed), str(seconds)]
    command += [case.objective, f"[{case.batch_size}]"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    steps = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    within = [(moment - started, score) for moment, score in steps if moment <= started + seconds]
    reached = [moment for moment, score in within if score >= target]
    return max(score for _, score in within), min(reached, default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--objective", choices=CASES, default="tabular-mlp")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--csv", type=Path, help="write the table to this file too")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "optuna"))
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, {versions}"
    )
    case = CASES[arguments.objective]
    print(case.objective)
    print(f"seed  Optuna's in {arguments.seconds:.0f} s (trials)   ours    s to Optuna's")
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as name:
            target, trials = run_optuna(case, seed, arguments.seconds, Path(name))
            best, reached = run_ours(case, seed, arguments.seconds, Path(name), target)
        rows.append(dict(zip(COLUMNS, (seed, target, trials, best, reached), strict=True)))
        shown = "not reached" if reached is None else f"{reached:.1f}"
        print(f"{seed:4}  {target:8.4f} {trials:14} {best:12.4f} {shown:>12}", flush=True)
    times = [row["seconds_to_optunas"] for row in rows]
    middle = statistics.median(arguments.seconds if t is None else t for t in times)
    print(f"median: {middle:.1f} s, {arguments.seconds / middle:.1f} times as fast")
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
