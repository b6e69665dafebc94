"""Asks a person's own objective for its settings, in a process of its own.

``python -P -m objectives.describe FILE.py:Class`` imports the objective, and torch with it, and
writes one line of JSON: an ``OwnDescription``, or the mistakes. Who reads a sweep's settings calls
``describe_own`` and imports neither.
"""

import functools
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from objectives.interrupts import hold_interrupts
from objectives.places import show_path
from objectives.references import ObjectiveError, OwnDescription, find_change, parse_reference


def describe_own(text: str) -> OwnDescription:
    """Return the description of the objective that ``resolve_reference`` named.

    Asked once in a process, unless the objective's file changes. What the person's code prints
    goes to standard error.

    Raises:
        ObjectiveError: If it cannot be imported or is no objective; a line a mistake.
    """
    reference = parse_reference(text)
    assert reference is not None, f"not the name of an own objective: {text!r}"
    return _ask(text, os.getcwd(), find_change(reference))


@functools.lru_cache(maxsize=16)
def _ask(text: str, folder: str, changed_ns: int) -> OwnDescription:
    with hold_interrupts():
        process = subprocess.Popen(
            # -P: a folder called storage/ where the person stands must not shadow ours.
            [sys.executable, "-P", "-m", "objectives.describe", text],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
    with process:
        try:
            written, _ = process.communicate()
        finally:
            process.kill()
    if not written.endswith(b"\n"):
        code = process.returncode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        place = show_path(Path(text))
        raise ObjectiveError(f"{place}: the process that imported it ended with {how}")
    answer = json.loads(written)
    if "mistakes" in answer:
        raise ObjectiveError("\n".join(answer["mistakes"]))
    for name in ("model_names", "required_model_names"):
        answer[name] = None if answer[name] is None else tuple(answer[name])
    return OwnDescription(**answer)


def main(text: str) -> int:
    """Write the description of an objective, or its mistakes; return 0, or 2 for a mistake."""
    from objectives.own import find_own

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a person's print, from C too, must not be taken for the answer
    try:
        line, code = json.dumps(asdict(find_own(text).describe())), 0
    except ObjectiveError as error:
        line, code = json.dumps({"mistakes": str(error).splitlines()}), 2
    out.write(line + "\n")
    out.flush()
    return code


if __name__ == "__main__":
    exit_code = main(sys.argv[1])
    sys.stderr.flush()
    # Without the interpreter's end, in which torch takes half a second.
    os._exit(exit_code)
