"""A chain of layers without autograd, the masks it draws, and the gradient of the loss.

Shapes: S slots, B batch, F features, H hidden units, C classes, each axis its own prime.
"""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from objectives.layers import stacked
from objectives.layers.chain import Chain
from objectives.layers.dropout import Dropout
from objectives.layers.masks import Masks
from objectives.layers.random import dropout_factors, dropout_numbers
from objectives.optimizers import losses
from search_spaces.hparams import Hparams
from tests.rounding import assert_same_sums

pytestmark = pytest.mark.usefixtures("one_thread")

S, B, F, H, C, T = 3, 5, 17, 19, 7, 41
#: Terms that are summed on the way to an entry, forward and back, of all layers.
NUM_TERMS = 2 * (F + 3 * H) + B + C


def build(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(F, H), *middle, nn.Linear(H, C, bias=False))


def watched() -> nn.Module:
    layer = nn.ReLU()
    layer.register_forward_hook(lambda *_: None)
    return layer


def shared() -> nn.Sequential:
    layer = nn.Linear(H, H)
    return build(layer, nn.Tanh(), layer)


def frozen() -> nn.Sequential:
    model = build(nn.ReLU())
    model[0].weight.requires_grad_(False)
    return model


CHAINS: dict[str, Callable[[], nn.Module]] = {
    "relu and dropout": lambda: build(nn.ReLU(), nn.Dropout(0.5)),
    "tanh and dropout": lambda: build(nn.Tanh(), nn.Dropout(0.5), nn.Linear(H, H)),
    "twice": lambda: build(nn.ReLU(inplace=True), nn.ReLU(), nn.Tanh(), nn.ReLU(), nn.Tanh()),
    "nested": lambda: build(nn.Identity(), nn.Sequential(nn.Linear(H, 2), nn.Linear(2, H))),
    "one layer twice": lambda: build(layer := nn.ReLU(), nn.Linear(H, H), layer),
    "one dropout twice": lambda: build(layer := nn.Dropout(0.5), nn.Linear(H, H), layer),
    "batch norm": lambda: build(nn.BatchNorm1d(H), nn.ReLU(), nn.Dropout(0.5), nn.Linear(H, H)),
    "layer norm": lambda: build(nn.LayerNorm(H), nn.GELU(), nn.Linear(H, H), nn.SiLU()),
    "two dropouts": lambda: build(nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.5)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chain_equals_the_modules_one_by_one(name: str) -> None:
    model = stacked.batchable(CHAINS[name]())
    trained = [name for name, _ in model.named_parameters()]
    chain = Chain.find(model, trained)
    assert chain is not None
    draw = torch.Generator().manual_seed(1)
    rows = {n: torch.randn(S, *p.shape, generator=draw) / 3 for n, p in model.named_parameters()}
    rates = [0.0, 0.3, 0.9]
    numbers = [torch.stack(each) for each in zip(*map(dropout_numbers, rates), strict=True)]
    rows |= {n: b.unsqueeze(0).repeat(S, *[1] * b.dim()).clone() for n, b in model.named_buffers()}
    for part, module in model.named_modules():
        if isinstance(module, Dropout):
            rows |= dict(zip((f"{part}.last_dropped", f"{part}.scale"), numbers, strict=True))
    keys_TS = torch.randint(2**31, (T, S), generator=draw).to(torch.int32)
    masks = Masks(keys_TS)
    x = torch.randn(B, F, generator=draw)
    cotangent = torch.randn(S, B, C, generator=draw)
    before = {n: tensor.clone() for n, tensor in rows.items()}
    masks.begin(13)
    logits_SBC, tape = chain.run(rows, (x,), masks)
    found = chain.gradients(rows, tape, cotangent)
    assert set(found) == set(trained)
    for slot in range(S):
        alone = {n: tensor[slot].clone() for n, tensor in before.items()}
        leaves = {n: alone[n].requires_grad_() for n in trained}
        own_masks = Masks(keys_TS[:, slot : slot + 1].contiguous())
        own_masks.begin(13)
        for module in model.modules():
            if isinstance(module, Dropout):
                module.masks = own_masks
        logits = torch.func.functional_call(model, alone, (x,))
        assert_same_sums(logits_SBC[slot], logits, NUM_TERMS)
        expected = torch.autograd.grad(logits, list(leaves.values()), cotangent[slot])
        whole = max(float(grad.abs().max()) for grad in expected)
        for n, grad in zip(leaves, expected, strict=True):
            # A bias before a batch norm has no gradient but the others' roundings.
            assert_same_sums(found[n][slot], grad, NUM_TERMS, at_least=whole)
        for n, _ in model.named_buffers():
            assert_same_sums(rows[n][slot].float(), alone[n].float(), NUM_TERMS)
        evaluated = torch.func.functional_call(model.eval(), alone, (x,))
        model.train()
        assert_same_sums(chain.run(rows, (x,), None)[0][slot], evaluated, NUM_TERMS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: build(nn.Softplus()),
        lambda: build(nn.BatchNorm1d(H, affine=False)),
        lambda: build(nn.LayerNorm(H, bias=False)),
        lambda: build(watched()),
        lambda: nn.Sequential(nn.ReLU(), nn.Linear(F, C)),
        lambda: nn.Sequential(nn.Tanh()),
        lambda: build(nn.Linear(H, H, dtype=torch.float64)),
        shared,
        frozen,
        nn.Sequential,
    ],
)
def test_model_that_is_no_chain_is_left_to_autograd(make: Callable[[], nn.Module]) -> None:
    model = stacked.batchable(make())
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert Chain.find(model, trained) is None


def test_masks_drawn_together_are_those_of_each_step() -> None:
    keys_TS = torch.arange(T * S, dtype=torch.int32).view(T, S) * 7919
    last, scale = (torch.stack([each] * S).unsqueeze(1) for each in dropout_numbers(0.5))
    masks = Masks(keys_TS)
    counts = [11] * 9 + [13, 11] + [11] * (T - 11)  # one batch is of another length
    for step, count in enumerate(counts):
        for again in range(2):  # a second pass of a step draws the same
            masks.begin(step if again else torch.tensor([step]))
            for call in range(2):
                salt = 2 + (call << 16)
                expected = dropout_factors(keys_TS[step].unsqueeze(1), last, scale, count, salt)
                assert torch.equal(masks.factors(2, last, scale, count), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_gradient_of_the_loss_is_autograd_s_to_the_bit(smoothing: float) -> None:
    draw = torch.Generator().manual_seed(3)
    logits_SBC = torch.randn(S, B, C, generator=draw)
    targets = torch.randint(C, (B,), generator=draw)
    balanced = torch.rand(C, generator=draw)
    plain = losses.criterion([Hparams()] * S, balanced)
    found, gradient = plain.with_gradient(logits_SBC, targets)
    leaf = logits_SBC.clone().requires_grad_()
    # Beside trials that weigh and smooth, the first one takes the other way.
    beside = [Hparams(), Hparams(class_weights="balanced"), Hparams(label_smoothing=smoothing)]
    mixed, mixed_gradient = losses.criterion(beside, balanced).with_gradient(logits_SBC, targets)
    expected = torch.stack([nn.functional.cross_entropy(each, targets) for each in leaf])
    (grad,) = torch.autograd.grad(expected.sum(), leaf)
    assert_same_sums(found, expected.detach(), B * C)
    assert_same_sums(gradient, grad, C)
    assert torch.equal(mixed[0], found[0])
    assert torch.equal(mixed_gradient[0], gradient[0])
