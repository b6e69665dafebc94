"""How a study is run: from a sweep's settings to a ranked answer.

``sweeps.run(sweeps.load_config("relation-cnn"))`` runs a sweep from Python. Importing
this package is cheap: Optuna and torch are imported by the functions that need them.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from objectives.loops.trial import OwnTrial
    from sweeps.config.settings import SweepConfig
    from sweeps.running.events import Event
    from sweeps.running.sweep import SweepEnd
    from sweeps.tracking import track

__all__ = ["OwnTrial", "load_config", "load_like", "run", "track"]

#: What is imported when it is asked for: the module, and the name in it, "" for the module itself.
_LAZY = {
    "notebook": ("sweeps.views.notebook", ""),
    "OwnTrial": ("objectives.loops.trial", "OwnTrial"),
    "track": ("sweeps.tracking", "track"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def load_config(target: str, overrides: Sequence[str] = (), **options: object) -> "SweepConfig":
    """Return a sweep's settings; see ``sweeps.config.load.load_config``."""
    from sweeps.config import load

    return load.load_config(target, overrides, **options)


def load_like(like: str, overrides: Sequence[str] = (), **options: object) -> "SweepConfig":
    """Return a study's settings with changes; see ``sweeps.config.load.load_like``."""
    from sweeps.config import load

    return load.load_like(like, overrides, **options)


def run(
    config: "SweepConfig",
    *,
    force: bool = False,
    on_event: "Callable[[Event], None] | None" = None,
) -> "SweepEnd":
    """Run a sweep until its budget is spent, or carry it on; see ``sweeps.running.sweep.run``."""
    from sweeps.running import sweep
    from sweeps.views.note_writer import NoteWriter

    return sweep.run(config, force=force, on_event=on_event, watch=NoteWriter)
