"""A data set on a device, and the lanes opened on it: what one worker trains with."""

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from objectives.api import Data, FusionKey, Objective
from objectives.lanes import precision, recording
from objectives.lanes.batches import on_device
from objectives.lanes.lane import ModelLane
from objectives.lanes.validation import Validation
from objectives.layers import fusion
from objectives.layers.fusion import initialized
from objectives.layers.program import Program

_PROBE_EXAMPLES = 5


class ModelTrainer:
    """Opens lanes of one objective on one data set; keeps each model's self-check.

    Args:
        objective: What is trained.
        data: Its data set.
        device: Where to train; "cpu" or "cuda".
        data_seed: Decides the order of batches, with the data epoch.
        make_record: Returns what records a lane's steps; None: CUDA graphs on a GPU, else nothing.
    """

    def __init__(
        self,
        objective: Objective,
        data: Data,
        *,
        device: str = "cpu",
        data_seed: int = 0,
        make_record: Callable[[], recording.Record] | None = None,
    ) -> None:
        self.class_names = data.class_names
        self.num_train = len(data.train.targets)
        self.num_validation = len(data.validation.targets)
        self._objective = objective
        self._data = data
        self._device = torch.device(device)
        self._data_seed = data_seed
        is_gpu = self._device.type == "cuda"
        self._make_record = recording.graphs if make_record is None and is_gpu else make_record
        self._train = on_device(data.train, self._device)
        self._validation = Validation(
            on_device(data.validation, self._device), len(data.class_names)
        )
        rows = np.arange(min(_PROBE_EXAMPLES, len(self._train)))
        self._probe = self._train.batch(rows)[0]
        self._programs: dict[tuple[tuple[str, Any], ...], Program] = {}

    def open_lane(
        self, key: FusionKey, data_epoch: int, *, on_step: Callable[[], None] | None = None
    ) -> ModelLane:
        """Return an empty lane whose clock stands at ``data_epoch``.

        Raises:
            ValueError: If the model's output has the wrong shape.
        """
        build = self._builder(dict(key.model))
        if key.model not in self._programs:
            # PyTorch's remarks on what a model tries in evaluation say nothing to a person.
            with precision.exact(), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                program = fusion.program(build, self._probe, len(self.class_names))
            self._programs[key.model] = program
        return ModelLane(
            self._programs[key.model],
            build,
            train=self._train,
            validation=self._validation,
            batch_size=key.batch_size,
            data_seed=self._data_seed,
            data_epoch=data_epoch,
            record=None if self._make_record is None else self._make_record(),
            augment=getattr(self._objective, "augment", None),
            on_step=on_step,
            about=_describe(self._data),
        )

    def _builder(self, model: Mapping[str, Any]) -> Callable[[], nn.Module]:
        def build() -> nn.Module:
            module = self._objective.build_model(self._data, **model)
            assert isinstance(module, nn.Module)
            return initialized(module.to(self._device), self._probe)

        return build


def _describe(data: Data) -> Mapping[str, str]:
    """Return what weights of this data set are of no use without, as JSON by name."""
    about = {"class_names": list(data.class_names), "preparation": data.preparation}
    return {name: json.dumps(value) for name, value in about.items() if value is not None}


def fingerprint(data: Data) -> str:
    """Return a SHA-256 over the data set's arrays, extras and class names: equal if these are."""
    digest = hashlib.sha256("\0".join(data.class_names).encode())
    for split in (data.train, data.validation, data.test):
        lengths = () if split.lengths is None else (split.lengths,)
        for array in (*split.inputs, split.targets, *lengths):
            _update(digest, array)
    for name in sorted(data.extras):
        digest.update(f"{name}=".encode())
        _update(digest, data.extras[name])
    return digest.hexdigest()


def _update(digest: "hashlib._Hash", value: Any) -> None:
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).data)  # not tobytes, a copy of all data
    elif isinstance(value, set | frozenset):
        digest.update(repr(sorted(map(repr, value))).encode())
    else:
        # An object's address is another in each process.
        digest.update(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)).encode())
