"""Trial-epochs a second of whole sweeps, start-up included: ours, Optuna's, and Ray Tune's.

    python tests/benchmarks/bench_sweeps.py [--csv FILE] [--case mlp-200] [--peers optuna,ray]

The same trials (learning rates of Adam at random, no trial stopped early), the same epochs, the
same data, each sweep a process of its own that ends with all scores in a database: ours is
``bestepoch run``, Optuna's is two processes that train plain PyTorch loops and report each epoch
(on a GPU: one), Ray Tune's (``pip install 'bestepoch[bench]'``) is two workers with the same loop.
One thread each. Ours is timed before and after each peer, and the mean counts: a shared machine is
not as fast in one minute as in the next. Ray Tune takes seconds a trial, so ``--peer-trials 32``
gives a peer fewer of the same trials: rates are compared, and a peer's does not grow with its
trials. The peers pad every batch to the longest example of the data, as most people do; in cases
that end in ``-trim`` they sort and trim batches as we do.
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
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

COLUMNS = ("case", "peer", "trials", "epochs", "seconds", "trial_epochs_a_second", "ours_is")


@dataclass(frozen=True)
class Case:
    objective: str
    batch_size: int
    trials: int
    epochs: int
    settings: tuple[str, ...] = ()
    trimmed: bool = False
    """Whether the peers' batches are trimmed to their longest example, as ours are."""


CASES = {
    "mlp-200": Case("tabular-mlp", 200, 256, 20),
    "mlp-200-short": Case("tabular-mlp", 200, 256, 5),
    "mlp-32": Case("tabular-mlp", 32, 256, 3),
    "gru-8": Case("sequence-rnn", 8, 64, 8, ("space.model.cell='gru'",)),
    "cnn-50": Case("relation-cnn", 50, 16, 5),
    "cnn-50-trim": Case("relation-cnn", 50, 16, 5, trimmed=True),
}

SPACE = (
    "space.optimizer='adam'",
    "space.learning_rate={low=1e-4, high=1e-2, log=true}",
    "space.beta1=0.9",
    "space.beta2=0.999",
)

PLAIN = """
import sys, time, os
from pathlib import Path
sys.path[:0] = [{here!r}]
import numpy as np, torch
from torch import nn
import plain_loops
from objectives.registry import find_objective
from objectives.layers import random
from objectives.lanes.batches import batch_order, on_device
from objectives.metrics import make_metric
from objectives.api import Counts
torch.set_num_threads(1)
torch.set_flush_denormal(True)
MACRO_F1 = make_metric("macro-f1", [])
DEVICE = torch.device({device!r})
DATA = find_objective({objective!r}).load(None)
CASE = next(c for c in plain_loops.CASES.values() if c.objective == {objective!r})
TRAIN, VALIDATION = (on_device(s, DEVICE) for s in (DATA.train, DATA.validation))

def batch(split, rows):
    padded = DATA.train.lengths is not None and not {trimmed}
    return plain_loops.whole(split, rows) if padded else split.batch(rows)

def adam(rate):
    return lambda parameters: torch.optim.Adam(parameters, lr=rate)

def train(make_optimizer, seed, report):
    torch.manual_seed(seed)
    model = CASE.plain(DATA).to(DEVICE)
    optimizer = make_optimizer([p for p in model.parameters() if p.requires_grad])
    classes = len(DATA.class_names)
    for epoch in range(1, {epochs} + 1):
        lengths = DATA.train.lengths if {trimmed} else None
        order = batch_order(0, epoch, num_examples=len(TRAIN), batch_size={batch_size},
                                   lengths=lengths)
        model.train()
        for rows in order:
            inputs, targets = batch(TRAIN, rows)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(*inputs), targets).backward()
            optimizer.step()
        model.eval()
        counts = torch.zeros(classes * classes, dtype=torch.int64, device=DEVICE)
        with torch.no_grad():
            for rows in VALIDATION.evaluation_batches(classes):
                inputs, targets = batch(VALIDATION, rows)
                cells = targets * classes + model(*inputs).argmax(-1)
                counts += torch.bincount(cells, minlength=classes * classes)
        table = Counts.of_matrix(counts.view(classes, classes).cpu().numpy())
        score = MACRO_F1.score(table)
        report(score, epoch)
    return score
"""

OPTUNA = """
import optuna
from optuna.study import MaxTrialsCallback
optuna.logging.set_verbosity(optuna.logging.ERROR)
def objective(trial):
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    return train(adam(rate), trial.number, lambda score, epoch: trial.report(score, epoch))
study = optuna.load_study(study_name="peer", storage={url!r},
                          sampler=optuna.samplers.RandomSampler(seed=int(sys.argv[1])))
study.optimize(objective, n_trials={share})
"""

