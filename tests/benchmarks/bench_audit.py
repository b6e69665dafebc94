"""How often a stop after a stall is called wrong: on flat curves, on rising ones, on real ones.

``python tests/benchmarks/bench_audit.py``, half a minute. Beside it the plain rule: the best score
after the stop is higher than that before. Real curves are those of ``tables/``, 50 epochs, stopped
where patience would: whether the stop was wrong is not known of them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sweeps.analysis.audit import is_risen
from sweeps.analysis.facts import Targets, measure
from sweeps.curves import epochs_since_best

TABLES = Path(__file__).parent / "tables"
PATIENCE, MIN_DELTA, SETTINGS, LATEST = 15, 0.0005, 250, 40


def main() -> None:
    """Print a row for each kind of curve, and for each table."""
    print(f"{'curves':<36} {'stops':>5} {'wrong':>6} {'higher':>6}")
    rng = np.random.default_rng(3)
    for memory in (0.0, 0.4, 0.7):
        flat = [(0.7 + _draw_noise(rng, 40, memory)).tolist() for _ in range(300)]
        _show(f"flat, memory {memory}, stop at 10", flat, lambda curve: 10)
        _show(f"flat, memory {memory}, stalled", flat, _find_stall)
    epochs = np.arange(1, 51)
    line = np.where(epochs < 20, 0.7, 0.7 + 0.05 * np.minimum((epochs - 20) / 15, 1))
    rising = [(line + _draw_noise(rng, 50, 0.4)).tolist() for _ in range(300)]
    _show("5 points more after the stop at 20", rising, lambda curve: 20)
    for path in sorted(TABLES.glob("*.npz")):
        with np.load(path) as table:
            scores = table["score"][0, :SETTINGS].astype(np.float64)
        _show(path.stem, [each.tolist() for each in scores], _find_stall)


def _draw_noise(rng: np.random.Generator, length: int, memory: float) -> npt.NDArray[np.float64]:
    """Return normal noise of deviation 0.01 whose neighbours correlate."""
    noise = rng.normal(size=length)
    for i in range(1, length):
        noise[i] = memory * noise[i - 1] + math.sqrt(1 - memory**2) * noise[i]
    return 0.01 * noise


def _find_stall(curve: Sequence[float]) -> int | None:
    ends = range(1, min(len(curve), LATEST))
    return next((e for e in ends if epochs_since_best(curve[:e], MIN_DELTA) >= PATIENCE), None)


def _judge(
    curves: Sequence[Sequence[float]], find_stop: Callable[[Sequence[float]], int | None]
) -> Iterator[tuple[bool, bool]]:
    for curve in curves:
        stop = find_stop(curve)
        if stop is None or not np.isfinite(curve).all():
            continue
        flat = [0.5] * len(curve)
        facts = measure(0, curve, train_losses=flat, val_losses=flat, targets=Targets())
        is_higher = max(curve[stop:]) > max(curve[:stop]) + MIN_DELTA
        yield is_risen(facts, stop, min_delta=MIN_DELTA), is_higher


def _show(
    name: str,
    curves: Sequence[Sequence[float]],
    find_stop: Callable[[Sequence[float]], int | None],
) -> None:
    rows = list(_judge(curves, find_stop))
    wrong, higher = np.mean(rows, axis=0)
    print(f"{name:<36} {len(rows):>5} {wrong:>6.2f} {higher:>6.2f}", flush=True)


if __name__ == "__main__":
    main()
