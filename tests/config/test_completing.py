"""Completion: verbs, groups, options and their nested keys, through the door that the shell scripts ask."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kdlab.cli import VERBS, main
from kdlab.commands.completion import query


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], list(VERBS)),
        (["tr"], ["train"]),
        (["completion", "z"], ["zsh"]),
        (["train", "loss=re"], ["loss=reverse_kl"]),
        (["train", "-m", "loss=hard,re"], ["loss=hard,reverse_kl"]),
        (["train", "lo"], ["loss.", "loss="]),
        (["train", "trainer.ch"], ["trainer.checkpoint."]),
        (["train", "trainer.checkpoint.every_s"], ["trainer.checkpoint.every_steps="]),
        (["train", "student.from_teacher.l"], ["student.from_teacher.layers="]),
        (["train", "student.lora.r"], ["student.lora.r="]),
        (["train", "trainer.progress="], ["trainer.progress=true", "trainer.progress=false"]),
        (["train", "seed="], ["seed=0"]),
        (["train", "optimizer=sgd", "optimizer.mom"], ["optimizer.momentum="]),
        (["train", "optimizer.mom"], []),
        (["train", "++student.lora.r"], ["++student.lora.r="]),
        (["train", "--sh"], ["--show"]),
        (["train", "nothing.at.all"], []),
        (["train", "experiment=nonsense", "loss.temp"], []),
        (["report", ""], []),
        (["pi"], ["pipeline"]),
        (["pipeline", "experiment=hel"], ["experiment=helpsteer2"]),
        (["train", "experiment=helpst"], ["experiment=helpsteer2_student", "experiment=helpsteer2_teacher"]),
        (["pipeline", "--dr"], ["--dry-run"]),
        (["pipeline", "fo"], ["fold="]),
        (["prepare", "dataset.labels.c"], ["dataset.labels.column="]),
        (["export", "proc"], ["processor="]),
        (["publish", "dry_run="], ["dry_run=true", "dry_run=false"]),
    ],
)
def test_query(words: list[str], expected: list[str]) -> None:
    assert query(words) == expected


def test_the_type_of_a_group_follows_the_experiment(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\ndefaults: [override /optimizer: sgd]\n")
    before = ["train", "--config-dir", str(tmp_path)]
    assert query([*before, "experiment=mi"]) == ["experiment=mine"]
    assert query([*before, "experiment=mine", "optimizer.mom"]) == ["optimizer.momentum="]


def test_the_door_prints_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "query", "train", "loss=skew"]) == 0
    assert capsys.readouterr().out.splitlines() == ["loss=skew_forward", "loss=skew_reverse"]


def test_scripts_are_printed_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        assert "completion query" in capsys.readouterr().out
    assert main(["completion", "tcsh"]) == 2
    assert "bash|zsh|fish" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kdlab tr", ["train"]),
        ("kdlab train loss=rev", ["reverse_kl"]),  # bash has cut the word at "=" already
        ("kdlab train trainer.checkpoint.every_s", ["trainer.checkpoint.every_steps="]),
    ],
)
def test_bash_fills_in_what_is_left_of_the_word(line: str, expected: list[str], tmp_path: Path) -> None:
    command = tmp_path / "kdlab"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kdlab "$@"\n')
    command.chmod(0o755)
    script = f"""
        PATH="{tmp_path}:$PATH"
        eval "$(kdlab completion bash)"
        COMP_WORDBREAKS=$' \\t\\n"=:'
        COMP_LINE="{line}" COMP_POINT={len(line)}
        _kdlab
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == expected
