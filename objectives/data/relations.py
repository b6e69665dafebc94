"""Reads sentences with two marked entities and the relation between them.

The shipped file (see ``relation_cnn.md``) and a person's own file go the same way. Knows no model:
word vectors are in ``word_vectors.py``, file formats in ``relation_files.py``.
"""

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from objectives.api import DataError
from objectives.data.relation_files import Rows, read_rows

#: The file that ships with the project.
SHIPPED = Path(__file__).parent / "wordnet_relations.tsv.gz"

SPLITS = ("train", "validation", "test")
#: How the rows of a file without a split column are shared between SPLITS.
SHARES = (0.70, 0.15, 0.15)
#: What a split may be called in a file, lower case.
SPLIT_NAMES = {
    "train": "train",
    "validation": "validation",
    "dev": "validation",
    "val": "validation",
    "test": "test",
}

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
        labels: Class of each sentence.
        splits: "train", "validation" or "test", (N,).
    """

    tokens: tuple[tuple[str, ...], ...]
    entity1: npt.NDArray[np.int64]
    entity2: npt.NDArray[np.int64]
    labels: tuple[str, ...]
    splits: npt.NDArray[np.str_]


def read_relations(path: Path | None, *, seed: int = 0) -> RelationTable:
    """Return the sentences of a file, or of the shipped file if ``path`` is None.

    The file is TSV, CSV or Parquet, plain or gzipped, with the columns sentence (entities marked
    ``<e1>..</e1>`` and ``<e2>..</e2>``), label and optionally split (train; validation, dev or
    val; test), or it has the layout of SemEval-2010 Task 8. Without a column split the rows are
    shared 70/15/15, each label apart, and equal sentences stay on one side.

    Args:
        path: The file, or None.
        seed: Decides the splits of a file that has none.

    Raises:
        DataError: If the file is not such a file; one line that names the file, the first row
            that is wrong, and what was expected.
    """
    source = SHIPPED if path is None else path
    rows = read_rows(source)
    tokens: list[tuple[str, ...]] = []
    heads: list[tuple[int, int]] = []
    mistakes: list[tuple[int, str]] = []
    for number, sentence, label in zip(rows.numbers, rows.sentences, rows.labels, strict=True):
        try:
            words, head1, head2 = parse_sentence(sentence)
        except ValueError as error:
            mistakes.append((number, str(error)))
            continue
        if not label:
            mistakes.append((number, "the label is empty; expected the name of a class"))
        tokens.append(words)
        heads.append((head1, head2))
    mistakes += _split_mistakes(rows)
    if mistakes:
        raise DataError(_describe(source, rows.unit, mistakes))
    if rows.splits is None:
        splits = assign_splits(tokens, rows.labels, seed=seed)
    else:
        splits = [SPLIT_NAMES[name.lower()] for name in rows.splits]
    _check_classes(source, rows, splits)
    entities = np.array(heads, dtype=np.int64).reshape(-1, 2)
    return RelationTable(
        tokens=tuple(tokens),
        entity1=np.ascontiguousarray(entities[:, 0]),
        entity2=np.ascontiguousarray(entities[:, 1]),
        labels=rows.labels,
        splits=np.array(splits, dtype=np.str_),
    )


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


def _split_mistakes(rows: Rows) -> list[tuple[int, str]]:
    if rows.splits is None:
        return []
    return [
        (number, f"unknown split {name!r}; expected train, validation (also dev, val) or test")
        for number, name in zip(rows.numbers, rows.splits, strict=True)
        if name.lower() not in SPLIT_NAMES
    ]


def _describe(path: Path, unit: str, mistakes: list[tuple[int, str]]) -> str:
    """Return one line: the first mistake in full, and where up to five more rows have one."""
    mistakes = sorted(mistakes, key=lambda mistake: mistake[0])
    first = mistakes[0][0]
    others = sorted({number for number, _ in mistakes if number != first})
    more = ""
    if others:
        shown = ", ".join(map(str, others[:5])) + (", ..." if len(others) > 5 else "")
        plural = "" if len(others) == 1 else "s"
        more = f" ({len(others)} more {unit}{plural} with mistakes: {shown})"
    return f"{path}, {unit} {first}: {mistakes[0][1]}{more}"


def assign_splits(groups: Sequence[Hashable], labels: Sequence[str], *, seed: int) -> list[str]:
    """Return a split for each row, SHARES of every label; rows of one group share a split.

    Depends on the groups and the labels alone, not on the order of the rows or on a library's
    random numbers. A group is counted under its rarest label; the first group of a label goes
    to train.

    Args:
        groups: What must stay together, by ``repr``; (N,).
        labels: Class of each row, (N,).
        seed: Decides which groups go where.
    """
    sizes = Counter(labels)
    members: defaultdict[Hashable, Counter[str]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        members[group][label] += 1

    def rank(group: Hashable) -> tuple[int, str, bytes]:
        rarest = min((sizes[label], label) for label in members[group])
        return *rarest, hashlib.sha256(f"{seed} {group!r}".encode()).digest()

    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(SPLITS))
    chosen: dict[Hashable, str] = {}
    for group in sorted(members, key=rank):
        label = rank(group)[1]
        num_after = sum(counts[label]) + members[group][label]
        deficits = [
            share * num_after - count for share, count in zip(SHARES, counts[label], strict=True)
        ]
        index = deficits.index(max(deficits))
        chosen[group] = SPLITS[index]
        for member_label, num_rows in members[group].items():
            counts[member_label][index] += num_rows
    return [chosen[group] for group in groups]


def _check_classes(path: Path, rows: Rows, splits: Sequence[str]) -> None:
    """Raise if the rows cannot train a classifier or measure one."""
    expected = "; expected rows of both" if rows.splits else "; expected more rows"
    for name in ("train", "validation"):
        if name not in splits:
            raise DataError(f"{path}: no row is in the split {name!r}{expected}")
    classes = sorted(set(rows.labels))
    if len(classes) < 2:
        raise DataError(
            f"{path}: only one class, {classes[0]!r}; expected at least two different labels"
        )
    trained = {label for label, split in zip(rows.labels, splits, strict=True) if split == "train"}
    for number, label, split in zip(rows.numbers, rows.labels, splits, strict=True):
        if label not in trained:
            raise DataError(
                f"{path}, {rows.unit} {number}: class {label!r} of the split {split!r} is absent "
                "from train; expected every class there"
            )
