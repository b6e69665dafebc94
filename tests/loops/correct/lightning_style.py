"""A module that holds its own steps and optimizer, and a short trainer that calls them."""

import torch
from loop_data import CLASSES, points
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

default_space = {
    "optimizer": "adam",
    "learning_rate": {"low": 1e-3, "high": 3e-2, "log": True},
    "dropout": {"low": 0.0, "high": 0.5},
}


class Classifier(nn.Module):
    def __init__(self, learning_rate, dropout):
        super().__init__()
        self.learning_rate = learning_rate
        self.encoder = nn.Sequential(nn.Linear(6, 24), nn.BatchNorm1d(24), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, inputs):
        return self.head(self.dropout(self.encoder(inputs)))

    def training_step(self, batch):
        inputs, targets = batch
        return functional.cross_entropy(self.forward(inputs), targets)

    def validation_step(self, batch):
        inputs, targets = batch
        logits = self.forward(inputs)
        return functional.cross_entropy(logits, targets), logits.argmax(dim=1)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, step_size=10)


def objective(trial):
    train = DataLoader(points(210, seed=1), batch_size=30, shuffle=True)
    validation = DataLoader(points(99, seed=2), batch_size=99)
    model = Classifier(trial.params["learning_rate"], trial.params["dropout"])
    optimizer, scheduler = model.configure_optimizers()
    trial.checkpoint(model, optimizer, scheduler)
    for _ in trial.epochs():
        model.train()
        for batch in train:
            loss = model.training_step(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            for batch in validation:
                val_loss, predictions = model.validation_step(batch)
                trial.record(batch[1], predictions, train_loss=loss, val_loss=val_loss)
