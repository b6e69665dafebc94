"""How often equal trials are called worse, and whether the winner's luck is what it is.

``python tests/benchmarks/bench_ties.py [--studies 100]``, some minutes. Studies of drawn
predictions (``tests/predicted.py``), of which it is known what each model has on 20,000 new
examples.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from predicted import draw_study

from sweeps.analysis.ties import find_ties

SPREAD = np.random.default_rng(3).normal(size=24)
#: Name, skill of each trial, examples, epochs of each, and studies beside 100.
CASES: Sequence[tuple[str, Sequence[float], int, int, int]] = (
    ("24 equal, 300 examples", [0.0] * 24, 300, 1, 100),
    ("24 equal, 1,000 examples", [0.0] * 24, 1000, 1, 100),
    ("24 equal, 3,000 examples", [0.0] * 24, 3000, 1, 60),
    ("24 equal, best of 12 epochs", [0.0] * 24, 1000, 12, 40),
    ("100 equal, 50 with predictions", [0.0] * 100, 1000, 1, 30),
    ("500 equal, 50 with predictions", [0.0] * 500, 1000, 1, 6),
    ("24, skills of deviation 0.05", (0.05 * SPREAD).tolist(), 1000, 1, 100),
    ("24, skills of deviation 0.2", (0.2 * SPREAD).tolist(), 1000, 1, 100),
    ("1 trial, best of 6 epochs", [0.0], 500, 6, 100),
    ("1 trial, best of 16 epochs", [0.0], 500, 16, 100),
    ("2 equal, best of 6 epochs", [0.0] * 2, 500, 6, 100),
    ("24 equal, best of 6 epochs", [0.0] * 24, 500, 6, 60),
    ("24 equal, best of 16 epochs", [0.0] * 24, 500, 16, 40),
)


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100, help="studies of a case of 100")
    studies = parser.parse_args().studies
    print(f"{'trials':<32} {'not tied':>8} {'luck':>7} {'true':>7} {'inside':>7} {'error':>7}")
    for name, skills, examples, epochs, share in CASES:
        rng, rows = np.random.default_rng(1), []
        for _ in range(max(studies * share // 100, 2)):
            drawn = draw_study(
                rng, skills=skills, examples=examples, epochs=epochs, is_true_known=True
            )
            ties = find_ties(drawn.study, drawn.facts)
            assert ties.best is not None
            excess = drawn.facts[ties.best].best_score - drawn.true_scores[ties.best]
            inside = ties.luck_low <= excess <= ties.luck_high
            worse = 1 - len(ties.tied) / len(skills)
            rows.append((worse, ties.luck, excess, inside, ties.error))
        worse, luck, true, inside, error = np.mean(rows, axis=0).tolist()
        print(
            f"{name:<32} {worse:>8.3f} {luck:>7.4f} {true:>7.4f} {inside:>7.2f} {error:>7.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
