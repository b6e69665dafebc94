"""A lane: trials of one shape trained as one program, each a row of the same tensors.

Rows stand in the order of their optimizer, so that each family updates one slice; a trial that
enters or leaves moves rows at the boundary of an epoch and never changes what a row computes.
Knows nothing of studies, scores or reasons to stop.
Shapes: S slots, N validation examples, B batch, C classes.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
import torch
from torch import nn

from objectives.api import Augment, EpochReport, TrialState
from objectives.lanes import weights
from objectives.lanes.batches import TensorSplit, batch_order
from objectives.lanes.checkpoints import RowState
from objectives.lanes.recording import Record, Recorder, RecordingError
from objectives.lanes.rows import BEST, LAST, Rows, Trained, between, num_bytes
from objectives.lanes.steps import Steps
from objectives.lanes.trial import LaneTrial
from objectives.lanes.validation import Validation
from objectives.layers import random
from objectives.layers.dropout import find_rates
from objectives.layers.fusion import Inputs, Program
from objectives.optimizers import line_search, losses, schedules
from objectives.places import describe_error
from search_spaces.hparams import LINE_SEARCHES, OPTIMIZERS, Hparams

#: Most lengths that batches are trimmed to where each length is a recording of its own.
_RECORDED_LENGTHS = 8


class ModelLane:
    """See ``objectives.api.Lane``.

    Args:
        program: The model as a function of stacked tensors.
        build: Returns a fresh module, its weights drawn from torch's default generator.
        train: Examples to train on.
        validation: What validates after each epoch.
        batch_size: Examples a step, B.
        data_seed: Decides the order of batches, with the data epoch.
        data_epoch: Data epochs that the lane's clock has behind it.
        record: What records steps on a GPU, see ``recording``; None: each is taken by itself.
        on_step: Called after each training step and each validation batch.
        about: What a file of weights says of them.
    """

    path: Literal["plain", "stacked"]

    def __init__(
        self,
        program: Program,
        build: Callable[[], nn.Module],
        *,
        train: TensorSplit,
        validation: Validation,
        batch_size: int,
        data_seed: int,
        data_epoch: int = 0,
        record: Record | None = None,
        augment: Augment | None = None,
        on_step: Callable[[], None] | None = None,
        about: Mapping[str, str] | None = None,
    ) -> None:
        self.data_epoch = data_epoch
        self.path = program.path
        self.max_slots = None if program.note is None else 1
        self.note = None if program.note is None else f"one slot: {program.note}"
        self._program = program
        self._build = build
        self._train = train
        self._validation = validation
        self._batch_size = batch_size
        self._data_seed = data_seed
        self._on_step = on_step
        self._about = about
        self._trials: list[LaneTrial] = []
        # Who comes and goes between two epochs: rows are moved once, as the next one begins.
        self._arriving: list[tuple[LaneTrial, Rows]] = []
        self._leaving: set[int] = set()
        self._num_placed = 0
        self._rows: Rows | None = None
        # A row of the lane's kind, which a state must be like.
        self._like: Rows | None = None
        self._trained: Trained | None = None
        self._rates = find_rates(program.model) if program.path == "plain" else []
        # A model that is run slot by slot may do anything in its steps, and wait for the device.
        # Nor can what a person draws for a batch be recorded.
        self._record = record if program.note is None and augment is None else None
        self._augment = augment
        self._recorder: Recorder | None = None
        self._balanced_C = losses.balanced_weights(train.targets, validation.num_classes)

    @property
    def row_bytes(self) -> int:
        """Bytes that one more slot takes, activations of a training step apart.

        Weights three times (present, best, as the epoch began), two moments twice, gradients and
        room for one result; the logits of an evaluation batch and what is computed from them.
        """
        model = self._program.model
        tensors = dict([*model.named_parameters(), *model.named_buffers()])
        trained = num_bytes({name: tensors[name] for name in self._program.trained})
        own = num_bytes({name: tensors[name] for name in self._program.own})
        rows = max(self._batch_size, self._validation.longest_batch)
        logits = 4 * rows * self._validation.num_classes * 4
        predictions = 2 * self._validation.num_examples * self._validation.dtype.itemsize
        return 3 * own + (3 + 4 + 2) * trained + logits + predictions

    def place(
        self, slot: int, seed: int, hparams: Hparams, state: TrialState | None = None
    ) -> None:
        """Give a trial the slot; without a state its weights depend on its seed alone."""
        present = self._present()
        assert all(trial.slot != slot for trial in present), f"slot {slot} is taken"
        is_search = hparams.optimizer in LINE_SEARCHES
        assert all(is_search == trial.is_search for trial in present), (
            "a lane of another code path"
        )
        self._num_placed += 1
        trial = LaneTrial(self._num_placed, slot, seed, hparams, schedules.first_rate(hparams))
        # To initialize a model takes longer than to copy a state.
        if state is None or self._like is None:
            self._like = self._first_row(seed, hparams)
        row = self._like
        if state is not None:
            assert isinstance(state, RowState), "a state of another kind of lane"
            assert state.rows.is_like(row), "a state of another model or code path"
            trial, row = trial.resumed(state), state.rows.to(self._train.targets.device)
        self._arriving.append((trial, row))

    def drop(self, slot: int) -> None:
        """Free the slot."""
        arriving = [each for each in self._arriving if each[0].slot != slot]
        if len(arriving) == len(self._arriving):
            self._leaving.add(self._trials[self._row_of(slot)].number)
        self._arriving = arriving

    def copy_states(self, slots: Sequence[int]) -> dict[int, TrialState]:
        """Return all that the slots' trials need to go on, in the memory of the host."""
        index = [self._row_of(slot) for slot in slots]
        rows = self._settled().take(index).to(torch.device("cpu"))
        trials = [self._trials[row] for row in index]
        return {
            trial.slot: RowState(trial.rate, trial.epochs, trial.steps, rows.row(i))
            for i, trial in enumerate(trials)
        }

    def keep_best(self, slot: int) -> None:
        """Keep the slot's present weights and predictions as its best epoch's."""
        row, rows = self._row_of(slot), self._settled()
        for name, tensor in rows.own.items():
            rows.best[name][row] = tensor[row]
        rows.predictions[BEST][row] = rows.predictions[LAST][row]

    def save_best(self, slot: int, path: Path) -> str:
        """Write the kept weights as safetensors, atomically; return the file's SHA-256."""
        row, rows = self._row_of(slot), self._settled()
        names = self._program.first_names
        tensors = {}
        for name in self._program.model.state_dict():
            own = rows.best.get(names[name])
            tensors[name] = self._program.shared[names[name]] if own is None else own[row]
        return weights.save(tensors, path, self._about)

    def best_predictions(self, slot: int) -> npt.NDArray[Any]:
        """Return the predicted class of each validation example in the kept epoch, (N,)."""
        row, rows = self._row_of(slot), self._settled()
        predictions: npt.NDArray[Any] = rows.predictions[BEST][row].cpu().numpy().copy()
        return predictions

    def train_epoch(self) -> list[EpochReport]:
        """Train and validate every slot for one epoch.

        An exception in a stacked model has no slot: the epoch is replayed slot by slot from its
        boundary, and only the trials that raise alone get a report with an error.
        """
        self._settle()
        if not self._trials:
            return []
        trials = list(self._trials)
        if self.path == "stacked":
            reports = self._train_stacked()
        else:
            with torch.random.fork_rng():
                reports = self._train_one_by_one()
        self.data_epoch += 1
        # Rows stand in the order of their optimizer, reports in that of placing.
        numbers = {trial.slot: trial.number for trial in trials}
        return sorted(reports, key=lambda report: numbers[report.slot])

    def _train_stacked(self) -> list[EpochReport]:
        assert self._trained is not None, "the lane has had no trial yet"
        boundary = self._trained.copies()
        try:
            return self._train_rows(0, len(self._trials))
        except RecordingError as error:
            self._record = None
            self.note = f"each step is launched by itself, which takes longer: {error}"
            self._trained.restore(boundary)
            return self._train_stacked()
        except (Exception, SystemExit):  # the user's model may raise anything
            self._trained.restore(boundary)
            return self._train_one_by_one()

    def _train_one_by_one(self) -> list[EpochReport]:
        reports = []
        for row, trial in enumerate(list(self._trials)):
            try:
                reports.extend(self._train_rows(row, row + 1))
            except (Exception, SystemExit) as error:
                reason = describe_error(error)
                reports.append(trial.failure(reason, self._validation.num_classes))
        return reports

    def _train_rows(self, start: int, stop: int) -> list[EpochReport]:
        """Train and validate the rows from ``start`` to before ``stop`` for one epoch."""
        started = time.perf_counter()
        trials = self._trials[start:stop]
        steps = self._run_steps(start, stop)
        rows = self._settled()
        val_losses, counts = self._validation.run(
            self._program,
            between(rows.own, start, stop),
            rows.predictions[LAST][start:stop],
            self._on_step,
        )
        rates = steps.rates()
        num_steps = len(steps.shapes)
        train_losses, norms = steps.means()
        seconds = (time.perf_counter() - started) / len(trials)
        reports = []
        for i, trial in enumerate(trials):
            self._trials[start + i] = trial.after_epoch(num_steps, val_losses[i])
            reports.append(
                EpochReport(
                    slot=trial.slot,
                    epoch=trial.epochs + 1,
                    train_loss=train_losses[i],
                    val_loss=val_losses[i],
                    counts=counts[i],
                    learning_rate=rates[i],
                    grad_norm=norms[i],
                    seconds=seconds,
                )
            )
        return reports

    def _run_steps(self, start: int, stop: int) -> Steps:
        """Take an epoch's steps with the rows between two bounds; return what they add up."""
        trials, trained = self._trials[start:stop], self._trained
        assert trained is not None, "the lane has had no trial yet"
        batches = batch_order(
            self._data_seed,
            self.data_epoch + 1,
            num_examples=len(self._train),
            batch_size=self._batch_size,
            lengths=self._train.lengths_on_host,
        )
        keys = random.step_keys(
            [trial.seed for trial in trials], [trial.epochs + 1 for trial in trials], len(batches)
        )
        if self.path == "plain":
            # A model that draws from torch's generator draws what its trial draws.
            random.seed_generators(int(keys[0, 0]))
            for layer, attribute in self._rates if trials[0].hparams.dropout is not None else ():
                setattr(layer, attribute, trials[0].hparams.dropout)
        steps = Steps(
            self._program,
            self._train,
            trials,
            trained.between(start, stop),
            balanced_C=self._balanced_C,
            batches=batches,
            keys_TS=keys,
            augment=self._augmented(len(batches)),
            num_lengths=None if self._record is None else _RECORDED_LENGTHS,
        )
        self._program.model.train()
        if self._record is not None and len(trials) == len(self._trials) and not steps.is_search:
            if self._recorder is None:
                self._recorder = Recorder(self._record, self._train.targets.device)
            return self._recorder.run(steps, self._on_step)
        with steps.held():
            for step, shape in enumerate(steps.shapes):
                steps.take(step, shape)
                if self._on_step is not None:
                    self._on_step()
        return steps

    def _augmented(self, num_steps: int) -> Callable[[int, Inputs], Inputs] | None:
        """Return what augments the batch of a step of the next data epoch."""
        augment = self._augment
        if augment is None:
            return None
        generator = torch.Generator(self._train.targets.device)
        seeds_T = random.step_keys([self._data_seed], [self.data_epoch + 1], num_steps)[:, 0]

        def augmented(step: int, inputs: Inputs) -> Inputs:
            generator.manual_seed(int(seeds_T[step]) & 0xFFFFFFFF)
            return augment(inputs, generator)

        return augmented

    def _first_row(self, seed: int, hparams: Hparams) -> Rows:
        """Return the row of a trial that has not trained."""
        with torch.random.fork_rng():
            random.seed_generators(seed)
            module = self._build()
        own = self._program.tensors_of(module, hparams.dropout)
        device = self._train.targets.device
        if hparams.optimizer in LINE_SEARCHES:
            first, second = line_search.first_state(device), {}
        else:
            first, second = (
                {name: torch.zeros_like(own[name]) for name in self._program.trained}
                for _ in range(2)
            )
        best = {name: tensor.clone() for name, tensor in own.items()}
        shape = (1, self._validation.num_examples)
        predictions = {
            name: torch.zeros(shape, dtype=self._validation.dtype, device=device)
            for name in (LAST, BEST)
        }
        return Rows(own, first, second, best, predictions)

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
        self._recorder = None
        if not self._trials:
            self._rows = self._trained = None
            return
        rows = Rows.joined(parts).take(index)
        is_search = self._trials[0].is_search
        self._rows, self._trained = rows.packed(self._program.trained, is_search=is_search)

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
