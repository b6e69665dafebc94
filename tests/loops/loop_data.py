"""Small data sets for the loops beside this file: noisy, learnable, and the same each time."""

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

CLASSES = 3


def points(num: int, *, seed: int, features: int = 6) -> TensorDataset:
    """Return points around one centre a class, (num, features), and their classes, (num,)."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, features, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(num) % CLASSES
    classes = classes[torch.randperm(num, generator=generator)]
    noise = torch.randn(num, features, generator=generator)
    return TensorDataset(2.0 * centres[classes] + noise, classes)


def pictures(num: int, *, seed: int) -> TensorDataset:
    """Return pictures with a bright row, column or corner, (num, 1, 8, 8), and their classes."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(num) % CLASSES
    classes = classes[torch.randperm(num, generator=generator)]
    images = 0.5 * torch.randn(num, 1, 8, 8, generator=generator)
    places = torch.randint(0, 6, (num,), generator=generator).tolist()
    for image, kind, place in zip(images, classes.tolist(), places, strict=True):
        if kind == 0:
            image[0, place] += 1.0
        elif kind == 1:
            image[0, :, place] += 1.0
        else:
            image[0, :3, :3] += 1.0
    return TensorDataset(images, classes)


def sentences(num: int, *, seed: int, longest: int = 11) -> tuple[Tensor, Tensor, Tensor]:
    """Return padded words, (num, longest), their numbers, (num,), and the classes, (num,).

    A sentence has more words of its own class than of the others; word 0 is padding.
    """
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(num) % CLASSES
    classes = classes[torch.randperm(num, generator=generator)]
    lengths = torch.randint(4, longest + 1, (num,), generator=generator)
    kinds = torch.randint(0, CLASSES, (num, longest), generator=generator)
    is_own = torch.rand(num, longest, generator=generator) < 0.5
    kinds = torch.where(is_own, classes.unsqueeze(1), kinds)
    words = 1 + 7 * kinds + torch.randint(0, 7, (num, longest), generator=generator)
    words[torch.arange(longest) >= lengths.unsqueeze(1)] = 0
    return words, lengths, classes
