"""MT-Bench and lm-evaluation-harness in a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdlab.reporting.benchmarks import harness_cells, harness_note, many_cells, mt_bench_cells, mt_bench_note
from kdlab.reporting.report import print_table, write_page
from kdlab.reporting.runs import Run, read


def bench(overall: float, **more: Any) -> dict[str, Any]:
    found = {"overall": overall, "turn1": overall + 0.25, "turn2": overall - 0.25, "categories": {"math": 2.0}}
    return found | {"interval": [overall - 0.5, overall + 0.5], "count": 160, "unparsed": 2} | more


@pytest.fixture
def run(write_run):
    def make(folder: str = "a", **more: Any) -> Run:
        pairwise = {"wins": 40, "losses": 20, "ties": 20, "order_decided": 9, "win_rate": 0.625, "unparsed": 0}
        changes = {
            "metrics.before.mt_bench": bench(4.0),
            "metrics.after.mt_bench": bench(5.5, cost={"prompt_tokens": 1200, "cost": None}),
            "metrics.after.pairwise": pairwise | {"interval": [0.5, 0.72], "count": 80},
            "metrics.before.harness": {"arc_easy": {"acc": 0.35, "acc_stderr": 0.01}},
            "metrics.after.harness": {"arc_easy": {"acc": 0.41, "acc_stderr": None, "acc_norm,strict": 0.5}},
        }
        return read(write_run(folder, changes | more) / "run.json")

    return make


def test_scores_by_turn_and_category_before_and_after(run) -> None:
    head, rows = mt_bench_cells(run())
    assert head == ["", "before", "after", "teacher", "after − before"]
    assert rows == [
        ["overall", "4.00 (3.50–4.50)", "5.50 (5.00–6.00)", "–", "+1.50"],
        ["first turn", "4.25", "5.75", "–", "+1.50"],
        ["second turn", "3.75", "5.25", "–", "+1.50"],
        ["math", "2.00", "2.00", "–", "+0.00"],
    ]


def test_who_won_what_could_not_be_read_and_what_it_cost(run) -> None:
    said = mt_bench_note(run()).replace("\N{NO-BREAK SPACE}", " ")
    for told in (
        "before: 160 answers judged, 2 verdicts without a rating",
        "40 wins, 20 losses, 20 ties; it wins 62.5 %, a tie counting half (95 % interval over questions 50.0–72.0)",
        "of 9 ties the order of the two decided",
        "judging after took prompt tokens 1,200",
    ):
        assert told in said


def test_pairs_alone_are_on_the_page_with_their_cost(run, tmp_path: Path) -> None:
    pairwise = {"wins": 40, "losses": 20, "ties": 20, "win_rate": 0.625, "cost": {"requests": 320, "price": 1.5}}
    without = {f"metrics.{who}.{name}": None for who in ("before", "after") for name in ("mt_bench", "harness")}
    one = run(**without, **{"metrics.after.pairwise": pairwise})
    page = write_page([one.folder], tmp_path / "r.html").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "40 wins, 20 losses, 20 ties; it wins 62.5 %" in page
    assert "judging pairs took requests 320, price 1.5" in page


def test_tasks_have_their_standard_errors_where_they_give_one(run) -> None:
    _, rows = harness_cells(run())
    assert rows == [
        ["arc_easy: acc", "0.350 ± 0.010", "0.410", "–", "+0.060"],
        ["arc_easy: acc_norm,strict", "–", "0.500", "–", "–"],
    ]


def move(difference: float, *interval: float, count: int = 80) -> dict[str, Any]:
    return {"difference": difference, "interval": [*interval] or None, "p": 0.01, "count": count}


def test_differences_have_the_interval_of_the_pairs(run, tmp_path: Path) -> None:
    moved = {
        "mt_bench": {"overall": move(1.5, 0.25, 2.75), "turn1": None, "turn2": [], "categories": {"math": move(0.0)}},
        "harness": {"arc_easy": {"acc": move(0.06, 0.051, 0.069)}, "other": {"acc": None}},
    }
    one = run(**{"metrics.after.moved": moved})
    assert [row[-1] for row in mt_bench_cells(one)[1]] == ["+1.50 (+0.25 to +2.75)", "+1.50", "+1.50", "+0.00"]
    assert harness_cells(one)[1][0][-1] == "+0.060 (+0.051 to +0.069)"
    assert "after − before over the 80 questions that both were rated on, with its 95 % interval" in mt_bench_note(one)
    note = harness_note(one)
    assert note.startswith("after − before over the same examples, with its 95 % interval (Student's paired t; ")
    assert note.endswith("other: other examples were asked before than after, which is no pair.")
    page = write_page([one.folder], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "+1.50 (+0.25 to +2.75)" in page
    assert "over the same examples" in page
    assert harness_note(run("plain")) == ""
    assert harness_note(run("odd", **{"metrics.after.moved": {"harness": {"x": 3}, "mt_bench": 4}})) == ""


def test_many_runs_have_a_row_each(run) -> None:
    runs = [
        run(),
        run("b", **{"overrides": ["seed=1"], "metrics.after.mt_bench": None}),
        run("c", **{"metrics.after": None}),
    ]
    head, rows = many_cells(runs)
    assert head == ["run", "MT-Bench", "arc_easy: acc", "arc_easy: acc_norm,strict"]
    assert [row[1] for row in rows] == ["4 → 5.50", "–"]


@pytest.mark.slow
def test_printed_and_on_the_page(run, capsys, tmp_path: Path, write_run) -> None:
    folder = run().folder
    print_table([folder])
    out = capsys.readouterr().out
    assert "MT-Bench" in out
    assert "arc_easy: acc" in out
    assert "arc_easy" in write_page([folder], tmp_path / "r.html").read_text(encoding="utf-8")
    without = write_run("without")
    page = write_page([without], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Benchmarks" not in page


@pytest.mark.parametrize("odd", [{}, {"overall": None}, {"categories": None, "cost": [], "interval": [1]}])
def test_odd_records_break_nothing(run, odd: dict) -> None:
    more = {"metrics.before.mt_bench": odd, "metrics.after.mt_bench": odd, "metrics.after.pairwise": {}}
    one = run(**more, **{"metrics.after.harness": {"x": None}, "metrics.before.harness": []})
    assert mt_bench_cells(one)[1] == []
    assert mt_bench_note(one) == ""
    assert harness_cells(one)[1] == []
