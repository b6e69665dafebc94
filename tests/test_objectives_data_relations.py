import gzip
import io
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from objectives.api import DataError
from objectives.data.relations import assign_splits, parse_sentence, read_relations, tokenize
from objectives.data.word_vectors import load_word_vectors

TAGGED = "The <e1>mast</e1> of a <e2>ship</e2>"
ROWS = [
    (TAGGED, "part", "train"),
    ('<e2>Oaks</e2>, said "she", are old <e1>trees</e1>.', "kind", "train"),
    ("a <e1>sail</e1> on the <e2>ship</e2>", "part", "dev"),
    ("an <e1>elm</e1> is a <e2>tree</e2>", "kind", "Validation"),
    ("the <e1>keel</e1>, of the <e2>ship</e2>", "part", "test"),
]
SPLITS = ["train", "train", "validation", "validation", "test"]
SEMEVAL = (
    '8001\t"Most of the <e1>taste</e1> comes from the "<e2>filter</e2>"."\n'
    "Cause-Effect(e2,e1)\n"
    "Comment:  not a quote: 3 \n"
    "\n"
    '8002\t"The <e1>bow</e1> is a <e2>weapon</e2>."\n'
    "Other\n"
    "Comment: \n"
    "\n"
)


def tsv(rows: list[tuple[str, ...]], header: str = "sentence\tlabel\tsplit") -> str:
    return "\n".join([header, *("\t".join(row) for row in rows)]) + "\n"


def csv_text(rows: list[tuple[str, ...]]) -> str:
    quoted = [",".join('"' + field.replace('"', '""') + '"' for field in row) for row in rows]
    return "\n".join(["sentence,label,split", *quoted]) + "\n"


