"""The loop of an objective without one of its own, so that its data and model can be checked.

Plain PyTorch with Adam: what is found is in the data or the model.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from objectives.api import Objective, Split
from objectives.loops.trial import OwnTrial
from objectives.metrics import find_classes

#: Batches of an epoch: enough to see whether the model learns.
_MAX_BATCHES = 20
_EVALUATED = 500


def make_plain_loop(
    objective: Objective, model: dict[str, Any], *, source: Path | None, label: str
) -> Callable[[OwnTrial], None]:
    """Return a loop over some batches of an objective's data.

    Args:
        objective: The objective; its data are loaded when the loop runs.
        model: Arguments of its ``build_model``.
        source: Its data file; None: its own.
        label: Column of the file that holds the classes.
    """

    def loop(trial: OwnTrial) -> None:
        data = objective.load(source, label=label)
        network = objective.build_model(data, **model)
        rate = float(trial.params.get("learning_rate", 1e-3))
        size = int(trial.params.get("batch_size", 50))
        optimizer = torch.optim.Adam(network.parameters(), lr=rate)
        rows = np.arange(len(data.validation.targets))[:_EVALUATED]
        for _ in trial.epochs():
            network.train()
            for some in _draw_batches(data.train, size):
                logits, targets = _forward(network, data.train, some)
                loss = _find_loss(logits, targets)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            network.eval()
            with torch.no_grad():
                logits, targets = _forward(network, data.validation, rows)
            predicted = logits.argmax(dim=1) if logits.shape[1] > 1 else logits[:, 0] > 0
            classes = find_classes(data.validation.targets)[rows]
            trial.record(classes, predicted.long(), val_loss=float(_find_loss(logits, targets)))

    return loop


def _draw_batches(split: Split, size: int) -> Iterator[Any]:
    order = np.random.default_rng().permutation(len(split.targets))
    for i in range(min(_MAX_BATCHES, -(-len(order) // size))):
        yield order[i * size : (i + 1) * size]


def _forward(network: Any, split: Split, rows: Any) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = [torch.from_numpy(each[rows]) for each in split.inputs]
    if split.lengths is not None:
        longest = int(split.lengths[rows].max())
        inputs = [each[:, :longest] if each.ndim > 1 else each for each in inputs]
        inputs.append(torch.from_numpy(split.lengths[rows]))
    return network(*inputs), torch.from_numpy(split.targets[rows])


def _find_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if logits.shape[1] > 1:
        return functional.cross_entropy(logits, targets)
    second = targets if targets.ndim == 1 else targets[:, 1]
    return functional.binary_cross_entropy_with_logits(logits[:, 0], second.float())
