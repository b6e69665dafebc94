"""Random draws as pure functions of names: no generator, no state, no order of calls.

What a trial draws depends on (trial seed, epoch, step) alone, so its curve cannot depend on its
neighbours or its slot. Shapes: S slots, T steps of an epoch.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import torch

# The SplitMix64 constants (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
# generators") and the 32-bit finalizer "lowbias32" (Wellons 2018, "Prospecting for hash
# functions"). 32-bit rounds, because a 64-bit multiply has no vector instruction in AVX2.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_ROUND1 = 0x7FEB352D
_ROUND2 = 0x846CA68B - 2**32
_STRIDE = 0x9E3779B1 - 2**32


def step_keys(
    seeds_S: Sequence[int], epochs_S: Sequence[int], num_steps: int
) -> npt.NDArray[np.int32]:
    """Return a key for each step of an epoch and each slot, (T, S).

    Args:
        seeds_S: Trial seeds, each in [0, 2**63).
        epochs_S: Each trial's own epoch, from 1.
        num_steps: Steps in the epoch, T.
    """
    # The steps run along a column: T and S are both at hand at the start of an epoch, and one
    # array of keys is cheaper than S host-side hashes in each step.
    seeds = np.asarray(seeds_S, dtype=np.uint64)[None, :]
    epochs = np.asarray(epochs_S, dtype=np.uint64)[None, :]
    steps = np.arange(num_steps, dtype=np.uint64)[:, None]
    keys = _splitmix(_splitmix(_splitmix(seeds) + epochs) + steps)
    return (keys >> np.uint64(32)).astype(np.uint32).view(np.int32)


def seed_generators(seed: int) -> None:
    """Do what ``torch.manual_seed`` does, in a thousandth of its time.

    It formats the stack for each kind of device that is not there, and keeps the text.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def dropout_numbers(rate: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what ``dropout_factors`` needs of a rate: the last draw dropped, and the scale.

    Args:
        rate: Share of elements to drop, in [0, 1), in steps of 2^-16.
    """
    rate_f32 = torch.tensor(rate, dtype=torch.float32)
    return (rate_f32 * 2.0**16).round() - 2.0**15 - 1.0, 1.0 / (1.0 - rate_f32)


def dropout_factors(
    key: torch.Tensor, last_dropped: torch.Tensor, scale: torch.Tensor, count: int, salt: int
) -> torch.Tensor:
    """Return what dropout multiplies ``count`` elements by: 0, or the scale, 1 / (1 - rate).

    A hash of the element's place, 16 bits of it an element: a word that is fixed for the place,
    xor the key, times an odd number of the key, and one more round. No bool on the way, which
    costs torch more than the hash (64 slots x 3,200 elements: 0.28 ms in place of 2.1 ms).

    Args:
        key: This step's key, () int32; under ``vmap`` one a slot, or (S, 1) for (S, count).
        last_dropped: See ``dropout_numbers``; shaped as the key.
        scale: The other.
        count: Elements.
        salt: Number of the dropout layer in its model.
    """
    words = _words(1 << max(0, count - 1).bit_length(), salt, str(key.device))
    # In place: at 128 slots a third of the time went into fresh memory.
    mixed = (words[: (count + 1) // 2] ^ key).mul_(key * _STRIDE | 1)
    mixed.bitwise_xor_((mixed >> 15).bitwise_and_(0x1FFFF)).mul_(_ROUND2)
    draws = mixed.view(torch.int16)[..., :count].to(torch.float32)
    # Whole numbers: the difference is 0 or less where an element is dropped, else 1 or more.
    draws.sub_(last_dropped)
    # In place where it can be: vmap has no rule for clamp_.
    kept = draws.clamp_(0.0, 1.0) if last_dropped.dim() else draws.clamp(0.0, 1.0)
    return kept.mul_(scale)


# Without a limit: a recorded step reads them where they were when it was recorded.
@cache
def _words(count: int, salt: int, device: str) -> torch.Tensor:
    """Return a random word for each pair of ``count`` places of a layer, int32."""
    places = torch.arange(max(1, count // 2), dtype=torch.int32, device=device)
    return _mix32(places * _STRIDE + _mix32(torch.tensor(salt, dtype=torch.int32, device=device)))


def _splitmix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        mixed = state + _GAMMA
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX1
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX2
        return mixed ^ (mixed >> np.uint64(31))


def _mix32(value: torch.Tensor) -> torch.Tensor:
    # torch has no unsigned shift: the mask drops the sign bits that an arithmetic shift drags in.
    value = (value ^ ((value >> 16) & 0xFFFF)) * _ROUND1
    value = (value ^ ((value >> 15) & 0x1FFFF)) * _ROUND2
    return value ^ ((value >> 16) & 0xFFFF)
