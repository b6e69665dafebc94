"""Reads sentences with two marked entities and the relation between them.

The shipped file (see ``relation_cnn.md``) and a person's own file go the same way. Knows no model:
word vectors are in ``word_vectors.py``.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow

from objectives.api import DataError
from objectives.data import files
from objectives.data.examples import Examples, read_examples
from objectives.data.rows import ENDINGS, Rows, read_rows, rows_of_table
from objectives.data.semeval import is_semeval, read_semeval

#: The file that ships with the project.
SHIPPED = files.FOLDER / "wordnet_relations.tsv.gz"

_EXPECTED_TAGS = "expected one <e1>..</e1> and one <e2>..</e2>"
#: Tags of entities; decimal numbers; contractions as GloVe's own tokenizer splits them; words
#: with their hyphens; any other character alone.
_TOKEN = re.compile(
    r"</?e[12]>|\d+(?:[.,]\d+)+(?![^\W_])|n't\b|'(?:s|d|m|ll|re|ve)\b|[^\W_]+(?:-[^\W_]+)*|[^\w\s]|_"
)


@dataclass(frozen=True, slots=True)
class RelationTable:
    """Sentences with two entities and a label, N of them, in the order of the file.

    Attributes:
        tokens: Lower-cased tokens of each sentence, tags removed.
        entity1: Index in ``tokens`` of the head word of entity 1, its last token that holds a
            letter or a digit, (N,).
        entity2: The same of entity 2, (N,).
        examples: Class and split of each sentence.
    """

    tokens: tuple[tuple[str, ...], ...]
    entity1: npt.NDArray[np.int64]
    entity2: npt.NDArray[np.int64]
    examples: Examples


def read_relations(path: Path | None, *, label: str = "label", seed: int = 0) -> RelationTable:
    """Return the sentences of a file, or of the shipped file if ``path`` is None.

    The file is CSV, TSV, Parquet or npz, plain or gzipped, with the columns sentence (entities
    marked ``<e1>..</e1>`` and ``<e2>..</e2>``), the label and optionally split (train; validation,
    dev or val; test), or a text with the layout of SemEval-2010 Task 8. Without a split the
    sentences are shared 70/15/15, each class apart, and equal ones stay on one side.

    Args:
        path: The file, or None.
        label: Name of the column with the classes.
        seed: Decides the splits of a file that has none.

    Raises:
        DataError: If the file is not such a file; a line that names the file, the first row
            that is wrong, and what was expected.
    """
    rows = _read_rows(SHIPPED if path is None else path, label)
    tokens: list[tuple[str, ...]] = []
    heads: list[tuple[int, int]] = []
    wrong: list[tuple[int, str]] = []
    for row, sentence in enumerate(rows.texts("sentence")):
        try:
            words, *entities = parse_sentence(sentence)
        except ValueError as error:
            wrong.append((row, str(error)))
        else:
            tokens.append(words)
            heads.append((entities[0], entities[1]))
    if wrong:
        raise rows.error([row for row, _ in wrong], wrong[0][1])
    examples = read_examples(rows, label=label, groups=lambda: tokens, seed=seed)
    entity1, entity2 = np.array(heads, dtype=np.int64).reshape(-1, 2).T
    return RelationTable(tuple(tokens), entity1, entity2, examples)


def _read_rows(path: Path, label: str) -> Rows:
    expected = f"columns sentence, {label} and, if you like, split"
    ending, is_gzipped = files.find_ending(path, (*ENDINGS, ".txt"))
    if ending in (".txt", ".csv", ".tsv"):
        text = files.decode(path, files.read_bytes(path, is_gzipped=is_gzipped))
        lines = text.split("\n")
        if is_semeval(lines):
            numbers, sentences, labels = read_semeval(path, lines)
            table = pyarrow.table({"sentence": sentences, label: labels})
            rows = rows_of_table(str(path), table)
            return replace(rows, unit="line", place=lambda row: numbers[row])
        if ending == ".txt":
            raise DataError(
                f"{path}: not the layout of SemEval-2010 Task 8; expected a numbered sentence "
                '(1<TAB>"..."), on the next line its relation, a comment and an empty line; save '
                f"a table with {expected} as .tsv or .csv"
            )
    rows = read_rows(path, expected, label=label, texts=("sentence",))
    for name in ("sentence", label):
        rows.require(name, expected)
    return rows


def tokenize(text: str) -> list[str]:
    """Return the lower-cased tokens of a text, entity tags among them; [] for blank text."""
    lowered = text.lower()
    if not lowered.isascii():
        # One spelling a letter (macOS writes accents apart) and one apostrophe, or no vector fits.
        lowered = unicodedata.normalize("NFC", lowered).replace("\u2019", "'")
    if "n't" in lowered:
        lowered = lowered.replace("n't", " n't")
    return _TOKEN.findall(lowered)


def parse_sentence(sentence: str) -> tuple[tuple[str, ...], int, int]:
    """Return the tokens without tags and the index of the head word of each entity.

    The entities may stand in either order.

    Raises:
        ValueError: If not exactly two entities are marked, or one is empty.
    """
    marked = tokenize(sentence)
    try:
        start1, end1 = marked.index("<e1>"), marked.index("</e1>")
        start2, end2 = marked.index("<e2>"), marked.index("</e2>")
    except ValueError:
        raise ValueError(_tag_mistake(marked)) from None
    words = tuple([token for token in marked if token[-1] != ">" or len(token) < 4])
    is_in_order = start1 < end1 and start2 < end2 and (end1 < start2 or end2 < start1)
    if len(words) != len(marked) - 4 or not is_in_order:
        raise ValueError(_tag_mistake(marked))
    # Words before a tag: the tokens before it, less the tags among them.
    head1 = _head(words, start1 - 2 * (start2 < start1), end1 - start1 - 1, "e1")
    head2 = _head(words, start2 - 2 * (start1 < start2), end2 - start2 - 1, "e2")
    return words, head1, head2


def _head(words: Sequence[str], start: int, num_words: int, name: str) -> int:
    """Return the last index that names something: not the final dot of "Ph.D."."""
    for index in range(start + num_words - 1, start - 1, -1):
        if any(map(str.isalnum, words[index])):
            return index
    raise ValueError(f"<{name}> holds no word; {_EXPECTED_TAGS} with a word inside")


def _tag_mistake(marked: Sequence[str]) -> str:
    """Say what is wrong with the tags; the first thing that a person would mend."""
    counts = Counter(marked)
    problem = "the entities overlap"
    if not any(counts[f"<{slash}{name}>"] for slash in ("", "/") for name in ("e1", "e2")):
        problem = "no entity is marked"
    else:
        for name in ("e2", "e1"):
            opened, closed = counts[f"<{name}>"], counts[f"</{name}>"]
            if not opened and not closed:
                problem = f"<{name}> is missing"
            elif opened > 1 or closed > 1:
                problem = f"<{name}> is marked {max(opened, closed)} times"
            elif not closed:
                problem = f"<{name}> is not closed"
            elif not opened or marked.index(f"</{name}>") < marked.index(f"<{name}>"):
                problem = f"</{name}> has no <{name}> before it"
    return f"{problem}; {_EXPECTED_TAGS}, apart from each other"
