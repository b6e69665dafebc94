"""Two classes of points, each a half moon, and a small network that tells them apart.

Run it:                    bestepoch run example.py
See what can be varied:    the table default_space below
Use your own data:         return your own arrays from load
"""

import numpy as np
import torch
from torch import nn

from objectives.api import Data, Split

# What a trial may vary. A list holds choices, low and high are a range, anything else is fixed.
# "model" holds the arguments of build_model. What is not named here keeps its default.
default_space = {
    "optimizer": ["adam", "sgd"],
    "learning_rate": {
        "low": 1e-3,
        "high": 1e-1,
        "log": True,
        "by_optimizer": {"sgd": {"low": 1e-2, "high": 1.0}},
    },
    "batch_size": [32],
    "dropout": {"low": 0.0, "high": 0.4},
    "model": {"hidden": [8, 32]},
}


def load() -> Data:
    """Return the examples: arrays, a row each.

    Write load(source) instead to read the file that is given as --data FILE.
    """
    return Data(
        train=make_moons(400, seed=1),  # trained on
        validation=make_moons(200, seed=2),  # decides which epoch, and which trial, is best
        test=make_moons(200, seed=3),  # never touched by a sweep
        class_names=("upper", "lower"),
    )


def make_moons(num_points: int, *, seed: int) -> Split:
    """Return points on two interleaved half circles, with noise, so that no score is 1."""
    rng = np.random.default_rng(seed)
    targets = np.arange(num_points) % 2  # the class of each row, from 0
    angle = np.pi * rng.random(num_points)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1.0 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    points = np.where(targets[:, None] == 0, upper, lower)
    points += rng.normal(scale=0.3, size=points.shape)
    # One array an argument of the model's forward; here there is one.
    return Split(inputs=(points.astype(np.float32),), targets=targets)


def build_model(data: Data, hidden: int = 16) -> nn.Module:
    """Return a fresh model; what follows data can be varied as [space.model]."""
    num_features = data.train.inputs[0].shape[1]
    return Network(num_features, len(data.class_names), hidden)


class Network(nn.Module):
    """An ordinary module. Its nn.Dropout gets the rate of the trial."""

    def __init__(self, num_features: int, num_classes: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(num_features, hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Return a logit for each class, (examples, classes), without a softmax."""
        logits: torch.Tensor = self.layers(points)
        return logits
