"""Each step is given a function that computes the loss; two classes, one logit."""

import torch
from loop_data import points
from torch import nn
from torch.utils.data import DataLoader

default_space = {"optimizer": "sgd", "learning_rate": {"low": 1e-2, "high": 3e-1, "log": True}}


class Net:
    def __init__(self, learning_rate):
        self.module = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Dropout(0.1), nn.Linear(10, 1))
        self.criterion = nn.BCEWithLogitsLoss()
        self.optimizer = torch.optim.SGD(
            self.module.parameters(), lr=learning_rate, momentum=0.9, nesterov=True
        )

    def infer(self, inputs):
        return self.module(inputs).squeeze(-1)

    def train_step(self, inputs, targets):
        def step():
            self.optimizer.zero_grad()
            loss = self.criterion(self.infer(inputs), targets)
            loss.backward()
            return loss

        self.module.train()
        return self.optimizer.step(step)

    def evaluate(self, inputs, targets):
        self.module.eval()
        with torch.no_grad():
            logits = self.infer(inputs)
            return self.criterion(logits, targets), logits > 0


def objective(trial):
    train = DataLoader(points(210, seed=1), batch_size=30, shuffle=True)
    inputs_V, classes_V = points(99, seed=2).tensors
    net = Net(trial.params["learning_rate"])
    for _ in trial.epochs():
        losses = [net.train_step(inputs, (kinds == 0).float()) for inputs, kinds in train]
        is_first = classes_V == 0
        val_loss, predictions = net.evaluate(inputs_V, is_first.float())
        train_loss = torch.stack(losses).mean()
        trial.record(is_first.long(), predictions.long(), train_loss=train_loss, val_loss=val_loss)
