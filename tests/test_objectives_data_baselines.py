"""What logistic regression reaches on the shipped data, as their cards say."""

import subprocess
import sys

import numpy as np
import pytest

from objectives.data import baselines, files
from objectives.data.baselines import summarize
from objectives.data.examples import Examples
from objectives.data.preparation import Preparation
from objectives.data.sequences import SequenceTable

metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")


@pytest.mark.parametrize(
    ("objective", "baseline", "score", "error"),
    [
        ("tabular-mlp", "all columns", 0.776, 0.002),
        ("relation-cnn", "with position", 0.718, 0.005),
        ("sequence-rnn", "summary", 0.950, 0.006),  # one sequence more or less
    ],
)
def test_baseline_reaches_the_score_of_the_data_card(
    objective: str,
    baseline: str,
    score: float,
    error: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of the two baselines of sentences the better one: each takes seconds.
    monkeypatch.setattr(baselines, "PENALTIES", {"with position": 1.0})
    true, predictions = baselines.BASELINES[objective](None)
    predicted = predictions[baseline]
    reached = metrics.f1_score(true, predicted, average="macro")
    assert reached == pytest.approx(score, abs=error)
    card = (files.FOLDER / f"{objective.replace('-', '_')}.md").read_text()
    assert f"| {baseline} | {score:.3f} |" in card
    header, line = baselines.format_scores(true, {baseline: predicted}).splitlines()
    assert header.split() == ["validation", "macro-F1", "se", *sorted(set(true.tolist()))]
    assert line.startswith(f"{baseline:<14}  {reached:8.3f}")


def test_standard_error_is_that_of_a_share() -> None:
    # Two classes of 500, each half of the predictions wrong in the same way: macro-F1 is close
    # to the accuracy, whose standard error is sqrt(0.8 * 0.2 / 1000) = 0.0126.
    true = np.arange(1000) % 2
    predicted = np.where(np.arange(1000) < 200, 1 - true, true)
    error = baselines.standard_error(true, predicted, num_classes=2)
    assert error == pytest.approx(0.0126, rel=0.1)


def test_summary_is_that_of_each_sequence() -> None:
    features = np.arange(18.0, dtype=np.float32).reshape(9, 2)
    examples = Examples(("a", "b"), np.array([0, 1, 0, 1, 0]), np.array(["train"] * 5))
    lengths = np.array([2, 3, 1, 1, 2])
    summary = summarize(SequenceTable(lengths, examples, Preparation(()), features, ()))
    assert summary.shape == (5, 9)
    # Steps (4, 5), (6, 7) and (8, 9).
    spread = np.sqrt(8 / 3)
    np.testing.assert_allclose(summary[1], [6, 7, spread, spread, 4, 5, 8, 9, 3])


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("sys.argv = ['baselines', 'tabular']", "tabular-mlp"),
        ("sys.argv = ['baselines']; sys.modules['sklearn'] = None", "bestepoch[test]"),
    ],
)
def test_a_mistake_ends_with_2_and_says_why(code: str, told: str) -> None:
    code = f"import sys; {code}; from objectives.data import baselines; sys.exit(baselines.main())"
    root = files.FOLDER.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]
