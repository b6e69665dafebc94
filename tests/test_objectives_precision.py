"""Matrix products in bfloat16: what is rounded, what is not, and who is refused.

Shapes: S slots, B batch, L steps, I inputs, O outputs, H hidden units, each axis its own prime.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

import sweeps
from objectives import precision
from objectives.api import Data, Split, find_fusion_key
from objectives.lanes import preflight
from objectives.lanes.trainer import ModelTrainer
from objectives.layers import fusion, random, stacked
from objectives.layers.convolution import largest_response
from objectives.layers.recurrent import Recurrent
from objectives.own import ObjectiveError
from search_spaces.hparams import Hparams
from storage import queries
from sweeps.config.changes import describe_changes
from sweeps.config.errors import ConfigError
from tests.rounding import LIKELY, assert_same_sums, walk

S, B, L, I, O, H = 3, 23, 5, 31, 17, 13  # noqa: E741 - the shapes' names
BATCH_SIZE = 20
#: bfloat16 keeps 8 bits: half a unit in the last place.
HALF_BIT = 2.0**-8

pytestmark = pytest.mark.usefixtures("one_thread")


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    """The nearest bfloat16 numbers, in float64, whose sums are exact enough to compare with."""
    return tensor.detach().bfloat16().double()


def assert_rounded_product(
    value: torch.Tensor, left: torch.Tensor, right: torch.Tensor, added: float | torch.Tensor = 0.0
) -> None:
    """It is the product of rounded operands, itself rounded at most once more."""
    exact = rounded(left) @ rounded(right)
    assert value.dtype == torch.float32
    # Twice: the rounding of a sum that lies beside a power of two.
    bound = 2 * HALF_BIT * exact.abs() + LIKELY * walk(left.shape[-1]) * exact.abs().max()
    assert bool(((value.double() - added - exact).abs() <= bound).all())
    in_float32 = left.detach().double() @ right.detach().double()
    assert float((exact - in_float32).abs().max()) > 1e-3  # else the test says nothing


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("way", ["stacked", "vmap", "plain"])
def test_linear_takes_rounded_operands_forward_and_backward(way: str, is_shared: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    layer = stacked.batchable(nn.Linear(I, O))
    weight = torch.randn(S, O, I, generator=generator).requires_grad_()
    bias = torch.randn(S, O, generator=generator).requires_grad_()
    x = torch.randn(*(() if is_shared else (S,)), B, I, generator=generator)
    x.requires_grad_(not is_shared)
    cotangent = torch.randn(S, B, O, generator=generator)

    def call(weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = functional_call(layer, {"weight": weight, "bias": bias}, (x,))
        return result

    with precision.products("bf16", "cpu"):
        if way == "stacked":
            outputs = call(weight, bias, x)
        elif way == "vmap":
            outputs = vmap(call, in_dims=(0, 0, None if is_shared else 0))(weight, bias, x)
        else:
            rows = [x if is_shared else x[s] for s in range(S)]
            # Here the bias is rounded too, as in ``nn.Linear`` under autocast.
            outputs = torch.stack([call(weight[s], 0 * bias[s], rows[s]) for s in range(S)])
            outputs = outputs + bias.unsqueeze(1)
    leaves = [weight, bias] if is_shared else [weight, bias, x]
    grads = torch.autograd.grad((outputs * cotangent).sum(), leaves)
    for s in range(S):
        one = x if is_shared else x[s]
        assert_rounded_product(outputs[s], one, weight[s].mT, bias[s].detach().double())
        assert_rounded_product(grads[0][s], cotangent[s].mT, one)
        if not is_shared:
            assert_rounded_product(grads[2][s], cotangent[s], weight[s])
    assert_same_sums(grads[1], cotangent.sum(1), B)


def test_convolution_takes_rounded_operands() -> None:
    generator = torch.Generator().manual_seed(2)
    first = torch.randn(B, L, I, generator=generator)
    second = torch.randn(S, B, L, H, generator=generator)
    weights = [torch.randn(S, O, k, generator=generator).requires_grad_() for k in (I, H)]
    lengths = torch.arange(B) % L + 1
    cotangent = torch.randn(S, B, O, generator=generator)

    def respond() -> tuple[torch.Tensor, ...]:
        largest = largest_response(first, weights[0], second, weights[1], lengths)
        return largest, *torch.autograd.grad((largest * cotangent).sum(), weights)

    with precision.products("bf16", "cpu"):
        coarse = respond()
    fine = respond()
    real = torch.arange(L) < lengths[:, None]
    for s in range(S):
        response = rounded(first) @ rounded(weights[0][s]).mT
        response = response + rounded(second[s]) @ rounded(weights[1][s]).mT
        largest = response.masked_fill(~real.unsqueeze(-1), -torch.inf).amax(1)
        # Two products, each rounded, of up to 30: a bit of that.
        torch.testing.assert_close(coarse[0][s].double(), largest, rtol=0.02, atol=0.15)
    for value, reference in zip(coarse, fine, strict=True):
        assert value.dtype == torch.float32
        assert not torch.equal(value, reference)
    # Of two steps that differ by less than a bit the other one may be chosen, so not each number.
    for value, reference in zip(coarse[1:], fine[1:], strict=True):
        assert float((value - reference).norm() / reference.norm()) < 0.15


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("is_alone", [True, False])
def test_recurrent_layer_is_near_that_of_pytorch_under_autocast(cell: Any, is_alone: bool) -> None:
    torch.manual_seed(3)
    plain = Recurrent(I, H, cell=cell)
    reference = {"gru": nn.GRU, "lstm": nn.LSTM}[cell](I, H, batch_first=True)
    names = {
        "input.weight": "weight_ih_l0",
        "input.bias": "bias_ih_l0",
        "weight": "weight_hh_l0",
        "bias": "bias_hh_l0",
    }
    own = dict(plain.named_parameters())
    for name, theirs in names.items():
        getattr(reference, theirs).data.copy_(own[name].data)
    steps = torch.randn(B, L, I)
    lengths = torch.full((B,), L)
    model = stacked.batchable(plain)
    stack = {n: p.detach().expand(S, *p.shape).clone().requires_grad_() for n, p in own.items()}
    with precision.products("bf16", "cpu"):
        if is_alone:
            leaves = dict(model.named_parameters())
            states = model(steps, lengths)
        else:
            leaves = stack
            states = vmap(lambda rows: functional_call(model, rows, (steps, lengths)))(leaves)[1]
    grads = torch.autograd.grad(states.square().sum(), [leaves[name] for name in names])
    expected = reference(steps)[0][:, -1]
    parameters = [getattr(reference, name) for name in names.values()]
    exact_grads = torch.autograd.grad(expected.square().sum(), parameters)
    assert states.dtype == torch.float32
    assert not torch.allclose(states, expected, atol=1e-5)
    torch.testing.assert_close(states, expected, rtol=0, atol=0.02)
    for grad, exact in zip(grads, exact_grads, strict=True):
        grad = grad if is_alone else grad[1]
        assert float((grad - exact).norm() / exact.norm()) < 0.03


class Mlp:
    """Three classes by 31 numbers; ``kind`` is how the first layer multiplies."""

    name = "mlp"

    def load(self, source: Path | None) -> Data:
        rng = np.random.default_rng(5)
        teacher = rng.normal(size=(I, 3))

        def split(num_examples: int) -> Split:
            features = rng.normal(size=(num_examples, I)).astype(np.float32)
            return Split(inputs=(features,), targets=(features @ teacher).argmax(axis=1))

        return Data(split(203), split(97), split(11), class_names=("a", "b", "c"))

    def build_model(self, data: Data, *, kind: str = "linear", **model: Any) -> nn.Module:
        if kind == "matmul":
            return nn.Sequential(Weights(), nn.ReLU(), nn.Linear(O, 3))
        if kind == "conv":
            return nn.Sequential(nn.Unflatten(-1, (1, I)), nn.Conv1d(1, 2, 3), nn.Flatten(),
                                 nn.ReLU(), nn.Linear(2 * (I - 2), 3))  # fmt: skip
        if kind == "typed":
            return nn.Sequential(Typed(), nn.Linear(O, 3))
        return nn.Sequential(nn.Linear(I, O), nn.ReLU(), nn.Linear(O, H), nn.Tanh(),
                             nn.Linear(H, 3))  # fmt: skip


class Weights(nn.Module):
    """A product of a user's own, in no layer that is replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(I, O) / I**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.matrix


