"""The objective ``tabular-mlp``: classify the rows of a table of numbers.

Shapes: N rows, B batch, F features, C classes.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from objectives.api import Data
from objectives.data.tables import read_table


class TabularMlp:
    """Who earns more than 50,000 dollars (UCI Adult, 1994), or the user's own table."""

    name = "tabular-mlp"

    def load(self, source: Path | None, *, label: str = "label") -> Data:
        """Return the rows of a file, or those of Adult, as features fitted on train."""
        table = read_table(source, label=label)
        return table.examples.make_data(
            lambda rows: (table.features[rows],),
            preparation=table.preparation.to_json(),
            notes=table.notes,
        )

    def build_model(self, data: Data, **model: Any) -> "TabularMlpModel":
        """Return a fresh model; ``model`` are the arguments of ``TabularMlpModel``."""
        num_outputs = len(data.class_names)
        if num_outputs == 2 and data.train.targets.dtype != np.bool_:
            num_outputs = 1  # the logit of the second class, as in any binary classifier
        return TabularMlpModel(data.train.inputs[0].shape[1], num_outputs, **model)


class TabularMlpModel(nn.Sequential):
    """Hidden layers of one width with ReLU and dropout, and an output layer.

    For features of (B, F) it returns logits, (B, outputs). Of one output z, for two classes, the
    trainer makes the logits (0, z) (``layers.program.widen``).

    Args:
        num_features: F.
        num_outputs: One for two classes, else C.
        hidden_width: Units of each hidden layer.
        hidden_depth: Hidden layers; 0 is logistic regression.
        dropout: Share of hidden units dropped, if the trial does not say.
    """

    def __init__(
        self,
        num_features: int,
        num_outputs: int,
        *,
        hidden_width: int = 16,
        hidden_depth: int = 2,
        dropout: float = 0.0,
    ) -> None:
        layers: list[nn.Module] = []
        width = num_features
        for _ in range(hidden_depth):
            layers += [nn.Linear(width, hidden_width), nn.ReLU(), nn.Dropout(dropout)]
            width = hidden_width
        hidden = nn.Sequential(*layers)
        output = nn.Linear(width, num_outputs)
        super().__init__(OrderedDict(hidden=hidden, output=output))
