"""The dropout factors of a lane's trials in one epoch, those of many steps drawn at once.

A draw is a function of its place and its step's key, so that steps may be drawn together: of a
small layer the calls cost more than the numbers. Shapes: S slots, T steps of an epoch.
"""

import torch

from objectives.layers import random

# Numbers drawn at once: as many as stay in a core's cache.
_MOST_NUMBERS = 2**16


class Masks:
    """What the dropout layers of a model multiply by, a pass at a time.

    Args:
        keys_TS: ``random.step_keys``.
    """

    def __init__(self, keys_TS: torch.Tensor) -> None:
        self._keys_TS1 = keys_TS.unsqueeze(-1)
        self._step: int | torch.Tensor = 0
        self._calls: dict[int, int] = {}
        self._drawn: dict[int, tuple[int, torch.Tensor]] = {}

    def begin(self, step: int | torch.Tensor) -> None:
        """Begin a pass of a step: its number, or (1,) on the device."""
        self._step = step
        self._calls.clear()

    def factors(
        self, salt: int, last_dropped_S1: torch.Tensor, scale_S1: torch.Tensor, count: int
    ) -> torch.Tensor:
        """Return the factors of a layer's next call in this pass, (S, count); not to be changed.

        Args:
            salt: Number of the layer in its model.
            last_dropped_S1: See ``random.dropout_numbers``.
            scale_S1: The other.
            count: Elements of a slot.
        """
        # One layer used twice in a model must not drop the same places twice.
        call = self._calls.get(salt, 0)
        self._calls[salt] = call + 1
        salt += call << 16
        step, keys_TS1 = self._step, self._keys_TS1
        if not isinstance(step, int):
            keys_S1 = keys_TS1.index_select(0, step)[0]
            return random.dropout_factors(keys_S1, last_dropped_S1, scale_S1, count, salt)
        first, drawn = self._drawn.get(salt, (0, None))
        num_steps = 1
        if drawn is not None and drawn.shape[-1] == count:
            if first <= step < first + drawn.shape[0]:
                return drawn[step - first]
            # Twice as many each time: batches of other lengths are other counts.
            most = _MOST_NUMBERS // (count * keys_TS1.shape[1])
            num_steps = max(1, min(2 * drawn.shape[0], most))
        drawn = random.dropout_factors(
            keys_TS1[step : step + num_steps], last_dropped_S1, scale_S1, count, salt
        )
        self._drawn[salt] = step, drawn
        return drawn[0]
