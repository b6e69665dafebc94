"""Seeds as pure functions of the study's seed and a trial's number: equal on every machine."""

import hashlib


def trial_seed(seed: int, trial_number: int) -> int:
    """Return the seed of a trial's weights and dropout masks, 63 bits."""
    return _hash("trial", seed, trial_number) >> 1


def sampler_seed(seed: int, trial_number: int) -> int:
    """Return the seed of the sampler that asks for this trial and those behind it, 32 bits."""
    # NumPy's RandomState takes 32 bits.
    return _hash("sampler", seed, trial_number) >> 32


def sequence_seed(seed: int) -> int:
    """Return the seed of a study's quasi-random sequence, 31 bits."""
    return _hash("qmc", seed, 0) >> 33


def audit_draw(seed: int, trial_number: int) -> float:
    """Return the number in [0, 1) that decides whether a trial is audited."""
    return _hash("audit", seed, trial_number) / 2**64


def _hash(use: str, seed: int, trial_number: int) -> int:
    # Not hash(): Python salts that of a text, by process.
    text = f"{use}:{seed}:{trial_number}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
