"""Models as people write them, each with a batch that it takes: what must train in a lane.

Shapes: B batch, L steps, F features, H hidden units, C classes, each axis its own prime.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

B, L, F, H, C, WORDS = 5, 11, 7, 13, 3, 23
EDGE = 8  # of a picture; two poolings make it 2


class Ordinary(NamedTuple):
    """A model, its inputs, and the form that it trains in where nothing is slower together."""

    build: Callable[[], nn.Module]
    inputs: tuple[torch.Tensor, ...]
    form: str = "folded"


def _draw(*shape: int) -> torch.Tensor:
    return torch.randn(B, *shape, generator=torch.Generator().manual_seed(1))


def _words() -> torch.Tensor:
    drawn = torch.randint(1, WORDS, (B, L), generator=torch.Generator().manual_seed(1))
    drawn[:, -2:] = 0
    return drawn


class Calls(nn.Module):
    """Parts, and a function of them: what a ``forward`` of a person's own does."""

    def __init__(self, call: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.call = call
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.call(self, *inputs)


def block(inputs: int, outputs: int, *, bias: bool) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]


def residual(m: Any, x: torch.Tensor) -> torch.Tensor:
    x = torch.relu(m.norm1(m.conv1(x)))
    x = torch.relu(x + m.norm2(m.conv2(x)))
    logits: torch.Tensor = m.head(x.mean(dim=(2, 3)))
    return logits


