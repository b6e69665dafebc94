"""Trains what verdicts speak of: trials run on to 4 times their cap, and again with changes.

    OMP_NUM_THREADS=1 nice -n 19 python tests/benchmarks/record_proof.py

For each task of ``proof_tasks.py`` and each seed, a sweep of random settings in which every trial
is trained to 4 times the cap; and every setting again from another seed for cap epochs: as it is
(the placebo), with a fifth and with five times the learning rate, and with 0.3 more dropout. The
epochs up to the cap are kept, and what the best epoch so far scores on validation and on *test*
after once, twice and 4 times the cap. Nothing is judged here (``bench_proof.py`` does), so the
rows stay valid when the analysis changes. Rows are appended to ``proof/trials.csv`` when a sweep
is complete; the same command goes on where it was stopped.
"""

import argparse
import csv
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from proof_tasks import PROOF_TASKS, ProofTask
from record_tables import draw_settings
from safetensors.torch import load_file

from objectives.api import Counts, Data, EpochReport, find_fusion_key
from objectives.lanes.batches import on_device
from objectives.lanes.trainer import ModelTrainer
from objectives.metrics import Metric, make_metric
from search_spaces.hparams import Hparams
from sweeps.analysis.noise import score_error

FOLDER = Path(__file__).parent / "proof"
TRIALS, ADVICE, TARGETS = (FOLDER / name for name in ("trials.csv", "advice.csv", "targets.json"))
#: Settings of a sweep; its cap in epochs by seed; for how many caps each is trained.
SETTINGS, CAPS, HORIZONS = 32, (8, 12, 20), (1, 2, 4)
#: What is changed when a setting is trained again; ``again`` is the placebo.
CHANGES = ("again", "lower", "higher", "dropout")
FACTOR, DROPOUT, MOST_DROPOUT = 5.0, 0.3, 0.8
COLUMNS = (
    *("task", "seed", "cap", "trial", "params", "error", "score", "train_loss", "val_loss"),
    *(f"{split}_{n}" for n in HORIZONS for split in ("validation", "test")),
    *(f"{split}_{change}" for change in CHANGES for split in ("validation", "test")),
)


@dataclass(slots=True)
class Trained:
    """A trial's epochs, and what its best one so far scores at some of them.

    Attributes:
        reports: One an epoch.
        scores: On validation, NaN from the first epoch on whose loss is not finite.
        answers: Best score so far on validation, and what that epoch scores on test, by epoch.
        error: Standard error of the best score at the first of these epochs.
    """

    reports: list[EpochReport] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    answers: dict[int, tuple[float, float]] = field(default_factory=dict)
    error: float = math.nan


class Bench:
    """Trains settings of one task together, and scores their best epochs on test."""

    def __init__(self, task: ProofTask, *, seed: int) -> None:
        self._data: Data = task.load()
        self._objective = task.objective
        self.trainer = ModelTrainer(self._objective, self._data, data_seed=seed)
        self.metric: Metric = make_metric("macro-f1", self._data.class_names)
        self._test = on_device(self._data.test, torch.device("cpu"))

    def train(
        self, settings: Sequence[Hparams], seeds: Sequence[int], *, ends: Sequence[int]
    ) -> list[Trained]:
        """Train settings of one shape to the last of ``ends``; score on test at each of these."""
        (key,) = {find_fusion_key(each) for each in settings}
        lane = self.trainer.open_lane(key, 0)
        for slot, (hparams, seed) in enumerate(zip(settings, seeds, strict=True)):
            lane.place(slot, seed, hparams)
        trained = [Trained() for _ in settings]
        best: dict[int, Counts] = {}
        tests: dict[int, float] = {}
        for epoch in range(1, max(ends) + 1):
            for report in lane.train_epoch():
                own = trained[report.slot]
                if self.add(own, report):
                    lane.keep_best(report.slot)
                    best[report.slot] = report.counts
                    tests.pop(report.slot, None)
            for slot, own in enumerate(trained) if epoch in ends else ():
                if slot in best and slot not in tests:
                    tests[slot] = self.score_on_test(lane, slot, dict(key.model))
                highest = max((each for each in own.scores if math.isfinite(each)), default=0.0)
                own.answers[epoch] = highest, tests.get(slot, 0.0)
                if epoch == min(ends) and slot in best:
                    matrix = best[slot].matrix
                    assert matrix is not None, "no task has more than 50 classes"
                    own.error = score_error(matrix, self.metric)
        return trained

    def add(self, own: Trained, report: EpochReport) -> bool:
        """Add an epoch; return whether it is the best so far."""
        is_finite = math.isfinite(report.train_loss) and math.isfinite(report.val_loss)
        is_finite &= not own.scores or math.isfinite(own.scores[-1])
        score = self.metric.score(report.counts) if is_finite else math.nan
        is_best = is_finite and score > max(own.scores, default=-1.0)
        own.reports.append(report)
        own.scores.append(score)
        return is_best

    def score_on_test(self, lane: Any, slot: int, model: Mapping[str, Any]) -> float:
        """Return what the kept weights of a slot score on test."""
        module = self._objective.build_model(self._data, **model)
        with tempfile.TemporaryDirectory() as folder:
            lane.save_best(slot, Path(folder) / "best.safetensors")
            weights = load_file(Path(folder) / "best.safetensors")
        module.load_state_dict(weights)
        module.eval()
        classes = len(self._data.class_names)
        matrix = np.zeros((classes, classes), dtype=np.int64)
        with torch.no_grad():
            for rows in self._test.evaluation_batches(classes):
                inputs, targets = self._test.batch(rows)
                logits = module(*inputs)
                wide = logits.shape[1] > 1
                predicted = logits.argmax(dim=1) if wide else (logits[:, 0] > 0).long()
                np.add.at(matrix, (targets.numpy(), predicted.numpy()), 1)
        return self.metric.score(Counts.of_matrix(matrix))


