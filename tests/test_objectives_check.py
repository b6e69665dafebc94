"""A check finds every planted bug with its line, and none in correct loops."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from objectives.check.findings import CheckResult
from objectives.check.run import check_loop
from objectives.loops.space import find_own_names, nest_space, read_params
from search_spaces.space import parse_space

LOOPS = Path(__file__).parent / "loops"
CORRECT = sorted((LOOPS / "correct").glob("*.py"))

pytestmark = pytest.mark.usefixtures("one_thread")


def load(path: Path) -> ModuleType:
    if str(LOOPS) not in sys.path:
        sys.path.append(str(LOOPS))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_correct(path: Path, seed: int) -> CheckResult:
    module = load(path)
    space = parse_space(nest_space(module.default_space))
    torch.manual_seed(seed)
    return check_loop(module.objective, read_params(space.first(), find_own_names(space)))


@pytest.mark.parametrize("path", CORRECT, ids=lambda path: path.stem)
def test_correct_loop_gives_no_alarm(path: Path) -> None:
    result = check_correct(path, seed=0)
    assert result.findings == ()
    assert result.epochs == 2
    assert result.steps > 0


planted = load(LOOPS / "planted.py")


def test_loop_without_a_bug_gives_no_alarm() -> None:
    assert check_loop(planted.make_loop(""), {}).findings == ()


@pytest.mark.parametrize("bug", planted.BUGS)
def test_planted_bug_is_found_with_its_line(bug: str) -> None:
    name, words = planted.BUGS[bug]
    result = check_loop(planted.make_loop(bug), {})
    found = {each.name: each for each in result.findings}
    assert name in found
    if words:
        file, _, number = str(found[name].line).rpartition(":")
        assert words in Path(file).read_text().splitlines()[int(number) - 1]
