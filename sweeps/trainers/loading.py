"""What all trainers of a run share, loaded once: the objective, its data and what they hold.

``load`` runs in the process from which local trainers are forked.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from objectives.api import Data, Objective
from objectives.data.checks import describe_classes
from objectives.metrics import check_labels_metric, find_classes, make_metric, measure_data
from sweeps.config.errors import ConfigError
from sweeps.trainers.messages import Load, Loaded

if TYPE_CHECKING:
    from objectives.loops.own import OwnLoop

_LIBRARIES = ("bestepoch", "numpy", "optuna", "torch")
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


@dataclass(frozen=True, slots=True)
class LoopWork:
    """What all trainers of a run share where a person's own loop trains."""

    order: Load


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


def load(order: Load) -> tuple[Work | LoopWork, Loaded]:
    """Load the data of an objective and try its model; import a person's own loop.

    Raises:
        ConfigError: If a device, a precision or a class that was asked for is not here.
        DataError: If the data are not what the objective reads.
        ObjectiveError: If the objective or its model cannot be used.
    """
    from objectives.lanes.preflight import check_model
    from objectives.lanes.trainer import fingerprint
    from objectives.registry import find_loop, find_objective

    devices = _list_devices(order)
    loop = find_loop(order.objective)
    if loop is not None:
        return LoopWork(order), _describe_loop(order, loop, devices)
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
        targets=None if has_labels else as_bytes(true_of(data), len(data.class_names)),
        fingerprint=fingerprint(data),
        devices=tuple(devices),
        versions={name: metadata.version(name) for name in _LIBRARIES},
        notes=tuple(notes),
        preparation=data.preparation,
    )
    return Work(order, objective, data, devices.count(devices[0])), loaded


def true_of(data: Data) -> npt.NDArray[Any]:
    """Return the class of each validation example, (N,), or which labels it has, (N, C)."""
    targets = data.validation.targets
    return targets if targets.dtype == np.bool_ else find_classes(targets)


def as_bytes(classes_N: npt.NDArray[np.integer[Any]], num_classes: int) -> bytes | None:
    """Return a byte an example; None where a byte cannot hold every class."""
    return classes_N.astype(np.uint8).tobytes() if num_classes <= _BYTE else None


def _describe_loop(order: Load, loop: "OwnLoop", devices: Sequence[str]) -> Loaded:
    """Return what is known of a loop, whose data nobody but itself sees."""
    try:
        make_metric(order.metric, loop.class_names)
    except ValueError as error:
        raise ConfigError([f"metric: {error}"]) from None
    return Loaded(
        class_names=loop.class_names,
        facts=None,
        targets=None,
        fingerprint="",
        devices=tuple(devices),
        versions={name: metadata.version(name) for name in _LIBRARIES},
        notes=(),
        is_loop=True,
    )


def _list_devices(order: Load) -> list[str]:
    """Return a device for each trainer.

    Raises:
        ConfigError: If a device is asked for that is not here, or a precision that it has not.
    """
    import torch

    gpus = torch.cuda.device_count() if order.device != "cpu" else 0
    if order.device == "cuda" and not gpus:
        raise ConfigError(["device: no CUDA device here; take device = 'cpu' or 'auto'"])
    if order.precision == "tf32" and not gpus:
        raise ConfigError(["precision: tf32 needs a CUDA device; take float32"])
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
