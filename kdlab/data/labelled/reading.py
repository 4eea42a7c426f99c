"""The rows of a source with a label: their columns of text, what is to be decided, and why others were skipped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdlab.data.labelled.columns import check_columns
from kdlab.data.labelled.values import Target, UnknownClassError
from kdlab.text.fields import FieldTemplate
from kdlab.text.formats import SkipRow

if TYPE_CHECKING:
    from kdlab.data.sources import Source

Ints = NDArray[np.int64]
SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class RawRows:
    """Rows as they stand in a source: all of them, or `num_samples` drawn by the seed, in their order."""

    source: Source
    rows: list[dict[str, Any]]
    numbers: list[int]

    @cached_property
    def columns(self) -> list[str]:
        """Every column that a row has, in the order in which they come up."""
        return list(dict.fromkeys(column for row in self.rows for column in row))


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """Rows of one source that have a label. `numbers` are their rows in the source, from 0, `fields` their columns of
    text, `texts` these put together, `labels` `[N]` classes (int64) or numbers (float64), `groups` what may not be
    parted. `skipped` counts the others by reason. `values` `[N]` are the numbers that bins cut into classes, or that
    are the labels (None: the classes are of no numbers)."""

    source: str
    content_hash: str
    numbers: Ints
    fields: list[dict[str, str]]
    texts: list[str]
    labels: NDArray[Any]
    groups: list[str]
    read: int
    skipped: dict[str, int] = field(default_factory=dict)
    values: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def only(self, chosen: NDArray[np.bool_], *, reason: str | None = None) -> LabelledRows:
        """The chosen rows; the others are counted under `reason`, if one is given."""
        kept = np.flatnonzero(chosen).tolist()
        skipped = dict(self.skipped)
        if reason is not None and len(kept) < len(self):
            skipped[reason] = skipped.get(reason, 0) + len(self) - len(kept)
        return replace(
            self,
            numbers=self.numbers[kept],
            fields=[self.fields[i] for i in kept],
            texts=[self.texts[i] for i in kept],
            labels=self.labels[kept],
            groups=[self.groups[i] for i in kept],
            skipped=skipped,
            values=None if self.values is None else self.values[kept],
        )


def read_raw(source: Source, *, num_samples: int | None = None, seed: int = 0) -> RawRows:
    """All rows, or `num_samples` drawn by the seed: files are often sorted by class, so that the first rows of one have
    one class. Raises ValueError where there is none."""
    rows = [dict(row) for row in source.open()]
    if not rows:
        raise ValueError(f"{source.typed}: has no rows")
    numbers = list(range(len(rows)))
    if num_samples is not None and num_samples < len(rows):
        numbers = sorted(np.random.default_rng(seed).choice(len(rows), num_samples, replace=False).tolist())
        rows = [rows[i] for i in numbers]
    return RawRows(source=source, rows=rows, numbers=numbers)


def label_rows(raw: RawRows, target: Target, template: FieldTemplate, group: str | None) -> LabelledRows:
    """The rows with a label and text. Raises ValueError for a column that is not there, for a class that no training
    row has, and where nothing is left."""
    asked = dict.fromkeys(template.fields, "dataset.labels.template")
    asked |= {target.column: "dataset.labels.column"} | ({group: "dataset.group"} if group is not None else {})
    check_columns(asked, raw.columns, typed=raw.source.typed)
    kept: list[tuple[int, dict[str, str], int | float, float | None, str | None]] = []
    skipped: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for number, row in zip(raw.numbers, raw.rows, strict=True):
        try:
            label, value = target.label(row.get(target.column)), target.number(row.get(target.column))
            fields = {column: text_of(row, column) for column in template.fields}
            kept.append((number, fields, label, value, None if group is None else _group(row, group)))
        except SkipRow as error:
            skipped[str(error)] += 1
        except UnknownClassError as error:
            unknown[str(error)] += 1
    if unknown:
        _refuse_unknown(unknown, raw.source.typed)
    if not kept:
        why = ", ".join(f"{count:,} {reason}" for reason, count in skipped.most_common())
        raise ValueError(f"{raw.source.typed}: no row is left ({why})")
    numbers, fields_of, labels, values, groups = zip(*kept, strict=True)
    texts = [template.fill(row) for row in fields_of]
    return LabelledRows(
        source=raw.source.name,
        content_hash=raw.source.content_hash,
        numbers=np.array(numbers, np.int64),
        fields=list(fields_of),
        texts=texts,
        labels=np.array(labels, np.float64 if target.kind == "regression" else np.int64),
        groups=texts if group is None else list(groups),
        read=len(raw.rows),
        skipped=dict(skipped),
        values=np.array(values, np.float64) if target.measures else None,
    )


def text_of(row: dict[str, Any], column: str) -> str:
    """The text in a column. Raises SkipRow where there is none."""
    value = row.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise SkipRow(f"whose {column} is empty")
    if not isinstance(value, str):
        raise SkipRow(f"whose {column} is not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair, which no tokenizer takes
        raise SkipRow(f"whose {column} is not valid Unicode") from error
    return value


def _group(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        raise SkipRow(f"without {column} to group by")
    return str(value)


def _refuse_unknown(unknown: Counter[str], typed: str) -> None:
    said = ", ".join(f"{name} ({count:,} rows)" for name, count in unknown.most_common(SHOWN))
    more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
    raise ValueError(
        f"{typed}: is of classes that no training row has: {said}{more}; give more training rows "
        "(dataset.num_samples=null), or other rows to judge by"
    )
