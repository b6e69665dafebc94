"""Batches are mixed in pairs, so targets are distributions, and pictures are never the same."""

import torch
from loop_data import CLASSES, pictures
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

default_space = {"optimizer": "sgd", "learning_rate": {"low": 1e-2, "high": 2e-1, "log": True}}


def build_model():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(8 * 4 * 4, CLASSES),
    )


def mix(images, targets):
    share = torch.distributions.Beta(0.4, 0.4).sample()
    order = torch.randperm(len(images))
    one_hot = functional.one_hot(targets, CLASSES).float()
    images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images, images.flip(-1))
    mixed = share * images + (1.0 - share) * images[order]
    return mixed, share * one_hot + (1.0 - share) * one_hot[order]


def objective(trial):
    train = DataLoader(pictures(180, seed=1), batch_size=20, shuffle=True, drop_last=True)
    images_V, targets_V = pictures(90, seed=2).tensors
    model = build_model()
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=trial.params["learning_rate"], momentum=0.9, nesterov=True
    )
    for _ in trial.epochs():
        model.train()
        for images, targets in train:
            mixed, chances = mix(images, targets)
            loss = loss_function(model(mixed), chances)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            logits = model(images_V)
        trial.record(
            targets_V,
            logits.argmax(dim=1),
            train_loss=loss,
            val_loss=functional.cross_entropy(logits, targets_V),
        )
