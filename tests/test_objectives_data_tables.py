"""Tables with a label: which columns are features, which rows stay together."""

from pathlib import Path

import numpy as np
import pytest

from objectives.api import DataError, find_fusion_key
from objectives.data.preparation import Preparation
from objectives.data.tables import Table, read_table
from objectives.lanes.trainer import ModelTrainer
from objectives.tabular_mlp import TabularMlp
from search_spaces.hparams import Hparams


def read(path: Path, text: str, *, label: str = "label") -> Table:
    path.write_text(text)
    return read_table(path, label=label)


def test_any_column_can_be_the_label(tmp_path: Path) -> None:
    text = 'age;"job";"y"\n58;"nurse";"no"\n44;"cook";"yes"\n33;"cook";"no"\n47;"nurse";"yes"\n'
    table = read(tmp_path / "t.csv", text, label="y")
    assert table.preparation.feature_names[0] == "age"
    assert table.examples.labels.tolist() == ["no", "yes", "no", "yes"]
    # label is a feature then, and y.NAME would be its distribution.
    table = read(tmp_path / "t.csv", "label,y.a,y.b\n1,0.5,0.5\n2,1,0\n3,0,1\n4,1,0\n", label="y")
    assert table.preparation.feature_names == ("label",)
    assert table.examples.class_names == ("a", "b")


def test_rows_that_are_equal_in_text_and_numbers_stay_on_one_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [(rng.integers(0, 9), "xyz"[rng.integers(0, 3)], "ab"[i % 2]) for i in range(400)]
    rows[7] = ("", *rows[7][1:])
    text = "n,t,label\n" + "".join(f"{n},{t},{label}\n" for n, t, label in rows)
    splits = read(tmp_path / "t.csv", text).examples.splits.tolist()
    sides: dict[tuple[str, str], str] = {}
    for (n, t, _), split in zip(rows, splits, strict=True):
        assert sides.setdefault((str(n), t), split) == split
    assert len(set(sides.values())) == 3


def test_new_rows_are_prepared_by_what_lies_beside_the_weights(tmp_path: Path) -> None:
    rows = "".join(
        f"{20 + i},{'cook' if i % 3 else ''},{('007', 'x', 'y', 'z')[i % 4]},{'ab'[i % 2]}\n"
        for i in range(30)
    )
    (tmp_path / "t.csv").write_text("age,job,code,label\n" + rows)
    objective = TabularMlp()
    data = objective.load(tmp_path / "t.csv")
    hparams = Hparams(batch_size=8)
    lane = ModelTrainer(objective, data).open_lane(find_fusion_key(hparams), 0)
    lane.place(0, 17, hparams)
    lane.train_epoch()
    lane.keep_best(0)
    lane.save_best(0, tmp_path / "w.safetensors")
    preparation = Preparation.of_weights(tmp_path / "w.safetensors")
    assert preparation.to_json() == data.preparation
    # A column of text whose new rows look like numbers is still text.
    (tmp_path / "new.csv").write_text("code,job,age\n007,,20\n007,cook,24\n")
    features = preparation.read(tmp_path / "new.csv")
    known = read_table(tmp_path / "t.csv").features
    np.testing.assert_array_equal(features, known[[0, 4]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x,lable\n1,a\n", ": no column 'label' (nearest: 'lable'); found 'x', 'lable'; expected"),
        ("label\na\nb\n", ": no feature columns beside label; expected a column label, columns"),
        ("label,split\na,train\nb,val\n", ": no feature columns beside label"),
    ],
)
def test_a_table_without_label_or_features_is_refused(
    tmp_path: Path, text: str, expected: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / "t.csv", text)
    assert str(caught.value).startswith(f"{tmp_path / 't.csv'}{expected}")
