"""The loop of PyTorch's quickstart: one model, one optimizer, a step a batch."""

import torch
from loop_data import CLASSES, points
from torch import nn
from torch.utils.data import DataLoader

default_space = {"learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}}


def objective(trial):
    train = DataLoader(points(210, seed=1), batch_size=30, shuffle=True)
    validation = DataLoader(points(99, seed=2), batch_size=33)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, CLASSES))
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=trial.params["learning_rate"])
    trial.checkpoint(model, optimizer)
    for _ in trial.epochs():
        model.train()
        total = 0.0
        for inputs, targets in train:
            loss = loss_function(model(inputs), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item() * len(targets)
        model.eval()
        targets, predictions, losses = [], [], []
        with torch.no_grad():
            for inputs, classes in validation:
                logits = model(inputs)
                losses.append(loss_function(logits, classes).item())
                predictions += logits.argmax(dim=1).tolist()
                targets += classes.tolist()
        trial.record(
            targets,
            predictions,
            train_loss=total / len(train.dataset),
            val_loss=sum(losses) / len(losses),
        )