RAY = """
import logging, ray
from ray import tune
def objective(config):
    train(adam(config["rate"]), config["seed"],
          lambda score, epoch: tune.report({{"score": score, "epoch": epoch}}))
if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR,
             log_to_driver=False)
    space = {{"rate": tune.loguniform(1e-4, 1e-2), "seed": tune.randint(0, 2**31)}}
    tuner = tune.Tuner(
        tune.with_resources(objective, {{"cpu": 1}}),
        param_space=space,
        tune_config=tune.TuneConfig(num_samples={trials}, metric="score", mode="max"),
        run_config=tune.RunConfig(storage_path={folder!r}, verbose=0),
    )
    results = tuner.fit()
    assert len(results) == {trials} and not results.errors, results.errors
"""


def ours(case: Case, folder: Path, device: str) -> list[list[str]]:
    command = [sys.executable, "-P", "-c", "from sweeps.cli import main; main()"]
    command += ["run", case.objective, "--quiet", "--storage", f"sqlite:///{folder}/ours.db"]
    settings = (
        f"trials={case.trials}",
        f"max_epochs={case.epochs}",
        f"patience={case.epochs}",
        f"prune_patience={case.epochs}",
        f"device={device}",
        "sampler.name='random'",
        "pruner.name='none'",
        f"space.batch_size={case.batch_size}",
        *SPACE,
        *case.settings,
    )
    return [[*command, *(word for each in settings for word in ("--set", each))]]


def optuna_(case: Case, folder: Path, device: str) -> list[list[str]]:
    import optuna

    url = f"sqlite:///{folder}/optuna.db"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna.create_study(study_name="peer", storage=url, direction="maximize")
    processes = 2 if device == "cpu" else 1
    script = folder / "peer_optuna.py"
    script.write_text(plain(case, device) + OPTUNA.format(url=url, share=case.trials // processes))
    return [[sys.executable, str(script), str(seed)] for seed in range(processes)]


def ray(case: Case, folder: Path, device: str) -> list[list[str]]:
    script = folder / "peer_ray.py"
    script.write_text(plain(case, device) + RAY.format(trials=case.trials, folder=str(folder)))
    return [[sys.executable, str(script)]]


def plain(case: Case, device: str) -> str:
    return PLAIN.format(
        here=str(Path(__file__).parent),
        objective=case.objective,
        batch_size=case.batch_size,
        epochs=case.epochs,
        device=device,
        trimmed=case.trimmed,
    )


PEERS = {"bestepoch": ours, "optuna": optuna_, "ray": ray}


def time_sweep(peer: str, case: Case, device: str) -> float:
    """Return the seconds from the start of the first process to the end of the last."""
    with tempfile.TemporaryDirectory() as name:
        commands = PEERS[peer](case, Path(name), device)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        # Ray's workers import what the script has imported.
        paths = (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        started = time.perf_counter()
        processes = [
            subprocess.Popen(
                each, cwd=name, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            for each in commands
        ]
        for process in processes:
            _, errors = process.communicate()
            if process.returncode:
                sys.exit(f"{peer} failed:\n{errors.decode()[-3000:]}")
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append", help="only this one; repeat")
    parser.add_argument("--peers", default="optuna", help="optuna, ray, or both with a comma")
    parser.add_argument("--peer-trials", type=int, help="run peers on so many trials at most")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--csv", type=Path, help="write the table to this file too")
    arguments = parser.parse_args()
    versions = [f"{name} {metadata.version(name)}" for name in ("torch", "optuna")]
    if "ray" in arguments.peers:
        versions.append(f"ray {metadata.version('ray')}")
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {', '.join(versions)}")
    print(f"{'case':13} {'peer':10} {'trials':>6} {'epochs':>6} {'s':>7} {'epochs/s':>8} ours is")
    rows: list[dict[str, Any]] = []
    for name in arguments.case or CASES:
        case = CASES[name]
        own = [time_sweep("bestepoch", case, arguments.device)]
        others: dict[str, tuple[Case, float]] = {}
        for peer in filter(None, arguments.peers.split(",")):
            trials = min(case.trials, arguments.peer_trials or case.trials)
            peers_case = replace(case, trials=trials)
            others[peer] = (peers_case, time_sweep(peer, peers_case, arguments.device))
            own.append(time_sweep("bestepoch", case, arguments.device))
        times = {"bestepoch": (case, statistics.mean(own)), **others}
        rates = {peer: each.trials * each.epochs / took for peer, (each, took) in times.items()}
        for peer, (each, took) in times.items():
            row = {"case": name, "peer": peer, "trials": each.trials, "epochs": each.epochs}
            row |= {"seconds": round(took, 1)}
            row |= {"trial_epochs_a_second": round(rates[peer], 2)}
            row |= {"ours_is": round(rates["bestepoch"] / rates[peer], 2)}
            rows.append(row)
            line = "{:13} {:10} {:6} {:6} {:7.1f} {:8.2f} {:6.2f} x"
            print(line.format(*row.values()), flush=True)
        print(f"{'':13} bestepoch in turn: {', '.join(f'{each:.1f} s' for each in own)}")
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
