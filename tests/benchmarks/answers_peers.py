"""What ``bench_answers.py`` compares with: other tools that train plain PyTorch loops.

    python tests/benchmarks/answers_peers.py TOOL TASK SPACE SEED SECONDS FOLDER

is one process of a tool; it goes on until it is killed. Every process, Ray's workers too, appends
a line of JSON for each epoch to a file of its own in FOLDER: the time, the trial, the epoch and
the validation score, and, where that is the best of the process, the file with the weights. What
they would score on test is counted afterwards, so that no tool pays for it.

The loop is as fast as plain PyTorch is here: tensors in memory, ``index_select``, fused or
multi-tensor optimizers, batches of sequences trimmed to their longest, one thread a process.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import plain_loops
import torch
from tasks import TASKS
from torch import nn

from objectives.api import Counts, Data
from objectives.lanes.batches import TensorSplit, batch_order, on_device
from objectives.metrics import make_metric
from objectives.registry import find_objective
from search_spaces.hparams import Hparams
from search_spaces.space import SearchSpace, parse_space

#: Most epochs of a trial, for every tool.
MAX_EPOCHS = 50


class PlainTask:
    """A task as plain tensors and plain modules, and this process's record of its epochs.

    Args:
        task: Its name.
        space: ``one`` or ``mixed``.
        folder: Where the record goes; None: there is none.
        data: The task's data set; None: it is loaded.
    """

    def __init__(
        self, task: str, space: str, folder: Path | None = None, data: Data | None = None
    ) -> None:
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        self.task, self.space_name = TASKS[task], space
        self.space: SearchSpace = parse_space(self.task.space(space))
        self.data = self.task.load() if data is None else data
        device = torch.device("cpu")
        self.train, self.validation = (
            on_device(split, device) for split in (self.data.train, self.data.validation)
        )
        self._score_of = make_metric("macro-f1", self.data.class_names).score
        self._folder = folder
        self._best = -1.0
        self._num_kept = 0

    def trial(self, number: str, hparams: Hparams, seed: int) -> "PlainTrial":
        """Return a trial that has not trained."""
        return PlainTrial(self, number, hparams, seed)

    def build(self, model: Mapping[str, Any]) -> nn.Module:
        """Return the module as most people would write it."""
        if self.task.objective == "sequence-rnn":
            return plain_loops.PlainGru(self.data, hidden=model["hidden"])
        if self.task.objective == "relation-cnn":
            shape = {name: model[name] for name in ("filters", "window")}
            return plain_loops.PlainCnn(self.data, is_frozen=True, **shape)
        module = find_objective(self.task.objective).build_model(self.data, **model)
        assert isinstance(module, nn.Module)
        return module

    def logits(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return a logit for each class; a module of two classes may have one alone."""
        logits: torch.Tensor = module(*inputs)
        if logits.shape[-1] == 1:
            return torch.cat([torch.zeros_like(logits), logits], dim=-1)
        return logits

    def score(self, module: nn.Module, split: TensorSplit) -> float:
        """Return the macro-F1 on a split."""
        classes = len(self.data.class_names)
        matrix = torch.zeros(classes * classes, dtype=torch.int64)
        module.eval()
        with torch.no_grad():
            for rows in split.evaluation_batches(classes):
                inputs, targets = split.batch(rows)
                cells = targets * classes + self.logits(module, inputs).argmax(-1)
                matrix += torch.bincount(cells, minlength=classes * classes)
        return self._score_of(Counts.of_matrix(matrix.view(classes, classes).numpy()))

    def record(self, trial: "PlainTrial", score: float) -> None:
        """Append the line of an epoch; keep the weights of the best one so far."""
        assert self._folder is not None, "nobody asked for a record"
        line: dict[str, Any] = {"trial": trial.number, "epoch": trial.epoch}
        line["score"] = score if math.isfinite(score) else None
        if score > self._best:
            self._best, self._num_kept = score, self._num_kept + 1
            line["weights"] = f"{os.getpid()}-{self._num_kept}.pt"
            line["model"] = trial.hparams.model
            torch.save(trial.module.state_dict(), self._folder / line["weights"])
        line["time"] = time.time()
        with (self._folder / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


class PlainTrial:
    """A module and its optimizer; ``train_epoch`` trains, validates and records."""

    def __init__(self, task: PlainTask, number: str, hparams: Hparams, seed: int) -> None:
        torch.manual_seed(seed)
        self.number, self.hparams, self.epoch = number, hparams, 0
        self.module = task.build(hparams.model)
        for layer in self.module.modules():
            if isinstance(layer, nn.Dropout):
                assert hparams.dropout is not None
                layer.p = hparams.dropout
        weights = [p for p in self.module.parameters() if p.requires_grad]
        self._optimizer = make_optimizer(hparams, weights)
        self._task, self._seed = task, seed

    def train_epoch(self) -> float:
        """Return the epoch's macro-F1 on validation, NaN where the loss is no number."""
        self.epoch += 1
        train, loss = self._task.train, torch.zeros(())
        order = batch_order(
            self._seed % 2**32,
            self.epoch,
            num_examples=len(train),
            batch_size=self.hparams.batch_size,
            lengths=train.lengths_on_host,
        )
        self.module.train()
        for rows in order:
            inputs, targets = train.batch(rows)
            self._optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self._task.logits(self.module, inputs), targets)
            loss.backward()
            self._optimizer.step()
        is_number = math.isfinite(loss.item())
        score = self._task.score(self.module, self._task.validation) if is_number else math.nan
        self._task.record(self, score)
        return score


