"""What a study's bookkeeping costs beside 10 to 10,000 finished trials of 50 epochs, in SQLite.

    python tests/benchmarks/bench_bookkeeping.py [--csv FILE] [--most FINISHED]

Writes a real file: an epoch of 32 and of 128 trials, the beginning of 16, and the beginning, a
report and the end of 16 in Optuna's copy, by the mirror and by Optuna's own ``ask``, ``report``
and ``tell``; then what a start reads: all trials with their curves, and the copy that lacks
nothing. Milliseconds, the median of several calls; the start is one call.
"""

import argparse
import csv
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState

from storage import queries, recorder
from storage.database import Database, open_database
from storage.optuna_mirror import Ending, MirrorTrial, OptunaMirror, optuna_storage
from storage.records import EpochRecord, NewTrial, Placed, StudyRow, TrialEnd

EPOCHS = 50
CLASSES = 7
FINISHED = (10, 100, 1000, 3000, 10_000)
LANES = (32, 128)
BATCH = 16
ROUNDS = 15
COLUMNS = (
    "finished",
    *(f"record_{n}_ms" for n in LANES),
    "begin_16_ms",
    *(
        f"{who}_{what}_16_ms"
        for what in ("begin", "report", "end")
        for who in ("mirror", "optuna")
    ),
    "read_ms",
    "catch_up_ms",
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    f"parameter_{i}": FloatDistribution(1e-5, 1.0, log=True) for i in range(6)
}
PARAMS = dict.fromkeys(DISTRIBUTIONS, 0.01)
END = Ending(TrialState.COMPLETE, 0.7, EPOCHS, 0.7)


def make_epoch(trial: int, number: int) -> EpochRecord:
    f1 = (0.7,) * CLASSES
    return EpochRecord(trial, number, 0.5, 0.5, 0.7, f1, 0.001, 1.0, 0.1)


def begin(db: Database, trials: range) -> None:
    new = [NewTrial(number, number, {"optimizer": "adam", **PARAMS}) for number in trials]
    recorder.begin_trials(db, "u", new, now=NOW)


def fill(db: Database, finished: int) -> None:
    """Write finished trials as a sweep leaves them."""
    recorder.create_study(db, StudyRow("u", "bench", "o", "macro-f1", NOW, {}))
    begin(db, range(finished))
    for first in range(0, finished, 100):
        some = range(first, min(first + 100, finished))
        ended = [
            TrialEnd(n, "stalled", "no rise", value=0.7, best_epoch=44, best_score=0.7)
            for n in some
        ]
        recorder.record(
            db,
            "u",
            placed=[Placed(n, "stacked", "cpu", ((0, EPOCHS),)) for n in some],
            stopped=ended,
            now=NOW,
        )
        epochs = [make_epoch(n, epoch) for n in some for epoch in range(1, EPOCHS + 1)]
        recorder.record(db, "u", epochs=epochs, now=NOW)
    mirror = OptunaMirror(db, "bench", "u")
    mirror.begin(list_trials(range(finished)))
    for step in (1, 2, 4, 8, 16, 32):
        mirror.report(dict.fromkeys(range(finished), (step, 0.6)))
    mirror.end(dict.fromkeys(range(finished), END))


def list_trials(numbers: range) -> list[MirrorTrial]:
    return [MirrorTrial(number, PARAMS, DISTRIBUTIONS) for number in numbers]


def milliseconds(call: Callable[[int], object], rounds: int = ROUNDS) -> float:
    times = []
    for turn in range(rounds):
        started = time.perf_counter()
        call(turn)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def measure(finished: int) -> dict[str, float]:
    with (
        tempfile.TemporaryDirectory() as folder,
        open_database(f"{folder}/bench.db", create=True) as db,
    ):
        fill(db, finished)
        result: dict[str, float] = {"finished": finished}
        result["read_ms"] = milliseconds(lambda _: queries.stored_trials(db, "u"), 1)

        def catch_up(_: int) -> None:
            mirror = OptunaMirror(db, "bench", "u")
            numbers = range(finished)
            mirror.catch_up(list_trials(numbers), dict.fromkeys(numbers, END))

        result["catch_up_ms"] = milliseconds(catch_up, 1)
        batches = [range(finished + BATCH * i, finished + BATCH * (i + 1)) for i in range(ROUNDS)]
        result["begin_16_ms"] = milliseconds(lambda turn: begin(db, batches[turn]))
        for lane in LANES:
            trials = range(finished, finished + lane)

            def record(turn: int, trials: range = trials) -> None:
                rows = [make_epoch(trial, turn + 1) for trial in trials]
                recorder.record(db, "u", epochs=rows, now=NOW)

            result[f"record_{lane}_ms"] = milliseconds(record)
        return result | measure_mirror(db, batches) | measure_optuna(db)


def measure_mirror(db: Database, batches: list[range]) -> dict[str, float]:
    mirror = OptunaMirror(db, "bench", "u")
    calls: dict[str, Callable[[int], None]] = {
        "begin": lambda turn: mirror.begin(list_trials(batches[turn])),
        "report": lambda turn: mirror.report(dict.fromkeys(batches[turn], (1, 0.5))),
        "end": lambda turn: mirror.end(dict.fromkeys(batches[turn], END)),
    }
    return {f"mirror_{name}_16_ms": milliseconds(call) for name, call in calls.items()}


def measure_optuna(db: Database) -> dict[str, float]:
    """Time what the mirror saves: Optuna's own writing, in the same study."""
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.load_study(study_name="bench", storage=optuna_storage(db), sampler=sampler)
    study.ask()  # reads what is there
    trials: list[list[optuna.Trial]] = []
    calls: dict[str, Callable[[int], object]] = {
        "begin": lambda _: trials.append([study.ask(DISTRIBUTIONS) for _ in range(BATCH)]),
        "report": lambda turn: [each.report(0.5, 1) for each in trials[turn]],
        "end": lambda turn: [study.tell(each, 0.7) for each in trials[turn]],
    }
    return {f"optuna_{name}_16_ms": milliseconds(call, 3) for name, call in calls.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, help="write the table to this file too")
    parser.add_argument("--most", type=int, default=max(FINISHED), help="most finished trials")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    versions = f"Optuna {optuna.__version__}, SQLAlchemy {sqlalchemy.__version__}"
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {versions}")
    print("  ".join(f"{name:>19}" for name in COLUMNS))
    rows = []
    for finished in FINISHED:
        if finished > args.most:
            break
        rows.append(measure(finished))
        print("  ".join(f"{rows[-1][name]:19.2f}" for name in COLUMNS), flush=True)
    if args.csv is not None:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
