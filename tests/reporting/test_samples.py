"""samples.md holds every voice, fenced so that no text leaves its block."""

from __future__ import annotations

from pathlib import Path

from kdlab.reporting.report import write_samples

FENCE = "`" * 3


def test_three_voices_on_the_same_prompt(tmp_path: Path) -> None:
    sample = {"prompt": "Once", "teacher": "upon a time", "before": "rhrh", "after": "a time"}
    path = write_samples({"name": "quick", "samples": [sample]}, tmp_path / "samples.md")
    assert path.read_text(encoding="utf-8").split() == [
        "#", "Samples", "of", "quick", "##", "Prompt", "1", f"{FENCE}text", "Once", FENCE,
        "**Teacher**", f"{FENCE}text", "upon", "a", "time", FENCE,
        "**Student", "before", "training**", f"{FENCE}text", "rhrh", FENCE,
        "**Student", "after", "training**", f"{FENCE}text", "a", "time", FENCE,
    ]  # fmt: skip
    assert [file.name for file in tmp_path.iterdir()] == ["samples.md"]


def test_a_fence_in_the_text_does_not_end_the_block(tmp_path: Path) -> None:
    text = f"{FENCE}python\nprint()\n{FENCE}\n# not a heading"
    sample = {"prompt": text, "teacher": None, "before": text, "after": text}
    lines = write_samples({"name": "n", "samples": [sample]}, tmp_path / "s.md").read_text().splitlines()
    assert lines.count("````text") == lines.count("````") == 3
    assert "**Teacher**" not in lines


def test_no_samples_is_said(tmp_path: Path) -> None:
    for none in ([], None):
        text = write_samples({"name": "n", "samples": none}, tmp_path / "s.md").read_text()
        assert "benchmark.samples=0" in text
