"""Shapes: S slots, T steps of an epoch, N training examples."""

import itertools

import numpy as np
import pytest
import torch

from objectives.layers import random

PLACES = 20011


def key_of(seed: int, epoch: int, step: int) -> torch.Tensor:
    return torch.from_numpy(random.step_keys([seed], [epoch], step + 1))[step, 0]


def mask_of(
    seed: int = 1, epoch: int = 1, step: int = 0, salt: int = 0, rate: float = 0.5
) -> torch.Tensor:
    factors = random.dropout_factors(
        key_of(seed, epoch, step), *random.dropout_numbers(rate), PLACES, salt
    )
    kept = factors > 0
    torch.testing.assert_close(factors[kept], torch.full_like(factors, 1 / (1 - rate))[kept])
    return kept


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("seed", [0, 2**62])
def test_mask_drops_at_its_rate(rate: float, seed: int) -> None:
    dropped = 1 - float(mask_of(seed=seed, rate=rate).float().mean())
    assert abs(dropped - rate) < 3 * (rate * (1 - rate) / PLACES) ** 0.5


def test_mask_of_rate_zero_keeps_all() -> None:
    assert bool(mask_of(rate=0.0).all())


def test_mask_of_a_higher_rate_drops_what_a_lower_one_drops() -> None:
    # Common random numbers: trials that differ in their rate alone can be compared in pairs.
    low, high = mask_of(rate=0.3), mask_of(rate=0.6)
    assert not bool((high & ~low).any())


def test_masks_of_other_names_are_uncorrelated() -> None:
    names = itertools.product((1, 2), (1, 2), (0, 1), (0, 1, 65536))
    masks = torch.stack(
        [mask_of(seed, epoch, step, salt).float() for seed, epoch, step, salt in names]
    )
    correlations = torch.corrcoef(masks) - torch.eye(len(masks))
    # 276 pairs: the largest of so many normal draws lies near 3 standard deviations.
    assert float(correlations.abs().max()) < 4.5 / PLACES**0.5


def test_neighbouring_places_are_uncorrelated() -> None:
    mask = mask_of().float()
    for distance in (1, 2, 32, 150, 4096):
        pair = torch.stack([mask[:-distance], mask[distance:]])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 4 / PLACES**0.5


def test_halves_of_one_hash_are_uncorrelated() -> None:
    # Two elements share 32 bits: their draws must not follow one another, at any rate.
    for rate in (0.1, 0.5, 0.9):
        mask = mask_of(seed=3, rate=rate).float()
        pair = torch.stack([mask[0:-1:2], mask[1::2]])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 4 / (PLACES / 2) ** 0.5


def test_hundreds_of_steps_are_uncorrelated() -> None:
    masks = torch.stack([mask_of(step=step).float() for step in range(300)])
    correlations = (torch.corrcoef(masks) - torch.eye(len(masks))).flatten() * PLACES**0.5
    # 45,000 pairs of normal draws: the spread is 1 and the largest lies near 4.4.
    assert abs(float(correlations[correlations != 0].std()) - 1) < 0.05
    assert float(correlations.abs().max()) < 6


def test_mask_is_a_function_of_its_names_alone() -> None:
    pinned = random.dropout_factors(
        torch.tensor(12345, dtype=torch.int32), *random.dropout_numbers(0.5), 16, salt=3
    )
    assert (pinned > 0).int().tolist() == [1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    torch.rand(3)
    assert torch.equal(mask_of(5, 3, 2, 1), mask_of(5, 3, 2, 1))
    few = random.dropout_factors(key_of(5, 3, 2), *random.dropout_numbers(0.5), 35, salt=1)
    assert torch.equal(few > 0, mask_of(5, 3, 2, 1)[:35])


def test_words_of_a_layer_stay_where_they_are_however_many_there_are() -> None:
    # A recorded step reads them there.
    first = random._words(64, 0, "cpu")
    for salt in range(1, 200):
        random._words(64, salt, "cpu")
    assert random._words(64, 0, "cpu") is first


def splitmix64(state: int) -> int:
    """Vigna's ``splitmix64.c`` in Python's own integers."""
    mask = 2**64 - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_step_keys_are_hashes_of_seed_epoch_and_step() -> None:
    seeds, epochs, num_steps = [1, 2**62, 2**63 - 1], [1, 3, 7], 5
    keys_TS = random.step_keys(seeds, epochs, num_steps)
    assert keys_TS.shape == (num_steps, len(seeds))
    assert keys_TS.dtype == np.int32
    for step, slot in np.ndindex(keys_TS.shape):
        state = splitmix64((splitmix64(seeds[slot]) + epochs[slot]) % 2**64)
        expected = splitmix64((state + step) % 2**64) >> 32
        assert int(keys_TS[step, slot]) % 2**32 == expected
    # A change of these changes every result that was ever recorded.
    assert (keys_TS[0, 0], keys_TS[4, 1]) == (-720004237, -365636940)


def test_step_keys_do_not_depend_on_neighbours_or_on_the_number_of_steps() -> None:
    together = random.step_keys([11, 5, 7], [2, 9, 1], 13)
    alone = random.step_keys([5], [9], 4)
    assert np.array_equal(together[:4, 1], alone[:, 0])
