"""Reads the text layout of SemEval-2010 Task 8: numbered sentences, each with its relation."""

import re
from collections.abc import Sequence
from pathlib import Path

from objectives.api import DataError

#: A line such as ``Component-Whole(e2,e1)`` or ``Other``.
_RELATION = re.compile(r"[A-Za-z][\w-]*(\(e[12],e[12]\))?")
#: A line such as ``1\t"The <e1>..."``.
_NUMBERED = re.compile(r"\d+\t.*")
_EXPECTED_RELATION = "expected a relation such as Component-Whole(e2,e1) or Other"


def is_semeval(lines: Sequence[str]) -> bool:
    """Return whether the first two lines with text are a numbered sentence and its relation."""
    filled = [line.strip() for line in lines[:50] if line.strip()][:2]
    if not filled or not _NUMBERED.fullmatch(filled[0]):
        return False
    is_quoted = filled[0].split("\t", 1)[1].startswith('"')
    return is_quoted or (len(filled) > 1 and bool(_RELATION.fullmatch(filled[1])))


def read_semeval(path: Path, lines: Sequence[str]) -> tuple[list[int], list[str], list[str]]:
    """Return the line of each sentence, counted from 1, the sentences, and their relations.

    Only a numbered line begins the next sentence, so that a missing empty line does no harm. The
    two directions of a relation stay two classes, as in the file.

    Raises:
        DataError: If a line is neither a sentence, its relation, a comment nor empty.
    """
    numbers: list[int] = []
    sentences: list[str] = []
    labels: list[str] = []
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        if len(labels) < len(sentences):
            if not _RELATION.fullmatch(line):
                raise DataError(
                    f"{path}, line {number}: {line[:60]!r} is no relation; {_EXPECTED_RELATION} "
                    f"for the sentence of line {numbers[-1]}"
                )
            labels.append(line)
        elif _NUMBERED.fullmatch(line):
            numbers.append(number)
            # The outer quotes only: SemEval does not double the quotes inside.
            sentences.append(re.sub(r'^"(.*)"$', r"\1", line.split("\t", 1)[1].strip()))
        elif line and not line.startswith("Comment") and not lines[number - 2].strip():
            raise DataError(
                f"{path}, line {number}: {line[:60]!r} is no numbered sentence; expected "
                '1<TAB>"..." after an empty line'
            )
    if len(labels) < len(sentences):
        raise DataError(
            f"{path}, line {numbers[-1]}: the file ends after the sentence; {_EXPECTED_RELATION} "
            "on the next line"
        )
    return numbers, sentences, labels
