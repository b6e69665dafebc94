"""A recurrent network on packed sentences, a focal loss of one's own, classes drawn evenly."""

import torch
from loop_data import CLASSES, sentences
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

default_space = {
    "optimizer": "rmsprop",
    "learning_rate": {"low": 3e-3, "high": 3e-2, "log": True},
    "gamma": {"low": 0.5, "high": 3.0},
}


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(22, 12, padding_idx=0)
        self.recurrent = nn.LSTM(12, 16, batch_first=True)
        self.classes = nn.Linear(16, CLASSES)

    def forward(self, words, lengths):
        packed = pack_padded_sequence(
            self.words(words), lengths, batch_first=True, enforce_sorted=False
        )
        _, (hidden, _) = self.recurrent(packed)
        return self.classes(hidden[-1])


def focal_loss(logits, targets, gamma):
    chances = logits.log_softmax(dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)
    return -((1.0 - chances.exp()) ** gamma * chances).mean()


def objective(trial):
    words, lengths, classes = sentences(240, seed=1)
    rare = (classes != 0) | (torch.arange(len(classes)) % 4 == 0)
    words, lengths, classes = words[rare], lengths[rare], classes[rare]
    weights = 1.0 / torch.bincount(classes)[classes]
    sampler = WeightedRandomSampler(weights, num_samples=len(classes))
    train = DataLoader(TensorDataset(words, lengths, classes), batch_size=20, sampler=sampler)
    words_V, lengths_V, classes_V = sentences(96, seed=2)
    model = Network()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=trial.params["learning_rate"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, trial.params["learning_rate"], total_steps=trial.max_epochs * len(train)
    )
    gamma = trial.params["gamma"]
    for _ in trial.epochs():
        model.train()
        total = 0.0
        for some_words, some_lengths, targets in train:
            optimizer.zero_grad()
            loss = focal_loss(model(some_words, some_lengths), targets, gamma)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        model.eval()
        with torch.no_grad():
            logits = model(words_V, lengths_V)
        trial.record(
            classes_V,
            logits.argmax(dim=1),
            train_loss=total / len(train),
            val_loss=focal_loss(logits, classes_V, gamma),
        )
