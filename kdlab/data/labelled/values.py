"""From the values of a column to classes or numbers, and the reasons why a row has neither."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kdlab.text.formats import SkipRow
from kdlab.text.task import CLASSIFICATION, REGRESSION

if TYPE_CHECKING:
    from kdlab.data.labels import LabelsConfig

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the values of a column become: an id of `names`, or of a regression the number itself.

    `kind` as in `text.task.Task`. `reads` is how a value is read: "number", "text", or "id" (of `names`, which the
    dataset itself tells). `values` are the values of the classes in their order, where each is a class of its own.
    """

    kind: str
    column: str
    names: tuple[str, ...]
    reads: str
    bins: tuple[float, ...] | None = None
    values: tuple[Any, ...] = ()

    @property
    def measures(self) -> bool:
        """Whether the values are amounts: predicted, or cut by bins."""
        return self.kind == REGRESSION or self.bins is not None

    def number(self, value: Any) -> float | None:
        """The amount that a value is; None where the values are none. Raises SkipRow for one that has none."""
        return float(read_value(value, self.reads, self.column)) if self.measures else None

    def label(self, value: Any) -> int | float:
        """The class or number of a value. Raises SkipRow for one that has none, UnknownClassError for one that no
        training row has."""
        plain = read_value(value, self.reads, self.column)
        if self.kind == REGRESSION:
            return float(plain)
        if self.reads == "id":
            if not 0 <= plain < len(self.names):
                raise SkipRow(f"whose {self.column} is {plain}, no class")
            return int(plain)
        if self.bins is not None:
            return bisect_right(self.bins, plain)
        if plain not in self.values:
            raise UnknownClassError(shown(plain))
        return self.values.index(plain)


class UnknownClassError(Exception):
    """A value that is no class of the training rows; the message is the value."""


def read_value(value: Any, reads: str, column: str) -> Any:
    """A value as it is compared: a finite number, or text. Raises SkipRow with the reason why it is neither."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise SkipRow(f"without {column}")
    if reads == "text":
        if isinstance(value, bool):
            return str(value).lower()
        if not isinstance(value, str):
            raise SkipRow(f"whose {column} is not text")
        return value
    number = as_number(value)
    if number is None:
        raise SkipRow(f"whose {column} is no number")
    return number


def as_number(value: Any) -> float | None:
    """A finite number, also where it is written as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def shown(value: Any) -> str:
    """A value as a class is called by it: 3 rather than 3.0."""
    if isinstance(value, float):
        return str(int(value)) if value == int(value) else repr(value)
    return str(value)


def find_target(config: LabelsConfig, values: Sequence[Any], *, known: Sequence[str] | None, typed: str) -> Target:
    """What the column is decided into. `known` are the names that the dataset itself has for its ids.

    Raises ValueError, naming the option, for a target without two classes, of a class without a row, or of nearly as
    many values as rows.
    """
    asked = f"dataset.labels.column={config.column}"
    numbers = [as_number(value) for value in values]
    present = [value for value in values if value is not None and not (isinstance(value, str) and not value.strip())]
    if not present:
        raise ValueError(f"{asked}: every row of {typed} is without a value there")
    numeric = 2 * sum(number is not None for number in numbers) > len(present)
    if config.regression or config.bins is not None:
        if not numeric:
            option = "regression=true" if config.regression else f"bins={config.bins}"
            raise ValueError(f"dataset.labels.{option}: needs numbers, but {config.column} holds {_few(present)}")
        if config.regression:
            if len({number for number in numbers if number is not None}) < 2:
                raise ValueError(f"{asked}: every row has the same number, so there is nothing to predict")
            return Target(kind=REGRESSION, column=config.column, names=(config.column,), reads="number")
        return _binned(config, [number for number in numbers if number is not None])
    if known is not None:
        names = tuple(config.names) if config.names is not None else tuple(known)
        return _named(config, Target(kind=CLASSIFICATION, column=config.column, names=names, reads="id"), len(known))
    return _each_its_own(config, present, numeric, asked)


def _binned(config: LabelsConfig, numbers: Sequence[float]) -> Target:
    assert config.bins is not None
    edges = [shown(float(edge)) for edge in config.bins]
    ranges = [f"< {edges[0]}", *(f"{low} to < {high}" for low, high in pairwise(edges))]
    names = tuple(config.names or [*ranges, f">= {edges[-1]}"])
    target = Target(
        kind=CLASSIFICATION, column=config.column, names=names, reads="number", bins=tuple(map(float, config.bins))
    )
    have = {target.label(number) for number in set(numbers)}
    empty = [name for i, name in enumerate(names) if i not in have]
    if empty:
        raise ValueError(
            f"dataset.labels.bins={config.bins}: no row is in {' or '.join(empty)}; the values of {config.column} are "
            f"{_counted(numbers)}"
        )
    return target


def _each_its_own(config: LabelsConfig, present: Sequence[Any], numeric: bool, asked: str) -> Target:
    reads = "number" if numeric else "text"
    plain = [read for value in present if (read := _readable(value, reads, config.column)) is not None]
    found = sorted(set(plain))
    if len(found) < 2:
        raise ValueError(f"{asked}: every row has the same value ({_few(plain)}), so there is nothing to decide")
    if 2 * len(found) > len(plain):
        remedy = "write dataset.labels.bins=[...] or dataset.labels.regression=true" if numeric else "name another"
        raise ValueError(f"{asked}: {len(found):,} different values in {len(plain):,} rows are no classes; {remedy}")
    target = Target(
        kind=CLASSIFICATION,
        column=config.column,
        names=tuple(config.names or map(shown, found)),
        reads=reads,
        values=tuple(found),
    )
    return _named(config, target, len(found))


def _named(config: LabelsConfig, target: Target, classes: int) -> Target:
    if config.names is not None and len(config.names) != classes:
        values = ", ".join(shown(value) for value in target.values[:SHOWN]) or f"{classes} of the dataset's own"
        raise ValueError(
            f"dataset.labels.names: {len(config.names)} names, but {config.column} has {classes} classes ({values})"
        )
    return target


def _readable(value: Any, reads: str, column: str) -> Any | None:
    try:
        return read_value(value, reads, column)
    except SkipRow:
        return None


def _few(values: Sequence[Any]) -> str:
    different = list(dict.fromkeys(shown(value)[:40] for value in values))
    return ", ".join(different[:3]) + (" ..." if len(different) > 3 else "")


def _counted(numbers: Sequence[float]) -> str:
    counts = sorted(Counter(numbers).items())
    if len(counts) > SHOWN:
        return f"from {shown(counts[0][0])} to {shown(counts[-1][0])}"
    return ", ".join(f"{shown(number)} ({count:,} rows)" for number, count in counts)
