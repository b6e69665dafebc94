"""What runs inside a trainer: its lanes, and what it does with a command.

``load`` runs once, in the process from which local trainers are forked; a ``LaneKeeper`` lives in
each trainer. Knows neither pipes nor databases.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from objectives.api import Counts, Data, EpochReport, FusionKey, Lane, Objective, TrialState
from objectives.data.checks import describe_classes
from objectives.metrics import (
    check_labels_metric,
    count_predictions,
    find_classes,
    make_metric,
    measure_data,
)
from objectives.places import describe_error
from search_spaces.hparams import Hparams
from sweeps.config.errors import ConfigError
from sweeps.trainers import loops
from sweeps.trainers.devices import list_devices
from sweeps.trainers.messages import Answer, Command, Load, Loaded, Place, Saved
from sweeps.trainers.repeating import repeat

if TYPE_CHECKING:
    from objectives.lanes.trainer import ModelTrainer
    from sweeps.trainers.loops import LoopKeeper, LoopWork

_LIBRARIES = ("bestepoch", "numpy", "optuna", "torch")
#: Share of the free memory that trials which enter may take: other lanes, and what a step needs
#: beside its rows, need theirs.
MEMORY_SHARE = 0.4
#: Seconds of an epoch that is not waited for where the run is to stop.
LONG_S = 0.5
#: Classes up to which a prediction is one byte.
_BYTE = 256


@dataclass(frozen=True, slots=True)
class Work:
    """What all trainers of a run share: the order, the objective, its data, and their number."""

    order: Load
    objective: Objective
    data: Data
    num_sharing: int

    def __reduce__(self) -> Any:
        # A spawned trainer imports the objective by its name: a person's module is none that
        # pickle could find.
        return _restore_work, (self.order, self.data, self.num_sharing)


def _restore_work(order: Load, data: Data, num_sharing: int) -> Work:
    from objectives.registry import find_objective

    return Work(order, find_objective(order.objective), data, num_sharing)


def import_ahead() -> None:
    """Import what takes long, before anything is asked for."""
    import torch

    from objectives.lanes import preflight, trainer

    assert all((torch, preflight, trainer))
    # One thread a process: the cores are filled with trainers, and sums keep their order.
    torch.set_num_threads(1)


def load(order: Load) -> tuple["Work | LoopWork", Loaded]:
    """Load the data of an objective and try its model; import a person's own loop.

    Raises:
        ConfigError: If a device, a precision or a class that was asked for is not here.
        DataError: If the data are not what the objective reads.
        ObjectiveError: If the objective or its model cannot be used.
    """
    from objectives.lanes.preflight import check_model
    from objectives.lanes.trainer import fingerprint
    from objectives.registry import find_loop, find_objective

    devices = list_devices(order)
    loop = find_loop(order.objective)
    if loop is not None:
        return loops.LoopWork(order), loops.describe(order, loop, devices, _find_versions())
    objective = find_objective(order.objective)
    data = objective.load(order.data, label=order.label)
    has_labels = data.validation.targets.dtype == np.bool_
    try:
        make_metric(order.metric, data.class_names)
        if has_labels:
            check_labels_metric(order.metric)
    except ValueError as error:
        raise ConfigError([f"metric: {error}"]) from None
    check_model(objective, data, order.model, devices[0], needs_dropout=order.needs_dropout)
    notes = [_describe_data(order, objective, data), *data.notes, *describe_classes(data)]
    loaded = Loaded(
        class_names=data.class_names,
        facts=measure_data(data),
        targets=None if has_labels else _as_bytes(_true_of(data), len(data.class_names)),
        fingerprint=fingerprint(data),
        devices=tuple(devices),
        versions=_find_versions(),
        notes=tuple(notes),
        preparation=data.preparation,
    )
    return Work(order, objective, data, devices.count(devices[0])), loaded


class Stopped(BaseException):
    """The epoch that is being trained is to be given up; raised by ``on_step``."""


class LaneKeeper:
    """The lanes of one trainer. For one thread.

    Args:
        work: What is trained.
        device: Where.
        on_step: Called at each training step and validation batch.
    """

    def __init__(self, work: Work, device: str, on_step: Callable[[], None]) -> None:
        self._trainer = _make_trainer(work, device)
        self._num_classes = len(work.data.class_names)
        self._num_sharing = work.num_sharing
        self._on_step = on_step
        self._lanes: dict[int, Lane] = {}
        # The lane of each trial that is in one.
        self._present: dict[int, int] = {}
        # By lane, the seconds of its last epoch; and states before an epoch that takes long.
        self._epoch_s: dict[int, float] = {}
        self._before: dict[int, TrialState] = {}
        self._true = _true_of(work.data)

    def obey(self, command: Command) -> Answer:
        """Do what a command says, and train the lane for an epoch if it says so."""
        refused: list[tuple[int, str]] = []
        lane = self._lanes.get(command.lane)
        if lane is None and not command.place:
            return Answer(command.lane)  # it could not be opened
        if lane is None:
            try:
                lane = self._trainer.open_lane(
                    command.key, command.data_epoch, on_step=self._on_step
                )
            except (Exception, SystemExit) as error:  # a person's build_model may raise anything
                reason = describe_error(error)
                return Answer(
                    command.lane, refused=tuple((each.trial, reason) for each in command.place)
                )
            self._lanes[command.lane] = lane
        for trial in command.keep:
            lane.keep_best(trial)
        saved, unsaved = [], []
        for each in command.save:
            try:
                saved.append(self._save(lane, each.trial, each.path))
            except OSError as error:
                unsaved.append((each.trial, str(error)))
        failure = self._checkpoint(lane, command)
        self._drop(lane, command)
        deferred = self._find_deferred(lane, command)
        entering = [place for place in command.place if place.trial not in deferred]
        unread: list[str] = []
        states = self._find_states(command.key, entering, refused, unread)
        for place in entering:
            if place.segments and place.trial not in states:
                continue
            try:
                lane.place(
                    place.trial,
                    place.seed,
                    Hparams.model_validate(dict(place.params)),
                    states.get(place.trial),
                )
                self._present[place.trial] = command.lane
            except (Exception, SystemExit) as error:
                refused.append((place.trial, describe_error(error)))
            self._on_step()
        best_counts = tuple(
            (place.trial, self._count_best(lane, place.trial))
            for place in entering
            if place.best_epoch is not None and place.trial in self._present
        )
        if command.is_closed:
            del self._lanes[command.lane]
        started = time.perf_counter()
        reports: list[EpochReport] = []
        if command.is_trained:
            # A short epoch is waited for, and of a first one nobody knows how long it is.
            is_long = self._epoch_s.get(command.lane, 0.0) > LONG_S
            trials = [trial for trial, own in self._present.items() if own == command.lane]
            self._before = lane.copy_states(trials) if is_long and trials else {}
            reports = lane.train_epoch()
            self._epoch_s[command.lane] = time.perf_counter() - started
        return Answer(
            lane=command.lane,
            reports=tuple(reports),
            saved=tuple(saved),
            unsaved=tuple(unsaved),
            refused=tuple(refused),
            deferred=deferred,
            path=lane.path,
            notes=tuple(filter(None, (failure, *unread, lane.note))),
            is_written=failure is None,
            max_slots=lane.max_slots,
            seconds=time.perf_counter() - started,
            best_counts=best_counts,
        )

    def give_up(self, command: Command, path: Path) -> Answer:
        """Write the states that a lane's trials had before an epoch was stopped; drop the lane."""
        self._lanes.pop(command.lane, None)
        self._present = {t: lane for t, lane in self._present.items() if lane != command.lane}
        kept = tuple(self._before)
        if kept and self._write(self._before, path) is not None:
            kept = ()
        return Answer(command.lane, is_stopped=True, kept=kept)

    def _find_deferred(self, lane: Lane, command: Command) -> tuple[int, ...]:
        """Return the trials that enter and that memory has no room for; never all of them."""
        room = max(1, int(MEMORY_SHARE * _free_bytes() / self._num_sharing / lane.row_bytes))
        return tuple(place.trial for place in command.place[room:])

    def _drop(self, lane: Lane, command: Command) -> None:
        for trial in command.drop:
            if self._present.pop(trial, None) is not None:  # or its model could not be built
                lane.drop(trial)

    def _find_states(
        self,
        key: FusionKey,
        entering: Sequence[Place],
        refused: list[tuple[int, str]],
        unread: list[str],
    ) -> dict[int, TrialState]:
        """Return the states of trials that were trained.

        Trials that cannot go on are added to ``refused``, and to ``unread`` a sentence where
        files cannot be read.
        """
        old = [place for place in entering if place.segments]
        if not old:
            return {}

        def open_lane(data_epoch: int) -> Lane:
            return self._trainer.open_lane(key, data_epoch, on_step=self._on_step)

        states = self._load_states(old, unread)
        try:
            return repeat(open_lane, old, states)
        except (Exception, SystemExit):
            pass  # whose fault it is shows when each is trained alone
        found: dict[int, TrialState] = {}
        for place in old:
            own = {trial: state for trial, state in states.items() if trial == place.trial}
            try:
                found |= repeat(open_lane, [place], own)
            except (Exception, SystemExit) as error:
                refused.append((place.trial, describe_error(error)))
        return found

    def _load_states(self, places: Sequence[Place], unread: list[str]) -> dict[int, TrialState]:
        """Return what the files of states still have."""
        from objectives.lanes.checkpoints import CheckpointError, load_states

        trials_of: dict[Path, list[int]] = {}
        for place in places:
            if place.state is not None:
                trials_of.setdefault(place.state, []).append(place.trial)
        states: dict[int, TrialState] = {}
        for path, trials in trials_of.items():
            try:
                states |= load_states(path, trials)
            except CheckpointError:
                folder = path.parent  # without the file's name: one line says it of all files
                unread.append(
                    f"{folder}: states of trials are damaged or gone; they are trained again from"
                    " their records"
                )
            self._on_step()
        return states

    def _count_best(self, lane: Lane, trial: int) -> Counts:
        return count_predictions(
            self._true, lane.best_predictions(trial), num_classes=self._num_classes
        )

    def _save(self, lane: Lane, trial: int, path: Path) -> Saved:
        sha256 = lane.save_best(trial, path)
        self._on_step()
        if self._true.ndim == 2:
            return Saved(trial, sha256, None)
        return Saved(trial, sha256, _as_bytes(lane.best_predictions(trial), self._num_classes))

    def _checkpoint(self, lane: Lane, command: Command) -> str | None:
        """Write states; return why they could not be: they can be had again from the record."""
        if command.checkpoint is None:
            return None
        failure = self._write(lane.copy_states(command.checkpointed), command.checkpoint)
        self._on_step()
        return failure

    def _write(self, states: Mapping[int, TrialState], path: Path) -> str | None:
        """Write states; return why they could not be."""
        from objectives.lanes.checkpoints import save_states

        try:
            save_states(states, path)
        except OSError as error:
            return f"trials that pause must be trained again to go on: {error}"
        return None


