"""A lane: trials of one shape trained as one program, each a row of the same tensors.

Rows stand in the order of their optimizer, so that each family updates one slice; a trial that
enters or leaves moves rows at the boundary of an epoch and never changes what a row computes.
Knows nothing of studies, scores or reasons to stop.
Shapes: S slots, B batch, C classes.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from objectives.api import EpochReport
from objectives.places import describe_error
from objectives.training import (
    layers,
    line_search,
    losses,
    random,
    schedules,
    validation,
    weights,
)
from objectives.training.batches import TensorSplit
from objectives.training.fusion import Program
from objectives.training.lane_trial import LaneTrial
from objectives.training.recording import Record, Recorder, RecordingError
from objectives.training.rows import Group, Rows, between, find_small, join, views
from objectives.training.steps import Steps, Trained
from search_spaces.hparams import LINE_SEARCHES, OPTIMIZERS, Hparams

#: Most lengths that batches are trimmed to where each length is a recording of its own.
_RECORDED_LENGTHS = 8


class FusedLane:
    """See ``objectives.api.Lane``.

    Args:
        program: The model as a function of stacked tensors.
        build: Returns a fresh module, its weights drawn from torch's default generator.
        train: Examples to train on.
        validation: Examples to validate on after each epoch.
        num_classes: Width of the logits, C.
        batch_size: Examples a step, B.
        data_seed: Decides the order of batches, with the data epoch.
        data_epoch: Data epochs that the lane's clock has behind it.
        record: What records steps on a GPU, see ``recording``; None: each is taken by itself.
    """

    def __init__(
        self,
        program: Program,
        build: Callable[[], nn.Module],
        *,
        train: TensorSplit,
        validation: TensorSplit,
        num_classes: int,
        batch_size: int,
        data_seed: int,
        data_epoch: int = 0,
        record: Record | None = None,
    ) -> None:
        self.data_epoch = data_epoch
        self.max_slots = None if program.note is None else 1
        self.note = None if program.note is None else f"one slot: {program.note}"
        self._program = program
        self._build = build
        self._train = train
        self._validation = validation
        self._num_classes = num_classes
        self._batch_size = batch_size
        self._data_seed = data_seed
        self._trials: list[LaneTrial] = []
        # Who comes and goes between two epochs: rows are moved once, as the next one begins.
        self._arriving: list[tuple[LaneTrial, Rows]] = []
        self._leaving: set[int] = set()
        self._num_admitted = 0
        self._rows: Rows | None = None
        self._small: tuple[str, ...] = ()
        self._stepped: tuple[Group, Group, Group] = ({}, {}, {})
        self._scratch: Group = {}
        self._dropouts = [
            name
            for name, module in program.model.named_modules()
            if isinstance(module, layers.Dropout)
        ]
        # A model that is run slot by slot may do anything in its steps, and wait for the device.
        self._record = record if program.note is None else None
        self._recorder: Recorder | None = None
        self._balanced_C = losses.balanced_weights(train.targets, num_classes)

    def admit(self, slot: int, seed: int, hparams: Hparams) -> None:
        """Give a trial the slot; its initial weights depend on its seed alone."""
        present = self._present()
        assert all(trial.slot != slot for trial in present), f"slot {slot} is taken"
        is_search = hparams.optimizer in LINE_SEARCHES
        assert all(is_search == trial.is_search for trial in present), (
            "a lane of another code path"
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = layers.make_batchable(self._build())
        tensors = dict([*module.named_parameters(), *module.named_buffers()])
        names = (*self._program.trained, *self._program.own)
        own = {name: tensors[name].detach().unsqueeze(0).clone() for name in names}
        if hparams.dropout is not None:
            for name in self._dropouts:
                layers.Dropout.fill(own, name, hparams.dropout)
        first, second = (
            {name: torch.zeros_like(own[name]) for name in self._program.trained} for _ in range(2)
        )
        if is_search:
            first, second = line_search.first_state(self._train.targets.device), {}
        row = Rows(own, first, second, best={name: t.clone() for name, t in own.items()})
        self._num_admitted += 1
        rate = schedules.first_rate(hparams)
        self._arriving.append((LaneTrial(self._num_admitted, slot, seed, hparams, rate), row))

    def release(self, slot: int) -> None:
        """Free the slot."""
        arriving = [each for each in self._arriving if each[0].slot != slot]
        if len(arriving) == len(self._arriving):
            self._leaving.add(self._trials[self._row_of(slot)].number)
        self._arriving = arriving

    def keep_best(self, slot: int) -> None:
        """Keep the slot's present weights as its best epoch's."""
        row, rows = self._row_of(slot), self._settled()
        for name, tensor in rows.own.items():
            rows.best[name][row] = tensor[row]

    def save_best(self, slot: int, path: Path) -> str:
        """Write the kept weights as safetensors, atomically; return the file's SHA-256."""
        row, rows = self._row_of(slot), self._settled()
        names = self._program.first_names
        tensors = {}
        for name in self._program.model.state_dict():
            own = rows.best.get(names[name])
            tensors[name] = self._program.shared[names[name]] if own is None else own[row]
        return weights.save(tensors, path)

    def train_epoch(self) -> list[EpochReport]:
        """Train and validate every slot for one epoch.

        An exception in the model has no slot: the epoch is replayed slot by slot from its
        boundary, and only the trials that raise alone get a report with an error.
        """
        self._settle()
        if not self._trials:
            return []
        rows = self._settled()
        boundary = rows.take(range(len(self._trials)))
        trials = list(self._trials)
        with torch.random.fork_rng():
            try:
                reports = self._train_together(boundary)
            except (Exception, SystemExit):  # the user's model may raise anything
                reports = []
                self._hold(boundary)
                for row, trial in enumerate(trials):
                    reports.extend(self._train_alone(row, trial))
        self.data_epoch += 1
        # Rows stand in the order of their optimizer, reports in that of admission.
        numbers = {trial.slot: trial.number for trial in trials}
        return sorted(reports, key=lambda report: numbers[report.slot])

    def _train_together(self, boundary: Rows) -> list[EpochReport]:
        try:
            return self._train_rows(0, len(self._trials))
        except RecordingError as error:
            self._record = None
            self.note = f"each step is launched by itself, which takes longer: {error}"
            self._hold(boundary)
            return self._train_rows(0, len(self._trials))

    def _train_alone(self, row: int, trial: LaneTrial) -> list[EpochReport]:
        try:
            return self._train_rows(row, row + 1)
        except (Exception, SystemExit) as error:
            return [trial.failure(describe_error(error), self._num_classes)]

    def _train_rows(self, start: int, stop: int) -> list[EpochReport]:
        """Train and validate the rows from ``start`` to before ``stop`` for one epoch."""
        started = time.perf_counter()
        trials = self._trials[start:stop]
        batches = random.batch_order(
            self._data_seed,
            self.data_epoch + 1,
            num_examples=len(self._train),
            batch_size=self._batch_size,
            lengths=self._train.lengths_on_host,
        )
        keys = random.step_keys(
            [trial.seed for trial in trials], [trial.epochs + 1 for trial in trials], len(batches)
        )
        # A model that draws from torch's generator (it is never fused) draws what its trial draws.
        torch.manual_seed(int(keys[0, 0]))
        steps = Steps(
            self._program,
            self._train,
            trials,
            self._trained(start, stop),
            balanced_C=self._balanced_C,
            batches=batches,
            keys_TS=keys,
            dropouts=self._dropouts,
            num_lengths=None if self._record is None else _RECORDED_LENGTHS,
        )
        self._program.model.train()
        if self._record is not None and len(trials) == len(self._trials) and not steps.is_search:
            if self._recorder is None:
                self._recorder = Recorder(self._record, self._train.targets.device)
            steps = self._recorder.run(steps)
        else:
            for step, shape in enumerate(steps.shapes):
                steps.take(step, shape)
        val_losses, confusions = validation.validate(
            self._program,
            between(self._settled().own, start, stop),
            self._validation,
            self._num_classes,
        )
        rates = steps.rates()
        train_losses = (steps.loss_sums_S / len(self._train)).tolist()
        norms = (steps.norm_sums_S / len(batches)).tolist()
        seconds = (time.perf_counter() - started) / len(trials)
        reports = []
        for i, trial in enumerate(trials):
            self._trials[start + i] = trial.after_epoch(len(batches), val_losses[i])
            reports.append(
                EpochReport(
                    slot=trial.slot,
                    epoch=trial.epochs + 1,
                    train_loss=train_losses[i],
                    val_loss=val_losses[i],
                    confusion=confusions[i],
                    learning_rate=rates[i],
                    grad_norm=norms[i],
                    seconds=seconds,
                )
            )
        return reports

    def _trained(self, start: int, stop: int) -> Trained:
        """Return what the steps of the rows between two bounds change."""
        rows, (own, first, second) = self._settled(), self._stepped
        return Trained(
            own=between(rows.own, start, stop),
            state=between(rows.first, start, stop),
            stepped=(
                between(own, start, stop),
                between(first, start, stop),
                between(second, start, stop),
            ),
            scratch=between(self._scratch, start, stop),
            small=self._small,
        )

    def _is_search(self) -> bool:
        return self._trials[0].is_search

    def _present(self) -> list[LaneTrial]:
        staying = [trial for trial in self._trials if trial.number not in self._leaving]
        return [*staying, *(trial for trial, _ in self._arriving)]

    def _settle(self) -> None:
        """Move the rows: those of trials that left go, new ones come, alike optimizers meet."""
        if not self._arriving and not self._leaving:
            return
        trials = [*self._trials, *(trial for trial, _ in self._arriving)]
        parts = [
            *([] if self._rows is None else [self._rows]),
            *(row for _, row in self._arriving),
        ]
        index = sorted(
            (i for i, trial in enumerate(trials) if trial.number not in self._leaving),
            key=lambda i: OPTIMIZERS.index(trials[i].hparams.optimizer),
        )
        self._trials, self._arriving, self._leaving = [trials[i] for i in index], [], set()
        self._hold(Rows.joined(parts).take(index))

    def _hold(self, rows: Rows) -> None:
        """Take in rows; what the optimizers step is packed, and the rows are views of it."""
        names = self._program.trained
        self._recorder = None
        if not self._trials or self._is_search():
            self._rows, self._small, self._stepped = rows, (), (rows.own, rows.first, rows.second)
            self._scratch = {name: torch.empty_like(rows.own[name]) for name in names}
            return
        self._small = find_small(rows.own, names)
        own, first, second = (join(g, names, self._small) for g in rows.groups()[:3])
        self._stepped = (own, first, second)
        self._scratch = {name: torch.empty_like(tensor) for name, tensor in own.items()}
        own, first, second = (views(group, rows.own, self._small) for group in self._stepped)
        self._rows = Rows(rows.own | own, first, second, rows.best)

    def _row_of(self, slot: int) -> int:
        if any(trial.slot == slot for trial, _ in self._arriving):
            self._settle()
        return next(
            i
            for i, trial in enumerate(self._trials)
            if trial.slot == slot and trial.number not in self._leaving
        )

    def _settled(self) -> Rows:
        assert self._rows is not None, "the lane has had no trial yet"
        return self._rows
