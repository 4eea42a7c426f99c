"""What was read, how it was understood, and what was left out or cut: printed, and kept in `run.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from kdlab.text.prompts import called

ONE_SIDED = "that only the teacher's side skips"
"""How the reason begins why a row is skipped that the student could read."""


@dataclass(kw_only=True)
class Reading:
    """One source, read. `unused` are columns the format does not read; `also` are formats that would fit too.
    `directions` are those in which translations are read, by the first rows: `en -> de`."""

    source: str
    format: str
    columns: list[str]
    unused: list[str] = field(default_factory=list)
    also: list[str] = field(default_factory=list)
    directions: list[str] = field(default_factory=list)
    rows: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    documents: int = 0

    def __post_init__(self) -> None:
        self.skipped_rows: list[tuple[int, str]] = []
        """Each row that was skipped while this was read, and why."""

    def skip(self, reason: str, row: int) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        self.skipped_rows.append((row, reason))

    def __str__(self) -> str:
        direction = f" {' and '.join(self.directions)}" if self.directions else ""
        said = f"{self.source}: format {self.format}{direction} (columns {', '.join(self.columns)}"
        said += f"; not used: {', '.join(self.unused)})" if self.unused else ")"
        if self.also:
            said += f"; would also fit {', '.join(self.also)} (dataset.format=...)"
        return f"{said}\n  {self.rows:,} rows read{_skipped(self.skipped)}"


@dataclass(kw_only=True)
class TeacherPart:
    """The same examples as a teacher with another tokenizer or prompt reads them. `longest` is its longest example."""

    tokens: int
    supervised: int
    longest: int
    cut_sources: int = 0
    cut_source_tokens: int = 0


@dataclass(kw_only=True)
class Part:
    """The training or the held-out examples. `cut` counts examples that were longer than `max_length`, `cut_tokens`
    what they lost; `supervised` are the tokens predicted; `skipped` examples have none of those.

    With an encoder `tokens` are `source_tokens` and those of the targets; `cut` are targets, `cut_sources` sources.
    """

    examples: int
    tokens: int
    supervised: int
    cut: int = 0
    cut_tokens: int = 0
    source_tokens: int = 0
    cut_sources: int = 0
    cut_source_tokens: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    teacher: TeacherPart | None = None

    def __str__(self) -> str:
        read = f"{self.source_tokens:,} read, " if self.source_tokens else ""
        said = f"{self.examples:,} examples, {self.tokens:,} tokens ({read}{self.supervised:,} supervised)"
        if self.cut and self.source_tokens:
            said += f"; dataset.max_target_length cut {self.cut:,} targets by {self.cut_tokens:,} tokens"
        elif self.cut:
            said += f"; dataset.max_length cut {self.cut:,} examples by {self.cut_tokens:,} tokens"
        if self.cut_sources:
            said += f"; dataset.max_length cut {self.cut_sources:,} sources by {self.cut_source_tokens:,} tokens"
        return said + _skipped(self.skipped)


@dataclass(kw_only=True)
class Verdict:
    """The whole dataset. `train` is None for a stream, which is counted as it flows. `reading` is the student's. `test`
    is what rows with labels are judged by at the end (None: nothing).

    `prompt` names the prompt that is the teacher's own (None: both read the same); `gives_answer` tells whether the
    answer is in it, so that what the teacher writes behind it was told to it.
    """

    reading: Reading
    heldout_reading: Reading | None = None
    split: str
    duplicates: int = 0
    train: Part | None
    heldout: Part
    test: Part | None = None
    cached: bool = False
    prompt: str | None = None
    gives_answer: bool = False

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
        if self.test is not None:
            lines.append(f"  test: {self.test}")
        lines += self._prompts() + self._teachers()
        return "\n".join(lines)

    def _prompts(self) -> list[str]:
        """What the teacher is asked, where it is asked something else."""
        if self.prompt is None:
            return []
        told = "; the teacher's holds the answer, so what it writes there was told to it" if self.gives_answer else ""
        return [f"  {called(self.prompt)}: teacher and student are asked differently{told}"]

    def _teachers(self) -> list[str]:
        """What a teacher with another tokenizer or prompt reads."""
        parts = [part for part in (self.train, self.heldout, self.test) if part is not None]
        theirs = [part.teacher for part in parts if part.teacher is not None]
        if not theirs:
            return []
        ratio = sum(side.tokens for side in theirs) / max(sum(part.tokens for part in parts), 1)
        said = f"  as the teacher reads it: {ratio:.2f} tokens for one of the student's"
        said += f", at most {max(side.longest for side in theirs):,} an example"
        if cut := sum(side.cut_sources for side in theirs):
            lost = sum(side.cut_source_tokens for side in theirs)
            said += f"; dataset.max_length cut {cut:,} of its sources by {lost:,} tokens"
        skipped = sum(n for part in parts for why, n in part.skipped.items() if why.startswith(ONE_SIDED))
        return [said + (f"; {skipped:,} rows skipped, as only it skips them" if skipped else "")]

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
