"""``nn.GRU``, ``nn.LSTM`` and ``nn.MultiheadAttention`` on the examples of many slots.

See ``folded``. Shapes: S slots, N = S * B examples, L steps, M steps that are attended to,
E embedding, F features, H hidden units.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from objectives.layers.dropout import Dropout
from objectives.layers.recurrent import CellName, last_steps, run_cell
from objectives.layers.stacked import affine_of_slots, in_slots

_Stack = list[torch.Tensor | None]


class _Recurrent(nn.RNNBase):
    """What ``Gru`` and ``Lstm`` share: layers and directions, packed sequences."""

    cell: CellName
    between: Dropout | None

    def take_own_dropout(self) -> None:
        """Drop between layers with a rate and masks of the trial's own."""
        self.between = Dropout(self.dropout) if self.dropout > 0 and self.num_layers > 1 else None
        self.dropout = 0.0

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Return what the plain layer does, its examples those of all slots."""
        names = self._flat_weights_names
        stack = in_slots(
            [getattr(self, name) for name in names], [1 + ("weight" in name) for name in names]
        )
        if stack is None and self.between is None:
            return super().forward(input, hx)
        if stack is None or hx is not None:
            raise NotImplementedError("frozen weights with dropout, or a state to begin with")
        tensors = dict(zip(names, stack, strict=True))
        lengths = None
        if isinstance(input, PackedSequence):
            x, lengths = pad_packed_sequence(input, batch_first=True)
            lengths = lengths.to(x.device)
        else:
            x = input if self.batch_first else input.transpose(0, 1)
        lasts: list[tuple[torch.Tensor, torch.Tensor]] = []
        for layer in range(self.num_layers):
            if layer > 0 and self.between is not None:
                x = self.between(x)
            directions = []
            for suffix in ("", "_reverse") if self.bidirectional else ("",):
                parts = [
                    tensors.get(f"{kind}_{part}_l{layer}{suffix}")
                    for kind in ("weight", "bias")
                    for part in ("ih", "hh")
                ]
                steps = _reversed(x, lengths) if suffix else x
                states, last = self._run(steps, parts, lengths)
                directions.append(_reversed(states, lengths) if suffix else states)
                lasts.append(last)
            x = torch.cat(directions, dim=-1) if len(directions) > 1 else directions[0]
        h_n, c_n = (torch.stack(each) for each in zip(*lasts, strict=True))
        output: Any = x if self.batch_first else x.transpose(0, 1)
        if lengths is not None:
            output = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return output, (h_n, c_n) if self.cell == "lstm" else h_n

    def _run(
        self, x_NLF: torch.Tensor, parts: _Stack, lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return the states of one layer and direction, (N, L, H), and the last of each kind."""
        input_weight, weight, input_bias, bias = parts
        assert input_weight is not None
        assert weight is not None
        slots, num_steps = weight.shape[0], x_NLF.shape[1]
        if bias is None:
            bias = weight.new_zeros(weight.shape[:2])
        rows = x_NLF.reshape(slots, -1, x_NLF.shape[2])
        projected = affine_of_slots(rows, input_weight, input_bias)
        kinds = run_cell(
            self.cell, projected.view(slots, -1, num_steps, weight.shape[1]), weight, bias
        )  # (L, S, B, H) each
        examples = x_NLF.shape[0] // slots
        ends = (
            torch.full((examples * slots,), num_steps, device=x_NLF.device)
            if lengths is None
            else lengths
        )
        folded = [kind.flatten(1, 2) for kind in kinds]
        last = [last_steps(kind, ends) for kind in folded]
        return folded[0].transpose(0, 1), (last[0], last[-1])


class Gru(_Recurrent, nn.GRU):
    """``nn.GRU`` of the slots, in one loop over the steps."""

    cell = "gru"


class Lstm(_Recurrent, nn.LSTM):
    """``nn.LSTM`` of the slots, in one loop over the steps."""

    cell = "lstm"


class Attention(nn.MultiheadAttention):
    """``nn.MultiheadAttention`` of the slots; keys and values are as wide as queries."""

    own: Dropout | None

    def take_own_dropout(self) -> None:
        """Drop attention with a rate and masks of the trial's own."""
        self.own = Dropout(self.dropout) if self.dropout > 0 else None
        self.dropout = 0.0

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what the plain layer does, its examples those of all slots."""
        stack = in_slots(
            (self.in_proj_weight, self.in_proj_bias, self.out_proj.weight, self.out_proj.bias),
            (2, 1, 2, 1),
        )
        if stack is None:
            raise NotImplementedError("an attention whose weights are all frozen")
        if query.dim() != 3:
            raise NotImplementedError("an attention without a batch")
        weight, bias, out_weight, out_bias = stack
        assert weight is not None
        assert out_weight is not None
        xs = [x if self.batch_first else x.transpose(0, 1) for x in (query, key, value)]
        weights = weight.chunk(3, dim=1)
        biases = (None,) * 3 if bias is None else bias.chunk(3, dim=1)
        q, k, v = (
            _affine(x, w, b).view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)
            for x, w, b in zip(xs, weights, biases, strict=True)
        )
        mask = _merged(key_padding_mask, attn_mask, q)
        shares = None
        if need_weights or (self.own is not None and self.training):
            scores = q @ k.mT / math.sqrt(q.shape[-1])
            shares = (scores if mask is None else scores + mask).softmax(dim=-1)
            found = (shares if self.own is None else self.own(shares)) @ v
        else:
            found = functional.scaled_dot_product_attention(q, k, v, mask)
        result = _affine(found.transpose(1, 2).flatten(2), out_weight, out_bias)
        result = result if self.batch_first else result.transpose(0, 1)
        if not need_weights or shares is None:
            return result, None
        return result, shares.mean(dim=1) if average_attn_weights else shares


def _affine(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return (N, L, O) for (N, L, E) and the weights of the slots, (S, O, E)."""
    rows = x.reshape(weight.shape[0], -1, x.shape[-1])
    return affine_of_slots(rows, weight, bias).reshape(*x.shape[:-1], -1)


def _merged(
    padding_NM: torch.Tensor | None, mask: torch.Tensor | None, q: torch.Tensor
) -> torch.Tensor | None:
    """Return what is added to the scores, to be broadcast to (N, heads, L, M), or None."""
    total = None
    for each, is_padding in ((padding_NM, True), (mask, False)):
        if each is None:
            continue
        added = each
        if each.dtype == torch.bool:
            added = torch.zeros_like(each, dtype=q.dtype).masked_fill_(each, -math.inf)
        if is_padding:
            added = added[:, None, None]
        elif added.dim() == 3:
            added = added.view(*q.shape[:2], *added.shape[1:])
        total = added if total is None else total + added
    return total


def _reversed(x_NL: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Return each example's real steps in the reverse order, (N, L, ...)."""
    if lengths is None:
        return x_NL.flip(1)
    steps = torch.arange(x_NL.shape[1], device=x_NL.device)
    index = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return x_NL.gather(1, index.unsqueeze(-1).expand_as(x_NL))
