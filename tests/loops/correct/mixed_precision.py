"""Autocast and a gradient scaler, as in PyTorch's recipe; BatchNorm, a scheduler by the epoch."""

import torch
from loop_data import CLASSES, pictures
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

default_space = {"optimizer": "adam", "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}}


def build_model():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, CLASSES),
    )


def objective(trial):
    train = DataLoader(pictures(180, seed=1), batch_size=20, shuffle=True, drop_last=True)
    validation = DataLoader(pictures(90, seed=2), batch_size=45)
    model = build_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.params["learning_rate"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=trial.max_epochs)
    scaler = torch.amp.GradScaler("cpu")
    trial.checkpoint(model, optimizer, scheduler, scaler)
    for _ in trial.epochs():
        model.train()
        for images, targets in train:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = functional.cross_entropy(model(images), targets)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            scaler.step(optimizer)
            scaler.update()
        scheduler.step()
        model.eval()
        targets, logits = [], []
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            for images, classes in validation:
                logits.append(model(images).float())
                targets.append(classes)
        logits, targets = torch.cat(logits), torch.cat(targets)
        val_loss = functional.cross_entropy(logits, targets)
        trial.record(
            targets.numpy(), logits.argmax(dim=1).numpy(), train_loss=loss, val_loss=val_loss
        )
