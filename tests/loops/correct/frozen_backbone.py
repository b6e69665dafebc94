"""Transfer learning: a pretrained backbone stays as it is, BatchNorm included; the head learns."""

import torch
from loop_data import CLASSES, pictures
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

default_space = {"optimizer": "sgd", "learning_rate": {"low": 1e-2, "high": 3e-1, "log": True}}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.AvgPool2d(2)
        )
        self.head = nn.Linear(12 * 4 * 4, CLASSES)

    def forward(self, images):
        return self.head(self.backbone(images).flatten(start_dim=1))

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self


def objective(trial):
    train = DataLoader(pictures(180, seed=1), batch_size=20, shuffle=True)
    images_V, targets_V = pictures(90, seed=2).tensors
    model = Model()
    for parameter in model.backbone.parameters():
        parameter.requires_grad_(False)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=trial.params["learning_rate"], momentum=0.9)
    for _ in trial.epochs():
        model.train()
        for images, targets in train:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), targets)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            logits = model(images_V)
            val_loss = functional.cross_entropy(logits, targets_V)
        trial.record(targets_V, logits.argmax(dim=1), train_loss=loss, val_loss=val_loss)
