"""What a study's bookkeeping costs beside 10 to 10,000 finished trials of 50 epochs, in SQLite.

    python tests/benchmarks/bench_bookkeeping.py [--csv FILE]

Calls the engine's own ``Bookkeeper`` on a real file: an epoch of 32 and of 128 slots, the start
of a worker until it holds its first trial, an ask, 16 asks at once, and the end of a trial. The
finished trials are written straight into the tables, as a sweep would have left them.
Milliseconds, the median of several calls; the start and the 16 asks are one call.
"""

import argparse
import csv
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import optuna
import sqlalchemy
from optuna.distributions import distribution_to_json
from optuna.storages._rdb import models
from sqlalchemy import insert

import sweeps
from storage.database import Database, open_database
from storage.records import Claim, EpochRow, FinishedTrial, TrialResult
from storage.schema import EPOCH_RECORDS, TRIAL_RESULTS
from sweeps import studies
from sweeps.bookkeeping import Bookkeeper, make_owner
from sweeps.config import SweepConfig

EPOCHS = 50
FINISHED = (10, 100, 1000, 3000, 10_000)
SLOTS = (32, 128)
ROUNDS = 15
COLUMNS = (
    "finished",
    *(f"epoch_of_{n}_ms" for n in SLOTS),
    "start_ms",
    "ask_ms",
    "ask_16_ms",
    "end_ms",
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make_config(url: str, finished: int) -> SweepConfig:
    return sweeps.load_config(
        "tabular-mlp", study="bench", storage=url, trials=4 * finished + 1000, seed=1
    )


def fill(db: Database, config: SweepConfig, study_uuid: str, finished: int) -> None:
    """Write finished trials as a sweep leaves them, in both Optuna's tables and ours."""
    scratch = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rng = np.random.default_rng(0)
    storage = db.optuna_storage()
    study_id = storage.get_study_id_from_name(config.study)
    steps = [1, 2, 4, 8, 16, 32, EPOCHS]
    rows: dict[object, list[dict[str, object]]] = {}
    for number in range(finished):
        drawn = scratch.ask()
        hparams = config.space.suggest(drawn)
        key, best = number + 1, float(rng.uniform(0.5, 0.8))
        rows.setdefault(models.TrialModel, []).append(
            {"trial_id": key, "number": number, "study_id": study_id, "state": "COMPLETE"}
            | {"datetime_start": NOW.replace(tzinfo=None)}
            | {"datetime_complete": NOW.replace(tzinfo=None)}
        )
        distributions = drawn.distributions
        for name, value in drawn.params.items():
            internal = distributions[name].to_internal_repr(value)
            rows.setdefault(models.TrialParamModel, []).append(
                {"trial_id": key, "param_name": name, "param_value": internal}
                | {"distribution_json": distribution_to_json(distributions[name])}
            )
        rows.setdefault(models.TrialValueModel, []).append(
            {"trial_id": key, "objective": 0, "value": best, "value_type": "FINITE"}
        )
        rows.setdefault(models.TrialIntermediateValueModel, []).extend(
            {"trial_id": key, "step": step, "intermediate_value": best}
            | {"intermediate_value_type": "FINITE"}
            for step in steps
        )
        rows.setdefault(TRIAL_RESULTS, []).append(
            {"study": config.study, "study_uuid": study_uuid, "trial": number, "attempt": 1}
            | {"token": "gone", "host": "bench", "pid": 1, "process_started": 0.0}
            | {"outcome": "stalled", "reason": "no rise", "seed": number, "first_data_epoch": 0}
            | {"params": hparams.model_dump_json(exclude_none=True), "value": best, "told": True}
            | {"best_epoch": EPOCHS - 6, "best_score": best, "last_epoch": EPOCHS}
            | {"last_score": best, "tail_score": best, "epochs_run": EPOCHS}
            | {"device": "cpu", "versions": "{}", "started_at": NOW, "finished_at": NOW}
        )
        rows.setdefault(EPOCH_RECORDS, []).extend(
            {"study_uuid": study_uuid, "trial": number, "attempt": 1, "epoch": epoch}
            | {"train_loss": 0.5, "val_loss": 0.5, "score": best * epoch / EPOCHS}
            | {"class_f1": "[0.5, 0.5]", "learning_rate": 0.001, "grad_norm": 1.0, "seconds": 0.1}
            for epoch in range(1, EPOCHS + 1)
        )
    with db.write() as connection:
        for table, values in rows.items():
            connection.execute(insert(table), values)  # type: ignore[arg-type]


def milliseconds(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def measure(finished: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/bench.db"
        config = make_config(url, finished)
        with open_database(url, create=True) as db:
            study_uuid, _ = studies.prepare(
                db, config, class_names=("no", "yes"), data_fingerprint="x", force=False, now=NOW
            )
            fill(db, config, study_uuid, finished)
        started = time.perf_counter()
        with open_database(url, create=False) as db:
            book = Bookkeeper(
                db,
                config,
                study_uuid=study_uuid,
                owner=make_owner("cpu"),
                data_fingerprint="x",
                now=lambda: NOW,
            )
            mine = [each.claim for each in book.claim(1).trials]
            start = 1000 * (time.perf_counter() - started)

            def ask() -> None:
                mine.extend(each.claim for each in book.claim(1).trials)

            ask_ms = milliseconds(ask)
            result = {"finished": finished, "start_ms": start, "ask_ms": ask_ms}
            started = time.perf_counter()
            mine.extend(each.claim for each in book.claim(16).trials)
            result["ask_16_ms"] = 1000 * (time.perf_counter() - started)
            mine.extend(each.claim for each in book.claim(max(SLOTS) - len(mine)).trials)
            assert len(mine) == max(SLOTS), "the study must allow that many trials in flight"
            result |= {
                f"epoch_of_{slots}_ms": measure_epoch(book, mine[:slots], first_epoch)
                for slots, first_epoch in zip(SLOTS, (1, 1001), strict=True)
            }
            ends = iter(mine)
            end = TrialResult("stalled", "no rise", 0.7, best_epoch=3, best_score=0.7)
            result["end_ms"] = milliseconds(
                lambda: book.finish([FinishedTrial(next(ends), end, ())])
            )
        return result


def measure_epoch(book: Bookkeeper, claims: list[Claim], first_epoch: int) -> float:
    # Not an epoch of a power of two: on those Optuna's pages get their running best too.
    epochs = iter(range(first_epoch + 8, first_epoch + 8 + ROUNDS + 99))

    def record() -> None:
        epoch = next(epoch for epoch in epochs if epoch & (epoch - 1))
        row = EpochRow(claims[0], epoch, 0.5, 0.5, 0.7, (0.7, 0.7), 0.001, 1.0, 0.1)
        book.record([replace(row, claim=claim) for claim in claims], [0.7] * len(claims))

    return milliseconds(record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, help="write the table to this file too")
    parser.add_argument("--most", type=int, default=max(FINISHED), help="most finished trials")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    versions = f"Optuna {optuna.__version__}, SQLAlchemy {sqlalchemy.__version__}"
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {versions}")
    print("  ".join(f"{name:>16}" for name in COLUMNS))
    rows = []
    for finished in FINISHED:
        if finished > args.most:
            break
        rows.append(measure(finished))
        print("  ".join(f"{rows[-1][name]:16.2f}" for name in COLUMNS), flush=True)
    if args.csv is not None:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