def parquet_bytes(columns: dict[str, list[object]]) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def as_parquet() -> bytes:
    names = ("sentence", "label", "split")
    return parquet_bytes({n: [row[i] for row in ROWS] for i, n in enumerate(names)})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.tsv", tsv(ROWS).encode()),
        ("d.TSV", tsv(ROWS).encode()),
        ("d.tsv", b"\xef\xbb\xbf" + tsv(ROWS).replace("\n", "\r\n").encode()),
        ("d.tsv", tsv(ROWS).rstrip("\n").encode()),
        ("my.data.tsv.gz", gzip.compress(tsv(ROWS).encode())),
        # As pandas writes a TSV: a field that holds a quote is quoted as a whole.
        ("d.tsv", csv_text(ROWS).replace('","', '"\t"').replace(",label,", "\tlabel\t").encode()),
        ("d.csv", csv_text(ROWS).encode()),
        ("d.csv", b"\xef\xbb\xbf" + csv_text(ROWS).replace("\n", "\r\n").encode()),
        ("d.csv.gz", gzip.compress(csv_text(ROWS).encode())),
        ("d.parquet", as_parquet()),
        ("d.parquet.gz", gzip.compress(as_parquet())),
    ],
)
def test_every_format_reads_the_same_table(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    table = read_relations(path)
    assert table.tokens[0] == ("the", "mast", "of", "a", "ship")
    assert " ".join(table.tokens[1]) == 'oaks , said " she " , are old trees .'
    assert table.entity1.tolist() == [1, 9, 1, 1, 1]
    assert table.entity2.tolist() == [4, 0, 4, 4, 5]
    assert table.entity1.dtype == table.entity2.dtype == np.int64
    assert table.labels == ("part", "kind", "part", "kind", "part")
    assert table.splits.tolist() == SPLITS


def test_columns_stand_in_any_order_beside_others(tmp_path: Path) -> None:
    rows = [(split, "x", label, sentence) for sentence, label, split in ROWS]
    path = tmp_path / "d.tsv"
    path.write_text(tsv(rows, header="split\tnote\tlabel\tsentence"))
    assert read_relations(path).splits.tolist() == SPLITS


def test_quoted_csv_field_may_hold_commas_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(
        'sentence,label,split\n"<e1>a</e1>,\nand\n<e2>b</e2>",x,train\n\n'
        "<e1>c</e1> <e2>d</e2>,y,train\n<e1>c</e1> <e2>d</e2>,y,val\n"
    )
    assert read_relations(path).tokens[0] == ("a", ",", "and", "b")
    path.write_text(path.read_text().replace("val", "vall"))
    # The first record takes lines 2 to 4 and line 5 is empty, as an editor shows it.
    with pytest.raises(DataError, match=r"d\.csv, line 7: unknown split 'vall'"):
        read_relations(path)


def test_parquet_labels_may_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    columns: dict[str, list[object]] = {
        "label": [3, 5, 3],
        "split": ["train", "train", "val"],
        "sentence": [TAGGED] * 3,
    }
    path.write_bytes(parquet_bytes(columns))
    assert read_relations(path).labels == ("3", "5", "3")


@pytest.mark.parametrize(
    "content",
    [
        SEMEVAL,
        SEMEVAL.replace("\n", "\r\n"),
        "\n\n" + SEMEVAL,
        SEMEVAL.rstrip(),
        SEMEVAL.replace("Comment: \n\n", ""),
        SEMEVAL.replace("\n\n", "\n"),  # no empty lines at all
        SEMEVAL.replace("not a quote: 3", "two\nlines"),
    ],
)
@pytest.mark.parametrize("name", ["TRAIN_FILE.TXT", "train.txt", "train.tsv", "train.csv"])
def test_semeval_layout_is_known_by_content(tmp_path: Path, content: str, name: str) -> None:
    path = tmp_path / name
    # Eight copies: enough for a validation split of both classes.
    content = content.removeprefix("\ufeff")
    bom = b"\xef\xbb\xbf"
    copies = [
        content.rstrip().replace("taste", f"taste{n}").replace("bow", f"bow{n}") for n in range(8)
    ]
    end = "\r\n" if "\r" in content else "\n"
    path.write_bytes(bom + (end * 2).join(copies).encode())
    table = read_relations(path)
    assert table.labels == ("Cause-Effect(e2,e1)", "Other") * 8
    assert table.tokens[1] == ("the", "bow0", "is", "a", "weapon", ".")
    assert table.tokens[0][-5:] == ("the", '"', "filter", '"', ".")
    assert table.entity1[:2].tolist() == [3, 1]
    assert table.entity2[:2].tolist() == [8, 4]


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


def sized(num_by_label: dict[str, int]) -> list[str]:
    return [label for label, num in num_by_label.items() for _ in range(num)]


def test_rows_without_split_are_shared_label_by_label() -> None:
    labels = sized({"a": 700, "b": 101, "c": 3, "d": 2})
    groups = list(range(len(labels)))
    shares = Counter(zip(labels, assign_splits(groups, labels, seed=0), strict=True))
    assert [shares["a", s] for s in ("train", "validation", "test")] == [490, 105, 105]
    assert [shares["b", s] for s in ("train", "validation", "test")] == [71, 15, 15]
    assert shares["c", "train"] == 2
    assert shares["d", "train"] == 2  # never a class that cannot be learned


def test_seed_and_nothing_else_decides_the_splits() -> None:
    labels = sized({"a": 70, "b": 31})
    groups = list(range(len(labels)))
    first = assign_splits(groups, labels, seed=0)
    assert first == assign_splits(groups, labels, seed=0)
    assert first != assign_splits(groups, labels, seed=1)
    assert first[::-1] == assign_splits(groups[::-1], labels[::-1], seed=0)


def test_equal_sentences_share_a_split(tmp_path: Path) -> None:
    # Each text twice, with the entities marked the other way round and another label.
    rows = []
    for n in range(53):
        rows.append((f"<e1>a{n}</e1> and <e2>b</e2>", "x"))
        rows.append((f"<e2>A{n}</e2> and <e1>b</e1>", "y"))
    path = tmp_path / "d.tsv"
    path.write_text(tsv(rows, header="sentence\tlabel"))
    table = read_relations(path, seed=3)
    assert table.splits[::2].tolist() == table.splits[1::2].tolist()
    assert Counter(table.splits.tolist()) == {"train": 74, "validation": 16, "test": 16}


GOOD = tsv(ROWS)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("none.tsv", None, ["no such file"]),
        ("d.xlsx", GOOD, ["unknown ending '.xlsx'", "expected .tsv, .csv, .parquet, .npz"]),
        ("d", GOOD, ["unknown ending ''"]),
        ("d.gz", GOOD, ["unknown ending ''"]),
        ("d.tsv", "", ["the file is empty", "columns sentence, label"]),
        ("d.csv", "\n \n", ["the file is empty"]),
        ("d.tsv", GOOD.split("\n")[0], ["no rows after line 1"]),
        (
            "d.tsv",
            GOOD.replace("sentence", "Sentense"),
            ["line 1", "no column 'sentence'", "nearest: 'Sentense'"],
        ),
        (
            "d.tsv",
            GOOD.replace("label", "class"),
            ["no column 'label'", "found 'sentence', 'class'"],
        ),
        ("d.tsv", GOOD.replace("\t", ";"), ["no column 'sentence'", "tab-separated"]),
        ("d.tsv", GOOD.replace("split", "label"), ["column 'label' stands 2 times"]),
        (
            "d.tsv",
            GOOD.replace(TAGGED, "The mast"),
            ["line 2: no entity is marked", "expected one <e1>..</e1>"],
        ),
        ("d.tsv", GOOD.replace(TAGGED, "<e1>a</e1> b"), ["line 2: <e2> is missing"]),
        ("d.tsv", GOOD.replace(TAGGED, "a <e2>b</e2>"), ["line 2: <e1> is missing"]),
        ("d.tsv", GOOD.replace("sail</e1>", "sail"), ["line 4: <e1> is not closed"]),
        ("d.tsv", GOOD.replace("sail</e1>", "sail<e1>"), ["line 4: <e1> is marked 2 times"]),
        ("d.tsv", GOOD.replace("<e1>sail", "sail"), ["line 4: </e1> has no <e1> before it"]),
        ("d.tsv", GOOD.replace(TAGGED, "</e1>a<e1> <e2>b</e2>"), ["</e1> has no <e1> before it"]),
        ("d.tsv", GOOD.replace(TAGGED, "<e1>a <e2>b</e2></e1>"), ["the entities overlap"]),
        ("d.tsv", GOOD.replace(TAGGED, "<e1>a <e2>b</e1> c</e2>"), ["the entities overlap"]),
        ("d.tsv", GOOD.replace("mast</e1>", "mast</e1><e1>x</e1>"), ["<e1> is marked 2 times"]),
        ("d.tsv", GOOD.replace("mast", ""), ["line 2: <e1> holds no word"]),
        (
            "d.tsv",
            GOOD.replace("ship</e2>\tpart\ttrain", "...</e2>\tpart\ttrain"),
            ["line 2: <e2> is not closed" if False else "line 2"],
        ),
        ("d.tsv", GOOD.replace("\tkind\ttrain", "\t \ttrain"), ["line 3: the label is empty"]),
        (
            "d.tsv",
            GOOD.replace("dev", "eval"),
            ["line 4: unknown split 'eval'", "train, validation (also dev, val) or test"],
        ),
        (
            "d.tsv",
            GOOD.replace("dev", "").replace("test", "trian"),
            ["line 4: unknown split ''", "(1 more line with mistakes: 6)"],
        ),
        ("d.tsv", GOOD.replace("part\tdev", "part"), ["line 4: 2 columns", "expected 3"]),
        (
            "d.tsv",
            GOOD.replace("dev", "train").replace("Validation", "test"),
            ["no row is in the split 'validation'"],
        ),
        ("d.tsv", GOOD.replace("train", "test"), ["no row is in the split 'train'"]),
        ("d.tsv", GOOD.replace("kind", "part"), ["only one class, 'part'"]),
        (
            "d.tsv",
            GOOD.replace("part\tdev", "whole\tdev"),
            ["line 4: class 'whole' of the split 'validation' is absent from train"],
        ),
        ("d.tsv", GOOD.encode() + b"\r\n\xff\n", ["line 8: byte 0xff is not UTF-8"]),
        ("d.tsv", GOOD.encode("utf-16"), ["line 1: byte 0xff is not UTF-8"]),
        ("d.tsv.gz", GOOD, ["broken gzip"]),
        ("d.tsv.gz", gzip.compress(GOOD.encode())[:-20], ["broken gzip"]),
        ("d.tsv.gz", gzip.compress(GOOD.encode())[:12] + b"x" * 50, ["broken gzip"]),
        ("d.parquet", GOOD, ["broken Parquet"]),
        ("d.parquet", as_parquet()[:-9], ["broken Parquet"]),
        (
            "d.parquet",
            parquet_bytes({"sentence": [TAGGED, "a"], "label": ["x", None]}),
            ["d.parquet, row 2", "no entity is marked"],
        ),
        (
            "d.parquet",
            parquet_bytes({"text": [TAGGED], "label": ["x"]}),
            ["no column 'sentence'", "found 'text', 'label'"],
        ),
        (
            "d.csv",
            'sentence,label\n<e1>a</e1> <e2>b</e2>,x\n"<e1>a</e1>,x\n<e2>b</e2>,y\n',
            ["line 3: broken CSV", "unexpected end of data"],
        ),
        ("d.csv", 'sentence,label\n"<e1>a</e1> "b" <e2>c</e2>",x\n', ["line 2: broken CSV"]),
        ("d.txt", GOOD, ["not the layout of SemEval-2010 Task 8", ".tsv or .csv"]),
        ("d.txt", SEMEVAL.replace("Other", ""), ["line 6: '' is no relation", "line 5"]),
        ("d.txt", SEMEVAL.split("\nOther")[0], ["line 5: the file ends after the sentence"]),
        ("d.txt", SEMEVAL + "hello\n", ["line 9: 'hello' is no numbered sentence"]),
        ("d.txt", SEMEVAL.replace("<e1>bow</e1>", "bow"), ["line 5: <e1> is missing"]),
    ],
)
def test_wrong_file_is_told_in_one_line(
    tmp_path: Path, name: str, content: str | bytes | None, parts: list[str]
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError) as raised:
        read_relations(path)
    message = str(raised.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for part in [*parts, "expected"]:
        assert part in message
    assert raised.value.__cause__ is None


def test_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "d.tsv").mkdir()
    with pytest.raises(DataError, match=r"d\.tsv: is a folder; expected a file ending in \.tsv"):
        read_relations(tmp_path / "d.tsv")


