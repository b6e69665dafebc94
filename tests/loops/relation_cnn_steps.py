"""The relation CNN in a loop of one's own: stepped once a batch, and by mistake once an epoch.

``python tests/loops/relation_cnn_steps.py`` tells the story: what ``check`` finds in each loop,
and what ``diagnose`` says of its curve.
"""

import shlex
import subprocess
import sys
from pathlib import Path

import torch
from torch.nn import functional

from objectives.relation_cnn import RelationCnn

default_space = {"optimizer": "adam", "learning_rate": 1e-3, "dropout": 0.5, "batch_size": 50}


def make_batch(split, rows):
    """Return the arguments of the model, trimmed to the longest sentence, and the classes."""
    lengths = torch.from_numpy(split.lengths[rows])
    longest = int(lengths.max())
    inputs = [torch.from_numpy(each[rows])[:, :longest] for each in split.inputs]
    return (*inputs, lengths), torch.from_numpy(split.targets[rows])


def train(trial, *, is_stepped_each_batch):
    data = RelationCnn().load(None)
    model = RelationCnn().build_model(data, vectors="trainable", dropout=trial.params["dropout"])
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.params["learning_rate"])
    trial.checkpoint(model, optimizer)
    validation, classes = make_batch(data.validation, slice(None))
    for _ in trial.epochs():
        model.train()
        total = 0.0
        order = torch.randperm(len(data.train.targets))
        for rows in order.split(trial.params["batch_size"]):
            inputs, targets = make_batch(data.train, rows.numpy())
            loss = functional.cross_entropy(model(*inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            if is_stepped_each_batch:
                optimizer.step()
            total += loss.item() * len(targets)
        if not is_stepped_each_batch:
            optimizer.step()  # the mistake: outside the loop over the batches
        model.eval()
        with torch.no_grad():
            logits = model(*validation)
        trial.record(
            classes,
            logits.argmax(dim=1),
            train_loss=total / len(order),
            val_loss=functional.cross_entropy(logits, classes),
        )


def once_a_batch(trial):
    train(trial, is_stepped_each_batch=True)


def once_an_epoch(trial):
    train(trial, is_stepped_each_batch=False)


def tell():
    """Run the commands of the story, for both loops."""
    program = Path(sys.executable).with_name("bestepoch")
    for name in ("once_an_epoch", "once_a_batch"):
        run = (
            "--no-check --quiet --trials 1 --workers 1 --set pruner.name=none --set max_epochs=25"
        )
        for command in (
            f"check {Path(__file__)}:{name}",
            f"run {Path(__file__)}:{name} {run} --set max_epochs=25 --storage story.db",
            f"diagnose {name} --storage story.db",
        ):
            sys.stdout.write(f"\n$ bestepoch {command}\n")
            sys.stdout.flush()
            subprocess.run([program, *shlex.split(command)], check=False)


if __name__ == "__main__":
    tell()
