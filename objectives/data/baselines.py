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
from objectives.data.relations import RelationTable, read_relations
from objectives.data.sequences import SequenceTable, read_sequences
from objectives.data.tables import Numbers, read_table, standardize
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


def predict_validation(table: RelationTable, name: str) -> npt.NDArray[np.str_]:
    """Return the predicted class of each validation sentence, (N,), fitted on train.

    Args:
        table: Sentences with a train and a validation split.
        name: A key of FEATURES.

    Raises:
        ImportError: If scikit-learn is not installed; it comes with the extra ``test``.
    """
    # Imported here: only this comparison needs scikit-learn, never a sweep.
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    documents = [
        list(FEATURES[name](*row))
        for row in zip(table.tokens, table.entity1.tolist(), table.entity2.tolist(), strict=True)
    ]
    by_split: dict[str, list[list[str]]] = {"train": [], "validation": [], "test": []}
    for document, split in zip(documents, table.splits.tolist(), strict=True):
        by_split[split].append(document)
    vectorizer: Any = CountVectorizer(analyzer=_as_is, binary=True, min_df=2)
    model: Any = LogisticRegression(
        C=PENALTIES[name], class_weight="balanced", max_iter=300, tol=1e-3
    )
    trained = np.array(table.labels)[table.splits == "train"]
    model.fit(vectorizer.fit_transform(by_split["train"]), trained)
    predicted = model.predict(vectorizer.transform(by_split["validation"]))
    return np.asarray(predicted, dtype=np.str_)


def _as_is(document: list[str]) -> list[str]:
    return document


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


def predict_classes(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.str_],
    splits: npt.NDArray[np.str_],
    *,
    penalty: float,
) -> npt.NDArray[np.str_]:
    """Return the predicted class of each validation example, fitted on train.

    Args:
        features: Standardised numbers, (N, F).
        labels: Class of each example, (N,).
        splits: Split of each example, (N,).
        penalty: Inverse strength of the L2 penalty.

    Raises:
        ImportError: If scikit-learn is not installed; it comes with the extra ``test``.
    """
    from sklearn.linear_model import LogisticRegression

    model: Any = LogisticRegression(C=penalty, max_iter=300)
    model.fit(features[splits == "train"], labels[splits == "train"])
    return np.asarray(model.predict(features[splits == "validation"]), dtype=np.str_)


Predictions = tuple[npt.NDArray[np.str_], dict[str, npt.NDArray[np.str_]]]


def predict_relations(path: Path | None) -> Predictions:
    """Return the true and, by baseline, the predicted classes of validation sentences."""
    table = read_relations(path)
    true = np.array(table.labels)[table.splits == "validation"]
    return true, {name: predict_validation(table, name) for name in FEATURES}


def predict_table(path: Path | None) -> Predictions:
    """Return the true and the predicted classes of the validation rows of a table."""
    table = read_table(path)
    labels = np.array(table.labels)
    features = standardize(table.features, table.splits == "train")
    predicted = predict_classes(features, labels, table.splits, penalty=TABLE_PENALTY)
    return labels[table.splits == "validation"], {"all columns": predicted}


def summarize(table: SequenceTable) -> Numbers:
    """Return mean, deviation, first and last step and the length of each sequence, (N, 4F + 1)."""
    ends = np.cumsum(table.lengths)
    sequences = [
        table.steps[end - length : end] for end, length in zip(ends, table.lengths, strict=True)
    ]
    rows = [np.r_[x.mean(axis=0), x.std(axis=0), x[0], x[-1], len(x)] for x in sequences]
    return np.array(rows, dtype=np.float64)


def predict_sequences(path: Path | None) -> Predictions:
    """Return the true and the predicted classes of validation sequences."""
    table = read_sequences(path)
    labels = np.array(table.labels)
    features = standardize(summarize(table), table.splits == "train")
    predicted = predict_classes(features, labels, table.splits, penalty=SEQUENCE_PENALTY)
    return labels[table.splits == "validation"], {"summary": predicted}


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
