"""What ``on_gpu.py`` asks of a device: a section's rows of the table, each when it is known.

    python tests/benchmarks/gpu_checks.py SECTION DEVICE SECONDS

An item of a section raises where something is wrong; a row's verdict says FAILED where figures
say so. The repository is on ``PYTHONPATH``, also for the processes that are started here.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import bench_sweeps
import numpy as np
import torch
from plain_loops import CASES, Case, few_examples, measure, open_lane
from torch import nn

from objectives.api import Data, Objective, find_fusion_key
from objectives.lanes import precision
from objectives.lanes.batches import batch_order, on_device
from objectives.lanes.trainer import ModelTrainer
from objectives.layers.program import widen
from objectives.registry import find_objective
from search_spaces.hparams import RATED, Hparams
from tests.rounding import Rounding, compare_runs

ROOT = Path(__file__).resolve().parents[2]
FAILED = "FAILED"
_BATCH = 20


@dataclass(frozen=True)
class Size:
    """How much is run on a device."""

    slots: tuple[int, ...]
    company: int
    """Slots where one number of them is enough."""
    optimizers: tuple[str, ...]
    examples: int
    steps: int
    rounds: int
    sweeps: tuple[tuple[str, int, int], ...]
    """Case, our trials, its trials."""
    processes: int


SIZES = {
    "cuda": Size(
        slots=(1, 4, 16, 64, 128),
        company=16,
        optimizers=RATED,
        examples=103,
        steps=50,
        rounds=5,
        sweeps=(("mlp-200", 256, 16), ("gru-8", 64, 16)),
        processes=8,
    ),
    "cpu": Size(
        slots=(1, 2),
        company=2,
        optimizers=("adam", "sgd"),
        examples=43,
        steps=5,
        rounds=1,
        sweeps=(("mlp-200", 2, 2),),
        processes=2,
    ),
}
Row = tuple[str, str, str, str]
"""Case, measured, against, verdict."""
Item = tuple[str, Callable[[], list[Row]]]
Section = Callable[[str, float], Iterator[Item]]
"""Given the device and its seconds."""


def marked_tests(device: str, seconds: float) -> Iterator[Item]:
    """The tests that are marked ``gpu``."""

    def run() -> list[Row]:
        # Not the whole folder: others import what a machine with a GPU need not have.
        files = [p for p in (ROOT / "tests").glob("test_*.py") if "mark.gpu" in p.read_text()]
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
        result = subprocess.run(
            [*command, *map(str, files)], cwd=ROOT, capture_output=True, text=True, timeout=seconds
        )
        lines = result.stdout.strip().splitlines() or result.stderr.strip().splitlines()
        rows = [(line.split(" - ")[0][:120], "", "", FAILED)
                for line in lines if line.startswith(("FAILED", "ERROR"))]  # fmt: skip
        summary = lines[-1] if lines else "no output"
        return [*rows, ("pytest -m gpu", summary, "", FAILED if result.returncode else "ok")]

    yield "pytest -m gpu", run


OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "sgd": torch.optim.SGD,
}
#: Terms summed on the way from a batch to a gradient: layers, up to 92 steps, a window of 3 words.
TERMS = {
    "mlp": 2 * (64 + 16 + 16) + _BATCH,
    "gru": 2 * 92 * (13 + 32) + _BATCH,
    "cnn": 2 * (3 * 60 + 100) + _BATCH,
}
#: Low: where a gradient is next to nothing, what float32 rounds decides a whole step of adam's.
RATES = {"rmsprop": 1e-4, "adagrad": 0.003, "adadelta": 1.0, "sgd": 0.1}


class Whole:
    """An objective of a person's own, whose model is the plain one and is not fused."""

    name = "own"

    def __init__(self, case: Case) -> None:
        self._case = case

    def load(self, source: Path | None) -> Data:
        return find_objective(self._case.objective).load(source)

    def build_model(self, data: Data, **model: Any) -> nn.Module:
        model = self._case.plain(data)
        for layer in model.modules():
            if type(layer) is nn.GRU:
                layer.__class__ = type("OwnGru", (nn.GRU,), {})
        return model


