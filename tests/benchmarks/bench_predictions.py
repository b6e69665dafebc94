"""How often the true gain of more epochs lies inside the interval that ``diagnose`` gives.

    python tests/benchmarks/bench_predictions.py bestepoch.db

Takes each trial of a SQLite database with 16 epochs or more, predicts from its first half, quarter
and so on (8 epochs at least) what as many again add to the best epoch's score, and looks.
"""

import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from storage import queries
from sweeps.analysis.noise import finite
from sweeps.analysis.trends import MIN_EPOCHS, allow_for_noise, count_from_best, predict_gain


def predict(study: str, curves: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Yield a row a prediction: whether the true gain was inside, above or below."""
    for _, rows in curves.groupby("trial"):
        scores = finite(rows["score"].to_numpy(dtype=np.float64))
        half = len(scores) // 2
        while half >= MIN_EPOCHS:
            seen, whole = scores[:half], scores[: 2 * half]
            line = predict_gain(seen)
            assert line is not None
            of_line = count_from_best(line, seen)
            gain = allow_for_noise(of_line, seen)
            true = max(float(whole.max() - seen.max()), 0.0)
            yield {
                "study": study,
                "predictions": 1,
                "inside": gain.low <= true <= gain.high,
                "above": true > gain.high,
                "below": true < gain.low,
                "inside its line's": of_line.low <= true <= of_line.high,
            }
            half //= 2


def main(path: str) -> None:
    """Print the table, a row a study, and all."""
    if not Path(path).is_file():
        sys.exit(f"{path}: no such database")
    url = f"sqlite:///{Path(path).resolve()}"
    names = queries.studies(url)["study"]
    rows = [row for name in names for row in predict(name, queries.curves(url, name))]
    if not rows:
        sys.exit(f"{path}: no trial has {2 * MIN_EPOCHS} epochs")
    found = pd.DataFrame(rows)
    rates = {name: "mean" for name in found.columns if name not in ("study", "predictions")}
    table = found.groupby("study").agg({"predictions": "sum", **rates})
    table.loc["all"] = [len(found), *(found[name].mean() for name in rates)]
    print(f"python {platform.python_version()}, numpy {np.__version__}")
    print(table.astype({"predictions": int}).round(2).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["bestepoch.db"])
