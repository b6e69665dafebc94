"""A model that takes a batch as keywords and returns its loss; warm-up; groups of parameters."""

import torch
from loop_data import CLASSES, sentences
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

default_space = {
    "optimizer": "adamw",
    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    "weight_decay": {"low": 1e-4, "high": 1e-1, "log": True},
}


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(22, 16, padding_idx=0)
        self.places = nn.Embedding(11, 16)
        layer = nn.TransformerEncoderLayer(
            16, 2, dim_feedforward=32, dropout=0.1, batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.classifier = nn.Linear(16, CLASSES)

    def forward(self, input_ids, attention_mask, labels=None):
        hidden = self.words(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        hidden = self.layers(hidden, src_key_padding_mask=~attention_mask)
        mask = attention_mask.unsqueeze(-1)
        logits = self.classifier((hidden * mask).sum(dim=1) / mask.sum(dim=1))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def collate(rows):
    words = torch.stack([row["words"] for row in rows])
    labels = torch.stack([row["label"] for row in rows])
    return {"input_ids": words, "attention_mask": words > 0, "labels": labels}


def load(num, seed):
    words, _, classes = sentences(num, seed=seed)
    return [{"words": one, "label": label} for one, label in zip(words, classes, strict=True)]


def objective(trial):
    train = DataLoader(load(240, seed=1), batch_size=24, shuffle=True, collate_fn=collate)
    validation = DataLoader(load(96, seed=2), batch_size=32, collate_fn=collate)
    model = Encoder()
    decayed = [each for each in model.parameters() if each.ndim > 1]
    others = [each for each in model.parameters() if each.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": trial.params["weight_decay"]},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=trial.params["learning_rate"])
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 10))
    trial.checkpoint(model, optimizer, warm_up)
    for _ in trial.epochs():
        model.train()
        for batch in train:
            loss = model(**batch)["loss"]
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            warm_up.step()
            model.zero_grad()
        model.eval()
        targets, predictions, losses = [], [], []
        for batch in validation:
            with torch.no_grad():
                output = model(**batch)
            targets.append(batch["labels"])
            predictions.append(output["logits"].argmax(dim=-1))
            losses.append(output["loss"].item())
        trial.record(
            torch.cat(targets),
            torch.cat(predictions),
            train_loss=loss.item(),
            val_loss=sum(losses) / len(losses),
        )
