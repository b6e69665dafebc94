"""Recurrent layers, GRU and LSTM, that train all slots in one loop over the steps.

The loop stands in one function of stacked tensors, forward and backward: a step is one batched
product and a few elementwise operations, and the weights' gradient is one product over all steps
at the end.

Of 32 units on 32 x 20 steps (one AMD EPYC core, ms a trial-step, with 1, 4 and 16 slots): a GRU
2.1, 1.0 and 1.1, ``nn.GRU`` 2.0; an LSTM 1.9, 1.1 and 1.3, ``nn.LSTM`` 0.5.
Shapes: S slots, B batch, L steps, H hidden units, G gates of a cell (3 of a GRU, 4 of an LSTM).
"""

import math
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn import functional

from objectives.layers import stacked
from objectives.layers.stacked import affine_of_slots

CellName = Literal["gru", "lstm"]
#: Gates in the order of ``nn.GRU`` (reset, update, new) and ``nn.LSTM`` (input, forget, cell,
#: output), by whether they are sigmoids; the others are hyperbolic tangents.
GATES: dict[str, tuple[bool, ...]] = {
    "gru": (True, True, False),
    "lstm": (True, True, False, True),
}


class Recurrent(nn.Module):
    """One recurrent layer: the state of a GRU or LSTM after each example's last real step.

    ``input`` is what ``nn.GRU`` calls ``weight_ih_l0`` and ``bias_ih_l0``; ``weight`` and ``bias``
    are ``weight_hh_l0`` and ``bias_hh_l0``.

    Args:
        num_features: Features of a step, F.
        hidden: Hidden units, H.
        cell: "gru" or "lstm".
    """

    def __init__(self, num_features: int, hidden: int, *, cell: CellName) -> None:
        super().__init__()
        self.cell = cell
        width = len(GATES[cell]) * hidden
        self.input = nn.Linear(num_features, width)
        self.weight = nn.Parameter(torch.empty(width, hidden))
        self.bias = nn.Parameter(torch.empty(width))
        bound = 1 / math.sqrt(hidden)
        # PyTorch's own: every tensor of a recurrent layer by its hidden width.
        for tensor in (self.input.weight, self.input.bias, self.weight, self.bias):
            nn.init.uniform_(tensor, -bound, bound)

    def forward(self, steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return states, (B, H), for steps of (B, L, F) and lengths of (B,), each in [1, L].

        A state depends on what comes before it alone, so steps beyond a length change nothing.
        With stacked weights the states are (S, B, H), for steps that all slots share.
        """
        weights = (self.input.weight, self.weight, self.input.bias, self.bias)
        if self.weight.dim() == 2:
            return self._run(steps, [each.unsqueeze(0) for each in weights], lengths).squeeze(0)
        return self._run(steps, list(weights), lengths)

    def _run(
        self, steps: torch.Tensor, weights: list[torch.Tensor], lengths: torch.Tensor
    ) -> torch.Tensor:
        input_weight, weight, input_bias, bias = weights
        if self.cell == "lstm" and steps.device.type == "cpu":
            # oneDNN's, one slot after another: at 16 slots 0.4 of the time of the loop below.
            zeros = [steps.new_zeros(1, len(steps), self.weight.shape[-1])] * 2
            states_SLB = [
                torch.lstm(steps, zeros, list(own), True, 1, 0.0, self.training, False, True)[
                    0
                ].transpose(0, 1)
                for own in zip(*weights, strict=True)
            ]
            return torch.stack([last_steps(states, lengths) for states in states_SLB])
        slots = weight.shape[0]
        rows = steps.flatten(0, 1).expand(slots, -1, -1)
        projected = affine_of_slots(rows, input_weight, input_bias)
        projected = projected.view(slots, *steps.shape[:2], -1)
        states_L = run_cell(self.cell, projected, weight, bias)[0]
        last = last_steps(states_L.flatten(1, 2), lengths.repeat(slots))
        return last.view(slots, steps.shape[0], -1)


def run_cell(
    cell: CellName, projected: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Return all states, (L, S, B, H); of an LSTM its cells too.

    Args:
        cell: Which.
        projected: The inputs' part of the gates, (S, B, L, G * H).
        weight: The states' part, (S, G * H, H).
        bias: Of the states' part, (S, G * H).
    """
    num_examples = projected.shape[1]
    # Narrow products go to kernels whose sums depend on where in memory a slot lies.
    missing = stacked.NARROW - num_examples
    if missing > 0:
        projected = functional.pad(projected, (0, 0, 0, 0, 0, missing))
    found: torch.Tensor | tuple[torch.Tensor, ...]
    if cell == "gru":
        found = (_GruOfSlots.apply(projected, weight, bias),)  # type: ignore[no-untyped-call]
    else:
        found = _LstmOfSlots.apply(projected, weight, bias)  # type: ignore[no-untyped-call]
    return tuple(each[:, :, :num_examples] for each in found)


def last_steps(states_LN: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return each example's state after its last real step, (N, H), from (L, N, H)."""
    return cast(torch.Tensor, _LastSteps.apply(states_LN, lengths))  # type: ignore[no-untyped-call]


class _LastSteps(torch.autograd.Function):
    """Not an index, whose gradient autograd adds up number by number."""

    @staticmethod
    def forward(ctx: Any, states_LN: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(lengths)
        ctx.num_steps = states_LN.shape[0]
        examples = torch.arange(lengths.shape[0], device=lengths.device)
        return states_LN[lengths - 1, examples]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (lengths,) = ctx.saved_tensors
        steps = torch.arange(1, ctx.num_steps + 1, device=lengths.device)
        is_last_LN = steps.unsqueeze(1) == lengths
        return grads[0] * is_last_LN.unsqueeze(-1).to(grads[0].dtype), None


class _GruOfSlots(torch.autograd.Function):
    """The states of S GRUs: n = tanh(x_n + r * h_n), h = n + z * (h - n)."""

    @staticmethod
    def forward(
        ctx: Any, projected: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        hidden = weight.shape[-1]
        halves = _halves_of_sigmoids("gru", weight)
        inputs_L = _by_step(projected, halves)
        turned, bias = (weight * halves.unsqueeze(-1)).mT, (bias * halves).unsqueeze(1)
        num_steps, slots, batch, _ = inputs_L.shape
        states_L = projected.new_zeros(num_steps + 1, slots, batch, hidden)
        both_L = projected.new_empty(num_steps, slots, batch, 2 * hidden)
        n_L = projected.new_empty(num_steps, slots, batch, hidden)
        from_state_L = torch.empty_like(inputs_L)
        for t in range(num_steps):
            state, n = states_L[t], n_L[t]
            from_state = torch.bmm(state, turned, out=from_state_L[t]).add_(bias)
            both = torch.add(
                inputs_L[t, ..., : 2 * hidden], from_state[..., : 2 * hidden], out=both_L[t]
            )
            both.tanh_().mul_(0.5).add_(0.5)
            torch.mul(both[..., :hidden], from_state[..., 2 * hidden :], out=n)
            n.add_(inputs_L[t, ..., 2 * hidden :]).tanh_()
            torch.sub(state, n, out=states_L[t + 1]).mul_(both[..., hidden:]).add_(n)
        ctx.save_for_backward(weight, states_L, both_L, n_L, from_state_L)
        return states_L[1:]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, states_L, both_L, n_L, from_state_L = ctx.saved_tensors
        hidden = weight.shape[-1]
        r_L, z_L = torch.split(both_L, hidden, dim=-1)
        z_L = z_L.contiguous()
        # Each gate's gradient is the state's times a factor: those of all steps before the loop.
        to_n = (1 - z_L) * (1 - n_L * n_L)
        to_r = to_n * from_state_L[..., 2 * hidden :] * r_L * (1 - r_L)
        to_z = (states_L[:-1] - n_L) * z_L * (1 - z_L)
        factors_L = torch.stack((to_r, to_z, to_n * r_L), dim=-2)
        gate_grads_L = torch.empty_like(factors_L)
        grad_states_L = grads[0].clone()  # what each state gets from outside, then the whole
        for t in reversed(range(len(n_L))):
            grad_state = grad_states_L[t]
            torch.mul(factors_L[t], grad_state.unsqueeze(-2), out=gate_grads_L[t])
            if t > 0:
                earlier = torch.bmm(gate_grads_L[t].flatten(-2), weight)
                grad_states_L[t - 1].add_(earlier.add_(grad_state * z_L[t]))
        from_state = gate_grads_L.flatten(-2)
        from_inputs = torch.cat((from_state[..., : 2 * hidden], grad_states_L * to_n), dim=-1)
        return _gradients(from_inputs, from_state, states_L)


class _LstmOfSlots(torch.autograd.Function):
    """The states and cells of S LSTMs: c = f * c + i * g, h = o * tanh(c)."""

    @staticmethod
    def forward(
        ctx: Any, projected: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = weight.shape[-1]
        halves = _halves_of_sigmoids("lstm", weight)
        # A sigmoid gate is tanh / 2 + 1 / 2 of half its sum, the cell's gate a tangent as it is.
        shift = 1 - halves
        gates_L = _by_step(projected, halves)
        turned, bias = (weight * halves.unsqueeze(-1)).mT, (bias * halves).unsqueeze(1)
        num_steps, slots, batch, _ = gates_L.shape
        states_L = projected.new_zeros(num_steps + 1, slots, batch, hidden)
        cells_L = torch.zeros_like(states_L)
        shown_L = projected.new_empty(num_steps, slots, batch, hidden)
        for t in range(num_steps):
            gates = gates_L[t].add_(torch.bmm(states_L[t], turned).add_(bias))
            i, f, g, o = torch.split(gates.tanh_().mul_(halves).add_(shift), hidden, dim=-1)
            torch.mul(f, cells_L[t], out=cells_L[t + 1]).add_(i * g)
            torch.mul(o, torch.tanh(cells_L[t + 1], out=shown_L[t]), out=states_L[t + 1])
        ctx.save_for_backward(weight, states_L, cells_L, shown_L, gates_L)
        return states_L[1:], cells_L[1:]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, states_L, cells_L, shown_L, gates_L = ctx.saved_tensors
        i_L, f_L, g_L, o_L = torch.split(gates_L, weight.shape[-1], dim=-1)
        # Each gate's gradient is the cell's or the state's times a factor: all steps at once.
        to_cell = o_L * (1 - shown_L * shown_L)
        to_i, to_f = g_L * i_L * (1 - i_L), cells_L[:-1] * f_L * (1 - f_L)
        factors_L = torch.stack((to_i, to_f, i_L * (1 - g_L * g_L)), dim=-2)
        to_o = shown_L * o_L * (1 - o_L)
        gate_grads_L = gates_L.new_empty(*gates_L.shape[:-1], 4, weight.shape[-1])
        grad_states_L, grad_cells_L = grads[0].clone(), grads[1]
        grad_cell = torch.zeros_like(grad_states_L[0])
        for t in reversed(range(len(gates_L))):
            grad_state = grad_states_L[t]
            grad_cell = (grad_state * to_cell[t]).add_(grad_cell).add_(grad_cells_L[t])
            torch.mul(factors_L[t], grad_cell.unsqueeze(-2), out=gate_grads_L[t, ..., :3, :])
            torch.mul(to_o[t], grad_state, out=gate_grads_L[t, ..., 3, :])
            grad_cell = grad_cell * f_L[t]
            if t > 0:
                grad_states_L[t - 1].add_(torch.bmm(gate_grads_L[t].flatten(-2), weight))
        from_gates = gate_grads_L.flatten(-2)
        return _gradients(from_gates, from_gates, states_L)


def _halves_of_sigmoids(cell: str, weight: torch.Tensor) -> torch.Tensor:
    """Return 1/2 for the sums of sigmoid gates and 1 for the others, (G * H,).

    sigmoid(x) = tanh(x / 2) / 2 + 1 / 2, and halving is exact. Not ``torch.sigmoid``: the end of
    a tensor goes to another kernel than its bulk, whose last bit differs, so a slot's would
    depend on where it lies.
    """
    halves = [0.5 if is_sigmoid else 1.0 for is_sigmoid in GATES[cell]]
    return weight.new_tensor(halves).repeat_interleave(weight.shape[-1])


def _by_step(projected: torch.Tensor, halves: torch.Tensor) -> torch.Tensor:
    """Return halved inputs, (L, S, B, G * H), each step in one piece."""
    steps_L = projected.permute(2, 0, 1, 3)
    return torch.mul(steps_L, halves, out=projected.new_empty(steps_L.shape))


def _gradients(
    from_inputs_L: torch.Tensor,
    from_state_L: torch.Tensor,
    states_L: torch.Tensor,
) -> tuple[torch.Tensor | None, ...]:
    """Return the gradients of projected inputs, weight and bias."""
    # Contiguous first: a sum over strided rows depends on how many slots lie beside it.
    rows, before = (
        tensor.movedim(1, 0).flatten(1, 2).contiguous() for tensor in (from_state_L, states_L[:-1])
    )
    from_weight = torch.bmm(rows.mT, before)
    return from_inputs_L.permute(1, 2, 0, 3), from_weight, rows.sum(1)
