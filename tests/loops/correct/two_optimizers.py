"""A classifier whose extra class is what a generator draws; each of the two has an optimizer.

The generator's loss leaves gradients in the classifier, which are cleared before its next step.
"""

import torch
from loop_data import CLASSES, points
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

default_space = {
    "optimizer": "adam",
    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    "generator_rate": {"low": 1e-4, "high": 1e-2, "log": True},
}


def objective(trial):
    train = DataLoader(points(210, seed=1), batch_size=30, shuffle=True)
    inputs_V, targets_V = points(99, seed=2).tensors
    generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 6))
    classifier = nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, CLASSES + 1))
    classify = torch.optim.Adam(classifier.parameters(), lr=trial.params["learning_rate"])
    generate = torch.optim.Adam(generator.parameters(), lr=trial.params["generator_rate"])
    for _ in trial.epochs():
        classifier.train()
        for inputs, targets in train:
            drawn = generator(torch.randn(len(inputs), 4))
            is_drawn = torch.full((len(inputs),), CLASSES)

            classify.zero_grad()
            loss = functional.cross_entropy(classifier(inputs), targets)
            loss = loss + 0.2 * functional.cross_entropy(classifier(drawn.detach()), is_drawn)
            loss.backward()
            classify.step()

            generate.zero_grad()
            fooled = -functional.cross_entropy(classifier(drawn), is_drawn).clamp(max=5.0)
            fooled.backward()
            generate.step()
        classifier.eval()
        with torch.no_grad():
            logits = classifier(inputs_V)[:, :CLASSES]
            val_loss = functional.cross_entropy(logits, targets_V)
        trial.record(targets_V, logits.argmax(dim=1), train_loss=loss, val_loss=val_loss)
