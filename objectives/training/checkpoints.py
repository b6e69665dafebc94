"""A trial that stands still: a copy of its row, in memory or in a file of its whole lane.

The file is safetensors, read without running code; what is no tensor stands in its header as
JSON. It is whole or not there at all.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch

from objectives.api import TrialState
from objectives.training import weights
from objectives.training.rows import Rows, num_bytes
from objectives.training.schedules import Rate

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

    @property
    def num_bytes(self) -> int:
        """Memory that the tensors take."""
        return sum(map(num_bytes, self.rows.groups()))


def save_states(states: Mapping[int, TrialState], path: Path) -> str:
    """Write the states by trial number, atomically; return the file's SHA-256."""
    rows = {trial: state for trial, state in states.items() if isinstance(state, RowState)}
    assert len(rows) == len(states), "states of another kind of lane"
    tensors = {
        f"{trial}/{kind}/{name}": tensor
        for trial, state in rows.items()
        for kind, group in zip(_GROUPS, state.rows.groups(), strict=True)
        for name, tensor in group.items()
    }
    header = {str(trial): _to_json(state) for trial, state in rows.items()}
    return weights.save(tensors, path, {_HEADER: json.dumps(header, allow_nan=False)})


def load_states(path: Path) -> dict[int, RowState]:
    """Return the states that ``save_states`` wrote, by trial number.

    Raises:
        CheckpointError: If the file is missing, cut short, or not one of ours.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            groups: dict[str, tuple[dict[str, torch.Tensor], ...]] = {
                trial: tuple({} for _ in _GROUPS) for trial in header
            }
            keys = file.keys()
            for key in keys:
                trial, kind, name = key.split("/", 2)
                groups[trial][_GROUPS.index(kind)][name] = file.get_tensor(key)
        return {int(trial): _from_json(header[trial], groups[trial]) for trial in header}
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        text = f"{path}: no checkpoint that can be read: {type(error).__name__}: {reason}"
        raise CheckpointError(text) from error


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


def _from_json(values: Mapping[str, Any], groups: tuple[dict[str, torch.Tensor], ...]) -> RowState:
    rate = Rate(
        learning_rate=float.fromhex(values["learning_rate"]),
        best_loss=float.fromhex(values["best_loss"]),
        bad_epochs=int(values["bad_epochs"]),
    )
    return RowState(rate, int(values["epochs"]), int(values["steps"]), Rows(*groups))