def last_of_packed(m: Any, steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    packed = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
    outputs, state = m.rnn(packed)
    states = state[0] if isinstance(state, tuple) else state
    summed = pad_packed_sequence(outputs, batch_first=True)[0].sum(dim=1)
    logits: torch.Tensor = m.head(torch.cat([states[-1], summed], dim=-1))
    return logits


def text_cnn(m: Any, tokens: torch.Tensor) -> torch.Tensor:
    words = m.words(tokens).transpose(1, 2)
    pooled = [torch.relu(conv(words)).amax(dim=2) for conv in m.convs]
    logits: torch.Tensor = m.head(m.dropout(torch.cat(pooled, dim=1)))
    return logits


def attend(m: Any, x: torch.Tensor) -> torch.Tensor:
    x = m.first(x)
    mask = torch.ones(L, L, dtype=torch.bool).triu(1)
    padding = torch.arange(L) >= torch.full((len(x), 1), L - 2)
    found, shares = m.attention(x, x, x, attn_mask=mask, key_padding_mask=padding)
    other, _ = m.attention(x, found, found, need_weights=False)
    logits: torch.Tensor = m.head(torch.cat([other.mean(dim=1), shares.sum(dim=1)], dim=-1))
    return logits


def vision(m: Any, x: torch.Tensor) -> torch.Tensor:
    x = torch.cat([m.token.expand(len(x), -1, -1), m.first(x)], dim=1) + m.places
    logits: torch.Tensor = m.head(m.encoder(x)[:, 0])
    return logits


def masked(m: Any, tokens: torch.Tensor) -> torch.Tensor:
    padding = tokens == 0  # at the end
    found = m.encoder(m.words(tokens), src_key_padding_mask=padding)
    logits: torch.Tensor = m.head(found.masked_fill(padding.unsqueeze(-1), 0.0).sum(dim=1))
    return logits


def encoder(**kwargs: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(12, 4, 17, batch_first=True, **kwargs)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def tied(m: Any, tokens: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = m.head(m.out(torch.tanh(m.mid(m.words(tokens).mean(dim=1)))))
    return logits


def build_tied() -> nn.Module:
    words, out = nn.Embedding(WORDS, H), nn.Linear(H, WORDS, bias=False)
    out.weight = words.weight
    return Calls(tied, words=words, mid=nn.Linear(H, H), out=out, head=nn.Linear(WORDS, C))


class Counting(nn.Module):
    """A buffer that is alike in all trials, and one that each pass replaces."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.linspace(0.5, 1.5, F))
        self.register_buffer("seen", torch.zeros(()))
        self.layer = nn.Linear(F, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen = self.seen + 1
        logits: torch.Tensor = self.layer(x * self.scale)
        return logits


def recurrent(cell: Any, *, num_directions: int = 1, **kwargs: Any) -> nn.Module:
    rnn = cell(F, H, batch_first=True, bidirectional=num_directions == 2, **kwargs)
    head = nn.Linear(num_directions * H, C)
    return Calls(lambda m, x: m.head(m.rnn(x)[0][:, -1]), rnn=rnn, head=head)


def packed(cell: Any) -> nn.Module:
    rnn = cell(F, H, num_layers=2, bidirectional=True, batch_first=True, dropout=0.1)
    return Calls(last_of_packed, rnn=rnn, head=nn.Linear(3 * H, C))


LENGTHS = torch.tensor([3, L, 1, 7, 5])
ORDINARY: dict[str, Ordinary] = {
    "batch norm": Ordinary(
        lambda: nn.Sequential(
            nn.Linear(F, H), nn.BatchNorm1d(H), nn.ReLU(), nn.Dropout(0.1), nn.Linear(H, C)
        ),
        (_draw(F),),
    ),
    "layer norm": Ordinary(
        lambda: nn.Sequential(nn.Linear(F, H), nn.LayerNorm(H), nn.GELU(), nn.Linear(H, C)),
        (_draw(F),),
    ),
    "sets": Ordinary(
        lambda: Calls(
            lambda m, x: m.last(m.first(x).relu().mean(dim=1)),
            first=nn.Linear(F, H),
            last=nn.Linear(H, C),
        ),
        (_draw(L, F),),
    ),
    "CNN": Ordinary(
        lambda: nn.Sequential(
            *block(1, 7, bias=True),
            *block(7, 11, bias=False),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(44, C),
        ),
        (_draw(1, EDGE, EDGE),),
    ),
    "group norm": Ordinary(
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding_mode="reflect", padding=1),
            nn.GroupNorm(2, 6),
            nn.SiLU(),
            nn.Dropout2d(0.1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, C),
        ),
        (_draw(3, EDGE, EDGE),),
    ),
    "Conv1d": Ordinary(
        lambda: nn.Sequential(
            nn.Conv1d(F, 10, 3, padding="same", groups=1),
            nn.BatchNorm1d(10),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(10, 4, 3, groups=2),
            nn.Flatten(),
            nn.Linear(12, C),
        ),
        (_draw(F, L),),
    ),
    "residual": Ordinary(
        lambda: Calls(
            residual,
            conv1=nn.Conv2d(1, 7, 3, padding=1, bias=False),
            norm1=nn.BatchNorm2d(7),
            conv2=nn.Conv2d(7, 7, 3, padding=1),
            norm2=nn.BatchNorm2d(7),
            head=nn.Linear(7, C),
        ),
        (_draw(1, EDGE, EDGE),),
    ),
    "TextCNN": Ordinary(
        lambda: Calls(
            text_cnn,
            words=nn.Embedding(WORDS, H, padding_idx=0),
            convs=nn.ModuleList(nn.Conv1d(H, 5, size) for size in (2, 3)),
            dropout=nn.Dropout(0.1),
            head=nn.Linear(10, C),
        ),
        (_words(),),
    ),
    "GRU": Ordinary(lambda: recurrent(nn.GRU), (_draw(L, F),)),
    "LSTM": Ordinary(lambda: recurrent(nn.LSTM), (_draw(L, F),)),
    "biLSTM": Ordinary(
        lambda: recurrent(nn.LSTM, num_directions=2, num_layers=2, bias=False), (_draw(L, F),)
    ),
    "packed GRU": Ordinary(lambda: packed(nn.GRU), (_draw(L, F), LENGTHS)),
    "packed LSTM": Ordinary(lambda: packed(nn.LSTM), (_draw(L, F), LENGTHS)),
    "attention": Ordinary(
        lambda: Calls(
            attend,
            first=nn.Linear(F, 12),
            head=nn.Linear(12 + L, C),
            attention=nn.MultiheadAttention(12, 3, batch_first=True),
        ),
        (_draw(L, F),),
    ),
    "encoder": Ordinary(
        lambda: Calls(
            lambda m, x: m.head(m.encoder(m.first(x)).mean(dim=1)),
            first=nn.Linear(F, 12),
            encoder=encoder(dropout=0.1),
            head=nn.Linear(12, C),
        ),
        (_draw(L, F),),
    ),
    "encoder, norm first": Ordinary(
        lambda: Calls(
            vision,
            first=nn.Linear(F, 12),
            encoder=encoder(dropout=0.0, norm_first=True),
            head=nn.Linear(12, C),
            token=nn.Parameter(torch.randn(1, 1, 12)),
            places=nn.Parameter(torch.randn(L + 1, 12)),
        ),
        (_draw(L, F),),
    ),
    "masked encoder": Ordinary(
        lambda: Calls(
            masked,
            words=nn.Embedding(WORDS, 12, padding_idx=0),
            encoder=nn.TransformerEncoder(
                nn.TransformerEncoderLayer(12, 4, 17, batch_first=True), 1
            ),
            head=nn.Linear(12, C),
        ),
        (_words(),),
    ),
    "tied weights": Ordinary(build_tied, (_words(),)),
    "padding_idx": Ordinary(
        lambda: Calls(
            lambda m, tokens: m.head(m.words(tokens).sum(dim=1)),
            words=nn.Embedding(WORDS, H, padding_idx=0),
            head=nn.Linear(H, C),
        ),
        (_words(),),
    ),
    "buffers": Ordinary(Counting, (_draw(F),), "stacked"),
    "tuple": Ordinary(
        lambda: Calls(lambda m, x: (m.layer(x), x), layer=nn.Linear(F, C)), (_draw(F),), "stacked"
    ),
    "dict": Ordinary(
        lambda: Calls(lambda m, x: {"hidden": x, "logits": m.layer(x)}, layer=nn.Linear(F, C)),
        (_draw(F),),
        "stacked",
    ),
}
