"""Makes the data files of the benchmark tasks that are not shipped; the same bytes each time.

    python tests/benchmarks/task_data.py [--mlbench FOLDER]

MNIST-1D is made by its package (``pip install 'bestepoch[bench]'``). The spoken digits are those
that ship, with fewer to train on: as they are shared there, a fifth of all settings makes no
mistake on validation, so that none is better. The two tasks that are held out come from the R
package mlbench (``pip install rdata``; ``apt-get download r-cran-mlbench`` and ``dpkg -x
r-cran-mlbench_*.deb FOLDER``): letters from 16 numbers of their shapes, and which kind of splice
junction is in the middle of 60 nucleotides, as steps of three flags.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tasks import DATA

from objectives.data import sequences

MLBENCH = Path("usr/lib/R/site-library/mlbench/data")
SPLITS = ("train", "validation", "test")


def write_mnist1d() -> None:
    """Make MNIST-1D (Greydanus 2020, arXiv 2011.14439), with the package's own seed, 42."""
    from mnist1d.data import get_dataset_args, make_dataset

    settings = get_dataset_args()
    settings.num_samples, settings.train_split = 8000, 1.0
    made = make_dataset(settings)
    arrays = {"features": made["x"].astype(np.float32), "label": made["y"].astype(np.str_)}
    # The package has shuffled them.
    arrays["split"] = np.repeat(SPLITS, (4000, 2000, 2000))
    np.savez_compressed(DATA / "mnist1d.npz", **arrays)


def write_digits() -> None:
    """Share out the shipped recordings anew, at random."""
    with np.load(sequences.SHIPPED) as shipped:
        arrays = dict(shipped)
    arrays["split"] = shuffled_splits(120, 540, 540)
    np.savez_compressed(DATA / "digits.npz", **arrays)


def write_letters(folder: Path) -> None:
    """Write UCI's letter recognition (Frey and Slate 1991), doi 10.24432/C5ZP40."""
    table = read_rda(folder / MLBENCH / "LetterRecognition.rda")
    arrays = {
        "features": table.drop(columns="lettr").to_numpy(np.float32),
        "label": table["lettr"].to_numpy(np.str_),
        "split": shuffled_splits(12_000, 4000, 4000),
    }
    np.savez_compressed(DATA / "letters.npz", **arrays)


def write_splice(folder: Path) -> None:
    """Write UCI's splice junctions (primates), doi 10.24432/C5M888, as StatLog coded them."""
    table = read_rda(folder / MLBENCH / "DNA.rda")
    flags = table.drop(columns="Class").to_numpy(np.str_).astype(np.float32)
    arrays = {
        "sequences": flags.reshape(-1, 3),
        "lengths": np.full(len(flags), flags.shape[1] // 3),
        "labels": table["Class"].to_numpy(np.str_),
        "split": shuffled_splits(1600, 793, 793),
    }
    np.savez_compressed(DATA / "splice.npz", **arrays)


def read_rda(path: Path) -> Any:
    """Return the one data frame of a file of R."""
    import rdata

    frames: Mapping[str, Any] = rdata.read_rda(path)
    (frame,) = frames.values()
    return frame


def shuffled_splits(*counts: int) -> np.ndarray:
    """Return the split of each row, so many of each."""
    return np.random.default_rng(0).permutation(np.repeat(SPLITS, counts))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mlbench", type=Path, metavar="FOLDER", help="make the held-out too")
    arguments = parser.parse_args()
    DATA.mkdir(exist_ok=True)
    write_mnist1d()
    write_digits()
    if arguments.mlbench is not None:
        write_letters(arguments.mlbench)
        write_splice(arguments.mlbench)


if __name__ == "__main__":
    main()
