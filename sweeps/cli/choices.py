"""Arguments and options with few right values: how they are read, and what a wrong one is told."""

import difflib
from collections.abc import Callable
from typing import Any

import typer


def read_trial(text: str) -> int:
    """Return the number of a trial, or say what it must be."""
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise typer.BadParameter(f"must be a whole number from 0, got {text!r}")
    return int(text)


def _one_of(*names: str) -> dict[str, Any]:
    """Return what makes ``typer.Option`` take one of these names alone."""

    def read(text: str) -> str:
        if text in names:
            return text
        near = difflib.get_close_matches(text.lower().replace("-", "_"), names, n=1, cutoff=0.5)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise typer.BadParameter(f"must be one of {', '.join(names)}, got {text!r}{guess}")

    parser: Callable[[str], str] = read
    return {"parser": parser, "metavar": "|".join(names)}


FORMAT = _one_of("table", "csv", "json", "parquet")
RULE = _one_of("best", "last", "tail")
COLUMN = _one_of("score", "train_loss", "val_loss", "learning_rate", "grad_norm")
