"""Ordinary models in company: each slot is the plain module with the slot's weights.

In float64, where a wrong sum cannot hide behind a rounding. Shapes: S slots, B batch, C classes.
"""

from typing import Any

import pytest
import torch
from torch import nn

from objectives.layers import fusion
from objectives.layers.dropout import Dropout, find_rates
from objectives.layers.masks import Masks
from objectives.layers.program import Program, find_logits
from tests.ordinary import ORDINARY, B, C, Calls, F, L, Ordinary

pytestmark = pytest.mark.usefixtures("one_thread")

S = 3


def of(case: Ordinary) -> tuple[Program, tuple[torch.Tensor, ...], list[nn.Module]]:
    """The program of a model in float64, a batch, and a plain module a slot without dropout."""

    def build() -> nn.Module:
        return case.build().double()

    inputs = tuple(x.double() if x.is_floating_point() else x for x in case.inputs)
    program = fusion.program(build, inputs, C)
    modules = []
    for slot in range(S):
        torch.manual_seed(slot)
        modules.append(build())
        for layer, attribute in find_rates(modules[-1]):
            setattr(layer, attribute, 0.0)
    return program, inputs, modules


def stack(program: Program, modules: list[nn.Module]) -> dict[str, torch.Tensor]:
    """The rows of trials with these modules' weights, nothing dropped."""
    rows = {}
    for name, tensor in [*program.model.named_parameters(), *program.model.named_buffers()]:
        own = [dict([*m.named_parameters(), *m.named_buffers()]).get(name) for m in modules]
        if name not in program.shared:
            rows[name] = torch.stack([tensor if x is None else x for x in own]).detach()
    for name, layer in program.dropouts().items():
        layer.masks = Masks(torch.zeros((1, S), dtype=torch.int32))
        Dropout.fill(rows, name, 0.0)
    return rows


