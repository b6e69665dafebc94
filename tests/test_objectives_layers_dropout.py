"""Shapes: S slots, B batch, C channels, each axis its own prime."""

import pytest
import torch
from torch import nn

from objectives.layers.dropout import Dropout, find_rates, with_own_dropout
from objectives.layers.masks import Masks
from objectives.layers.random import dropout_numbers

S, B, C = 5, 7, 11
RATES = [0.0, 0.5, 0.9, 0.3, 0.1]


def in_slots(layer: Dropout, keys_S: torch.Tensor) -> Dropout:
    numbers = zip(*map(dropout_numbers, RATES), strict=True)
    layer.last_dropped, layer.scale = (torch.stack(each) for each in numbers)
    layer.masks = Masks(keys_S.unsqueeze(0))
    layer.masks.begin(0)
    return layer


@pytest.mark.parametrize("lead", [(S, B), (S * B,)])
def test_each_slot_drops_at_its_own_rate_as_alone(lead: tuple[int, ...]) -> None:
    x = torch.randn(*lead, 101, generator=torch.Generator().manual_seed(1))
    keys_S = torch.tensor([3, -5, 7, 2**31 - 1, 13], dtype=torch.int32)
    leaf = x.clone().requires_grad_()
    together = in_slots(Dropout(0.5, salt=2), keys_S)(leaf).view(S, B, 101)
    (grads,) = torch.autograd.grad(together.sum(), leaf)
    for slot, rate in enumerate(RATES):
        alone = Dropout(rate, salt=2)
        alone.masks = Masks(keys_S[slot : slot + 1].unsqueeze(0))
        alone.masks.begin(0)
        own = x.view(S, B, 101)[slot]
        dropped = alone(own)
        assert torch.equal(together[slot], dropped)
        kept = dropped != 0
        assert float(kept.float().mean()) == pytest.approx(1 - rate, abs=0.07)
        torch.testing.assert_close(dropped[kept], own[kept] / (1 - rate))
        torch.testing.assert_close(grads.view(S, B, 101)[slot], kept / (1 - rate))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_channels_are_dropped_whole(axes: int) -> None:
    layer = in_slots(Dropout(0.5, axes=axes), torch.arange(S, dtype=torch.int32) * 7919)
    channels = layer(torch.ones(S * B, C, *[3] * axes)).view(S, B * C, -1)
    assert bool((channels == channels[..., :1]).all())
    shares = (channels[..., 0] == 0).float().mean(dim=1)
    torch.testing.assert_close(shares, torch.tensor(RATES), rtol=0, atol=0.2)


def test_layer_used_twice_in_a_pass_drops_other_places() -> None:
    layer = in_slots(Dropout(0.5), torch.arange(S, dtype=torch.int32) * 7919)
    first, second = (layer(torch.ones(S, 31, 37))[1] for _ in range(2))
    assert layer.masks is not None
    layer.masks.begin(0)
    assert torch.equal(layer(torch.ones(S, 31, 37))[1], first)
    # Both kept: a quarter of the 1147 places, 4 standard deviations.
    both = ((first > 0) & (second > 0)).float().mean()
    assert abs(float(both) - 0.25) < 4 * (0.25 * 0.75 / first.numel()) ** 0.5


def test_nothing_is_dropped_in_evaluation() -> None:
    x = torch.ones(7, 11)
    assert Dropout(0.9).eval()(x) is x


def test_dropout_that_stands_in_a_model_twice_stays_one_layer() -> None:
    dropout = nn.Dropout(0.25)
    model = nn.ModuleDict({"first": dropout, "second": dropout, "third": nn.Dropout2d(0.25)})
    ours = with_own_dropout(model)
    assert type(ours["first"]) is Dropout
    assert ours["first"] is ours["second"]
    assert ours["third"].salt != ours["first"].salt
    assert [ours[name].axes for name in ("first", "third")] == [0, 2]


@pytest.mark.parametrize(
    ("layer", "num_rates"),
    [
        (nn.Dropout(0.0), 1),
        (nn.AlphaDropout(0.5), 1),
        (nn.MultiheadAttention(4, 2, dropout=0.1), 1),
        (nn.MultiheadAttention(4, 2), 0),  # without dropout by the person's own choice
        (nn.LSTM(3, 3, num_layers=2, dropout=0.1), 1),
        (nn.GRU(3, 3), 0),
        (nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1), 4),
        (nn.Linear(3, 3), 0),
    ],
)
def test_rates_of_a_model_are_found(layer: nn.Module, num_rates: int) -> None:
    assert len(find_rates(nn.Sequential(layer))) == num_rates
