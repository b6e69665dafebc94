r"""All that a GPU is asked, in one call: whether it is right, how fast it is, a whole sweep.

    python tests/benchmarks/on_gpu.py [--device cuda] [--minutes 8] [--output FILE]

Prints a table in Markdown for RESULTS.md, and exits with 1 if a row of it says FAILED. Nothing is
downloaded, and the repository need not be installed. What an image with PyTorch lacks travels as
wheels, 22 MB of them for Python 3.12 (NAME: alembic annotated-types bottle colorlog mako optuna
optuna-dashboard plotext plotly pydantic pydantic-core sqlalchemy typing-inspection):

    pip download -d wheels --no-deps --only-binary=:all: --python-version 3.12 \
        --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 NAME...
    python3 -m pip install --no-index --no-deps --target /tmp/site wheels/*.whl    # there
    PYTHONPATH=/tmp/site python3 tests/benchmarks/on_gpu.py --output table.md

Each section is a process of its own, so that a kernel that fails or never returns ends no other.
It gets a share of the minutes that are left, looks at the clock between two items, and is killed
if it overruns. ``--device cpu`` runs all of it in small, half a minute on two idle cores.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
HEADER = "| check | case | measured | against | verdict |\n|---|---|---|---|---|"
FAILED = "FAILED"
#: Sections of ``gpu_checks``, with the share of the time that each may take.
SHARES = {
    "tests": 0.2,
    "torch.optim": 0.2,
    "recording": 0.15,
    "step times": 0.2,
    "sweep": 0.15,
    "precision": 0.1,
}
_GRACE_S = 5.0


def environment() -> dict[str, str]:
    paths = (str(ROOT), os.environ.get("PYTHONPATH"))
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def start_section(name: str, device: str, seconds: float) -> Iterator[str]:
    """Yield the rows of a section that is run in a process of its own."""
    script = str(Path(__file__).with_name("gpu_checks.py"))
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, script, name, device, str(seconds)], cwd=ROOT, env=environment(),
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            ending = f"exit code {process.wait(timeout=seconds + _GRACE_S)}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            ending = f"killed after {seconds + _GRACE_S:.0f} s"
        output.seek(0)
        lines = output.read().splitlines()
    is_row = f"| {name} |"
    yield from (line for line in lines if line.startswith(is_row))
    if ending != "exit code 0":
        last = next((line for line in reversed(lines) if not line.startswith(is_row)), "")
        yield f"{is_row} {last[:200].replace('|', '/')} | | | {FAILED}: {ending} |"


def describe_machine(device: str, commit: str | None) -> str:
    named = f"{platform.machine()}, {os.cpu_count()} cores"
    if device == "cuda":
        named = (
            f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, {os.cpu_count()} cores"
        )
    if commit is None:
        git = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
        )
        commit = git.stdout.strip() or "unknown commit"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"## {datetime.now(UTC):%Y-%m-%d}, {named}, {versions}, {commit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--section", choices=SHARES, action="append", help="only this; repeat")
    parser.add_argument("--output", type=Path, help="write the table to this file too")
    parser.add_argument("--commit", help="where there is no .git: what the table names")
    arguments = parser.parse_args()
    device: str = arguments.device
    ends = time.monotonic() + arguments.minutes * 60
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device here; --device cpu runs all of it in small")
    table: list[str] = []

    def write(line: str) -> None:
        table.append(line)
        print(line, flush=True)
        if arguments.output is not None:
            arguments.output.write_text("\n".join(table) + "\n")

    write(f"{describe_machine(device, arguments.commit)}\n\n{HEADER}")
    shares = {name: SHARES[name] for name in arguments.section or SHARES}
    while shares:
        # What a section does not need, the later ones may have.
        left = ends - time.monotonic() - _GRACE_S * len(shares)
        name = next(iter(shares))
        seconds = max(1.0, left * shares[name] / sum(shares.values()))
        del shares[name]
        for line in start_section(name, device, seconds):
            write(line)
    write(f"\n{arguments.minutes * 60 - (ends - time.monotonic()):.0f} s in all.")
    sys.exit(any(FAILED in line for line in table))


if __name__ == "__main__":
    main()