def change(hparams: Hparams, name: str) -> Hparams:
    """Return a setting with one of ``CHANGES``."""
    changes: dict[str, Any] = {
        "again": {},
        "lower": {"learning_rate": hparams.learning_rate / FACTOR},
        "higher": {"learning_rate": hparams.learning_rate * FACTOR},
        "dropout": {"dropout": min((hparams.dropout or 0.0) + DROPOUT, MOST_DROPOUT)},
    }[name]
    return Hparams.model_validate({**hparams.to_params(), **changes})


def record_sweep(task: ProofTask, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of a sweep."""
    cap, bench = CAPS[seed], Bench(task, seed=seed)
    settings = draw_settings(task.space, SETTINGS, seed=seed)
    seeds = [1_000 * seed + trial for trial in range(SETTINGS)]
    trained = bench.train(settings, seeds, ends=[n * cap for n in HORIZONS])
    again = {
        name: bench.train(
            [change(each, name) for each in settings], [each + 500 for each in seeds], ends=[cap]
        )
        for name in CHANGES
    }
    for trial, own in enumerate(trained):
        row: dict[str, Any] = {"task": task.name, "seed": seed, "cap": cap, "trial": trial}
        row["params"] = json.dumps(settings[trial].to_params(), separators=(",", ":"))
        row["error"] = f"{own.error:.5f}"
        row["score"] = _join(own.scores[:cap], 4)
        row["train_loss"] = _join([each.train_loss for each in own.reports[:cap]], 5)
        row["val_loss"] = _join([each.val_loss for each in own.reports[:cap]], 5)
        answers = {n: own.answers[n * cap] for n in HORIZONS}
        answers |= {name: found[trial].answers[cap] for name, found in again.items()}
        for at, (validation, test) in answers.items():
            row |= {f"validation_{at}": f"{validation:.4f}", f"test_{at}": f"{test:.4f}"}
        yield row


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows that have been recorded."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows, with a head if they are the first."""
    is_new = not path.exists()
    path.parent.mkdir(exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def write_targets() -> None:
    """Write the share of each class in training, and its validation examples, of each task."""
    found = {}
    for task in PROOF_TASKS:
        data = task.load()
        counts = [
            np.bincount(split.targets, minlength=len(data.class_names))
            for split in (data.train, data.validation)
        ]
        shares = (counts[0] / counts[0].sum()).round(6).tolist()
        found[task.name] = (shares, counts[1].tolist())
    TARGETS.write_text(json.dumps(found) + "\n")


def _join(values: Sequence[float], digits: int) -> str:
    return " ".join(f"{each:.{digits}g}" for each in values)


def main() -> None:
    """Record the sweeps that are missing, one seed of every task before the next."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=len(CAPS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    write_targets()
    done = {(row["task"], row["seed"]) for row in read_rows(TRIALS)}
    for seed in range(arguments.seeds):
        for task in PROOF_TASKS:
            if (task.name, str(seed)) in done:
                continue
            rows = list(record_sweep(task, seed))
            append_rows(TRIALS, rows)
            print(f"{task.name}, seed {seed}: {len(rows)} trials", flush=True)


if __name__ == "__main__":
    main()
