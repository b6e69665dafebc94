"""Full batches: one step of L-BFGS an epoch, whose closure is called many times in it."""

import torch
from loop_data import CLASSES, points
from torch import nn
from torch.nn import functional

default_space = {"max_iterations": [3, 5]}


def objective(trial):
    inputs, targets = points(210, seed=1).tensors
    inputs_V, targets_V = points(99, seed=2).tensors
    model = nn.Linear(6, CLASSES)
    optimizer = torch.optim.LBFGS(
        model.parameters(), lr=0.5, max_iter=trial.params["max_iterations"]
    )

    def closure():
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs), targets)
        loss.backward()
        return loss

    for _ in trial.epochs():
        loss = optimizer.step(closure)
        with torch.no_grad():
            logits = model(inputs_V)
            val_loss = functional.cross_entropy(logits, targets_V)
        trial.record(targets_V, logits.argmax(dim=1), train_loss=loss, val_loss=val_loss)
