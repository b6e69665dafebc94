"""Curves as text: a letter each, a capital one at its best epoch."""

import math
import string
from collections.abc import Mapping, Sequence
from typing import Any

import plotext

#: A letter a curve, so that no colour is needed.
LETTERS = string.ascii_lowercase
_COLOURS = ("blue+", "red+", "green+", "magenta+", "orange", "cyan+")
_TICKS = 8


def draw(
    lines: Sequence[Mapping[int, float]],
    best_epochs: Sequence[int | None],
    *,
    width: int,
    height: int = 22,
    has_colour: bool = False,
    is_log: bool = False,
    ends: tuple[float, float] | None = None,
) -> str:
    """Return curves as text, the first one on top, colours as ANSI codes.

    Args:
        lines: Value by epoch, from 1; none missing or infinite.
        best_epochs: The epoch of each that gets the capital letter, if it has a value there.
        width: Columns of the text.
        height: Lines of the text.
        has_colour: Whether to write colours.
        is_log: Whether the axis is logarithmic; then all values are above 0.
        ends: Lowest and highest value of the axis; None: those of the lines.
    """
    if not any(lines):
        return "(no epoch has a finite value)"
    if is_log:
        lines = [{epoch: math.log10(y) for epoch, y in line.items()} for line in lines]
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.theme("colorless")

    def signal(i: int, points: Mapping[int, float], letter: str) -> Any:
        pixel = (_COLOURS[i % len(_COLOURS)], "default", "default")
        marker = plotext.marker(letter, pixel=pixel)
        return figure.signal(list(points), list(points.values()), marker=marker)

    for i in reversed(range(len(lines))):
        if lines[i]:
            figure.draw(signal(i, lines[i], LETTERS[i]).lines())
    for i in reversed(range(len(lines))):
        best = best_epochs[i]
        if best is not None and best in lines[i]:
            figure.draw(signal(i, {best: lines[i][best]}, LETTERS[i].upper()))
    ticks = _choose_ticks(max(epoch for line in lines for epoch in line))
    figure.ruler("x").ticks(ticks, [str(tick) for tick in ticks])
    if is_log:
        # The axis names the values, not their logarithms.
        values = [value for line in lines for value in line.values()]
        low, high = min(values), max(values)
        places = [low + i * (high - low) / 4 for i in range(5)]
        figure.ruler("y").ticks(places, [f"{10**place:.2g}" for place in places])
    elif ends is not None:
        figure.ruler("y").lim(*ends)
    text: str = figure.build().string(colorless=not has_colour)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _choose_ticks(last: int) -> list[int]:
    """Return the epochs to name below a plot: 1, the last, and round ones between."""
    steps = (step * 10**power for power in range(7) for step in (1, 2, 5))
    step = next(step for step in steps if last / step <= _TICKS)
    between = [epoch for epoch in range(step, last, step) if 1 < epoch <= last - step / 2]
    return sorted({1, *between, last})
