"""What runs inside a trainer: its lanes, and what it does with a command.

``load`` runs once, in the process from which local trainers are forked; a ``LaneKeeper`` lives in
each trainer. Knows neither pipes nor databases.
"""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from objectives.api import Data, EpochReport, Lane, Objective, TrialState
from objectives.places import describe_error
from search_spaces.hparams import Hparams
from sweeps.config_errors import ConfigError
from sweeps.trainers.messages import PAUSED, Answer, Command, Load, Loaded, Place, Saved

if TYPE_CHECKING:
    from objectives.training.trainer import ModelTrainer

_LIBRARIES = ("bestepoch", "numpy", "optuna", "torch")
#: Share of the free memory that trials which enter may take: other lanes, and what a step needs
#: beside its rows, need theirs.
MEMORY_SHARE = 0.4
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

    from objectives.training import preflight, trainer

    assert all((torch, preflight, trainer))
    # One thread a process: the cores are filled with trainers, and sums keep their order.
    torch.set_num_threads(1)


def load(order: Load) -> tuple[Work, Loaded]:
    """Load the data of an objective and try its model.

    Raises:
        ConfigError: If a device, a precision or a class that was asked for is not here.
        DataError: If the data are not what the objective reads.
        ObjectiveError: If the objective or its model cannot be used.
    """
    from objectives.metrics import make_metric
    from objectives.registry import find_objective
    from objectives.training import precision
    from objectives.training.preflight import check_model
    from objectives.training.trainer import fingerprint

    devices = _list_devices(order)
    objective = find_objective(order.objective)
    data = objective.load(order.data)
    try:
        make_metric(order.metric, data.class_names)
    except ValueError as error:
        raise ConfigError([f"metric: {error}"]) from None
    check_model(objective, data, order.model, devices[0], order.precision)
    notes = [_describe_data(order, objective, data), *_describe_absent(data)]
    drawback = precision.find_drawback(order.precision, devices[0])
    notes += [] if drawback is None else [drawback]
    loaded = Loaded(
        class_names=data.class_names,
        fingerprint=fingerprint(data),
        devices=tuple(devices),
        versions={name: metadata.version(name) for name in _LIBRARIES},
        notes=tuple(notes),
    )
    return Work(order, objective, data, devices.count(devices[0])), loaded


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
        self._present: set[int] = set()
        self._paused: dict[int, TrialState] = {}

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
        saved = [self._save(lane, each.trial, each.path) for each in command.save]
        sha256 = self._checkpoint(lane, command)
        self._move(lane, command)
        deferred = self._find_deferred(lane, command)
        for place in command.place:
            if place.trial in deferred:
                continue
            try:
                self._place(lane, place)
            except (Exception, SystemExit) as error:
                refused.append((place.trial, describe_error(error)))
            self._on_step()
        if command.is_closed:
            del self._lanes[command.lane]
        started = time.perf_counter()
        reports: list[EpochReport] = lane.train_epoch() if command.is_trained else []
        return Answer(
            lane=command.lane,
            reports=tuple(reports),
            saved=tuple(saved),
            refused=tuple(refused),
            deferred=deferred,
            path=lane.path,
            note=lane.note,
            max_slots=lane.max_slots,
            seconds=time.perf_counter() - started,
            checkpoint_sha256=sha256,
        )

    def _find_deferred(self, lane: Lane, command: Command) -> tuple[int, ...]:
        """Return the trials that enter and that memory has no room for; never all of them."""
        room = max(1, int(MEMORY_SHARE * _free_bytes() / self._num_sharing / lane.row_bytes))
        return tuple(place.trial for place in command.place[room:])

    def _move(self, lane: Lane, command: Command) -> None:
        """Let the trials leave that pause or are through."""
        for trial in command.pause:
            self._paused[trial] = lane.copy_state(trial)
        for trial in (*command.pause, *command.drop):
            if trial in self._present:  # or its model could not be built
                self._present.remove(trial)
                lane.drop(trial)
        for trial in command.forget:
            self._paused.pop(trial, None)

    def _place(self, lane: Lane, place: Place) -> None:
        state: TrialState | None = None
        if place.state == PAUSED:
            state = self._paused.pop(place.trial)
        elif place.state is not None:
            from pathlib import Path

            from objectives.training.checkpoints import load_states

            state = load_states(Path(place.state))[place.trial]
        lane.place(place.trial, place.seed, Hparams.model_validate(dict(place.params)), state)
        self._present.add(place.trial)

    def _save(self, lane: Lane, trial: int, path: os.PathLike[str]) -> Saved:
        from pathlib import Path

        sha256 = lane.save_best(trial, Path(path))
        self._on_step()
        predictions = None
        if self._num_classes <= _BYTE:
            predictions = lane.best_predictions(trial).astype(np.uint8).tobytes()
        return Saved(trial, sha256, predictions)

    def _checkpoint(self, lane: Lane, command: Command) -> str | None:
        if command.checkpoint is None:
            return None
        from objectives.training.checkpoints import save_states

        states = {trial: lane.copy_state(trial) for trial in command.checkpointed}
        return save_states(states, command.checkpoint)


def _make_trainer(work: Work, device: str) -> "ModelTrainer":
    import torch

    from objectives.training import precision
    from objectives.training.trainer import ModelTrainer

    torch.set_num_threads(1)
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # for what asks for the present device, as recordings do
    # Squared gradients of rare words decay into denormals, at 40 times the cost of a number. After
    # the data, which must be the same in whichever process they were loaded.
    torch.set_flush_denormal(True)
    precision.use(work.order.precision)
    return ModelTrainer(
        work.objective,
        work.data,
        device=device,
        data_seed=work.order.seed,
        precision=work.order.precision,
    )


def _list_devices(order: Load) -> list[str]:
    """Return a device for each trainer.

    Raises:
        ConfigError: If a device is asked for that is not here, or a precision that it has not.
    """
    import torch

    from objectives.training import precision

    gpus = torch.cuda.device_count() if order.device != "cpu" else 0
    if order.device == "cuda" and not gpus:
        raise ConfigError(["device: no CUDA device here; take device = 'cpu' or 'auto'"])
    kind = "cuda" if gpus else "cpu"
    obstacle = precision.find_obstacle(order.precision, kind)
    if obstacle is not None:
        raise ConfigError([f"precision: {obstacle}"])
    if gpus:
        return [f"cuda:{i % gpus}" for i in range(order.num_trainers or gpus)]
    has_affinity = hasattr(os, "sched_getaffinity")  # a container may allow fewer; not on macOS
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    return ["cpu"] * (order.num_trainers or cores or 1)


def _describe_data(order: Load, objective: Objective, data: Data) -> str:
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    sizes = ", ".join(f"{len(split.targets):,} {name}" for name, split in splits.items())
    source = str(order.data or getattr(objective, "place", None) or "the data that ship")
    return f"{source}: {sizes} examples of {len(data.class_names)} classes"


def _describe_absent(data: Data) -> list[str]:
    """Return a line where validation lacks classes that are trained on; none where it has all."""
    from objectives.metrics import find_absent

    absent = find_absent(data)
    if not absent:
        return []
    named = ", ".join(map(repr, absent[:5])) + (", ..." if len(absent) > 5 else "")
    return [f"validation has no example of {named}: no score counts what is predicted as such"]


def _free_bytes() -> int:
    import psutil
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        with contextlib.suppress(RuntimeError):
            return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)
