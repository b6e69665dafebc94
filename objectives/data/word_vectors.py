"""Loads the word vectors that ship with the project: GloVe 6B, 50 numbers a word.

A slice of GloVe: the words that stand in at least two training sentences of the shipped data
(``relation_cnn.md``).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

SHIPPED = Path(__file__).parent / "glove_wordnet.npz"


def load_word_vectors(
    vocabulary: Sequence[str],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the vectors of V words, and which of the words have one.

    Args:
        vocabulary: Lower-cased tokens, as ``read_relations`` gives them.

    Returns:
        Vectors (V, 50), zeros where there is none, and found (V,).
    """
    with np.load(SHIPPED) as archive:
        words = archive["words"].tobytes().decode("utf-8").split("\n")
        shipped = archive["vectors"].astype(np.float32)
    rows = {word: row for row, word in enumerate(words)}
    found = np.array([word in rows for word in vocabulary], dtype=np.bool_)
    vectors = np.zeros((len(vocabulary), shipped.shape[1]), dtype=np.float32)
    vectors[found] = shipped[[rows[word] for word in vocabulary if word in rows]]
    return vectors, found
