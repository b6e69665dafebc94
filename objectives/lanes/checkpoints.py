"""A trial that stands still: a copy of its row, in memory or in a file beside others of its lane.

The file is safetensors, read without running code; what is no tensor stands in its header as
JSON. It is whole or not there at all.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from objectives.api import TrialState
from objectives.lanes import weights
from objectives.lanes.rows import Rows
from objectives.optimizers.schedules import Rate

_HEADER = "bestepoch trials"
_GROUPS = tuple(Rows.__dataclass_fields__)


class CheckpointError(ValueError):
    """A file holds no trials that can go on; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class RowState:
    """All that a trial needs to go on in a lane of its fusion key, as if it had never stopped.

    Attributes:
        rate: Its learning rate in its next epoch, and what its schedule remembers.
        epochs: Epochs it has trained.
        steps: Optimizer steps it has taken.
        rows: Its tensors, one row, in the memory of the host.
    """

    rate: Rate
    epochs: int
    steps: int
    rows: Rows


def save_states(states: Mapping[int, TrialState], path: Path) -> None:
    """Write the states of trials of one lane, by their numbers.

    Atomically, but not durably: a state that is lost can be trained again from its trial's record,
    and waiting for the disk takes longer than an epoch of small networks.
    """
    rows = [state for state in states.values() if isinstance(state, RowState)]
    assert len(rows) == len(states) > 0, "states of another kind of lane, or none"
    stacked = Rows.joined([state.rows for state in rows])
    tensors = {
        f"{kind}/{name}": tensor
        for kind, group in zip(_GROUPS, stacked.groups(), strict=True)
        for name, tensor in group.items()
    }
    trials = [{"trial": trial, **_to_json(row)} for trial, row in zip(states, rows, strict=True)]
    told = {"trials": trials, "checksum": _digest(tensors)}
    header = {_HEADER: json.dumps(told, allow_nan=False)}
    weights.write(safetensors.torch.save(tensors, metadata=header), path)


def load_states(path: Path, trials: Collection[int]) -> dict[int, RowState]:
    """Return the states of some of the trials that ``save_states`` wrote, by their numbers.

    Raises:
        CheckpointError: If the file is missing, cut short, not one of ours, or without a trial.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})[_HEADER])
            header = told["trials"]
            row_of = {values["trial"]: row for row, values in enumerate(header)}
            wanted = [row_of[trial] for trial in trials]
            groups: tuple[dict[str, torch.Tensor], ...] = tuple({} for _ in _GROUPS)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
        if _digest(tensors) != told["checksum"]:
            raise ValueError("its contents have changed since it was written")
        for key, tensor in tensors.items():
            kind, name = key.split("/", 1)
            groups[_GROUPS.index(kind)][name] = tensor
        rows = Rows(*groups).take(wanted)
        found = {
            trial: _from_json(header[row], rows.row(i))
            for i, (trial, row) in enumerate(zip(trials, wanted, strict=True))
        }
        return found
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        text = f"{path}: no checkpoint that can be read: {type(error).__name__}: {reason}"
        raise CheckpointError(text) from error


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return a checksum of tensors; not a secret's: a gigabyte takes a second."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


# Hexadecimal floats: exact, and JSON has neither NaN (armijo's rate) nor infinity (the best loss
# before the first epoch).
def _to_json(state: RowState) -> dict[str, Any]:
    return {
        "epochs": state.epochs,
        "steps": state.steps,
        "learning_rate": state.rate.learning_rate.hex(),
        "best_loss": state.rate.best_loss.hex(),
        "bad_epochs": state.rate.bad_epochs,
    }


def _from_json(values: Mapping[str, Any], rows: Rows) -> RowState:
    rate = Rate(
        learning_rate=float.fromhex(values["learning_rate"]),
        best_loss=float.fromhex(values["best_loss"]),
        bad_epochs=int(values["bad_epochs"]),
    )
    return RowState(rate, int(values["epochs"]), int(values["steps"]), rows)
