"""The terminal table: the page's numbers, plain text, nothing cut."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from kdlab.reporting.records import read_all
from kdlab.reporting.report import print_table
from kdlab.reporting.table import show


def test_one_run(write_run, capsys: pytest.CaptureFixture[str]) -> None:
    print_table([write_run()])
    out = capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")
    for told in (
        "before",
        "after",
        "teacher",
        "gap closed",
        "80.0 %",
        "268,337",
        "The student gained",
        "26.0 %",
        "quick",
    ):
        assert told in out, told


def test_many_runs_and_an_unreadable_one(write_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        changes = {"overrides": ["x=[bold]", f"seed={seed}"], "seeds.seed": seed, "metrics.after.kl": 2.0 + seed}
        write_run(f"s/{seed}", changes)
    write_run("s/2", {"overrides": ["x=[/]", "seed=0"], "status": "running", "metrics.after": None})
    (tmp_path / "s" / "3").mkdir()
    (tmp_path / "s" / "3" / "run.json").write_text("[]")
    print_table([tmp_path / "s"])
    out = capsys.readouterr().out
    for told in (
        "3 runs",
        "[bold]",
        "[/]",
        "10 → 2",
        "10 → 3",
        "not finished",
        "over seeds",
        "2.500 ± 6.4",
        "not read: ",
    ):
        assert told in out, told


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_folds_and_cuts_nothing(write_run, width: int) -> None:
    long = "x=" + "abcdefghij" * 8
    found = read_all([write_run("a", {"overrides": [long]}), write_run("b", {"overrides": ["x=1"]})])
    out = io.StringIO()
    show(found, console=Console(file=out, width=width))
    assert "…" not in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= width
