"""What trials in flight cost TPE: macro-F1 against how many train at once.

    python tests/benchmarks/bench_in_flight.py [--seeds 5] [--trials 64] [--csv FILE]

One trainer, tabular-mlp's default space, TPE and the median pruner, with at most 4 to 64 trials in
flight (and so as many slots in a lane). The best macro-F1 after all trials, the seconds that they
took, and the best macro-F1 after a fixed time, which is what the fastest of them took.
"""

import argparse
import csv
import os
import platform
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

IN_FLIGHT = (4, 8, 16, 32, 64)
COLUMNS = ("in_flight", "seeds", "score", "spread", "seconds", "score_at_fixed_time")

Run = tuple[float, float, list[tuple[float, float]]]


def run(in_flight: int, seed: int, trials: int) -> Run:
    """Return the best macro-F1, the seconds, and the running best with its moments."""
    import sweeps
    from sweeps.running import intake
    from sweeps.running.events import EpochDone, Event

    intake._MIN_IN_FLIGHT, intake._IN_FLIGHT_SHARE = in_flight, 10**9
    intake._MIXED_A_TRAINER = in_flight
    best: list[tuple[float, float]] = [(0.0, 0.0)]
    # From the first event on: what is loaded before takes each of them as long.
    started: list[float] = []

    def see(event: Event) -> None:
        started.append(time.perf_counter())
        if isinstance(event, EpochDone) and event.score > best[-1][1]:
            best.append((started[-1] - started[0], event.score))

    with tempfile.TemporaryDirectory() as folder:
        config = sweeps.load_config(
            "tabular-mlp",
            storage=f"sqlite:///{folder}/bench.db",
            seed=seed,
            trials=trials,
            slots=in_flight,
            workers=1,
        )
        end = sweeps.run(config, on_event=see)
        assert end.ending == "done", end.reason
    return best[-1][1], time.perf_counter() - started[0], best


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--csv", type=Path, help="write the table to this file too")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        futures = {
            (n, seed): pool.submit(run, n, seed, arguments.trials)
            for n in IN_FLIGHT
            for seed in range(arguments.seeds)
        }
        runs = {key: future.result() for key, future in futures.items()}
    fixed = min(seconds for _, seconds, _ in runs.values())
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {cores} cores")
    print(f"in flight  macro-F1 of {arguments.trials} trials (spread)      s  after {fixed:.0f} s")
    rows: list[dict[str, Any]] = []
    for n in IN_FLIGHT:
        mine = [runs[n, seed] for seed in range(arguments.seeds)]
        scores = [score for score, _, _ in mine]
        at_fixed = [max(f1 for at, f1 in steps if at <= fixed) for _, _, steps in mine]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        values = (
            n,
            len(mine),
            round(statistics.mean(scores), 4),
            round(spread, 4),
            round(statistics.mean(seconds for _, seconds, _ in mine), 1),
            round(statistics.mean(at_fixed), 4),
        )
        rows.append(dict(zip(COLUMNS, values, strict=True)))
        print("{:9}  {:20.4f} ({:.4f}) {:10.1f} {:11.4f}".format(n, *values[2:]), flush=True)
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
