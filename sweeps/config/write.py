"""The next sweep as a file: all settings of a study with advice followed, and why in comments."""

import json
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweeps.config.commands import name_next
from sweeps.config.merge import merge_tables
from sweeps.config.overrides import nest, read_override

if TYPE_CHECKING:
    from sweeps.analysis.advice_kinds import Advice
    from sweeps.read.study import Study

_WIDTH = 99
#: Settings that are tables of the file.
_TABLES = ("sampler", "pruner", "space")


def write_sweep(study: "Study", advice: Sequence["Advice"]) -> str:
    """Return a sweep file, TOML, with each piece of advice above what it changes.

    Raises:
        ValueError: If the study has no settings of a sweep.
    """
    if not study.is_sweep:
        raise ValueError(
            f"study {study.name!r} was not begun by bestepoch: no settings of a sweep"
        )
    settings = {key: value for key, value in study.config.items() if value not in (None, [], {})}
    sampler = (settings.get("sampler") or {}).get("name")
    settings["study"] = name_next(study.name, study.taken)
    settings.pop("warm_start", None)
    if sampler != "grid" and len(study.ranked):
        settings["warm_start"] = study.name
    settings = json.loads(json.dumps(settings))
    reasons: dict[tuple[str, ...], list[str]] = {}
    for each in advice:
        for path, value in _read_changes(each.options):
            settings = merge_tables(settings, nest(path, value))
            # The line of the file that says it.
            line = path[: 3 if path[1:2] == ("model",) else 2 if path[0] in _TABLES else 1]
            reason = f"{each.text} {each.evidence}"
            if reason not in reasons.setdefault(line, []):
                reasons[line].append(reason)
    lines = [f"# The sweep after {study.name}, written by bestepoch diagnose."]
    if "warm_start" in settings:
        lines.append("# warm_start trains the best configurations of that study first.")
    if not advice:
        lines.append("# Its trials show no other settings that would be better.")
    tables: dict[tuple[str, ...], Any] = {
        (name,): settings.pop(name) for name in _TABLES if name in settings
    }
    if model := tables.get(("space",), {}).pop("model", None):
        tables["space", "model"] = model
    lines += _write_table((), settings, reasons)
    for path, table in tables.items():
        lines += ["", f"[{'.'.join(path)}]", *_write_table(path, table, reasons)]
    return "\n".join(lines) + "\n"


def _read_changes(options: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
    given = shlex.split(" ".join(options))
    for flag, text in zip(given[::2], given[1::2], strict=True):
        key = flag.removeprefix("--").replace("-", "_")
        yield read_override(text if flag == "--set" else f"{key}={text}")


def _write_table(
    path: tuple[str, ...],
    table: Mapping[str, Any],
    reasons: Mapping[tuple[str, ...], Sequence[str]],
) -> Iterator[str]:
    """Yield a line for each key of a table, behind the reasons for it as comments."""
    for name, value in table.items():
        for reason in reasons.get((*path, name), ()):
            yield textwrap.fill(
                reason, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
            )
        yield f"{name} = {_write(value)}"


def _write(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{name} = {_write(each)}' for name, each in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_write(each) for each in value)}]"
    return json.dumps(value, ensure_ascii=False)
