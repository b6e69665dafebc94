"""The time to the answer: what a sweep's best trial so far scores on test, moment by moment.

    python tests/benchmarks/bench_answers.py [--seconds 60] [--seeds 3]
    python tests/benchmarks/bench_answers.py --seconds 300 --only mnist1d --only adult
    python tests/benchmarks/bench_answers.py --table

Each tool gets the same task, search space, two cores and seconds, start-up included. At an
eighth, a quarter, a half and all of the time the trial and epoch with the best validation score
so far is what the tool would hand over, and its macro-F1 on the test split is what counts. Ours is
``bestepoch run`` with its defaults but for the space and the limits of 50 epochs and of time, and
the trial is trained again from its record. The others are in ``answers_peers.py``; Ray needs
``pip install 'bestepoch[bench]'``. Every run is written to ``answers.csv`` when it ends, a row a
moment, and runs that stand there are not made again. Wants a machine that does nothing else.
"""

import argparse
import csv
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import answers_peers
import numpy as np
import torch
from tasks import SPACES, TASKS, Task

from objectives.api import Counts, Data, Split, find_fusion_key
from objectives.lanes.batches import on_device
from objectives.lanes.trainer import ModelTrainer
from objectives.metrics import make_metric
from objectives.registry import find_objective
from search_spaces.hparams import Hparams
from storage import queries

HERE = Path(__file__).parent
ANSWERS = HERE / "answers.csv"
OURS = "bestepoch"
TOOLS = (OURS, *answers_peers.TOOLS)
#: Shares of the time at which an answer is asked for.
MOMENTS = (1 / 8, 1 / 4, 1 / 2, 1.0)
CORES = 2
STUDY = "answers"
#: Seconds that ours may take beyond its time to write what it has.
GRACE_S = 60.0
_RUN = ("task", "space", "tool", "seconds", "seed")
COLUMNS = (*_RUN, "moment", "validation", "test", "trial", "epoch", "epochs", "commit")


@dataclass(frozen=True, slots=True)
class Run:
    """One sweep of one tool."""

    task: str
    space: str
    tool: str
    seconds: int
    seed: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """A trial's epoch, and the seconds after the start when the tool had reported it.

    ``weights`` and ``model`` say where a plain loop keeps it, if it was the best of its process.
    """

    after_s: float
    trial: str
    epoch: int
    score: float
    weights: Path | None = None
    model: Mapping[str, Any] | None = None


def best_at(epochs: Iterable[Epoch], moment: float) -> Epoch | None:
    """Return the best epoch so far, the earliest of equals; None: there is none yet."""
    within = (each for each in epochs if each.after_s <= moment and each.score >= 0)
    return max(within, key=lambda each: (each.score, -each.after_s), default=None)


def measure(run: Run, folder: Path) -> list[dict[str, Any]]:
    """Run a sweep; return its rows."""
    task = TASKS[run.task]
    data = task.load()
    epochs = run_ours(run, task, folder) if run.tool == OURS else run_peer(run, folder)
    tests: dict[tuple[str, int], float] = {}
    rows = []
    for share in MOMENTS:
        moment = share * run.seconds
        row = {name: getattr(run, name) for name in _RUN} | {"moment": f"{moment:g}"}
        row |= {"epochs": sum(each.after_s <= moment for each in epochs)}
        best = best_at(epochs, moment)
        if best is not None:
            key = best.trial, best.epoch
            if key not in tests:
                tests[key] = (
                    score_ours_on_test(run, task, data, best, folder)
                    if run.tool == OURS
                    else score_peer_on_test(run, data, best)
                )
            row |= {"validation": f"{best.score:.4f}", "test": f"{tests[key]:.4f}"}
            row |= {"trial": best.trial, "epoch": best.epoch}
        rows.append(row)
    return rows


