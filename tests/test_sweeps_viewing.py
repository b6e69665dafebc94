"""Whoever looks at a study runs nobody's code: its objective may be gone, or another's."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sweeps.config.load import load_config

ROOT = Path(__file__).parent.parent
OBJECTIVE = """
import pathlib
pathlib.Path("imported").touch()
def load(): pass
def build_model(data, width=3): pass
"""
#: Every way to look at a study, in one process.
LOOK = """
import sys, threading, urllib.request

from storage.database import open_database
from sweeps import cli
from sweeps.views import dashboard, notebook

for words in (
    "list", "results mine", "show mine 0", "curves mine", "curves mine --html curves.html",
    "diagnose mine", "diagnose mine 1", "diagnose mine --json", "compare mine", "report mine",
):
    try:
        cli.main(words.split())
    except SystemExit as end:
        assert not end.code, words
names = ("best_epochs", "curves", "class_scores", "verdicts", "advice", "compare", "stop_audit")
assert all(getattr(notebook, name)("mine") is not None for name in names)
with open_database("sqlite:///bestepoch.db", create=False) as db:
    with dashboard.make_server(db, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for path in ("report", "report/mine"):
            page = urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/{path}").read()
            assert b"<h1>mine</h1>" in page
        server.shutdown()
print([name for name in sys.modules if name == "torch" or "moons" in name], file=sys.stderr)
"""


@pytest.mark.parametrize("is_there", [True, False])
def test_no_view_imports_the_objective_or_torch(
    is_there: bool, write_study: Callable[..., None], folder: Path
) -> None:
    path = folder / "moons.py"
    path.write_text(OBJECTIVE)
    config = load_config("moons.py").stored()
    (folder / "imported").unlink()  # by the process that was asked for the default space
    rising = [0.30 + 0.03 * epoch for epoch in range(17)]
    # Cut off, so that a way to carry it on is shown.
    write_study("mine", [rising, rising[:11], [0.5]], outcomes={2: None}, config=config)
    with closing(sqlite3.connect("bestepoch.db")) as connection, connection:
        connection.execute("update bestepoch_studies set objective = ?", (str(path),))
        connection.execute("update trial_results set outcome = 'interrupted' where trial = 2")
    if not is_there:
        path.unlink()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    looked = subprocess.run(
        [sys.executable, "-c", LOOK], capture_output=True, text=True, env=env, check=False
    )
    assert (looked.returncode, looked.stderr) == (0, "[]\n")
    assert "bestepoch run --like mine --study mine\n" in looked.stdout
    assert not (folder / "imported").exists()
