"""Gradients of four batches are added up before each step, and clipped."""

import torch
from loop_data import CLASSES, points
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

default_space = {"optimizer": "adamw", "learning_rate": {"low": 1e-3, "high": 3e-2, "log": True}}
ACCUMULATE = 4


def objective(trial):
    train = DataLoader(points(260, seed=1), batch_size=10, shuffle=True)
    inputs_V, targets_V = points(99, seed=2).tensors
    model = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, CLASSES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=trial.params["learning_rate"])
    for _ in trial.epochs():
        model.train()
        optimizer.zero_grad()
        for number, (inputs, targets) in enumerate(train, start=1):
            loss = functional.cross_entropy(model(inputs), targets, label_smoothing=0.1)
            (loss / ACCUMULATE).backward()
            if number % ACCUMULATE == 0 or number == len(train):
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        model.eval()
        with torch.inference_mode():
            logits = model(inputs_V)
            val_loss = functional.cross_entropy(logits, targets_V).item()
        trial.record(targets_V, logits.argmax(dim=1), train_loss=loss.item(), val_loss=val_loss)
