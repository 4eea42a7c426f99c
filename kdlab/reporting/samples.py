"""Write samples.md: the same prompts continued by teacher, student before and student after."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

VOICES = (
    ("label", "Label"),
    ("teacher", "Teacher"),
    ("before", "Student before training"),
    ("after", "Student after training"),
)


def write_samples(run: dict[str, Any], path: Path) -> Path:
    """Write the samples of a run (the content of its run.json) as Markdown, whole or not at all."""
    samples = run["samples"] or []
    lines = [f"# Samples of {run['name']}", ""]
    if not samples:
        lines += ["This run wrote no samples (`benchmark.samples=0`, or it has not finished).", ""]
    for index, sample in enumerate(samples, start=1):
        lines += [f"## Prompt {index}", "", *_fenced(str(sample["prompt"]))]
        for key, title in VOICES:
            if sample.get(key) is not None:
                lines += [f"**{title}**", "", *_fenced(str(sample[key]))]
    partial = path.with_name(path.name + ".partial")
    partial.write_text("\n".join(lines), encoding="utf-8")
    partial.replace(path)
    return path


def _fenced(text: str) -> list[str]:
    """`text` as a Markdown code block, with a fence longer than any inside it."""
    longest = max((len(fence) for fence in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", text, fence, ""]
