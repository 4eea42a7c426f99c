"""Findings: verdicts, exit status, how they are printed, and sizes for people."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from kdlab.preflight import printing
from kdlab.preflight.findings import Findings, Piece, count, plain, size, span
from kdlab.preflight.printing import print_findings


def findings(*verdicts: str) -> Findings:
    found = Findings(name="x", overrides=["a=1"])
    section = found.section("memory")
    for verdict in verdicts:
        section.say(verdict, f"a line of {verdict}", "do otherwise" if verdict == "failure" else None)
    return found


@pytest.mark.parametrize(
    ("verdicts", "worst", "status"),
    [
        ([], "ok", 0),
        (["ok", "note"], "ok", 0),
        (["ok", "warning"], "warning", 0),
        (["unknown", "warning"], "unknown", 1),
        (["failure", "unknown", "ok"], "failure", 1),
    ],
)
def test_the_worst_counts(verdicts: list[str], worst: str, status: int) -> None:
    found = findings(*verdicts)
    assert (found.verdict, found.status) == (worst, status)
    assert found.as_dict()["verdict"] == worst


def test_plain_words_for_a_file() -> None:
    found = findings("ok", "failure")
    found.section("data").show("an example", [Piece(text="ask\n"), Piece(text="answer", target=True)])
    out = io.StringIO()
    print_findings(found, out)
    lines = out.getvalue().splitlines()
    assert lines[0] == "memory"
    assert lines[2].startswith("  FAIL a line")
    assert lines[3].strip() == "remedy: do otherwise"
    assert [line.strip() for line in lines[5:8]] == ["--   an example", "ask", "⟦answer⟧"]
    assert lines[-1] == "x: this run would fail"
    assert "\x1b" not in out.getvalue()


def test_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(
        printing, "Console", lambda **options: Console(file=out, force_terminal=True, color_system="standard")
    )
    found = findings("ok")
    found.section("data").show("an example", [Piece(text="ask "), Piece(text="answer", target=True)])
    print_findings(found)
    assert "\x1b[1;32manswer" in out.getvalue()
    assert "⟦" not in out.getvalue()


def test_brackets_around_targets() -> None:
    assert plain([Piece(text="a"), Piece(text="b", target=True), Piece(text="c")]) == "a⟦b⟧c"


def test_numbers_for_people() -> None:
    assert [size(n) for n in (512, 3 * 2**20, 1.5 * 2**30)] == ["0.5 KiB", "3.0 MiB", "1.50 GiB"]
    assert [span(n) for n in (0.25, 42, 600, 7200)] == ["0.25 s", "42 s", "10.0 minutes", "2.0 hours"]
    assert [count(n) for n in (999, 1.5e6, 7e9)] == ["999", "1.5 M", "7.0 B"]
