"""What was read, how it was understood, and what was left out or cut: printed, and kept in `run.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Reading:
    """One source, read. `unused` are columns the format does not read; `also` are formats that would fit too."""

    source: str
    format: str
    columns: list[str]
    unused: list[str] = field(default_factory=list)
    also: list[str] = field(default_factory=list)
    rows: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    documents: int = 0

    def skip(self, reason: str, count: int = 1) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + count

    def __str__(self) -> str:
        said = f"{self.source}: format {self.format} (columns {', '.join(self.columns)}"
        said += f"; not used: {', '.join(self.unused)})" if self.unused else ")"
        if self.also:
            said += f"; would also fit {', '.join(self.also)} (dataset.format=...)"
        return f"{said}\n  {self.rows:,} rows read{_skipped(self.skipped)}"


@dataclass(kw_only=True)
class Part:
    """The training or the held-out examples. `cut` counts examples that were longer than `max_length`, `cut_tokens`
    what they lost; `supervised` are the tokens predicted; `skipped` examples have none of those."""

    examples: int
    tokens: int
    supervised: int
    cut: int = 0
    cut_tokens: int = 0
    skipped: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        said = f"{self.examples:,} examples, {self.tokens:,} tokens ({self.supervised:,} supervised)"
        if self.cut:
            said += f"; dataset.max_length cut {self.cut:,} examples by {self.cut_tokens:,} tokens"
        return said + _skipped(self.skipped)


@dataclass(kw_only=True)
class Verdict:
    """The whole dataset. `train` is None for a stream, which is counted as it flows."""

    reading: Reading
    heldout_reading: Reading | None = None
    split: str
    duplicates: int = 0
    train: Part | None
    heldout: Part
    cached: bool = False

    @property
    def format(self) -> str:
        return self.reading.format

    def __str__(self) -> str:
        lines = [f"dataset {self.reading}" + (", tokens from the cache" if self.cached else "")]
        if self.train is None:
            lines = lines[0].splitlines()[:1]
        if self.heldout_reading is not None:
            lines.append(f"held out {self.heldout_reading}")
        if self.duplicates:
            lines.append(f"  {self.duplicates:,} rows repeat an earlier one (both on the same side of the split)")
        lines.append(f"  train: {self.train if self.train is not None else 'streamed, counted as it flows'}")
        lines.append(f"  held out ({self.split}): {self.heldout}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For `run.json`. Says nothing of the cache: a repeated run gives the same."""
        content = asdict(self)
        del content["cached"]
        return content


def _skipped(reasons: dict[str, int]) -> str:
    if not reasons:
        return ""
    listed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items(), key=lambda r: -r[1]))
    return f", {sum(reasons.values()):,} skipped ({listed})"
