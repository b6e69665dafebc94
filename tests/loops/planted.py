"""One correct loop, and the same with a bug: each name in ``BUGS`` changes one place of it."""

import torch
from loop_data import CLASSES, points
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

#: By bug: what a check must call it, and words of the line that it must name.
BUGS = {
    "step once an epoch": ("one-step-an-epoch", "optimizer.step()  # after the batches"),
    "no zero_grad": ("no-zero-grad", "loss.backward()"),
    "head not in the optimizer": ("not-in-optimizer", "optimizer.step()"),
    "layers in a list": ("unregistered", "self.more[0]"),
    "optimizer of another model": ("other-model", "optimizer.step()"),
    "rate of zero": ("unchanged", "optimizer.step()"),
    "detached": ("no-gradient", "optimizer.step()"),
    "no step": ("no-step", "loss.backward()"),
    "no backward": ("no-backward", "model(inputs)"),
    "NaN in the inputs": ("nan-gradient", "optimizer.step()"),
    "exploding": ("exploding-gradient", "optimizer.step()"),
    "eval() left on": ("eval-in-training", "model(inputs)"),
    "dropout in validation": ("train-in-validation", "model(inputs_V)"),
    "inputs not scaled": ("first-loss", "loss_function"),
    "sign of the loss": ("loss-rises", "optimizer.step()"),
    "inputs overwritten": ("constant-output", "model(inputs_V)"),
    "softmax over the batch": ("leak-between-rows", "model(inputs_V)"),
    "softmax twice": ("softmax-twice", "loss_function"),
    "targets from 1": ("wrong-targets", "loss_function"),
    "targets no distribution": ("wrong-targets", "loss_function"),
    "class absent": ("absent-class", ""),
    "validation is train": ("shared-rows", "model(inputs_V)"),
    "a tenth of validation is train": ("shared-rows", "model(inputs_V)"),
    "no shuffle": ("no-shuffle", "model(inputs)"),
    "raises": ("raised", "raise ValueError"),
}


class Network(nn.Module):
    def __init__(self, bug):
        super().__init__()
        self.bug = bug
        self.first = nn.Linear(6, 16)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(16, CLASSES)
        if bug == "layers in a list":
            self.more = [nn.Linear(16, 16)]

    def forward(self, inputs):
        if self.bug == "inputs overwritten":
            inputs = torch.zeros_like(inputs)
        hidden = self.first(inputs).relu()
        if self.bug == "layers in a list":
            hidden = self.more[0](hidden).relu()
        if self.bug == "softmax over the batch":
            hidden = hidden * hidden.softmax(dim=0)
        logits = self.head(self.dropout(hidden))
        return logits.softmax(dim=1) if self.bug == "softmax twice" else logits


def make_data(bug):
    train, validation = points(210, seed=1), points(99, seed=2)
    inputs, targets = train.tensors
    inputs_V, targets_V = validation.tensors
    if bug == "NaN in the inputs":
        inputs[17, 3] = torch.nan
    if bug == "inputs not scaled":
        inputs, inputs_V = 300.0 * inputs, 300.0 * inputs_V
    if bug == "targets from 1":
        targets = targets + 1
    if bug == "class absent":
        inputs_V, targets_V = inputs_V[targets_V != 1], targets_V[targets_V != 1]
    if bug == "validation is train":
        inputs_V, targets_V = inputs[:99], targets[:99]
    if bug == "a tenth of validation is train":
        inputs_V = torch.cat([inputs_V[:89], inputs[:10]])
        targets_V = torch.cat([targets_V[:89], targets[:10]])
    return TensorDataset(inputs, targets), inputs_V, targets_V


def make_optimizer(bug, model):
    rate = 0.0 if bug == "rate of zero" else 0.05
    parameters = list(model.parameters())
    if bug == "head not in the optimizer":
        parameters = list(model.first.parameters())
    if bug == "optimizer of another model":
        parameters = list(Network("").parameters())
    return torch.optim.SGD(parameters, lr=rate)


def make_loop(bug):
    """Return the loop with a bug, "" for none."""

    def objective(trial):
        torch.manual_seed(0)
        data, inputs_V, targets_V = make_data(bug)
        train = DataLoader(data, batch_size=30, shuffle=bug != "no shuffle")
        model = Network(bug)
        optimizer = make_optimizer(bug, model)
        loss_function = nn.CrossEntropyLoss()
        scale = 1.0
        for _ in trial.epochs():
            if bug != "eval() left on" or trial.epochs_done == 0:
                model.train()
            for inputs, targets in train:
                if bug == "targets no distribution":
                    targets = 2.0 * functional.one_hot(targets, CLASSES)
                logits = model(inputs)
                if bug == "detached":
                    logits = logits.detach().requires_grad_()
                if bug == "raises":
                    raise ValueError("odd shape")
                loss = loss_function(logits, targets)
                if bug == "no backward":
                    continue
                if bug == "exploding":
                    loss, scale = scale * loss, 2.0 * scale
                if bug == "sign of the loss":
                    loss = -loss
                if bug != "no zero_grad":
                    optimizer.zero_grad()
                loss.backward()
                if bug not in ("step once an epoch", "no step"):
                    optimizer.step()
            if bug == "step once an epoch":
                optimizer.step()  # after the batches
            if bug != "dropout in validation":
                model.eval()
            with torch.no_grad():
                predictions = model(inputs_V).argmax(dim=1)
            trial.record(targets_V, predictions, train_loss=loss)

    return objective