def plain_epochs(
    objective: Objective,
    data: Data,
    hparams: Hparams,
    seed: int,
    device: str,
    num_epochs: int,
    rounding: Rounding,
) -> list[list[float]]:
    """Train a module with an optimizer of PyTorch on the lane's batches; two losses an epoch."""
    torch.manual_seed(seed)
    module = objective.build_model(data, **hparams.model).to(device).double()
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    parameters = [p for p in module.parameters() if p.requires_grad]
    options = {"lr": hparams.learning_rate, "weight_decay": hparams.weight_decay}
    options |= {} if hparams.momentum is None else {"momentum": hparams.momentum}
    optimizer = OPTIMIZERS[hparams.optimizer](parameters, **options)
    train, validation = (on_device(s, torch.device(device)) for s in (data.train, data.validation))

    def loss(inputs: tuple[torch.Tensor, ...], targets: torch.Tensor) -> torch.Tensor:
        logits = module(*(x.double() if x.is_floating_point() else x for x in inputs))
        # One output for two classes.
        logits = widen(logits) if logits.shape[1] == 1 else logits
        return nn.functional.cross_entropy(logits, targets)

    rows = []
    for epoch in range(1, num_epochs + 1):
        total = 0.0
        module.train()
        for batch in batch_order(
            0, epoch, num_examples=len(train), batch_size=_BATCH, lengths=data.train.lengths
        ):
            optimizer.zero_grad()
            of_batch = loss(*train.batch(batch))
            of_batch.backward()
            rounding.gradients(parameters)
            rounding.step(optimizer)
            total += of_batch.item() * len(batch)
        module.eval()
        with torch.no_grad():
            everything = validation.batch(np.arange(len(validation)))
            rows.append([total / len(train), loss(*everything).item()])
    return rows


def equality(device: str, seconds: float) -> Iterator[Item]:
    """Both paths against ``torch.optim`` on the plain module: within what float32 rounds."""
    size = SIZES[device]

    def run(name: str, path: str) -> list[Row]:
        case = CASES[name]
        objective = Whole(case) if path == "plain" else find_objective(case.objective)
        data = few_examples(case, size.examples, 41)
        trainer = ModelTrainer(objective, data, device=device)
        trials = [
            Hparams(
                optimizer=optimizer,
                learning_rate=RATES.get(optimizer, 0.001),
                momentum=0.9 if optimizer in ("sgd", "rmsprop") else None,
                dropout=0.0,
                batch_size=_BATCH,
                model={} if path == "plain" else case.model,
            )
            for optimizer in size.optimizers
        ]
        lane = trainer.open_lane(find_fusion_key(trials[0]), 0)
        assert lane.path == path, lane.note
        for slot, hparams in enumerate(trials):
            lane.place(slot, slot, hparams)
        reports = [{report.slot: report for report in lane.train_epoch()} for _ in range(3)]
        shares = {}
        for slot, hparams in enumerate(trials):
            ours = [[epoch[slot].train_loss, epoch[slot].val_loss] for epoch in reports]
            reference = partial(plain_epochs, objective, data, hparams, slot, device, 3)
            shares[hparams.optimizer] = float(compare_runs(ours, reference, TERMS[name]).max())
        worst = max(shares, key=lambda optimizer: shares[optimizer])
        measured = f"{shares[worst]:.2f} of what float32 may round ({worst})"
        return [(f"{name}, {path}", measured, f"torch.optim, {len(shares)} optimizers", "ok")]

    for name, path in (
        ("mlp", "stacked"),
        ("gru", "stacked"),
        ("cnn", "stacked"),
        ("gru", "plain"),
    ):
        yield f"{name}, {path}", partial(run, name, path)


def recordings(device: str, seconds: float) -> Iterator[Item]:
    """Steps that are recorded as CUDA graphs against steps that are launched one by one."""
    size = SIZES[device]

    def run(name: str, batch: int) -> list[Row]:
        data = few_examples(CASES[name], size.steps * batch, 1)
        launched, recorded = (
            open_lane(data, CASES[name], batch, size.company, device) for _ in range(2)
        )
        launched._record = None
        if device == "cpu":  # nothing can be recorded there: steps are launched another way
            recorded._record = lambda take: take
        times: list[list[float]] = [[], []]
        for _ in range(size.rounds + 1):
            losses = []
            for lane, taken in zip((launched, recorded), times, strict=True):
                started = time.perf_counter()
                losses.append(np.array([report.train_loss for report in lane.train_epoch()]))
                taken.append((time.perf_counter() - started) / size.steps * 1e6)
        by_launch, by_record = (statistics.median(taken[1:]) for taken in times)
        apart = float(abs(losses[1] / losses[0] - 1).max())
        # Atomic additions come in any order; a step that does something else is far off.
        is_right = recorded.note is None and apart < 1e-3
        verdict = f"{by_launch / by_record:.2f} x, losses {apart:.0e} apart"
        against = f"launched: {by_launch:.0f} us"
        note = recorded.note or ""
        return [
            (f"{name}, batch {batch}, {size.company} slots", f"{by_record:.0f} us a step {note}",
             against, verdict if is_right else f"{FAILED}: {verdict}")
        ]  # fmt: skip

    for name, case in CASES.items():
        yield name, partial(run, name, case.batches[-1])


