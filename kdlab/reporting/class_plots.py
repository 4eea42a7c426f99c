"""Plots of a classifier: what it took for what, and whether it is as often right as it is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdlab.reporting.plots import CARD, GRID, INK, LINES, TEXT, as_svg, blank

WRITTEN = 12
"""Up to so many classes, every cell of a confusion matrix has its count."""
NAMED = 40
"""Up to so many classes the axes name them; more are numbered, every tenth shown."""
LEVELS = 12
"""Shades of a cell. Cells of a shade are one path, so that a picture of 77 classes stays small."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A line of a reliability diagram: the mean confidence and the accuracy of the texts in each bin."""

    name: str
    colour: int
    confidence: Sequence[float]
    accuracy: Sequence[float]
    count: Sequence[float]


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str], *, key: str, title: str) -> str:
    """A heat map of `counts[true][decided]`: the stronger a cell, the larger its share of the texts of that class."""
    size = len(names)
    assert all(len(row) == size for row in counts)
    inches = 1.3 + 0.36 * size if size <= WRITTEN else 8.0 if size <= NAMED else 5.0
    figure, axes = blank(max(inches + 0.7, 3.6), max(inches, 2.9))
    shades: dict[int, list[tuple[int, int]]] = {}
    for true, row in enumerate(counts):
        for decided, count in enumerate(row):
            if count:
                shade = max(1, round(LEVELS * count / sum(row)))
                shades.setdefault(shade, []).append((decided, true))
                if size <= WRITTEN:
                    colour = CARD if shade > 0.55 * LEVELS else TEXT
                    place = {"ha": "center", "va": "center", "fontsize": 9}
                    axes.text(decided, true, f"{count:,}", color=colour, **place)
    for shade, cells in shades.items():
        axes.add_patch(_squares(cells, 0.12 + 0.88 * shade / LEVELS))
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_aspect("equal")
    if size <= NAMED:
        small = 9 if size <= WRITTEN else 7
        long = max(map(len, names)) > 5 or size > WRITTEN
        axes.set_xticks(range(size), names, rotation=90 if long else 0, fontsize=small)
        axes.set_yticks(range(size), names, fontsize=small)
    else:
        tens = range(0, size, 10)
        axes.set_xticks(tens, [str(index + 1) for index in tens])
        axes.set_yticks(tens, [str(index + 1) for index in tens])
    axes.tick_params(length=0)
    axes.set_xlabel("decided")
    axes.set_ylabel("true")
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(True)
        axes.spines[side].set_color(GRID)
    return as_svg(figure, key=key, label=title)


def _squares(cells: Sequence[tuple[int, int]], opacity: float) -> object:
    """Unit squares around these points, as one patch."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners, codes = [], []
    for x, y in cells:
        corners += [(x - 0.5, y - 0.5), (x + 0.5, y - 0.5), (x + 0.5, y + 0.5), (x - 0.5, y + 0.5), (0, 0)]
        codes += [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY]
    return PathPatch(Path(corners, codes), facecolor=LINES[1], linewidth=0, alpha=opacity)


def reliability(lines: Sequence[Calibration], *, key: str, title: str) -> str:
    """Accuracy over confidence, in percent, with the diagonal on which a model is as often right as it is sure; the
    larger a point, the more texts."""
    figure, axes = blank(3.9, 3.3)
    axes.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle=(0, (4, 3)))
    for line in lines:
        x, y = ([100 * value for value in values] for values in (line.confidence, line.accuracy))
        most = max([*line.count, 1])
        axes.plot(x, y, color=LINES[line.colour], linewidth=1.4, label=line.name)
        axes.scatter(x, y, s=[8 + 70 * count / most for count in line.count], color=LINES[line.colour], linewidth=0)
    axes.set_xlim(0, 102)
    axes.set_ylim(-2, 102)
    axes.set_aspect("equal")
    axes.set_xlabel("confidence, %")
    axes.set_ylabel("accuracy, %")
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.legend(loc="upper left", frameon=False, labelcolor=INK, fontsize=9)
    return as_svg(figure, key=key, label=title)