@pytest.fixture
def _together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Together what a CPU takes slot by slot, as on a GPU."""
    monkeypatch.setattr(fusion, "BY_SLOT_ON_CPU", ())


@pytest.mark.usefixtures("_together")
@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_model_equals_the_plain_module_in_each_slot(name: str) -> None:
    program, inputs, modules = of(ORDINARY[name])
    assert (program.form, program.note) == (ORDINARY[name].form, None)
    rows = stack(program, modules)
    leaves = {n: rows[n].requires_grad_() for n in program.trained}
    program.model.train()
    logits_SBC = program.logits(rows, inputs)
    assert logits_SBC.shape == (S, B, C)
    cotangent = torch.randn(S, B, C, generator=torch.Generator().manual_seed(2)).double()
    grads = torch.autograd.grad(
        (logits_SBC * cotangent).sum(), list(leaves.values()), materialize_grads=True
    )
    program.model.eval()
    with torch.no_grad():
        evaluated_SBC = program.logits(rows, inputs)
    for slot, module in enumerate(modules):
        logits = find_logits(module.train()(*inputs))
        assert logits is not None
        torch.testing.assert_close(logits_SBC[slot], logits)
        parameters = dict(module.named_parameters())
        expected = torch.autograd.grad(
            (logits * cotangent[slot]).sum(),
            [parameters[n] for n in leaves],
            materialize_grads=True,
        )
        for n, grad, theirs in zip(leaves, grads, expected, strict=True):
            torch.testing.assert_close(grad[slot], theirs, msg=lambda text, n=n: f"{n}: {text}")
        for n, buffer in module.named_buffers():
            torch.testing.assert_close(rows[n][slot] if n in rows else program.shared[n], buffer)
        with torch.no_grad():
            logits = find_logits(module.eval()(*inputs))
        torch.testing.assert_close(evaluated_SBC[slot], logits)


@pytest.mark.usefixtures("_together")
@pytest.mark.parametrize("name", ["CNN", "packed GRU", "encoder"])
def test_swept_dropout_reaches_each_dropout_of_a_folded_model(name: str) -> None:
    program, inputs, modules = of(ORDINARY[name])
    expected = sum(len(find_rates(ORDINARY[name].build())) for _ in range(1))
    assert len(program.dropouts()) == expected > 0
    rows = stack(program, [modules[0]] * S)
    program.model.train()
    for layer in program.dropouts().values():
        layer.masks = Masks(torch.tensor([[3, 5, 7]], dtype=torch.int32))
    nothing = program.logits(rows, inputs)
    torch.testing.assert_close(nothing[0], nothing[2])
    for one in program.dropouts():
        for key, value in zip(("last_dropped", "scale"), _numbers(0.5), strict=True):
            rows[f"{one}.{key}"][2] = value
        dropped = program.logits(rows, inputs)
        torch.testing.assert_close(dropped[:2], nothing[:2])
        assert not torch.allclose(dropped[2], nothing[2]), one
        for key, value in zip(("last_dropped", "scale"), _numbers(0.0), strict=True):
            rows[f"{one}.{key}"][2] = value


def _numbers(rate: float) -> list[torch.Tensor]:
    return [value for _, value in sorted(Dropout(rate).named_buffers())]


def branches(m: Any, x: torch.Tensor) -> torch.Tensor:
    hidden = m.first(x)
    chosen = hidden if m.first.weight.detach().sum() > -1e9 else -hidden
    logits: torch.Tensor = m.head(chosen)
    return logits


def mixes(m: Any, x: torch.Tensor) -> torch.Tensor:
    hidden = m.first(x)
    logits: torch.Tensor = m.head(hidden - hidden.mean(dim=0))
    return logits


def lengths_read(m: Any, x: torch.Tensor) -> torch.Tensor:
    most = int((x[:, :, 0] > -1e9).sum(dim=1).max())
    logits: torch.Tensor = m.head(m.first(x[:, :most]).tanh().mean(dim=1))
    return logits


class Closures(nn.Module):
    """Functions over the model itself, which a copy would still hold of the original."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(F, 13), nn.Linear(13, C)
        self.steps = [lambda x: self.first(x), torch.sigmoid, lambda x: self.head(x)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in self.steps:
            x = step(x)
        return x


def test_functions_over_the_model_itself_train_its_own_layers() -> None:
    program = fusion.program(Closures, (torch.randn(B, F),), C)
    assert program.path == "stacked"


def test_buffer_that_is_used_in_evaluation_alone_is_seen() -> None:
    def call(m: Any, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = m.layer(x)
        return logits if m.training else logits / m.temperature

    def build() -> nn.Module:
        drawn = nn.Parameter(torch.rand(1) + 1, requires_grad=False)
        return Calls(call, layer=nn.Linear(F, C), temperature=drawn)

    program = fusion.program(build, (torch.randn(B, F),), C)
    rows = stack(program, [build() for _ in range(C)])
    program.model.eval()
    x = torch.randn(1, F)
    with torch.no_grad():
        found = program.logits(rows, (x,))[:, 0]
        weight, bias = rows["layer.weight"], rows["layer.bias"]
        expected = ((weight @ x[0]) + bias) / rows["temperature"]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("call", "shape", "note"),
    [
        (branches, (F,), "its forward branches on the value of a tensor"),
        (mixes, (F,), "gives other outputs than alone"),
        (lengths_read, (L, F), None),  # what all slots share may be read
    ],
)
def test_what_would_mix_the_slots_is_run_alone(
    call: Any, shape: tuple[int, ...], note: str | None
) -> None:
    def build() -> nn.Module:
        return Calls(call, first=nn.Linear(F, 13), head=nn.Linear(13, C))

    x = torch.randn(B, *shape, generator=torch.Generator().manual_seed(3))
    program = fusion.program(build, (x,), C)
    if note is None:
        assert program.path == "stacked"
    else:
        assert program.note is not None
        assert note in program.note
