"""How the classes are spread over the folds, as a plot: `label_distribution([[90, 10], [88, 12]], ["no", "yes"])`; or
the numbers of a regression: `number_distribution([{"rows": 9, "mean": 2.1, "sd": 1.2, "min": 0, "max": 4}], "rating")`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdlab.reporting.plots import CARD, COLOURS, INK, LINES, as_svg, blank

STACKED = COLOURS - 1
"""Up to so many classes are parts of a bar a fold; more are points over the classes, a line a fold."""


def label_distribution(counts_per_fold: Sequence[Sequence[int]], names: Sequence[str], *, key: str = "labels") -> str:
    """`counts_per_fold[fold][class]` as an `<svg>`: the share of each class in every fold, the folds numbered from 0.

    Few classes are stacked bars; many are lines over the classes, the commonest first, that lie on each other where the
    folds are alike. `key` is unique on the page (SVG ids are the document's).
    """
    assert counts_per_fold
    assert all(len(counts) == len(names) for counts in counts_per_fold)
    shares = [[count / max(sum(counts), 1) for count in counts] for counts in counts_per_fold]
    return (_stacked if len(names) <= STACKED else _lined)(shares, names, key)


def number_distribution(spread_per_fold: Sequence[Mapping[str, float]], column: str, *, key: str = "labels") -> str:
    """The `rows`, `mean`, `sd`, `min` and `max` of every fold as an `<svg>`: a line from the least to the greatest
    number, a bar one standard deviation to each side of the mean, and the mean. `key` as in `label_distribution`."""
    assert spread_per_fold
    figure, axes = blank(5.4, 0.9 + 0.28 * len(spread_per_fold))
    rows, means, sds, least, most = (
        [found[name] for found in spread_per_fold] for name in ("rows", "mean", "sd", "min", "max")
    )
    folds = range(len(spread_per_fold))
    axes.hlines(folds, least, most, color=INK, linewidth=1.2, zorder=1, label="least to greatest")
    left = [mean - sd for mean, sd in zip(means, sds, strict=True)]
    axes.barh(folds, [2 * sd for sd in sds], left=left, height=0.5, color=LINES[1], zorder=2, label="mean ± sd")
    axes.vlines(means, [fold - 0.25 for fold in folds], [fold + 0.25 for fold in folds], color=CARD, linewidth=2)
    for fold in folds:
        said = f"{means[fold]:.3g} ± {sds[fold]:.3g}, {rows[fold]:,} rows"
        axes.annotate(said, (1.02, fold), xycoords=axes.get_yaxis_transform(), va="center", color=INK, fontsize=8)
    axes.set_xlabel(column)
    _folds_down(axes, len(folds))
    figure.legend(loc="outside upper center", ncols=2, frameon=False, labelcolor=INK, fontsize=9)
    return as_svg(figure, key=key, label=f"mean, standard deviation and range of {column} in each fold")


def _folds_down(axes: Any, folds: int) -> None:
    axes.set_yticks(range(folds), [str(fold) for fold in range(folds)])
    axes.invert_yaxis()
    axes.set_ylabel("fold")
    axes.tick_params(axis="y", length=0)


def _stacked(shares: Sequence[Sequence[float]], names: Sequence[str], key: str) -> str:
    figure, axes = blank(5.4, 0.9 + 0.28 * len(shares))
    starts = [0.0] * len(shares)
    for index, name in enumerate(names):
        widths = [100 * fold[index] for fold in shares]
        axes.barh(range(len(shares)), widths, left=starts, height=0.72, color=LINES[1 + index], label=name)
        for fold, (start, width) in enumerate(zip(starts, widths, strict=True)):
            if width >= 8:
                place = (start + width / 2, fold)
                axes.annotate(f"{width:.0f}", place, ha="center", va="center", color=CARD, fontsize=8)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the fold's rows")
    _folds_down(axes, len(shares))
    columns = min(len(names), 3)
    figure.legend(loc="outside upper center", ncols=columns, frameon=False, labelcolor=INK, fontsize=9)
    return as_svg(figure, key=key, label=_label(shares, names))


def _lined(shares: Sequence[Sequence[float]], names: Sequence[str], key: str) -> str:
    figure, axes = blank(5.4, 2.9)
    order = sorted(range(len(names)), key=lambda index: -sum(fold[index] for fold in shares))
    for number, fold in enumerate(shares):
        values = [100 * fold[index] for index in order]
        axes.plot(values, color=LINES[number % COLOURS], linewidth=1, alpha=0.7)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"the {len(names)} classes, the commonest first")
    axes.set_ylabel("% of the fold's rows")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return as_svg(figure, key=key, label=_label(shares, names))


def _label(shares: Sequence[Sequence[float]], names: Sequence[str]) -> str:
    return f"the share of each of {len(names)} classes in {len(shares)} folds"
