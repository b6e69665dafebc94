"""Shapes: S slots, B batch, F features, H hidden units, C classes, each axis its own prime."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch.nn import functional

from objectives.optimizers import updates
from search_spaces.hparams import RATED, Hparams
from tests.rounding import UPDATE_TERMS, Rounding, assert_same_sums, compare_runs

pytestmark = pytest.mark.usefixtures("one_thread")

B, F, H, C = 5, 7, 11, 2
NUM_STEPS = 200
CURVE_STEPS = 97

# Rows differ in every hyperparameter that their optimizer has.
HPARAMS = {
    "adam": [
        Hparams(optimizer="adam", learning_rate=0.001),
        Hparams(optimizer="adam", learning_rate=0.03, beta1=0.5, beta2=0.9),
        Hparams(optimizer="adam", learning_rate=0.01, beta1=0.0, beta2=0.9999),
    ],
    "adamw": [
        Hparams(optimizer="adamw", learning_rate=0.001),
        Hparams(optimizer="adamw", learning_rate=0.03, beta1=0.5, beta2=0.9),
        Hparams(optimizer="adamw", learning_rate=0.01, beta1=0.0, beta2=0.9999),
    ],
    "adamax": [
        Hparams(optimizer="adamax", learning_rate=0.002),
        Hparams(optimizer="adamax", learning_rate=0.03, beta1=0.5, beta2=0.9),
        Hparams(optimizer="adamax", learning_rate=0.01, beta1=0.0, beta2=0.99),
    ],
    "nadam": [
        Hparams(optimizer="nadam", learning_rate=0.002),
        Hparams(optimizer="nadam", learning_rate=0.03, beta1=0.5, beta2=0.9),
        # The product of mu falls slowest, and the bias of the first moment with it.
        Hparams(optimizer="nadam", learning_rate=0.01, beta1=0.9999, beta2=0.99),
    ],
    "rmsprop": [
        Hparams(optimizer="rmsprop", learning_rate=1e-4),
        Hparams(optimizer="rmsprop", learning_rate=0.02),
        Hparams(optimizer="rmsprop", learning_rate=0.003, momentum=0.9),
    ],
    "adagrad": [Hparams(optimizer="adagrad", learning_rate=rate) for rate in (0.01, 0.3, 0.05)],
    "adadelta": [
        Hparams(optimizer="adadelta", learning_rate=1.0),
        Hparams(optimizer="adadelta", learning_rate=0.1, rho=0.5),
        Hparams(optimizer="adadelta", learning_rate=3.0, rho=0.97),
    ],
    "sgd": [
        Hparams(optimizer="sgd", learning_rate=0.1),
        Hparams(optimizer="sgd", learning_rate=0.02, momentum=0.9),
        Hparams(optimizer="sgd", learning_rate=0.3, momentum=0.37),
    ],
}
# The same and what may be added: weight decay to each, Nesterov's look ahead to sgd. No larger
# decay: at 0.03 adamax magnifies rounding, and PyTorch's in float32 leaves its own in float64 by
# 9.3e-6 of the loss (at 0.01 by 3.2e-7).
ADDED = {
    name: [
        hparams[0],
        hparams[1].model_copy(update={"weight_decay": 0.01} | ahead),
        hparams[2].model_copy(update={"weight_decay": 0.001}),
    ]
    for name, hparams in HPARAMS.items()
    for ahead in [{"nesterov": True} if name == "sgd" else {}]
}
CASES = [(name, table[name]) for table in (HPARAMS, ADDED) for name in RATED]
CASE_IDS = [f"{name}{suffix}" for suffix in ("", "-decayed") for name in RATED]


def torch_optimizer(params: list[torch.Tensor], hparams: Hparams) -> torch.optim.Optimizer:
    # The single-tensor path: what a plain loop on a CPU runs.
    shared = {
        "lr": hparams.learning_rate, "weight_decay": hparams.weight_decay, "foreach": False,
    }  # fmt: skip
    adam = {"betas": hparams.betas} | shared
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "adam": lambda: torch.optim.Adam(params, **adam),
        "adamw": lambda: torch.optim.AdamW(params, **adam),
        "adamax": lambda: torch.optim.Adamax(params, **adam),
        "nadam": lambda: torch.optim.NAdam(params, **adam),
        "rmsprop": lambda: torch.optim.RMSprop(params, momentum=hparams.momentum, **shared),
        "adagrad": lambda: torch.optim.Adagrad(params, **shared),
        "adadelta": lambda: torch.optim.Adadelta(params, rho=hparams.rho, **shared),
        "sgd": lambda: torch.optim.SGD(
            params, momentum=hparams.momentum, nesterov=hparams.nesterov, **shared
        ),
    }
    return makers[hparams.optimizer]()


@dataclass
class Rows:
    """The parameters of S trials and the memory of their optimizer."""

    params: list[torch.Tensor]
    first: list[torch.Tensor]
    second: list[torch.Tensor]
    hparams: list[Hparams]
    steps: int = 0

    @classmethod
    def start(cls, params: list[torch.Tensor], hparams: list[Hparams]) -> "Rows":
        zeros = [[torch.zeros_like(p) for p in params] for _ in range(2)]
        return cls([p.clone() for p in params], *zeros, hparams)

    def step(self, grads: list[torch.Tensor]) -> None:
        self.steps += 1
        tensors = [
            # The scratch holds NaN: no result may depend on its contents.
            updates.Tensors(p, grad, first, second, torch.full_like(p, torch.nan))
            for p, grad, first, second in zip(
                self.params, grads, self.first, self.second, strict=True
            )
        ]
        take_step(tensors, self.hparams, [self.steps] * len(self.hparams))


def take_step(tensors: list[updates.Tensors], hparams: list[Hparams], steps: list[int]) -> None:
    rates = [one.learning_rate for one in hparams]
    # As late in its epoch as the youngest trial can be.
    index = min(steps) - 1
    before = [step - 1 - index for step in steps]
    family = updates.Family(
        hparams, rates, before, num_steps=index + 2, device=tensors[0].param.device
    )
    updates.step(family, index, tensors)


def draw(
    generator: torch.Generator, slots: int, dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    """Tensors of three ranks: a matrix, a vector and a single number a slot."""
    shapes = ((F, H), (H,), ())
    return [torch.randn(slots, *shape, generator=generator, dtype=dtype) for shape in shapes]


def mlp_loss(
    params: list[torch.Tensor], x_BF: torch.Tensor, targets_B: torch.Tensor
) -> torch.Tensor:
    hidden, hidden_bias, head, head_bias = params
    return functional.cross_entropy(
        torch.tanh(x_BF @ hidden + hidden_bias) @ head + head_bias, targets_B
    )


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """In float64 mistakes show that the roundings of float32 would hide."""
    before = torch.get_default_dtype()
    # nadam of PyTorch keeps one of its numbers in the default type.
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


@pytest.mark.parametrize(("optimizer", "hparams"), CASES, ids=CASE_IDS)
def test_rows_equal_torch_optim_on_the_same_gradients(
    optimizer: str, hparams: list[Hparams], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(2)
    start = draw(generator, len(hparams), dtype)
    rows = Rows.start(start, hparams)
    alone = [[p[s].clone().requires_grad_() for p in start] for s in range(len(hparams))]
    references = [torch_optimizer(*pair) for pair in zip(alone, hparams, strict=True)]
    for _ in range(NUM_STEPS):
        grads = draw(generator, len(hparams), dtype)
        rows.step(grads)
        for slot, (params, reference) in enumerate(zip(alone, references, strict=True)):
            for param, grad in zip(params, grads, strict=True):
                param.grad = grad[slot].clone()
            reference.step()
    for slot, params in enumerate(alone):
        for ours, theirs in zip(rows.params, params, strict=True):
            assert_same_sums(ours[slot], theirs.detach(), NUM_STEPS * UPDATE_TERMS)


def plain_curve(
    start: list[torch.Tensor],
    batches: list[tuple[torch.Tensor, torch.Tensor]],
    hparams: Hparams,
    rounding: Rounding,
) -> list[list[float]]:
    params = [tensor.double().requires_grad_() for tensor in start]
    reference = torch_optimizer(params, hparams)
    curve = []
    for _, (x_BF, targets_B) in zip(range(CURVE_STEPS), itertools.cycle(batches), strict=False):
        reference.zero_grad()
        loss = mlp_loss(params, x_BF.double(), targets_B)
        loss.backward()
        rounding.gradients(params)
        rounding.step(reference)
        curve.append([loss.item()])
    return curve


@pytest.mark.parametrize(("optimizer", "hparams"), CASES, ids=CASE_IDS)
def test_loss_curves_equal_those_of_torch_optim(optimizer: str, hparams: list[Hparams]) -> None:
    generator = torch.Generator().manual_seed(3)
    shapes = ((F, H), (H,), (H, C), (C,))
    start = [0.3 * torch.randn(len(hparams), *shape, generator=generator) for shape in shapes]
    batches = [
        (
            torch.randn(B, F, generator=generator),
            torch.randint(C, (B,), generator=generator),
        )
        for _ in range(23)
    ]
    rows = Rows.start(start, hparams)
    curves_TS = []
    for _, batch in zip(range(CURVE_STEPS), itertools.cycle(batches), strict=False):
        leaves = [p.detach().requires_grad_() for p in rows.params]
        losses = [mlp_loss([p[s] for p in leaves], *batch) for s in range(len(hparams))]
        rows.step(list(torch.autograd.grad(torch.stack(losses).sum(), leaves)))
        curves_TS.append(torch.stack(losses).tolist())
    for slot, hparams_of_slot in enumerate(hparams):
        plain = partial(plain_curve, [p[slot] for p in start], batches, hparams_of_slot)
        compare_runs([[losses_S[slot]] for losses_S in curves_TS], plain, 2 * (F + H + C) + B)


@pytest.mark.parametrize("healthy", [case for _, case in CASES], ids=CASE_IDS)
def test_row_with_nan_leaves_the_others_unchanged(healthy: list[Hparams]) -> None:
    # model_construct skips the validation, which refuses NaN.
    broken = Hparams.model_construct(**{**dict(healthy[0]), "learning_rate": float("nan")})
    curves = []
    for neighbour, neighbour_grad in ((healthy[0], 1.0), (broken, float("inf"))):
        generator = torch.Generator().manual_seed(5)
        rows = Rows.start(draw(generator, 3), [healthy[1], neighbour, healthy[2]])
        for _ in range(NUM_STEPS):
            grads = draw(generator, 3)
            for grad in grads:
                grad[1] *= neighbour_grad
            rows.step(grads)
        curves.append(rows.params)
    for without, beside in zip(*curves, strict=True):
        assert beside[1].isnan().all()
        assert without[[0, 2]].isfinite().all()
        assert torch.equal(without[[0, 2]], beside[[0, 2]])


@pytest.mark.parametrize("optimizer", RATED)
def test_weights_without_gradient_stay_finite_and_equal_to_torch_optim(optimizer: str) -> None:
    # Word vectors of rare words: one gradient, then thousands of zeros, until every moment is 0
    # or the smallest number there is; one column never has a gradient at all.
    generator = torch.Generator().manual_seed(7)
    hparams = HPARAMS[optimizer]
    start = [torch.randn(len(hparams), F, H, generator=generator)]
    rows = Rows.start(start, hparams)
    # The slot whose moments decay fastest.
    alone = start[0][1].clone().requires_grad_()
    reference = torch_optimizer([alone], hparams[1])
    grad = torch.randn(len(hparams), F, H, generator=generator)
    grad[:, :, -1] = 0.0
    for _ in range(5000):
        rows.step([grad])
        alone.grad = grad[1]
        reference.step()
        # Half of the rows of each table go on having a gradient.
        grad = torch.cat([grad[:, :3], torch.zeros_like(grad[:, 3:])], dim=1)
    # Adagrad's sum never decays.
    assert optimizer == "adagrad" or rows.second[0][1, 3:].max() <= 1e-8
    assert rows.params[0].isfinite().all()
    assert torch.equal(rows.params[0][:, :, -1], start[0][:, :, -1])
    # A gradient that never changes moves a weight by hundreds, so these are held apart.
    for half in (slice(3), slice(3, None)):
        ours, theirs = rows.params[0][1][half], alone.detach()[half]
        assert_same_sums(ours, theirs, 5000 * UPDATE_TERMS)


@pytest.mark.parametrize(("optimizer", "hparams"), CASES, ids=CASE_IDS)
def test_rows_of_different_age_have_their_own_bias_correction(
    optimizer: str, hparams: list[Hparams]
) -> None:
    generator = torch.Generator().manual_seed(11)
    ages = [1, 13, 4]
    start = draw(generator, len(hparams))
    grads = [draw(generator, len(hparams)) for _ in range(max(ages))]
    rows = Rows.start(start, hparams)
    for slot, age in enumerate(ages):
        lone = Rows.start([p[slot : slot + 1] for p in start], [hparams[slot]])
        for step in range(age - 1):
            lone.step([grad[slot : slot + 1] for grad in grads[step]])
        for mine, theirs in (
            (rows.params, lone.params),
            (rows.first, lone.first),
            (rows.second, lone.second),
        ):
            for all_rows, row in zip(mine, theirs, strict=True):
                all_rows[slot] = row[0]
    last = [torch.stack([grads[age - 1][i][s] for s, age in enumerate(ages)]) for i in range(3)]
    tensors = [
        updates.Tensors(p, grad, first, second, torch.empty_like(p))
        for p, grad, first, second in zip(rows.params, last, rows.first, rows.second, strict=True)
    ]
    take_step(tensors, hparams, ages)
    for slot, (age, hparams_of_slot) in enumerate(zip(ages, hparams, strict=True)):
        params = [p[slot].clone().requires_grad_() for p in start]
        reference = torch_optimizer(params, hparams_of_slot)
        for step in range(age):
            for param, grad in zip(params, grads[step], strict=True):
                param.grad = grad[slot].clone()
            reference.step()
        for ours, theirs in zip(rows.params, params, strict=True):
            assert_same_sums(ours[slot], theirs.detach(), age * UPDATE_TERMS)


@pytest.mark.parametrize("optimizer", RATED)
def test_plain_row_is_bit_equal_beside_rows_that_use_more(optimizer: str) -> None:
    plain, decayed, other = ADDED[optimizer]
    generator = torch.Generator().manual_seed(13)
    start = draw(generator, 3)
    rows = Rows.start(start, [decayed, plain, other])
    lone = Rows.start([p[1:2] for p in start], [plain])
    for _ in range(NUM_STEPS):
        grads = draw(generator, 3)
        rows.step(grads)
        lone.step([grad[1:2] for grad in grads])
    for ours, theirs in zip(rows.params, lone.params, strict=True):
        assert torch.equal(ours[1], theirs[0])


def test_nesterov_without_momentum_is_plain_gradient_descent() -> None:
    generator = torch.Generator().manual_seed(17)
    start, grads = draw(generator, 1), draw(generator, 1)
    steps = []
    for ahead in (False, True):
        rows = Rows.start(start, [Hparams(optimizer="sgd", learning_rate=0.1, nesterov=ahead)])
        rows.step(grads)
        rows.step(grads)
        steps.append(rows.params)
    assert all(torch.equal(*pair) for pair in zip(*steps, strict=True))


def test_clipped_gradients_equal_clip_grad_norm() -> None:
    generator = torch.Generator().manual_seed(19)
    grads = draw(generator, 7)
    # Below its bound, above it, without one, without one and infinite, infinite, NaN, zero.
    bounds = torch.tensor([1e3, 0.7, torch.nan, torch.nan, 0.5, 0.5, 0.5])
    grads[1][3, 2] = grads[1][4, 2] = torch.inf
    grads[1][5, 2] = torch.nan
    for grad in grads:
        grad[6] = 0.0
    norms_S = torch.stack([grad.view(7, -1).square().sum(1) for grad in grads]).sum(0).sqrt()
    clipped = updates.clip(grads, norms_S, bounds)
    for slot, bound in enumerate(bounds.tolist()):
        params = [torch.zeros_like(grad[slot]).requires_grad_() for grad in grads]
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad[slot].clone()
        if not math.isnan(bound):
            torch.nn.utils.clip_grad_norm_(params, bound)
        for ours, param in zip(clipped, params, strict=True):
            assert param.grad is not None
            assert_same_sums(ours[slot], param.grad, F * H + H + 1)
        row = slice(slot, slot + 1)
        alone = updates.clip([grad[row] for grad in grads], norms_S[row], bounds[row])
        for ours, lone in zip(clipped, alone, strict=True):
            torch.testing.assert_close(ours[slot], lone[0], rtol=0, atol=0, equal_nan=True)