def make_optimizer(hparams: Hparams, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the fastest of PyTorch's optimizers on a CPU for a trial."""
    rate = hparams.learning_rate
    assert rate is not None
    if hparams.optimizer == "adam":
        return torch.optim.Adam(weights, lr=rate, fused=True)
    if hparams.optimizer == "rmsprop":
        return torch.optim.RMSprop(weights, lr=rate, foreach=True)
    assert hparams.optimizer == "sgd", hparams.optimizer
    return torch.optim.SGD(weights, lr=rate, momentum=hparams.momentum or 0.0, fused=True)


def random_search(task: PlainTask, seed: int, folder: Path, seconds: float) -> None:
    """Train settings drawn at random to their end, one after the other."""
    _optimize(task, optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)), seed)


def optuna_median(task: PlainTask, seed: int, folder: Path, seconds: float) -> None:
    """TPE, and the pruner that Optuna takes unless told."""
    _optimize(task, _shared_study(folder, seed, optuna.pruners.MedianPruner()), seed)


def optuna_hyperband(task: PlainTask, seed: int, folder: Path, seconds: float) -> None:
    """TPE, and successive halving in several brackets."""
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=MAX_EPOCHS)
    _optimize(task, _shared_study(folder, seed, pruner), seed)


def _shared_study(
    folder: Path, seed: int, pruner: optuna.pruners.BasePruner
) -> optuna.study.Study:
    """Return the study of both processes; a journal file costs less than SQLite."""
    journal = optuna.storages.journal.JournalFileBackend(str(folder / "journal.log"))
    return optuna.create_study(
        study_name="peer",
        storage=optuna.storages.JournalStorage(journal),
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(
            multivariate=True, group=True, constant_liar=True, seed=seed
        ),
        pruner=pruner,
    )


def _optimize(task: PlainTask, study: optuna.study.Study, seed: int) -> None:
    def objective(trial: optuna.Trial) -> float:
        own_seed = 1_000_003 * seed + trial.number
        plain = task.trial(f"{seed}-{trial.number}", task.space.suggest(trial), own_seed)
        best = 0.0
        for epoch in range(1, MAX_EPOCHS + 1):
            score = plain.train_epoch()
            if math.isnan(score):
                raise optuna.TrialPruned
            best = max(best, score)
            trial.report(score, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return best

    study.optimize(objective)


def ray_asha(task: PlainTask, seed: int, folder: Path, seconds: float) -> None:
    """Two workers that keep their process from trial to trial; settings at random."""
    import logging

    import ray
    from ray import tune

    task_name, space_name = task.task.name, task.space_name

    class Trainable(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any], data: Data) -> None:
            self._plain_task = PlainTask(task_name, space_name, folder, data)
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            chance = optuna.samplers.RandomSampler(seed=new_config["draw"])
            hparams = self._plain_task.space.suggest(optuna.create_study(sampler=chance).ask())
            draw = new_config["draw"]
            self._trial = self._plain_task.trial(str(draw), hparams, draw)
            return True

        def step(self) -> dict[str, Any]:
            score = self._trial.train_epoch()
            return {"score": 0.0, "done": True} if math.isnan(score) else {"score": score}

    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    trainable = tune.with_resources(tune.with_parameters(Trainable, data=task.data), {"cpu": 1})
    tune.Tuner(
        trainable,
        param_space={"draw": tune.randint(0, 2**31)},
        tune_config=tune.TuneConfig(
            num_samples=-1,
            time_budget_s=seconds,
            metric="score",
            mode="max",
            reuse_actors=True,
            search_alg=tune.search.BasicVariantGenerator(random_state=seed),
            scheduler=tune.schedulers.ASHAScheduler(max_t=MAX_EPOCHS),
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder / "ray"),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()


#: By tool: what a process does, and how many processes there are.
TOOLS: Mapping[str, tuple[Callable[[PlainTask, int, Path, float], None], int]] = {
    "optuna-median": (optuna_median, 2),
    "optuna-hyperband": (optuna_hyperband, 2),
    "ray-asha": (ray_asha, 1),
    "random": (random_search, 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("space")
    parser.add_argument("seed", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    run, _ = TOOLS[arguments.tool]
    task = PlainTask(arguments.task, arguments.space, arguments.folder)
    run(task, arguments.seed, arguments.folder, arguments.seconds)


if __name__ == "__main__":
    main()
