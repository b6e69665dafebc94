"""Weights are averaged, and the averaged model's BatchNorm sees the training data once more."""

import torch
from loop_data import CLASSES, points
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader

default_space = {"optimizer": "sgd", "learning_rate": {"low": 1e-2, "high": 2e-1, "log": True}}


def objective(trial):
    train = DataLoader(points(210, seed=1), batch_size=30, shuffle=True)
    inputs_V, targets_V = points(99, seed=2).tensors
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES))
    averaged = AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=trial.params["learning_rate"], momentum=0.9)
    for _ in trial.epochs():
        model.train()
        for inputs, targets in train:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
        averaged.update_parameters(model)
        update_bn(train, averaged)
        averaged.eval()
        with torch.no_grad():
            logits = averaged(inputs_V)
            val_loss = functional.cross_entropy(logits, targets_V)
        trial.record(targets_V, logits.argmax(dim=1), train_loss=loss, val_loss=val_loss)
