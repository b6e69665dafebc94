"""Labelled sentences with two marked entities: how they are read, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from objectives.api import DataError
from objectives.data.relations import parse_sentence, read_relations, tokenize
from objectives.data.word_vectors import load_word_vectors

TAGGED = "The <e1>mast</e1> of a <e2>ship</e2>"
ROWS = [
    (TAGGED, "part", "train"),
    ('<e2>Oaks</e2>, said "she", are old <e1>trees</e1>.', "kind", "train"),
    ("a <e1>sail</e1> on the <e2>ship</e2>", "part", "dev"),
    ("an <e1>elm</e1> is a <e2>tree</e2>", "kind", "Validation"),
    ("the <e1>keel</e1>, of the <e2>ship</e2>", "part", "test"),
]


def as_tsv(rows: list[tuple[str, ...]], header: str = "sentence\tlabel\tsplit") -> str:
    return "\n".join([header, *("\t".join(row) for row in rows)]) + "\n"


def as_csv(rows: list[tuple[str, ...]]) -> str:
    quoted = [",".join('"' + field.replace('"', '""') + '"' for field in row) for row in rows]
    return "\n".join(["sentence,label,split", *quoted]) + "\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("d.tsv", as_tsv(ROWS)),
        # As pandas writes a TSV: a field that holds a quote is quoted as a whole.
        ("d.tsv", as_csv(ROWS).replace('","', '"\t"').replace(",label,", "\tlabel\t")),
        ("d.csv", as_csv(ROWS)),
        # In any order beside others.
        ("d.tsv", as_tsv([(c, "x", b, a) for a, b, c in ROWS], "split\tnote\tlabel\tsentence")),
    ],
)
def test_every_format_reads_the_same_table(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    table = read_relations(path)
    assert table.tokens[0] == ("the", "mast", "of", "a", "ship")
    assert " ".join(table.tokens[1]) == 'oaks , said " she " , are old trees .'
    assert table.entity1.tolist() == [1, 9, 1, 1, 1]
    assert table.entity2.tolist() == [4, 0, 4, 4, 5]
    assert table.entity1.dtype == table.entity2.dtype == np.int64
    assert table.examples.labels.tolist() == ["part", "kind", "part", "kind", "part"]
    expected = ["train", "train", "validation", "validation", "test"]
    assert table.examples.splits.tolist() == expected


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_labels_of_columns_and_arrays_may_be_numbers(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"d.{kind}"
    columns: dict[str, Any] = {
        "label": [3, 5, 3],
        "split": ["train", "train", "val"],
        "sentence": [TAGGED] * 3,
    }
    if kind == "npz":
        np.savez(path, **columns)
    else:
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    assert read_relations(path).examples.labels.tolist() == ["3", "5", "3"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It doesn't cost $3,000.50!", ["it", "does", "n't", "cost", "$", "3,000.50", "!"]),
        ("the dog's bone's", ["the", "dog", "'s", "bone", "'s"]),
        ("We\u2019ll see", ["we", "'ll", "see"]),  # the apostrophe of word processors
        ("a ball-and-socket 10-day x-", ["a", "ball-and-socket", "10-day", "x", "-"]),
        ("cafe\u0301", ["caf\u00e9"]),  # an accent written apart
        ("3.5kg of a_b", ["3", ".", "5kg", "of", "a", "_", "b"]),
        ("a<b>c", ["a", "<", "b", ">", "c"]),
        (" \t ", []),
    ],
)
def test_text_becomes_tokens(text: str, expected: list[str]) -> None:
    assert tokenize(text) == expected


@pytest.mark.parametrize(
    ("sentence", "words", "heads"),
    [
        ("<e1>landing net</e1>: a <e2>net</e2>", "landing net : a net", (1, 4)),
        ("a <e2>b</e2><e1>c</e1>", "a b c", (2, 1)),
        ("pre-<e1>war</e1>-<e2>time</e2>", "pre - war - time", (2, 4)),  # tags part words
        ("<e1>Ph.D.</e1> <e2>(a) degree!</e2>", "ph . d . ( a ) degree !", (2, 7)),
        ("<E1>A</E1> <E2>b c d</E2> e", "a b c d e", (0, 3)),
        ("1 < 2 > 0 <e1>x</e1> <e2>y</e2>", "1 < 2 > 0 x y", (5, 6)),
    ],
)
def test_head_is_the_last_word_of_an_entity(
    sentence: str, words: str, heads: tuple[int, int]
) -> None:
    assert parse_sentence(sentence) == (tuple(words.split()), *heads)


def test_equal_sentences_share_a_split(tmp_path: Path) -> None:
    # Each text twice, with the entities marked the other way round and another label.
    rows = []
    for n in range(53):
        rows.append((f"<e1>a{n}</e1> and <e2>b</e2>", "x"))
        rows.append((f"<e2>A{n}</e2> and <e1>b</e1>", "y"))
    path = tmp_path / "d.tsv"
    path.write_text(as_tsv(rows, header="sentence\tlabel"))
    splits = read_relations(path, seed=3).examples.splits
    assert splits[::2].tolist() == splits[1::2].tolist()
    names, counts = np.unique(splits, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "train": 74,
        "validation": 16,
        "test": 16,
    }


GOOD = as_tsv(ROWS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace("sentence", "Sentense"), ": no column 'sentence' (nearest: 'Sentense')"),
        (GOOD.replace("label", "class"), ": no column 'label'; found 'sentence', 'class'"),
        (GOOD.replace("\t", ";"), ": no column 'sentence'"),
        (
            GOOD.replace(TAGGED, "The mast"),
            ", line 2: no entity is marked; expected one <e1>..</e1>",
        ),
        (GOOD.replace(TAGGED, "<e1>a</e1> b"), ", line 2: <e2> is missing"),
        (GOOD.replace(TAGGED, "a <e2>b</e2>"), ", line 2: <e1> is missing"),
        (GOOD.replace("sail</e1>", "sail"), ", line 4: <e1> is not closed"),
        (GOOD.replace("sail</e1>", "sail<e1>"), ", line 4: <e1> is marked 2 times"),
        (GOOD.replace("<e1>sail", "sail"), ", line 4: </e1> has no <e1> before it"),
        (
            GOOD.replace(TAGGED, "</e1>a<e1> <e2>b</e2>"),
            ", line 2: </e1> has no <e1> before it",
        ),
        (GOOD.replace(TAGGED, "<e1>a <e2>b</e2></e1>"), ", line 2: the entities overlap"),
        (GOOD.replace(TAGGED, "<e1>a <e2>b</e1> c</e2>"), ", line 2: the entities overlap"),
        (GOOD.replace("mast</e1>", "mast</e1><e1>x</e1>"), ", line 2: <e1> is marked 2 times"),
        (GOOD.replace("mast", ""), ", line 2: <e1> holds no word"),
        (
            GOOD.replace("mast", "").replace("elm</e1>", "elm"),
            ", line 2: <e1> holds no word; expected one <e1>..</e1> and one <e2>..</e2> with a "
            "word inside (also in 1 other line: 5)",
        ),
    ],
)
def test_wrong_sentence_is_told_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "d.tsv"
    path.write_text(text)
    with pytest.raises(DataError) as raised:
        read_relations(path)
    assert str(raised.value).startswith(f"{path}{expected}")
    assert "\n" not in str(raised.value)


def test_words_without_a_vector_are_zero() -> None:
    vectors, found = load_word_vectors(["tree", "no-such-word", "of"])
    assert vectors.shape == (3, 50)
    assert vectors.dtype == np.float32
    assert found.tolist() == [True, False, True]
    assert not vectors[1].any()
    # The published vector of "of" begins 0.70853 0.57088 -0.4716.
    np.testing.assert_allclose(vectors[2, :3], [0.70853, 0.57088, -0.4716], rtol=1e-3)
    assert load_word_vectors([])[0].shape == (0, 50)