def run_ours(run: Run, task: Task, folder: Path) -> list[Epoch]:
    """Return the epochs that ``bestepoch run`` reports within the time."""
    command = [sys.executable, "-P", "-c", "from sweeps.cli import main; main()"]
    command += ["run", task.objective, "--json-lines", "--storage", database(folder)]
    command += ["--study", STUDY, "--seed", str(run.seed), "--workers", str(CORES)]
    command += ["--max-minutes", str(run.seconds / 60)]
    command += [] if task.source is None else ["--data", str(task.source)]
    settings = {"max_epochs": answers_peers.MAX_EPOCHS}
    settings |= {f"space.{name}": spec for name, spec in task.space(run.space).items()}
    command += [f"--set={name}={inline(value)}" for name, value in settings.items()]
    started = time.time()
    with (folder / "errors.txt").open("w") as errors:
        process = start(command, folder, stdout=subprocess.PIPE, stderr=errors)
        timer = threading.Timer(run.seconds + GRACE_S, end, [process])
        timer.start()
        epochs = []
        assert process.stdout is not None
        for line in process.stdout:
            after_s, event = time.time() - started, json.loads(line)
            if event["event"] == "EpochDone":
                score = -1.0 if event["score"] is None else event["score"]
                epochs.append(Epoch(after_s, str(event["trial"]), event["epoch"], score))
        process.wait()
        timer.cancel()
    # 1: it was stopped before any trial had ended.
    if process.returncode not in (0, 1):
        sys.exit(f"bestepoch failed:\n{(folder / 'errors.txt').read_text()[-3000:]}")
    return epochs


def run_peer(run: Run, folder: Path) -> list[Epoch]:
    """Return the epochs that the processes of another tool record within the time."""
    _, num_processes = answers_peers.TOOLS[run.tool]
    command = [sys.executable, str(HERE / "answers_peers.py"), run.tool, run.task, run.space]
    started = time.time()
    with (folder / "errors.txt").open("w") as errors:
        processes = [
            start(
                [*command, str(10 * run.seed + i), str(run.seconds), str(folder)],
                folder,
                stdout=errors,
                stderr=errors,
            )
            for i in range(num_processes)
        ]
        time.sleep(started + run.seconds - time.time())
        failed = any(process.poll() for process in processes)
        for process in processes:
            end(process)
    if failed:
        sys.exit(f"{run.tool} failed:\n{(folder / 'errors.txt').read_text()[-3000:]}")
    lines = [
        line
        for path in folder.glob("*.jsonl")
        for line in path.read_text().splitlines(keepends=True)
        if line.endswith("\n")  # a killed process may tear its last
    ]
    return [read_epoch(json.loads(line), started, folder) for line in lines]


def read_epoch(line: Mapping[str, Any], started: float, folder: Path) -> Epoch:
    score = -1.0 if line["score"] is None else line["score"]
    weights = folder / line["weights"] if "weights" in line else None
    after_s = line["time"] - started
    return Epoch(after_s, line["trial"], line["epoch"], score, weights, line.get("model"))


def start(command: Sequence[str], folder: Path, **streams: Any) -> subprocess.Popen[str]:
    """Start a process and its group, one thread each."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # Ray's workers import what the script has imported.
    paths = (str(HERE), str(HERE.parent.parent), os.environ.get("PYTHONPATH"))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, start_new_session=True, **streams
    )


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process and all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def database(folder: Path) -> str:
    return f"sqlite:///{folder}/ours.db"


def inline(value: Any) -> str:
    """Return a value as TOML has it in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {inline(each)}" for name, each in value.items()) + "}"
    return json.dumps(value)


def score_peer_on_test(run: Run, data: Data, best: Epoch) -> float:
    """Return what the kept weights score on test."""
    assert best.weights is not None, "the best epoch of all is the best of its process"
    assert best.model is not None
    plain = answers_peers.PlainTask(run.task, run.space, data=data)
    module = plain.build(best.model)
    module.load_state_dict(torch.load(best.weights))
    return plain.score(module, on_device(data.test, torch.device("cpu")))


