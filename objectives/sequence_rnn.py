"""The objective ``sequence-rnn``: classify sequences of numbers by a recurrent network.

Shapes: N sequences, B batch, L steps, F features, C classes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from objectives.api import Data
from objectives.data.sequences import read_sequences
from objectives.layers.recurrent import CellName, Recurrent


class SequenceRnn:
    """Which of four digits is spoken, or the user's own sequences."""

    name = "sequence-rnn"

    def load(self, source: Path | None, *, label: str = "label") -> Data:
        """Return the sequences of a file, or the spoken digits, as features fitted on train."""
        table = read_sequences(source, label=label)
        return table.examples.make_data(
            lambda chosen: (_pad(table.features, table.lengths, chosen),),
            table.lengths,
            preparation=table.preparation.to_json(),
            notes=table.notes,
        )

    def build_model(self, data: Data, **model: Any) -> "SequenceRnnModel":
        """Return a fresh model; ``model`` are the arguments of ``SequenceRnnModel``."""
        return SequenceRnnModel(data.train.inputs[0].shape[2], len(data.class_names), **model)


class SequenceRnnModel(nn.Module):
    """One recurrent layer, dropout on the state after the last real step, an output layer.

    Args:
        num_features: F.
        num_classes: C.
        cell: "gru" or "lstm".
        hidden: Hidden units.
        dropout: Share of the state dropped, if the trial does not say.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        cell: CellName = "gru",
        hidden: int = 32,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.recurrent = Recurrent(num_features, hidden, cell=cell)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return logits, (B, C).

        Args:
            steps: Sequences, padded at the end, (B, L, F).
            lengths: Real steps of each, (B,).
        """
        logits: torch.Tensor = self.output(self.dropout(self.recurrent(steps, lengths)))
        return logits


def _pad(
    steps: npt.NDArray[np.float32],
    lengths: npt.NDArray[np.int64],
    chosen: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Return the chosen sequences, (N, L, F), zeros behind each."""
    starts = np.cumsum(lengths) - lengths
    longest = int(lengths[chosen].max(initial=1))
    padded = np.zeros((len(chosen), longest, steps.shape[1]), dtype=np.float32)
    for place, i in enumerate(chosen):
        padded[place, : lengths[i]] = steps[starts[i] : starts[i] + lengths[i]]
    return padded
