"""The text layout of SemEval-2010 Task 8: known by its content, however it is written."""

from pathlib import Path

import pytest

from objectives.api import DataError
from objectives.data.relations import read_relations

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
    assert table.examples.labels.tolist() == ["Cause-Effect(e2,e1)", "Other"] * 8
    assert table.tokens[1] == ("the", "bow0", "is", "a", "weapon", ".")
    assert table.tokens[0][-5:] == ("the", '"', "filter", '"', ".")
    assert table.entity1[:2].tolist() == [3, 1]
    assert table.entity2[:2].tolist() == [8, 4]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sentence\tlabel\n", ": not the layout of SemEval-2010 Task 8; expected a numbered"),
        (
            SEMEVAL.replace("Other", ""),
            ", line 6: '' is no relation; expected a relation such as Component-Whole(e2,e1) or "
            "Other for the sentence of line 5",
        ),
        (SEMEVAL.split("\nOther")[0], ", line 5: the file ends after the sentence; expected a"),
        (SEMEVAL + "hello\n", ", line 9: 'hello' is no numbered sentence; expected"),
        (SEMEVAL.replace("<e1>bow</e1>", "bow"), ", line 5: <e1> is missing; expected"),
    ],
)
def test_wrong_file_is_told_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "d.txt"
    path.write_text(text)
    with pytest.raises(DataError) as raised:
        read_relations(path)
    assert str(raised.value).startswith(f"{path}{expected}")
    assert "\n" not in str(raised.value)
