"""The objective ``relation-cnn``: classify the relation between two marked words of a sentence.

Words and their distances to both entities are embedded, convolved and maximized over time, then
classified (Zeng et al. 2014, "Relation classification via convolutional deep neural network").
Shapes: N examples, B batch, L tokens, F filters, V vocabulary.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from objectives.api import Data
from objectives.data.relations import RelationTable, read_relations
from objectives.data.word_vectors import load_word_vectors
from objectives.layers.convolution import largest_response, windows

_PADDING, _UNKNOWN = 0, 1
_MAX_DISTANCE = 30
_DISTANCES = 2 * _MAX_DISTANCE + 1
# Training occurrences from which a word's vector may be trained; rarer ones keep GloVe's.
_TRAINED_FROM = 10


class RelationCnn:
    """Relations between a headword and a word of its definition, or the user's own file."""

    name = "relation-cnn"

    def load(self, source: Path | None, *, label: str = "label") -> Data:
        """Return the sentences of a file, or those from WordNet that ship with the project."""
        table = read_relations(source, label=label)
        counts = Counter(
            token
            for tokens, is_training in zip(table.tokens, table.examples.is_train, strict=True)
            if is_training
            for token in tokens
        )
        vocabulary = sorted(
            {token for tokens in table.tokens for token in tokens},
            key=lambda token: (-counts[token], token),
        )
        vectors, found = load_word_vectors(vocabulary)
        often = sum(count >= _TRAINED_FROM for count in counts.values())
        known = [i for i in range(len(vocabulary)) if found[i] or i < often]
        index = {vocabulary[i]: row for row, i in enumerate(known, start=_UNKNOWN + 1)}
        # Words without a vector start near the vectors' own spread.
        rng = np.random.Generator(np.random.Philox(len(known)))
        table_VD = rng.normal(scale=0.1, size=(len(known) + 2, vectors.shape[1]))
        table_VD[_PADDING] = 0.0
        rows = [row for row, i in enumerate(known, start=_UNKNOWN + 1) if found[i]]
        table_VD[rows] = vectors[[i for i in known if found[i]]]
        lengths = np.array([len(tokens) for tokens in table.tokens], dtype=np.int64)
        extras = {
            "word_vectors": table_VD.astype(np.float32),
            "num_trainable": often + _UNKNOWN + 1,
        }
        return table.examples.make_data(
            lambda chosen: _encode(table, chosen, lengths[chosen], index), lengths, extras=extras
        )

    def build_model(self, data: Data, **model: Any) -> "RelationCnnModel":
        """Return a fresh model; ``model`` are the arguments of ``RelationCnnModel``."""
        return RelationCnnModel(
            torch.from_numpy(data.extras["word_vectors"]),
            data.extras["num_trainable"],
            len(data.class_names),
            **model,
        )


class RelationCnnModel(nn.Module):
    """Word and position embeddings, one convolution, maximum over time, dropout, softmax.

    Padding is masked by the lengths: it adds nothing to a response and gets no gradient.

    Args:
        word_vectors: Initial word vectors, (V, D).
        num_trainable: Rows at the head of the table that may be trained (frequent words).
        num_classes: Width of the logits.
        filters: Filters of the convolution, F.
        window: Tokens that a filter sees, odd.
        position_dim: Numbers that a distance to an entity is embedded in.
        vectors: Whether the vectors of frequent words are trained with the rest.
        dropout: Share of pooled features dropped, if the trial does not say.
    """

    word_vectors: torch.Tensor

    def __init__(
        self,
        word_vectors: torch.Tensor,
        num_trainable: int,
        num_classes: int,
        *,
        filters: int = 100,
        window: int = 3,
        position_dim: int = 5,
        vectors: Literal["frozen", "trainable"] = "frozen",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        word_dim = word_vectors.shape[1]
        self.window = window
        # Not persistent: these vectors come with the data, not with a trial's weights.
        self.register_buffer("word_vectors", word_vectors, persistent=False)
        self.frequent: nn.Embedding | None = None
        if vectors == "trainable":
            own = word_vectors[:num_trainable].clone()
            self.frequent = nn.Embedding(len(own), word_dim, _weight=own)
        # One table for both entities, one lookup: rows 0 to 60 are distances to entity 1.
        self.positions = nn.Embedding(2 * _DISTANCES, position_dim)
        self.word_filters = nn.Linear(window * word_dim, filters, bias=False)
        self.position_filters = nn.Linear(window * 2 * position_dim, filters, bias=False)
        self.filter_bias = nn.Parameter(torch.zeros(filters))
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(filters, num_classes)

    def forward(
        self,
        tokens: torch.Tensor,
        distances1: torch.Tensor,
        distances2: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        """Return logits, (B, classes).

        Args:
            tokens: Rows of the word table, (B, L).
            distances1: Shifted distances to entity 1, (B, L), each in [0, 60].
            distances2: The same to entity 2, (B, L).
            lengths: Real tokens of each sentence, (B,).
        """
        words = functional.embedding(tokens, self.word_vectors)
        if self.frequent is not None:
            last = self.frequent.num_embeddings - 1
            own = self.frequent(tokens.clamp(max=last))
            words = torch.where((tokens <= last).unsqueeze(-1), own, words)
        real = torch.arange(tokens.shape[1], device=tokens.device) < lengths.unsqueeze(1)
        words = words * real.unsqueeze(-1)
        distances = torch.stack([distances1, distances2 + _DISTANCES], dim=-1)
        positions = self.positions(distances).flatten(start_dim=-2) * real.unsqueeze(-1)
        pooled = largest_response(
            windows(words, self.window),
            self.word_filters.weight,
            windows(positions, self.window),
            self.position_filters.weight,
            lengths,
        )
        # A bias and tanh keep the order of responses, so they may follow the maximum.
        features = torch.tanh(pooled + self.filter_bias.unsqueeze(-2))
        logits: torch.Tensor = self.classes(self.dropout(features))
        return logits


def _encode(
    table: RelationTable,
    rows: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    index: Mapping[str, int],
) -> tuple[npt.NDArray[np.int64], ...]:
    """Return the words of some sentences by index, and their distances to each entity, (N, L)."""
    tokens = np.full((len(rows), int(lengths.max(initial=1))), _PADDING, dtype=np.int64)
    for place, i in enumerate(rows):
        tokens[place, : lengths[place]] = [index.get(t, _UNKNOWN) for t in table.tokens[i]]
    steps = np.arange(tokens.shape[1])
    distances = [
        np.clip(steps - entity[rows][:, None], -_MAX_DISTANCE, _MAX_DISTANCE) + _MAX_DISTANCE
        for entity in (table.entity1, table.entity2)
    ]
    return (tokens, *distances)