def _true_of(data: Data) -> npt.NDArray[Any]:
    """Return the class of each validation example, (N,), or which labels it has, (N, C)."""
    targets = data.validation.targets
    return targets if targets.dtype == np.bool_ else find_classes(targets)


def make_keeper(
    work: "Work | LoopWork", device: str, on_step: Callable[[], None]
) -> "LaneKeeper | LoopKeeper":
    """Return what obeys the commands of a trainer, on its device."""
    if isinstance(work, Work):
        return LaneKeeper(work, device, on_step)
    _prepare_torch(work.order, device)
    return loops.make_keeper(work, device, on_step)


def _find_versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _LIBRARIES}


def _as_bytes(classes_N: npt.NDArray[np.integer[Any]], num_classes: int) -> bytes | None:
    """Return a byte an example; None where a byte cannot hold every class."""
    return classes_N.astype(np.uint8).tobytes() if num_classes <= _BYTE else None


def _make_trainer(work: Work, device: str) -> "ModelTrainer":
    from objectives.lanes.trainer import ModelTrainer

    _prepare_torch(work.order, device)
    return ModelTrainer(
        work.objective,
        work.data,
        device=device,
        data_seed=work.order.seed,
    )


def _prepare_torch(order: Load, device: str) -> None:
    import torch

    from objectives.lanes import precision

    torch.set_num_threads(1)
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # for what asks for the present device, as recordings do
    # Squared gradients of rare words decay into denormals, at 40 times the cost of a number. After
    # the data, which must be the same in whichever process they were loaded.
    torch.set_flush_denormal(True)
    precision.use(order.precision)


def _describe_data(order: Load, objective: Objective, data: Data) -> str:
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    sizes = ", ".join(f"{len(split.targets):,} {name}" for name, split in splits.items())
    source = str(order.data or getattr(objective, "place", None) or "the data that ship")
    return f"{source}: {sizes} examples of {len(data.class_names)} classes"


def _free_bytes() -> int:
    import psutil
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        with contextlib.suppress(RuntimeError):
            return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)
