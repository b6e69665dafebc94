"""Fashion-MNIST and a small convolution network, as a person would write them for a sweep.

The images come with Debian (``apt-get install dataset-fashion-mnist``): 10,000 of them to train
on, the next 5,000 for validation, and the 10,000 of the test files.
"""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import nn

from objectives.api import Data, Split

FOLDER = Path("/usr/share/datasets/fashion-mnist")
TRAIN, VALIDATION, TEST = 10_000, 5_000, 10_000
SIDE = 28
CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
)  # fmt: skip


def load() -> Data:
    """Return the images, (N, 1, 28, 28), each number in [0, 1]."""
    images, targets = read_images("train", TRAIN + VALIDATION)
    test_images, test_targets = read_images("t10k", TEST)
    return Data(
        train=Split((images[:TRAIN],), targets[:TRAIN]),
        validation=Split((images[TRAIN:],), targets[TRAIN:]),
        test=Split((test_images,), test_targets),
        class_names=CLASSES,
    )


def read_images(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a pair of files' first images and classes; the headers have 16 and 8 bytes."""
    with gzip.open(FOLDER / f"{name}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + count * SIDE * SIDE), np.uint8, offset=16)
    with gzip.open(FOLDER / f"{name}-labels-idx1-ubyte.gz") as file:
        targets = np.frombuffer(file.read(8 + count), np.uint8, offset=8).astype(np.int64)
    return pixels.reshape(count, 1, SIDE, SIDE).astype(np.float32) / 255, targets


def build_model(data: Data, channels: int = 16, depth: int = 2) -> nn.Module:
    """Return a fresh network for images of the data's size."""
    side = data.train.inputs[0].shape[-1]
    return Network(side, len(data.class_names), channels, depth)


class Network(nn.Module):
    """Blocks of a 3 x 3 convolution, ReLU and pooling, then dropout and the classes."""

    def __init__(self, side: int, num_classes: int, channels: int, depth: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = 1
        for _ in range(depth):
            blocks += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            before, side = channels, side // 2
        self.blocks = nn.Sequential(*blocks, nn.Flatten())
        self.dropout = nn.Dropout(0.2)
        self.classes = nn.Linear(channels * side * side, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return a logit for each class, (examples, classes)."""
        logits: torch.Tensor = self.classes(self.dropout(self.blocks(images)))
        return logits