def test_words_without_a_vector_are_zero() -> None:
    vectors, found = load_word_vectors(["tree", "no-such-word", "of"])
    assert vectors.shape == (3, 50)
    assert vectors.dtype == np.float32
    assert found.tolist() == [True, False, True]
    assert not vectors[1].any()
    # The published vector of "of" begins 0.70853 0.57088 -0.4716.
    np.testing.assert_allclose(vectors[2, :3], [0.70853, 0.57088, -0.4716], rtol=1e-3)
    assert load_word_vectors([])[0].shape == (0, 50)


def test_parquet_is_read_without_pandas_or_threads(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    path.write_bytes(as_parquet())
    # A thread of pyarrow's pool that starts as the process ends aborts it (exit code 134).
    code = (
        "import os, sys, pyarrow.parquet; from pathlib import Path;"
        "from objectives.data import relations;"
        "tasks = Path('/proc/self/task');"
        "count = lambda: len(os.listdir(tasks)) if tasks.is_dir() else 1;"
        "before = count(); relations.read_relations(Path(sys.argv[1]));"
        "print(count() - before, 'pandas' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0 False\n"


def test_text_files_are_read_without_pandas_pyarrow_or_torch() -> None:
    code = (
        "import sys; from objectives.data import relations, word_vectors;"
        "relations.read_relations(None); word_vectors.load_word_vectors(['a']);"
        "print([m for m in ('pandas', 'pyarrow', 'torch', 'sklearn') if m in sys.modules])"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
