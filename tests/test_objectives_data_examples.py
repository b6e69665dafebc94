"""Classes and splits of a file's examples: shared by class, and refused where nothing is left."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from objectives.api import DataError
from objectives.data.examples import SPLITS, Examples, assign_splits, read_examples
from objectives.data.rows import read_rows


def read(path: Path, text: str, *, seed: int = 0) -> Examples:
    path.write_text(text)
    rows = read_rows(path, "a label")
    return read_examples(rows, label="label", groups=lambda: rows.texts("x"), seed=seed)


def sized(num_by_label: dict[str, int]) -> list[str]:
    return [label for label, num in num_by_label.items() for _ in range(num)]


def test_rows_without_split_are_shared_class_by_class() -> None:
    labels = sized({"a": 700, "b": 101, "c": 3, "d": 2, "e": 1})
    groups = list(range(len(labels)))
    counts = Counter(zip(labels, assign_splits(groups, labels, seed=0), strict=True))
    shares = {label: [counts[label, split] for split in SPLITS] for label in "abcde"}
    # What is rare is first trained, then measured.
    expected = {"a": [490, 105, 105], "b": [71, 15, 15], "c": [2, 1, 0], "d": [1, 1, 0]}
    assert shares == expected | {"e": [1, 0, 0]}


def test_seed_and_nothing_else_decides_the_splits() -> None:
    labels = sized({"a": 70, "b": 31})
    groups = list(range(len(labels)))
    first = assign_splits(groups, labels, seed=0)
    assert first == assign_splits(groups, labels, seed=0)
    assert first != assign_splits(groups, labels, seed=1)
    assert first[::-1] == assign_splits(groups[::-1], labels[::-1], seed=0)


def test_rows_of_one_group_stay_on_one_side(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 400, size=1000)
    text = "x,label\n" + "".join(f"{x},{x % 5 == 0}\n" for x in values)
    examples = read(tmp_path / "t.csv", text)
    sides = dict(zip(values.tolist(), examples.splits.tolist(), strict=True))
    assert [sides[x] for x in values.tolist()] == examples.splits.tolist()
    for name in examples.class_names:
        of_class = examples.splits[examples.labels == name]
        for split, share in (("train", 0.70), ("validation", 0.15), ("test", 0.15)):
            assert (of_class == split).mean() == pytest.approx(share, abs=0.02)


def test_splits_have_several_names(tmp_path: Path) -> None:
    names = ["train", "Train", "val", "dev", "VALIDATION", "test"]
    text = "x,label,split\n" + "".join(f"{i},{i % 2},{name}\n" for i, name in enumerate(names))
    examples = read(tmp_path / "t.csv", text)
    expected = ["train", "train", "validation", "validation", "validation", "test"]
    assert examples.splits.tolist() == expected
    assert (examples.class_names, examples.targets.tolist()) == (("0", "1"), [0, 1] * 3)
    assert examples.is_train.tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "x,label\n1,a\n2,\n3,b\n4,\n",
            ", line 3: the label is empty; expected the name of a class (also in 1 other line: 5)",
        ),
        ("x,label\n1,a\n2,a\n", ": only one class, 'a'; expected at least two labels"),
        (
            "x,label\n" + "".join(f"{i},{i}.5\n" for i in range(30)),
            ": 'label' holds 30 different values in 30 rows; expected classes, each of several",
        ),
        (
            "x,label,split\n1,a,train\n2,b,trial\n",
            ", line 3: unknown split 'trial'; expected train, validation (also dev, val) or test",
        ),
        (
            "x,label,split\n1,a,train\n2,a,val\n3,b,val\n4,b,val\n",
            ", line 4: class 'b' of the split 'validation' is absent from train; expected every "
            "class there (also in 1 other line: 5)",
        ),
        (
            "x,label,split\n1,a,train\n2,a,test\n3,b,train\n",
            ": nothing is in the split 'validation'; expected both",
        ),
        ("x,label,split\n1,a,test\n2,b,val\n", ": nothing is in the split 'train'"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "t.csv"
    with pytest.raises(DataError) as caught:
        read(path, text)
    assert str(caught.value).startswith(f"{path}{expected}")
    assert "\n" not in str(caught.value)
