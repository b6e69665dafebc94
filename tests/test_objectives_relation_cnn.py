"""The fused model against one of ``nn.Conv1d`` and a masked maximum, written independently.

Shapes: B batch, L tokens, F filters, each axis its own prime.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from objectives.api import Data, find_fusion_key
from objectives.lanes.batches import batch_order
from objectives.lanes.trainer import ModelTrainer, fingerprint
from objectives.relation_cnn import RelationCnn, RelationCnnModel
from search_spaces.hparams import Hparams
from tests.rounding import Rounding, assert_same_sums, compare_runs

F, POSITION_DIM = 17, 3
PADDING, UNKNOWN = 0, 1

WORDS = ["ship", "sail", "mast", "keel", "bow", "stern", "rudder", "anchor", "deck", "hull"]
# Each in too few sentences for its vector to be trained.
RARE = [
    "tree",
    "bird",
    "river",
    "wood",
    "stone",
    "metal",
    "paper",
    "glass",
    "house",
    "horse",
    "dog",
    "fish",
    "king",
    "queen",
    "city",
]
LABELS = ("kind", "part", "made")


def write_table(path: Path) -> Path:
    """83 sentences to train on, 29 to validate; lengths from 6 to 16 tokens."""
    rng = np.random.default_rng(3)
    lines = ["sentence\tlabel\tsplit"]
    for split, num_rows in (("train", 83), ("validation", 29), ("test", 2)):
        for row in range(num_rows):
            label = row % len(LABELS)
            # A label has words of its own, and there is noise around them.
            noise = rng.choice(WORDS, size=rng.integers(1, 12)).tolist()
            noise.insert(rng.integers(len(noise) + 1), f"zq{row}")
            noise.append(RARE[row % len(RARE)])
            lines.append(
                f"the <e1>{WORDS[label]}</e1> {' '.join(noise)} <e2>{WORDS[label + 3]}</e2>\t"
                f"{LABELS[label]}\t{split}"
            )
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return RelationCnn().load(write_table(tmp_path_factory.mktemp("data") / "d.tsv"))


class ReferenceCnn(nn.Module):
    """Zeng et al. 2014 with PyTorch's own layers; every word's vector in one table."""

    def __init__(self, model: RelationCnnModel, window: int) -> None:
        super().__init__()
        vectors = model.word_vectors.clone()
        if model.frequent is not None:
            vectors[: model.frequent.num_embeddings] = model.frequent.weight.detach()
        self.words = nn.Embedding.from_pretrained(vectors, freeze=model.frequent is None)
        table = model.positions.weight.detach()
        self.positions1 = nn.Embedding.from_pretrained(table[:61].clone(), freeze=False)
        self.positions2 = nn.Embedding.from_pretrained(table[61:].clone(), freeze=False)
        word_dim, filters = vectors.shape[1], len(model.filter_bias)
        num_inputs = word_dim + 2 * table.shape[1]
        self.convolution = nn.Conv1d(num_inputs, filters, window, padding=window // 2)
        kernels = [
            layer.weight.detach().view(filters, window, -1).mT
            for layer in (model.word_filters, model.position_filters)
        ]
        with torch.no_grad():
            self.convolution.weight.copy_(torch.cat(kernels, dim=1))
            self.convolution.bias.copy_(model.filter_bias)
        self.classes = nn.Linear(filters, model.classes.out_features)
        self.classes.load_state_dict(model.classes.state_dict())

    def forward(
        self,
        tokens: torch.Tensor,
        distances1: torch.Tensor,
        distances2: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        embedded = torch.cat(
            [self.words(tokens), self.positions1(distances1), self.positions2(distances2)], dim=-1
        )
        padding = torch.arange(tokens.shape[1]) >= lengths.unsqueeze(1)
        embedded = embedded.masked_fill(padding.unsqueeze(-1), 0.0)
        response = self.convolution(embedded.mT).masked_fill(padding.unsqueeze(1), -torch.inf)
        logits: torch.Tensor = self.classes(torch.tanh(response.max(dim=-1).values))
        return logits

    def gradients(self, model: RelationCnnModel) -> dict[str, torch.Tensor]:
        """The gradients under the names that the fused model has for them."""
        kernel = self.convolution.weight.grad
        assert kernel is not None
        word_dim = self.words.embedding_dim
        found = {
            "positions.weight": torch.cat(
                [self.positions1.weight.grad, self.positions2.weight.grad]
            ),
            "word_filters.weight": kernel[:, :word_dim].mT.flatten(1),
            "position_filters.weight": kernel[:, word_dim:].mT.flatten(1),
            "filter_bias": self.convolution.bias.grad,
            "classes.weight": self.classes.weight.grad,
            "classes.bias": self.classes.bias.grad,
        }
        if model.frequent is not None:
            found["frequent.weight"] = self.words.weight.grad[: model.frequent.num_embeddings]
        return found


def build(data: Data, vectors: str, window: int = 3, seed: int = 4) -> RelationCnnModel:
    torch.manual_seed(seed)
    model = RelationCnn().build_model(
        data,
        filters=F,
        window=window,
        position_dim=POSITION_DIM,
        vectors=vectors,
        dropout=0.0,
    )
    with torch.no_grad():
        # Zeros at the start, which would hide where it is added.
        model.filter_bias.normal_(std=0.3)
    return model


def batch_of(data: Data, rows: slice = slice(0, 13)) -> list[torch.Tensor]:
    assert data.train.lengths is not None
    return [torch.from_numpy(a[rows]) for a in (*data.train.inputs, data.train.lengths)]


@pytest.mark.parametrize("vectors", ["frozen", "trainable"])
@pytest.mark.parametrize("window", [1, 3, 5])
def test_logits_and_gradients_equal_those_of_a_conv1d(
    data: Data, vectors: str, window: int
) -> None:
    model = build(data, vectors, window)
    reference = ReferenceCnn(model, window)
    inputs = batch_of(data)
    # Sentences of many lengths in one batch, words outside the trained ones among them.
    assert len(set(inputs[3].tolist())) > 3
    targets = torch.from_numpy(data.train.targets[:13])
    logits, expected = model(*inputs), reference(*inputs)
    num_terms = reference.convolution.weight[0].numel() + F
    assert_same_sums(logits, expected, num_terms)
    nn.functional.cross_entropy(logits, targets).backward()
    nn.functional.cross_entropy(expected, targets).backward()
    gradients = reference.gradients(model)
    ours = dict(model.named_parameters())
    assert ours.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert_same_sums(ours[name].grad, gradient, 2 * num_terms + len(targets))


@pytest.mark.parametrize("vectors", ["frozen", "trainable"])
def test_padding_changes_nothing(data: Data, vectors: str) -> None:
    model = build(data, vectors)
    *inputs, lengths = batch_of(data)
    longer = [nn.functional.pad(x, (0, 7), value=PADDING) for x in inputs]
    # What stands behind a sentence does not matter, a word least of all.
    longer[0][:, -7:] = 2
    results = []
    for x in (inputs, longer):
        model.zero_grad()
        logits = model(*x, lengths)
        logits.square().sum().backward()
        results.append([logits.detach(), *(p.grad.clone() for p in model.parameters())])
    for value, expected in zip(*results, strict=True):
        num_terms = model.word_filters.in_features + model.position_filters.in_features + F
        assert_same_sums(value, expected, 2 * num_terms + len(lengths))


def test_rare_words_keep_the_vectors_that_they_came_with(data: Data) -> None:
    model = build(data, "trainable")
    assert model.frequent is not None
    num_trainable = data.extras["num_trainable"]
    assert model.frequent.num_embeddings == num_trainable < len(data.extras["word_vectors"])
    inputs = batch_of(data, slice(0, 83))
    before = model(*inputs).detach()
    # A copy, because all models of a data set share the table.
    model.word_vectors = model.word_vectors.clone()
    with torch.no_grad():
        # The head of the table is read from the trained rows, the rest from the shared ones.
        model.word_vectors[:num_trainable] = torch.nan
    assert torch.equal(model(*inputs), before)


def plain_epochs(
    data: Data, model: dict[str, Any], num_epochs: int, rounding: Rounding
) -> list[list[float]]:
    """Train the reference on the batches of the lane; the loss of each epoch."""
    torch.manual_seed(4)
    reference = ReferenceCnn(RelationCnn().build_model(data, **model), window=3).double()
    parameters = [p for p in reference.parameters() if p.requires_grad]
    if model["vectors"] == "trainable":
        # Only the frequent words' rows are trained.
        num_trainable = data.extras["num_trainable"]
        reference.words.weight.register_hook(
            lambda grad: torch.cat([grad[:num_trainable], torch.zeros_like(grad[num_trainable:])])
        )
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    lengths = data.train.lengths
    targets = torch.from_numpy(data.train.targets)
    losses = []
    for data_epoch in range(1, num_epochs + 1):
        loss_sum = 0.0
        for batch in batch_order(2, data_epoch, num_examples=83, batch_size=20, lengths=lengths):
            # Padded to the longest sentence of all, where the lane trims to that of the batch.
            inputs = [torch.from_numpy(a[batch]) for a in (*data.train.inputs, lengths)]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(reference(*inputs), targets[batch])
            loss.backward()
            rounding.gradients(parameters)
            rounding.step(optimizer)
            loss_sum += loss.item() * len(batch)
        losses.append([loss_sum / 83])
    return losses


@pytest.mark.parametrize("vectors", ["frozen", "trainable"])
def test_lane_equals_a_plain_loop_over_the_reference(data: Data, vectors: str) -> None:
    trainer = ModelTrainer(RelationCnn(), data, data_seed=2)
    model = {"filters": F, "position_dim": POSITION_DIM, "vectors": vectors}
    hparams = Hparams(learning_rate=0.01, dropout=0.0, batch_size=20, model=model)
    lane = trainer.open_lane(find_fusion_key(hparams), 0)
    lane.place(1, 8, hparams.model_copy(update={"learning_rate": 1e30}))
    lane.place(0, 4, hparams)
    reports = [{report.slot: report for report in lane.train_epoch()} for _ in range(5)]
    ours = [[epoch[0].train_loss] for epoch in reports]
    window = 3 * (data.extras["word_vectors"].shape[1] + 2 * POSITION_DIM)
    compare_runs(ours, partial(plain_epochs, data, model, 5), 2 * (window + F) + 20)
    # Three classes: chance is 1.1.
    assert ours[-1][0] < 0.6


def test_fingerprint_changes_with_any_array_and_not_otherwise(tmp_path: Path) -> None:
    def loaded() -> Data:
        return RelationCnn().load(write_table(tmp_path / "d.tsv"))

    expected = fingerprint(loaded())
    assert fingerprint(loaded()) == expected
    for name in ("train", "validation", "test"):
        for number in range(5):
            data = loaded()
            split = getattr(data, name)
            array = (*split.inputs, split.targets, split.lengths)[number]
            array[(0,) * array.ndim] += 1
            assert fingerprint(data) != expected, (name, number)
    data = loaded()
    data.extras["word_vectors"][-1, -1] += 1
    assert fingerprint(data) != expected


def test_two_loads_of_the_shipped_data_agree() -> None:
    first, second = RelationCnn().load(None), RelationCnn().load(None)
    assert fingerprint(first) == fingerprint(second)
    assert first.class_names == second.class_names
    assert len(fingerprint(first)) == 64
