"""The next sweep as a file: all settings of a study with advice followed, and why in comments."""

import json
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweeps.config.commands import name_next
from sweeps.config.named_trials import parse_value

if TYPE_CHECKING:
    from sweeps.analysis.advice_kinds import Advice
    from sweeps.read.study import Study

_WIDTH = 99


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
            _put(settings, path, value)
            reason = f"{each.text} {each.evidence}"
            # A table of the file, or one of its keys: what stands on a line of its own.
            place = path[: 3 if path[1:2] == ("model",) else 2 if path[0] in _TABLES else 1]
            lines = reasons.setdefault(place, [])
            lines += [reason] if reason not in lines else []
    lines = [f"# The sweep after {study.name}, written by bestepoch diagnose."]
    if "warm_start" in settings:
        lines.append("# warm_start trains the best configurations of that study first.")
    if not advice:
        lines.append("# Its trials show no other settings that would be better.")
    lines += _write_table({k: v for k, v in settings.items() if k not in _TABLES}, (), reasons)
    for name in _TABLES:
        if name in settings:
            table = dict(settings[name])
            model = table.pop("model", None) if name == "space" else None
            lines += ["", f"[{name}]", *_write_table(table, (name,), reasons)]
            if model:
                lines += ["", "[space.model]", *_write_table(model, ("space", "model"), reasons)]
    return "\n".join(lines) + "\n"


_TABLES = ("sampler", "pruner", "space")


def _read_changes(options: Sequence[str]) -> list[tuple[tuple[str, ...], Any]]:
    given = shlex.split(" ".join(options))
    changes = []
    for flag, text in zip(given[::2], given[1::2], strict=True):
        key, _, raw = (
            text.partition("=") if flag == "--set" else (flag[2:].replace("-", "_"), "", text)
        )
        changes.append((tuple(key.split(".")), parse_value(raw)))
    return changes


def _put(table: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        table = table.setdefault(name, {})
    table[path[-1]] = value


def _write_table(
    table: Mapping[str, Any],
    above: tuple[str, ...],
    reasons: Mapping[tuple[str, ...], Sequence[str]],
) -> list[str]:
    lines: list[str] = []
    for name, value in table.items():
        for reason in reasons.get((*above, name), ()):
            lines += textwrap.wrap(
                reason, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
            )
        lines.append(f"{name} = {_write(value)}")
    return lines


def _write(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{name} = {_write(each)}' for name, each in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_write(each) for each in value)}]"
    return json.dumps(value, ensure_ascii=False)