def score_ours_on_test(run: Run, task: Task, data: Data, best: Epoch, folder: Path) -> float:
    """Train the trial again from its record up to the epoch; return what it scores on test.

    Validation and test are one split here, and its predictions are counted apart: those of
    validation must give the score that the sweep recorded.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    both = replace(data, validation=joined(data.validation, data.test))
    trainer = ModelTrainer(find_objective(task.objective), both, data_seed=run.seed)
    row = queries.trial(database(folder), STUDY, int(best.trial))
    hparams = Hparams.model_validate(row["params"])
    *finished, last = row["segments"]
    state, left = None, best.epoch
    # The segment that the end of the time cut is stored as it was when it began.
    for data_epoch, num_epochs in [*finished, (last[0], left)]:
        lane = trainer.open_lane(find_fusion_key(hparams), data_epoch)
        assert lane.path == row["path"]
        lane.place(0, row["seed"], hparams, state)
        for _ in range(min(left, num_epochs)):
            lane.train_epoch()
        left -= min(left, num_epochs)
        if left == 0:
            break
        state = lane.copy_states([0])[0]
    lane.keep_best(0)
    predicted = lane.best_predictions(0)
    count, classes = len(data.validation.targets), data.class_names
    again = macro_f1(data.validation.targets, predicted[:count], classes)
    assert abs(again - best.score) < 1e-9, f"{again} is not {best.score}, which was recorded"
    return macro_f1(data.test.targets, predicted[count:], classes)


def joined(one: Split, other: Split) -> Split:
    """Return the examples of two splits, padded to the longer of their longest."""

    def both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if one.lengths is None or a.ndim == 1:
            return np.concatenate([a, b])
        longest = max(a.shape[1], b.shape[1])
        padded = [
            np.pad(x, [(0, 0), (0, longest - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])
            for x in (a, b)
        ]
        return np.concatenate(padded)

    inputs = tuple(both(a, b) for a, b in zip(one.inputs, other.inputs, strict=True))
    lengths = None
    if one.lengths is not None and other.lengths is not None:
        lengths = np.concatenate([one.lengths, other.lengths])
    return Split(inputs, np.concatenate([one.targets, other.targets]), lengths)


def macro_f1(targets: np.ndarray, predicted: np.ndarray, class_names: tuple[str, ...]) -> float:
    matrix = np.zeros((len(class_names), len(class_names)), dtype=np.int64)
    np.add.at(matrix, (targets, predicted.astype(np.int64)), 1)
    return make_metric("macro-f1", class_names).score(Counts.of_matrix(matrix))


def read_rows() -> list[dict[str, str]]:
    if not ANSWERS.exists():
        return []
    with ANSWERS.open(newline="") as file:
        return list(csv.DictReader(file))


def append_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    is_new = not ANSWERS.exists()
    with ANSWERS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def list_runs(only: Sequence[str], seconds: int, seeds: int) -> Iterator[Run]:
    """List the runs that a filter leaves, a seed of all before the next.

    A task that is held out runs only if it is named.
    """
    words = [each.split(":") for each in only]
    named = {each[0] for each in words}
    for seed, task, space, tool in itertools.product(range(seeds), TASKS, SPACES, TOOLS):
        names = (task, space, tool)
        is_chosen = not only or any(
            all(word in ("", name) for word, name in zip(each, names, strict=False))
            for each in words
        )
        if is_chosen and (task in named or not TASKS[task].is_held_out):
            yield Run(task, space, tool, seconds, seed)


def print_table(rows: Iterable[Mapping[str, str]]) -> None:
    """Print mean test scores over seeds, with their standard errors; no answer yet counts as 0.

    A line below names each moment at which ours is behind another tool by more than the standard
    error of the difference.
    """
    cells: dict[tuple[str, ...], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        key = row["task"], row["space"], row["seconds"], row["tool"]
        cells[key][float(row["moment"])].append(float(row["test"] or 0.0))
    print("| task | space | tool | moment in s: macro-F1 on test (standard error, seeds) |")
    print("|---|---|---|---|")
    behind = []
    for (task, space, seconds, tool), moments in sorted(cells.items()):
        own, shown = cells.get((task, space, seconds, OURS), {}), []
        for moment, scores in sorted(moments.items()):
            mean, error = mean_and_error(scores)
            shown.append(f"{moment:g}: {mean:.4f} ({error:.4f}, {len(scores)})")
            our_mean, our_error = mean_and_error(own.get(moment, scores))
            gap, gap_error = mean - our_mean, (error**2 + our_error**2) ** 0.5
            if gap > gap_error:
                behind.append(f"{task} {space}, {moment:g} s: {gap:.4f} behind {tool}")
        print(f"| {task} | {space} | {tool} | {', '.join(shown)} |")
    print("", *behind, sep="\n")


def mean_and_error(scores: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error, 0 for one score."""
    error = statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else 0.0
    return statistics.fmean(scores), error


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--only", action="append", default=[], metavar="TASK:SPACE:TOOL",
        help="only these runs; a part that is left out or empty is any; repeat",
    )  # fmt: skip
    parser.add_argument("--table", action="store_true", help="print what has been measured")
    arguments = parser.parse_args()
    if arguments.table:
        print_table(read_rows())
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True, text=True, check=True, cwd=HERE,
    ).stdout.strip()  # fmt: skip
    done = {tuple(row[name] for name in _RUN) for row in read_rows()}
    for run in list_runs(arguments.only, arguments.seconds, arguments.seeds):
        if tuple(str(getattr(run, name)) for name in _RUN) in done:
            continue
        with tempfile.TemporaryDirectory() as name:
            rows = measure(run, Path(name))
        append_rows({**row, "commit": commit} for row in rows)
        for row in rows:
            print(*(row.get(name, "-") for name in COLUMNS[:-1]), flush=True)


if __name__ == "__main__":
    main()
