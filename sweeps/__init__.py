"""How a study is run: from a sweep's settings to a ranked answer.

``sweeps.run(sweeps.load_config("relation-cnn"))`` runs a sweep from Python. Importing
this package is cheap: Optuna and torch are imported by the functions that need them.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.config.settings import SweepConfig
    from sweeps.running.events import Event
    from sweeps.running.sweep import SweepEnd

__all__ = ["load_config", "load_like", "run"]


def __getattr__(name: str) -> Any:
    if name != "notebook":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sweeps.views import notebook

    return notebook


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