def step_times(device: str, seconds: float) -> Iterator[Item]:
    """A step by number of slots, against a plain loop on the same device."""
    size = SIZES[device]

    def run(name: str, batch: int) -> list[Row]:
        found = measure(
            name, batch, list(size.slots), device, steps=size.steps, rounds=size.rounds
        )
        plain = next(row["us_a_trial_step"] for row in found if row["loop"] == "plain")
        return [
            (f"{name}, batch {batch}, {row['slots']} slots",
             f"{row['us_a_trial_step']:.1f} us a trial-step", f"plain loop: {plain:.1f} us",
             f"{row['times_plain']:.2f} x")
            for row in found if row["loop"] == "lane"
        ]  # fmt: skip

    for name, case in CASES.items():
        for batch in case.batches if device == "cuda" else case.batches[-1:]:
            yield f"{name}, batch {batch}", partial(run, name, batch)


def precisions(device: str, seconds: float) -> Iterator[Item]:
    """TF32 against float32: how much faster, and how far off."""
    size = SIZES[device]

    def run(name: str, batch: int) -> list[Row]:
        slots = sorted({size.company, size.slots[-1]})
        data = few_examples(CASES[name], size.steps * batch, 1)
        losses, times = [], []
        both: tuple[precision.Precision, ...] = ("float32", "tf32")
        for products in both:
            precision.use(products)
            found = measure(name, batch, slots, device, steps=size.steps, rounds=size.rounds)
            times.append({row["slots"]: row["us_a_trial_step"] for row in found
                          if row["loop"] == "lane"})  # fmt: skip
            lane = open_lane(data, CASES[name], batch, size.company, device)
            epochs = [lane.train_epoch() for _ in range(3)]
            losses.append(np.array([report.train_loss for report in epochs[-1]]))
        precision.use("float32")
        apart = float(abs(losses[1] / losses[0] - 1).max())
        return [
            (f"{name}, batch {batch}, {count} slots",
             f"tf32: {times[1][count]:.1f} us a trial-step",
             f"float32: {times[0][count]:.1f} us",
             f"{times[0][count] / times[1][count]:.2f} x, "
             f"losses {apart:.0e} apart{'' if apart < 0.1 else f': {FAILED}'}")
            for count in slots
        ]  # fmt: skip

    for name, case in CASES.items():
        yield name, partial(run, name, case.batches[-1])


def whole_sweeps(device: str, seconds: float) -> Iterator[Item]:
    """A whole sweep against one process a trial, several at once; start-up included."""
    size = SIZES[device]
    ends = time.monotonic() + seconds

    def run(name: str, trials: int, their_trials: int) -> list[Row]:
        case = replace(bench_sweeps.CASES[name], trials=trials)
        if device == "cpu":
            case = replace(case, epochs=1)
        with tempfile.TemporaryDirectory() as folder:
            (command,) = bench_sweeps.ours(case, Path(folder), device)
            ours = time_processes([command], 1, folder, ends)
            script = Path(folder) / "one_trial.py"
            script.write_text(
                bench_sweeps.plain(case, device)
                + "train(adam(1e-3), int(sys.argv[1]), lambda score, epoch: None)\n"
            )
            commands = [[sys.executable, str(script), str(seed)] for seed in range(their_trials)]
            theirs = time_processes(commands, size.processes, folder, ends)
        rates = (trials * case.epochs / ours, their_trials * case.epochs / theirs)
        return [
            (f"{name}, {trials} trials of {case.epochs} epochs",
             f"{rates[0]:.1f} trial-epochs a second ({ours:.0f} s)",
             f"a process a trial, {size.processes} at once: {rates[1]:.1f} "
             f"({their_trials} trials, {theirs:.0f} s)",
             f"{rates[0] / rates[1]:.1f} x")
        ]  # fmt: skip

    for name, trials, their_trials in size.sweeps:
        yield name, partial(run, name, trials, their_trials)


def time_processes(commands: list[list[str]], at_once: int, folder: str, ends: float) -> float:
    """Return the seconds that processes take, so many at once."""

    def run(command: list[str]) -> None:
        left = max(0.1, ends - time.monotonic())
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=left)
        if result.returncode:
            raise RuntimeError((result.stderr.strip().splitlines() or ["no message"])[-1])

    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run, commands))
    return time.perf_counter() - started


SECTIONS: dict[str, Section] = {
    "tests": marked_tests,
    "torch.optim": equality,
    "recording": recordings,
    "step times": step_times,
    "sweep": whole_sweeps,
    "precision": precisions,
}


def main(section: str, device: str, seconds: float) -> None:
    """Print the rows of a section; an item that fails, or finds no time left, is a row too."""
    ends = time.monotonic() + seconds
    torch.set_num_threads(1)
    precision.use("float32")
    for case, run in SECTIONS[section](device, seconds):
        if time.monotonic() > ends:
            rows = [(case, "", "", f"{FAILED}: no time left")]
        else:
            try:
                rows = run()
            except Exception as error:  # whatever a device says, the next item is tried
                lines = f"{type(error).__name__}: {error}".splitlines()
                rows = [(case, "", "", f"{FAILED}: {lines[0][:200]}")]
        for row in rows:
            cells = (cell.replace("|", "/") for cell in row)
            print(f"| {section} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
