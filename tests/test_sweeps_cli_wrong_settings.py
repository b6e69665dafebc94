"""Settings that are wrong are refused by the command: lines, exit code 2, nothing written."""

from collections.abc import Callable
from pathlib import Path

import pytest

Call = Callable[..., int]

pytestmark = pytest.mark.usefixtures("folder")

HEAD = 'objective = "tabular-mlp"\n'

#: What a sweep file says behind its objective, and what the one line says.
FILES = {
    "key": ("patiense = 3", "sweep.toml:2: unknown key 'patiense'; did you mean 'patience'?"),
    "table": ("[spcae]\ndropout = 0.5", "unknown key 'spcae'; did you mean 'space'?"),
    "key-of-table": ("[space]\nlr = 0.1", "sweep.toml:3: unknown key 'lr' in [space]"),
    "text": ('trials = "six"', "sweep.toml:2: trials must be a whole number, got 'six'"),
    "float": ("trials = 2.0", "trials must be a whole number, got 2.0"),
    "bool": ("trials = true", "trials must be a whole number, got True"),
    "zero": ("max_epochs = 0", "max_epochs must be >= 1, got 0"),
    "nan": ("max_minutes = nan", "max_minutes must be a finite number, got nan"),
    "infinite": ("[space]\nlearning_rate = inf", "must be a finite number, got inf"),
    "huge-seed": ("seed = 9223372036854775808", "seed must be < 9223372036854775808"),
    "date": ("trials = 2031-05-07", "trials must be a whole number, got datetime.date"),
    "no-table": ("space = 3", "sweep.toml:2: space must be a table, got 3"),
    "array-of-tables": ("[[space]]\ndropout = 0.5", "space must be a table, got [{"),
    "no-toml": ("trials = ", "is not valid TOML: Invalid value (at line 2"),
    "twice": ("trials = 1\ntrials = 2", "is not valid TOML: Cannot overwrite a value"),
    "brackets": (f"trials = {'[' * 5000}", "has too many brackets inside one another"),
    "empty-choices": ("[space]\ndropout = []", "space.dropout is an empty list"),
    "choice-twice": ("[space]\nbatch_size = [5, 5]", "names a choice twice: 5"),
    "nested-choice": ("[space]\ndropout = [[0.5]]", "must be a number, a text, true or false"),
    "reversed": ("[space]\ndropout = {low = 0.5, high = 0.1}", "is an empty range"),
    "half": ("[space]\nclip_norm = {low = 0.5}", "space.clip_norm.high is missing"),
    "huge": ("[space]\nmodel.hidden_width = {low = 1, high = 1e300, int = true}", "up to 900"),
    "outside": ("[space]\ndropout = 1.0", "space.dropout must be < 1.0, got 1.0"),
    "argument": ("[space.model]\nhiden_width = 3", "did you mean 'hidden_width'?"),
    "quote": ('[space.model]\n"a\'b" = 3', "is not a valid name of a Python argument"),
    "escape": ('[space.model]\n"\\u001b[2J" = 3', "is not a valid name of a Python argument"),
    "sampler": ('[sampler]\nname = "tpee"', "sampler.name is unknown: 'tpee'; did you mean 'tpe'"),
    "pruner": ('[pruner]\nname = "medain"', "got 'medain'; did you mean 'median'?"),
    "foreign-key": ("[pruner]\npercentile = 5", 'belongs to pruner.name = "percentile", not to'),
    "grid": ('sampler.name = "grid"', "points is missing: a grid needs it for the ranges of"),
    "tries": ("try = [3]", "try must be a list of tables, got [3]"),
    "tried-value": ("try = [{dropout = [0.1]}]", "try.1.dropout must be one value, got [0.1]"),
    "idle": ("try = [{rho = 0.5, optimizer = 'sgd'}]", "has no use: sgd takes no rho"),
    "metric": ('metric = "f1"', "metric is unknown: 'f1'"),
    "itself": ('warm_start = "tabular-mlp"', "warm_start must be another study than this one"),
}
#: Arguments of ``run``, and what the one line says.
ARGUMENTS = {
    "no-objective": (("tabular-mpl",), "no such objective"),
    "no-file": (("sweep.toml",), "sweep.toml: cannot be read: No such file or directory"),
    "folder": (("folder.toml",), "folder.toml: cannot be read: Is a directory"),
    "no-assignment": (("tabular-mlp", "--set", "trials"), "--set trials: expected key=value"),
    "no-key": (("tabular-mlp", "--set", "=3"), "--set =3: expected key=value"),
    "dots": (("tabular-mlp", "--set", "space..dropout=1"), "expected key=value"),
    "empty-table": (("tabular-mlp", "--set", "space={}"), "an empty table changes nothing"),
    "commas": (("tabular-mlp", "--set", "space.batch_size=32,x"), "a whole number, got 'x'"),
    "no-comma": (("tabular-mlp", "--set", "trials=3,4"), "must be a whole number, got '3,4'"),
    "deep": (("tabular-mlp", "--set", f"trials={'[' * 3000}"), "must be a whole number, got '[["),
    "study": (("tabular-mlp", "--study", "a b"), "--study: study must be 1 to 128 letters"),
    "dash": (("tabular-mlp", "--study=-x"), "the first one no '-', got '-x'"),
    "long": (("tabular-mlp", "--study", "x" * 129), "study must be 1 to 128 letters"),
    "try": (("tabular-mlp", "--try", "dropout"), "expected name=value"),
    "bytes": (("tabular-mlp", "--data", "\udcfc.csv"), "is not UTF-8 text; give the file another"),
}


def refuse(call: Call, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert call("run", *args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.rstrip("\n").isprintable(), captured.err
    assert {path.name for path in Path().iterdir()} <= {"sweep.toml", "folder.toml"}
    return captured.err


@pytest.mark.parametrize(("text", "expected"), FILES.values(), ids=list(FILES))
def test_wrong_sweep_file_is_refused(
    text: str, expected: str, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("sweep.toml").write_text(f"{HEAD}{text}\n")
    assert expected in refuse(call, capsys, "sweep.toml")


@pytest.mark.parametrize(("args", "expected"), ARGUMENTS.values(), ids=list(ARGUMENTS))
def test_wrong_argument_is_refused(
    args: tuple[str, ...], expected: str, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder.toml").mkdir()
    assert expected in refuse(call, capsys, *args)
