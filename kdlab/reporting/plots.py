"""Plots as inline SVG whose colours are the page's CSS variables, so that they read in light and dark."""

from __future__ import annotations

import importlib.util
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdlab.reporting.style import CSS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = 10
"""How many lines can be told apart in one plot: `--line-0` to `--line-9` of the page's style."""

POINTS = 400
"""A line of more points is drawn as the means of equal stretches: a page stays small after a long run."""

# Colours matplotlib draws in, each swapped for a variable of the page's style.
INK, GRID, TEXT, CARD = "#010203", "#010204", "#010205", "#010206"
LINES = [f"#0102{0x10 + i:02x}" for i in range(COLOURS)]
_VARIABLES = {INK: "var(--soft)", GRID: "var(--rule)", TEXT: "var(--text)", CARD: "var(--card)"} | {
    colour: f"var(--line-{i})" for i, colour in enumerate(LINES)
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a plot: its colour's number and its points."""

    colour: int
    x: Sequence[float]
    y: Sequence[float]


def drawable() -> bool:
    """Whether matplotlib, which is optional, is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def thin(x: Sequence[float], y: Sequence[float], *, points: int = POINTS) -> tuple[list[float], list[float], int]:
    """At most `points` points, each the mean of a stretch of `stretch` neighbours; values that are not finite go first.

    Returns x, y, stretch.
    """
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)]
    stretch = max(1, math.ceil(len(pairs) / points))
    parts = [pairs[start : start + stretch] for start in range(0, len(pairs), stretch)]
    return (
        [math.fsum(a for a, _ in part) / len(part) for part in parts],
        [math.fsum(b for _, b in part) / len(part) for part in parts],
        stretch,
    )


def curves(lines: Sequence[Line], *, key: str, label: str, share: bool = False) -> str:
    """Lines over optimiser steps. A span of more than a factor 20 is drawn on a log scale; `share` is drawn in percent.

    `key` is unique on the page (SVG ids are the document's).
    """
    figure, axes = blank(5.4, 2.9)
    for line in lines:
        scaled = [100 * value for value in line.y] if share else list(line.y)
        few = len(line.x) <= 30
        axes.plot(line.x, scaled, color=LINES[line.colour], linewidth=1.6, marker="o" if few else "", markersize=3)
    if not share and wide([value for line in lines for value in line.y]):
        axes.set_yscale("log")
        if max(max(line.y) for line in lines) > 100 * min(min(line.y) for line in lines):
            axes.minorticks_off()
    elif share:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel(f"{label}, %" if share else label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(True, color=GRID, linewidth=0.8)
    return as_svg(figure, key=key, label=f"{label} over optimiser steps")


def bars(values: Sequence[tuple[str, float, str]], *, key: str, title: str, log: bool) -> str:
    """Horizontal bars of (name, value, value as text), on a log scale where `log` (all values must be > 0)."""
    figure, axes = blank(4.2, 0.55 + 0.36 * len(values))
    positive = [value for _, value, _ in values if math.isfinite(value) and value > 0]
    top = max(positive, default=1.0)
    floor = min(positive) / 3 if log else 0.0
    for row, (_, value, text) in enumerate(values):
        drawn = value if math.isfinite(value) else top
        axes.barh(row, max(drawn - floor, 0.0), left=floor, height=0.62, color=LINES[row])
        place = max(drawn, floor)
        axes.annotate(text, (place, row), xytext=(5, 0), textcoords="offset points", va="center", color=INK)
    if log:
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xlim(floor, top * (top / floor) ** 0.4)
    else:
        axes.set_xlim(0, top * 1.4)
    axes.set_yticks(range(len(values)), [name for name, _, _ in values])
    axes.invert_yaxis()
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return as_svg(figure, key=key, label=title + ": " + ", ".join(f"{name} {text}" for name, _, text in values))


def wide(values: Sequence[float]) -> bool:
    """Whether positive values span more than a factor 20, which a plot shows on a log scale."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > 20


def blank(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of that many inches without a ground, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.tick_params(which="both", colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    return figure, axes


def as_svg(figure: Figure, *, key: str, label: str) -> str:
    """The figure as an `<svg>` element without header, metadata or fixed size, text kept as text."""
    from html import escape

    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    drawn = stream.getvalue()
    head, _, body = drawn[drawn.index("<svg") :].partition(">")
    view = head[head.index("viewBox=") :].split('"')[1]
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    # Ids are the whole document's: every plot gets its own.
    for used in ('id="', "url(#", 'href="#'):
        body = body.replace(used, f"{used}{key}-")
    links = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {links} viewBox="{view}" role="img" aria-label="{escape(label)}">{body}'


def alone(svg: str) -> str:
    """A plot as a file of its own, where no page tells the colours: those of the light page, on its card."""
    light: dict[str, str] = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6});", CSS.partition("}")[0]))
    drawn = re.sub(r"var\((--[\w-]+)\)", lambda found: light[found[1]], svg)
    return drawn.replace("<svg ", f'<svg style="background: {light["--card"]}" ', 1)
