"""The commands that carry a study on, or start the next one like it. Knows texts alone."""

import itertools
import shlex
from collections.abc import Collection, Sequence


def carry_on_command(study: str) -> str:
    """Return the ``bestepoch run`` that carries a study on."""
    return shlex.join(["bestepoch", "run", "--like", study, "--study", study])


def next_command(
    study: str, options: Sequence[str], *, taken: Collection[str], warm_start: bool = False
) -> str | None:
    """Return the ``bestepoch run`` of a study with other settings, as a study of its own.

    A larger budget alone needs none: the study goes on.

    Args:
        study: Name of the study.
        options: ``Advice.options`` of each piece of advice that is to be followed.
        taken: Names of the studies there are.
        warm_start: Whether a study of its own trains the best configurations of this one first.

    Returns:
        None without an option.
    """
    words = shlex.split(" ".join(options))
    given = list(zip(words[::2], words[1::2], strict=True))
    if not given:
        return None
    changes = [word for flag, value in given if flag == "--set" for word in (flag, value)]
    name = name_next(study, taken) if changes else study
    more = [word for flag, value in given if flag != "--set" for word in (flag, value)]
    if changes and warm_start and "--warm-start" not in more:
        more = ["--warm-start", study, *more]
    return shlex.join(["bestepoch", "run", "--like", study, "--study", name, *more, *changes])


def name_next(name: str, taken: Collection[str]) -> str:
    """Return a free name for the study after this one: ``edge-3`` after ``edge-2`` of ``edge``."""
    start, _, number = name.rpartition("-")
    base = start if number.isdecimal() and start in taken else name
    names = (f"{base}-{i}" for i in itertools.count(2))
    return next(each for each in names if each != name and each not in taken)
