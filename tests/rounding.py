"""How far apart two computations of the same numbers may lie, on any processor.

The processor decides in which order a product's terms are summed, how many sums run side by side
and whether a product is rounded before it is added. It does not decide how many terms there are.
A tolerance here follows from that number, never from a difference that one machine showed.

One rounding changes a number by at most ``UNIT`` of it in float32, and by UNIT / sqrt(3) in the
root of the mean square, being spread evenly. Roundings share no sign, so those of n terms (a
product and an addition each) add up as a random walk does, to sqrt(2 n / 3) units; see Higham and
Mary, SIAM J. Sci. Comput. 41, 2019. ``LIKELY`` times that is passed once in 10**9.

What a training run makes of its roundings depends on the run: rmsprop with momentum magnified
them a hundredfold where adam did not at all. ``compare_runs`` therefore repeats the reference with
random errors of that size in each step. The reference runs in float64, so neither its numbers
nor its tolerances depend on the processor.
"""

from collections.abc import Callable, Iterable, Sequence

import torch

UNIT = 2.0**-24
LIKELY = 6.0
#: Terms that an optimizer's update of a weight and its moments counts for.
UPDATE_TERMS = 5
_NUM_NOISY = 3


def walk(num_terms: int, dtype: torch.dtype = torch.float32) -> float:
    """Return the standard deviation of a sum of terms, relative to the largest partial sum."""
    return float((2 * num_terms / 3) ** 0.5 * torch.finfo(dtype).eps / 2)


def assert_same_sums(
    actual: torch.Tensor, expected: torch.Tensor, num_terms: int, *, at_least: float = 0.0
) -> None:
    """Fail if two tensors differ by more than their roundings.

    A rounding is as large as the partial sum that it rounds, so the tolerance is the same for all
    entries, and a part of the largest one.

    Args:
        actual: Ours.
        expected: The reference's, in the same precision; NaN or infinite where ours must be.
        num_terms: Terms that are summed on the way to an entry, those of all layers together.
        at_least: Size of the partial sums where the entries may be much smaller.
    """
    finite = expected.detach().abs().nan_to_num(0.0, 0.0)
    largest = max(float(finite.max()), at_least)
    # Both sides round.
    limit = 2**0.5 * LIKELY * walk(num_terms, expected.dtype) * largest
    torch.testing.assert_close(actual, expected, rtol=0, atol=limit, equal_nan=True)


class Rounding:
    """The roundings of a plain loop's steps, drawn at random.

    Args:
        num_terms: Terms that are summed on the way from a batch to an entry of the gradient.
        seed: What is drawn; None draws nothing, and the loop stays exact.
    """

    def __init__(self, num_terms: int, seed: int | None) -> None:
        self._num_terms = num_terms
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)

    def value(self, value: float) -> float:
        """Return a number that was computed from a batch, as float32 might have it."""
        if self._generator is None:
            return value
        draw = torch.randn((), generator=self._generator, dtype=torch.float64)
        return value * (1 + walk(self._num_terms) * float(draw))

    def gradients(self, params: Iterable[torch.Tensor]) -> None:
        """Round the gradients, where an error is a part of the tensor's largest entry."""
        for param in params:
            if param.grad is not None:
                # A sum of zeros (a dead unit, a word that no example has) is exact.
                is_exact = param.grad == 0
                scale = param.grad.abs().max().expand_as(is_exact).masked_fill(is_exact, 0.0)
                self._add(param.grad, self._num_terms, scale)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Take a step, and round what it changed: each weight and each moment by itself."""
        optimizer.step()
        for group in optimizer.param_groups:
            for param in group["params"]:
                moments = optimizer.state[param].values()
                alike = [m for m in moments if torch.is_tensor(m) and m.shape == param.shape]
                for tensor in (param.detach(), *alike):
                    self._add(tensor, UPDATE_TERMS, tensor.abs())

    def _add(self, tensor: torch.Tensor, num_terms: int, scale: torch.Tensor) -> None:
        if self._generator is not None:
            draw = torch.randn(tensor.shape, generator=self._generator, dtype=tensor.dtype)
            tensor += walk(num_terms) * scale * draw.to(tensor.device)


Run = Callable[[Rounding], Sequence[Sequence[float]]]


def compare_runs(actual: Sequence[Sequence[float]], run: Run, num_terms: int) -> torch.Tensor:
    """Fail if a curve is not that of a plain loop, but for roundings and what became of them.

    Returns how far it is from that of the loop, as parts of what it may be.

    Args:
        actual: Our curve: a row an epoch (or step), some numbers each.
        run: Runs the loop in float64 and returns its curve.
        num_terms: Terms that are summed on the way from a batch to an entry of the gradient.
    """
    exact, *noisy = (
        torch.tensor(run(Rounding(num_terms, seed)), dtype=torch.float64)
        for seed in (None, *range(_NUM_NOISY))
    )
    # An error that a run has made stays in it: later numbers are never surer than earlier ones.
    apart = torch.stack([(each - exact).abs() for each in noisy]).amax(dim=0).cummax(dim=0).values
    largest = exact.abs().amax(dim=0)
    # Each number is also the result of a sum of its own.
    limits = LIKELY * (apart + walk(num_terms) * largest)
    assert bool((limits < 2e-3 * largest).all()), "the run magnifies roundings: compare another"
    differences = (torch.tensor(actual, dtype=torch.float64) - exact).abs()
    assert bool((differences <= limits).all()), (
        f"row, column: {(differences > limits).nonzero().tolist()}\n"
        f"differences: {differences.tolist()}\nlimits: {limits.tolist()}"
    )
    return differences / limits
