"""Measures what logistic regression reaches on the data of an objective.

    python -m objectives.data.baselines [OBJECTIVE] [--data FILE]

Fitted on the training examples alone and scored on validation; the test split is not touched.
A network that does not beat the last baseline has learned nothing from the order of words, or
from what the columns of a table mean together.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.api import DataError
from objectives.data.examples import Examples
from objectives.data.relations import RelationTable, read_relations
from objectives.data.rows import Numbers
from objectives.data.sequences import SequenceTable, read_sequences
from objectives.data.tables import read_table
from objectives.metrics import class_scores, count_predictions, make_metric

#: Inverse strength of the L2 penalty: the best of 0.1, 0.3, 1 and 3 by macro-F1 in 3-fold
#: cross-validation on train (0.430, 0.443, 0.442, 0.433 and 0.695, 0.716, 0.719, 0.718). Without
#: class weights the best was 0.399 and 0.703.
PENALTIES = {"bag of words": 0.3, "with position": 1.0}
#: The same for ``tabular-mlp``: the best of 0.03, 0.1, 0.3, 1 and 3 (0.779, 0.783, 0.784, 0.784
#: and 0.784). With balanced class weights the best was 0.776.
TABLE_PENALTY = 0.3
#: The same for ``sequence-rnn``: the best of 0.1, 0.3, 1, 3 and 10 (0.952, 0.955, 0.956, 0.951
#: and 0.949). The classes are of one size.
SEQUENCE_PENALTY = 1.0
NUM_RESAMPLES = 1000
MACRO_F1 = make_metric("macro-f1", ())
SEED = 0
#: Upper ends of the buckets that distances and positions are counted in.
_BUCKETS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24)
#: Words beside an entity that are a feature each by their place.
_WINDOW = 3


def bag_of_words(tokens: Sequence[str], entity1: int, entity2: int) -> Iterator[str]:
    """Yield the words of a sentence; where the entities stand is not told."""
    del entity1, entity2
    yield from (f"word={token}" for token in tokens)


def with_position(tokens: Sequence[str], entity1: int, entity2: int) -> Iterator[str]:
    """Yield the words, and where they stand to the two entities."""
    yield from bag_of_words(tokens, entity1, entity2)
    first, second = sorted((entity1, entity2))
    yield f"order={entity1 < entity2}"
    yield f"distance={_bucket(second - first)}"
    yield f"place={_bucket(entity2)}"
    yield f"to_end={_bucket(len(tokens) - 1 - entity2)}"
    between = tokens[first + 1 : second]
    yield from (f"between={token}" for token in between)
    yield f"path={' '.join(between) if len(between) <= 4 else 'long'}"
    yield from (f"pair_between={a} {b}" for a, b in itertools.pairwise(between))
    for name, entity in (("e1", entity1), ("e2", entity2)):
        yield f"{name}={tokens[entity]}"
        yield f"{name}_ending={tokens[entity][-3:]}"
        for offset in range(1, _WINDOW + 1):
            before, after = entity - offset, entity + offset
            yield f"{name}-{offset}={tokens[before] if before >= 0 else 'start'}"
            yield f"{name}+{offset}={tokens[after] if after < len(tokens) else 'end'}"
    if entity2 > 1:
        yield f"e2_before={tokens[entity2 - 2]} {tokens[entity2 - 1]}"
    if entity2 + 2 < len(tokens):
        yield f"e2_after={tokens[entity2 + 1]} {tokens[entity2 + 2]}"
    if ":" in tokens:
        # A definition begins by naming what kind of thing it defines.
        start = tokens.index(":") + 1
        yield f"start={' '.join(tokens[start : start + 2])}"
        yield f"is_after_of={'of' in tokens[start:entity2]}"


def _bucket(number: int) -> int:
    return sum(number > limit for limit in _BUCKETS)


FEATURES: dict[str, Callable[[Sequence[str], int, int], Iterator[str]]] = {
    "bag of words": bag_of_words,
    "with position": with_position,
}


def count_words(table: RelationTable, name: str) -> Any:
    """Return which features of FEATURES each sentence has, a sparse matrix of (N, features)."""
    # Imported here: only this comparison needs scikit-learn, never a sweep.
    from sklearn.feature_extraction.text import CountVectorizer

    places = zip(table.tokens, table.entity1.tolist(), table.entity2.tolist(), strict=True)
    documents = [list(FEATURES[name](*place)) for place in places]
    vectorizer: Any = CountVectorizer(analyzer=_as_is, binary=True, min_df=2)
    rows = np.flatnonzero(table.examples.is_train)
    vectorizer.fit([documents[row] for row in rows])
    return vectorizer.transform(documents)


def _as_is(document: list[str]) -> list[str]:
    return document


def predict_validation(features: Any, examples: Examples, **model: Any) -> npt.NDArray[np.str_]:
    """Return the class that logistic regression predicts for each validation example.

    Args:
        features: Of all N examples, (N, F).
        examples: Their classes and splits.
        model: Arguments of scikit-learn's ``LogisticRegression``.

    Raises:
        ImportError: If scikit-learn is not installed; it comes with the extra ``test``.
    """
    from sklearn.linear_model import LogisticRegression

    regression: Any = LogisticRegression(max_iter=300, **model)
    is_train = np.flatnonzero(examples.is_train)
    regression.fit(features[is_train], examples.labels[is_train])
    validation = np.flatnonzero(examples.splits == "validation")
    return np.asarray(regression.predict(features[validation]), dtype=np.str_)


def standard_error(
    true: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], *, num_classes: int
) -> float:
    """Return the standard deviation of macro-F1 over NUM_RESAMPLES bootstraps of the rows.

    Args:
        true: Class of each row by index, (N,).
        predicted: The predicted ones, (N,).
        num_classes: Of both.
    """
    draw = np.random.default_rng(SEED)
    scores = []
    for _ in range(NUM_RESAMPLES):
        rows = draw.integers(len(true), size=len(true))
        counts = count_predictions(true[rows], predicted[rows], num_classes=num_classes)
        scores.append(MACRO_F1.score(counts))
    return float(np.std(scores, ddof=1))


Predictions = tuple[npt.NDArray[np.str_], dict[str, npt.NDArray[np.str_]]]


def predict_relations(path: Path | None) -> Predictions:
    """Return the true and, by baseline, the predicted classes of validation sentences."""
    table = read_relations(path)
    fitted = {"class_weight": "balanced", "tol": 1e-3}
    return _true_classes(table.examples), {
        name: predict_validation(count_words(table, name), table.examples, C=penalty, **fitted)
        for name, penalty in PENALTIES.items()
    }


def predict_table(path: Path | None) -> Predictions:
    """Return the true and the predicted classes of the validation rows of a table."""
    table = read_table(path)
    predicted = predict_validation(table.features, table.examples, C=TABLE_PENALTY)
    return _true_classes(table.examples), {"all columns": predicted}


def summarize(table: SequenceTable) -> Numbers:
    """Return mean, deviation, first and last step and the length of each sequence, (N, 4F + 1)."""
    sequences = np.split(table.features.astype(np.float64), np.cumsum(table.lengths)[:-1])
    rows = [np.r_[x.mean(axis=0), x.std(axis=0), x[0], x[-1], len(x)] for x in sequences]
    return np.array(rows)


def predict_sequences(path: Path | None) -> Predictions:
    """Return the true and the predicted classes of validation sequences."""
    from sklearn.preprocessing import StandardScaler

    table = read_sequences(path)
    summary = summarize(table)
    scaler: Any = StandardScaler().fit(summary[table.examples.is_train])
    scaled = scaler.transform(summary)
    predicted = predict_validation(scaled, table.examples, C=SEQUENCE_PENALTY)
    return _true_classes(table.examples), {"summary": predicted}


def _true_classes(examples: Examples) -> npt.NDArray[np.str_]:
    labels: npt.NDArray[np.str_] = examples.labels[examples.splits == "validation"]
    return labels


BASELINES: Mapping[str, Callable[[Path | None], Predictions]] = {
    "relation-cnn": predict_relations,
    "tabular-mlp": predict_table,
    "sequence-rnn": predict_sequences,
}


def format_scores(
    true: npt.NDArray[np.str_], predictions: Mapping[str, npt.NDArray[np.str_]]
) -> str:
    """Return a text table: macro-F1, its standard error, F1 of each class; a baseline a row.

    Args:
        true: Class of each validation example, (N,).
        predictions: Predicted classes, (N,), by the name of the baseline.
    """
    classes = np.unique([true, *predictions.values()])
    codes = np.searchsorted(classes, true)
    widths = [max(len(name), 5) for name in classes]
    titles = [f"{name:>{width}}" for name, width in zip(classes, widths, strict=True)]
    lines = ["  ".join([f"{'validation':<14}", "macro-F1", "    se", *titles])]
    for name, labels in predictions.items():
        predicted = np.searchsorted(classes, labels)
        counts = count_predictions(codes, predicted, num_classes=len(classes))
        error = standard_error(codes, predicted, num_classes=len(classes))
        cells = [f"{name:<14}", f"{MACRO_F1.score(counts):8.3f}", f"{error:6.3f}"]
        scores = class_scores(counts).f1
        cells += [f"{f1:{width}.3f}" for f1, width in zip(scores, widths, strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the scores; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m objectives.data.baselines")
    parser.add_argument("objective", choices=BASELINES, nargs="?", default="relation-cnn")
    parser.add_argument("--data", type=Path, help="your file; without it the shipped one")
    args = parser.parse_args()
    try:
        sys.stdout.write(format_scores(*BASELINES[args.objective](args.data)))
    except ImportError:
        sys.stderr.write(
            "The baselines need scikit-learn, which is missing; pip install 'bestepoch[test]'\n"
        )
        return 2
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