class Typed(Weights):
    """It takes for granted that a product has the type of its operands."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(x), O).index_add_(0, torch.arange(len(x)), x @ self.matrix)


def plain_epochs(data: Data, module: nn.Module, hparams: Hparams, epochs: int) -> list[float]:
    """Train a module under autocast as anyone would; the training loss of each epoch."""
    optimizer = torch.optim.Adam(module.parameters(), lr=hparams.learning_rate)
    inputs = torch.from_numpy(data.train.inputs[0])
    targets = torch.from_numpy(data.train.targets)
    losses = []
    for epoch in range(1, epochs + 1):
        total = 0.0
        for batch in random.batch_order(
            0, epoch, num_examples=len(targets), batch_size=BATCH_SIZE
        ):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                logits = module(inputs[batch])
            loss = nn.functional.cross_entropy(logits.float(), targets[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        losses.append(total / len(targets))
    return losses


def train(
    in_precision: precision.Precision, kind: str, *, slots: tuple[int, ...], epochs: int = 5
) -> dict[int, list[Any]]:
    """Reports of each slot; its seed is 7 more than its number."""
    trainer = ModelTrainer(Mlp(), Mlp().load(None), precision=in_precision)
    hparams = Hparams(batch_size=BATCH_SIZE, learning_rate=0.01, model={"kind": kind})
    lane = trainer.open_lane(find_fusion_key(hparams), 0)
    assert lane.path == ("plain" if kind == "conv" else "stacked")
    for slot in slots:
        lane.place(slot, 7 + slot, hparams)
    reports = [{report.slot: report for report in lane.train_epoch()} for _ in range(epochs)]
    return {slot: [epoch[slot] for epoch in reports] for slot in slots}


@pytest.mark.parametrize("kind", ["linear", "matmul", "conv"])
def test_lane_trains_as_the_plain_module_under_autocast(kind: str) -> None:
    data = Mlp().load(None)
    coarse, fine = (train(each, kind, slots=(0, 1, 2)) for each in ("bf16", "float32"))
    for slot in range(3):
        torch.manual_seed(7 + slot)
        hparams = Hparams(batch_size=BATCH_SIZE, learning_rate=0.01)
        theirs = plain_epochs(data, Mlp().build_model(data, kind=kind), hparams, 5)
        ours = [report.train_loss for report in coarse[slot]]
        # Losses of 1.2 to 0.2; largest difference measured: 0.0053.
        assert ours == pytest.approx(theirs, rel=0, abs=0.02)
        in_float32 = [report.train_loss for report in fine[slot]]
        assert ours != in_float32
        assert ours[-1] < 0.75 * ours[0]
        last = coarse[slot][-1].counts.matrix
        assert last.trace() / last.sum() > 0.6  # the most frequent class is 0.41 of them


def test_trial_alone_equals_the_same_trial_in_company_in_bf16() -> None:
    everyone = train("bf16", "linear", slots=(0, 1, 2, 3, 4))
    for slot in (0, 3):
        alone = train("bf16", "linear", slots=(slot,))[slot]
        for mine, other in zip(alone, everyone[slot], strict=True):
            assert (mine.train_loss, mine.val_loss) == (other.train_loss, other.val_loss)


def test_model_is_compared_with_itself_in_float32_and_then_runs_in_bf16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[bool] = []
    difference = fusion._difference

    def spy(*arguments: Any) -> str | None:
        compared.append(precision.is_reduced("cpu"))
        return difference(*arguments)

    monkeypatch.setattr(fusion, "_difference", spy)
    train("bf16", "linear", slots=(0, 1), epochs=1)
    assert compared == [False]


def test_model_that_breaks_in_bf16_is_refused_before_anything_is_written() -> None:
    data = Mlp().load(None)
    preflight.check_model(Mlp(), data, {"kind": "typed"}, "cpu")
    with pytest.raises(ObjectiveError, match="forward of build_model"):
        preflight.check_model(Mlp(), data, {"kind": "typed"}, "cpu", "bf16")


@pytest.fixture
def _process_settings() -> Iterator[None]:
    before = [switch.fp32_precision for switch in precision._switches()]
    yield
    for switch, value in zip(precision._switches(), before, strict=True):
        switch.fp32_precision = value


@pytest.mark.usefixtures("_process_settings")
def test_tf32_is_off_unless_asked_for_and_during_a_comparison() -> None:
    def now() -> set[str]:
        return {switch.fp32_precision for switch in precision._switches()}

    for name in ("float32", "bf16"):
        precision.use("tf32")
        precision.use(name)
        assert now() == {"ieee"}
    precision.use("tf32")
    with precision.exact():
        assert now() == {"ieee"}
    assert now() == {"tf32"}


@pytest.mark.gpu
@pytest.mark.usefixtures("_process_settings")
def test_tf32_rounds_products_on_a_gpu() -> None:
    left, right = (torch.randn(257, 263, device="cuda") for _ in range(2))
    precision.use("float32")
    fine = left @ right.mT
    precision.use("tf32")
    coarse = left @ right.mT
    assert not torch.equal(fine, coarse)
    torch.testing.assert_close(fine, coarse, rtol=0.01, atol=0.1)


@pytest.mark.parametrize(
    ("name", "device", "is_refused"),
    [("tf32", "cpu", True), ("tf32", "cuda", False), ("bf16", "cpu", False)],
)
def test_tf32_is_refused_on_a_cpu_alone(name: Any, device: str, is_refused: bool) -> None:
    assert (precision.find_obstacle(name, device) is not None) == is_refused


@pytest.mark.parametrize(
    ("name", "device", "features", "is_told"),
    [
        ("bf16", "cpu", {"avx512_f": True, "avx512_bf16": False}, True),
        ("bf16", "cpu", {"avx512_bf16": True}, False),
        ("bf16", "cpu", {"amx_bf16": True}, False),
        ("bf16", "cuda:0", {}, False),
        ("float32", "cpu", {}, False),
    ],
)
def test_processor_without_bfloat16_is_told(
    monkeypatch: pytest.MonkeyPatch,
    name: Any,
    device: str,
    features: dict[str, bool],
    is_told: bool,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert (precision.find_drawback(name, device) is not None) == is_told


def test_run_refuses_tf32_without_a_gpu_before_it_writes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none.db'}"
    config = sweeps.load_config("tabular-mlp", ["device=cpu"], precision="tf32", storage=url)
    with pytest.raises(ConfigError, match=r"^precision: tf32 needs a CUDA device; take float32"):
        sweeps.run(config)
    assert not (tmp_path / "none.db").exists()


def test_misspelt_precision_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'bf16'"):
        sweeps.load_config("tabular-mlp", precision="bf61")


def test_precision_is_a_setting_of_the_study() -> None:
    fine = sweeps.load_config("tabular-mlp").stored()
    coarse = sweeps.load_config("tabular-mlp", precision="bf16").stored()
    assert describe_changes(fine, coarse) == ["precision: float32 -> bf16"]


def test_study_in_bf16_trains_and_is_not_carried_on_in_float32(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(211, I))
    labels = np.where(features[:, 0] + features[:, 1] > 0, "up", "down")
    data = tmp_path / "table.csv"
    names = [f"x{i}" for i in range(I)]
    lines = [
        ",".join([*map(str, row), label]) for row, label in zip(features, labels, strict=True)
    ]
    data.write_text("\n".join([",".join([*names, "label"]), *lines]) + "\n")
    curves = {}
    for name in ("bf16", "float32"):
        url = f"sqlite:///{tmp_path / name}.db"
        options = {"storage": url, "data": data, "trials": 1, "workers": 1}
        settings = ["device=cpu", "max_epochs=2", "patience=1"]
        config = sweeps.load_config("tabular-mlp", settings, precision=name, **options)
        assert sweeps.run(config).ending == "done"
        curves[name] = queries.curves(url, "tabular-mlp")["train_loss"].to_list()
        other = sweeps.load_config(
            "tabular-mlp", settings, **options, precision="float32" if name == "bf16" else "bf16"
        )
        with pytest.raises(ConfigError, match="precision: "):
            sweeps.run(other)
    # The same trial: what the workers were told shows in its losses, and hardly.
    assert curves["bf16"] != curves["float32"]
    assert curves["bf16"] == pytest.approx(curves["float32"], rel=0.01)
