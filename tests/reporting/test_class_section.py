"""Classes on the page: confusion, calibration, class by class; few of them and many."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from kdlab.reporting.class_plots import Calibration, confusion, reliability
from kdlab.reporting.classes import classes, count_cells, few_count_cells, label_counts
from kdlab.reporting.labels_plot import label_distribution
from kdlab.reporting.report import write_page
from kdlab.reporting.runs import read


def words(text: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).replace("\N{NO-BREAK SPACE}", " ").split())


@pytest.fixture
def many(classifier):
    """Changes that make a run one of 77 classes, of which every second is taken for the next."""

    def made() -> dict:
        found = classifier()
        names = [f"intent_{index}" for index in range(77)]
        matrix = [[0] * 77 for _ in names]
        for index in range(77):
            matrix[index][index] = 30
            matrix[index][(index + 1) % 77] += 5 + index // 10 if index % 2 else 0
        per_class = [{"name": n, "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 40} for n in names]
        for stage in found["metrics"].values():
            for part in (stage, stage["test"]):
                part |= {"confusion": matrix, "per_class": per_class}
        counts = {"train": dict.fromkeys(names, 40)}
        found["data"]["classes"] |= {"names": names, "counts": counts}
        return found

    return made


def part(page: str) -> str:
    """The page's part on classes."""
    return page.partition("<h2>Classes</h2>")[2].partition("</section>")[0]


def test_few_classes_have_their_counts_in_the_cells(write_run, classifier, tmp_path: Path) -> None:
    page = write_page([write_run("a", classifier(35, 80, 88))], tmp_path / "r.html").read_text(encoding="utf-8")
    text = part(page)
    said = words(text)
    assert "On the hold-out test." in said
    assert "What the student took for what , rows are the true classes" in said
    assert "What the teacher took for what" in said
    assert "As often right as it is sure?" in said
    assert "The same on the held-out texts" in said
    # Class "low" of the test: 40 texts, of which 32 were found, and 22 others were called so.
    assert "1 low 40 59.3 % 80.0 % 68.1 %" in said
    assert len(re.findall("<svg", text)) == 6, "two matrices and a diagram of each part"
    pictures = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert not re.findall(r"(?:fill|stroke): #", pictures), "a fixed colour is unreadable in light or in dark"
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", page))
    light, dark = re.search(r":root \{(.*?)\}.*?:root \{(.*?)\}", page, flags=re.DOTALL).groups()
    for palette in (light, dark):
        assert used <= set(re.findall(r"(--[a-z0-9-]+):", palette))
    assert len(ids := re.findall(r'id="([^"]+)"', page)) == len(set(ids))


def test_many_classes_stay_readable_and_small(write_run, many) -> None:
    found = many()
    for stage in found["metrics"].values():
        del stage["per_class"]
    run = read(write_run("a", found) / "run.json")
    text = classes(run, key="k")
    assert text is not None
    said = words(text)
    assert "numbered as in the table of classes" in said
    assert "<summary>All 77 classes</summary>" in text
    assert "The student's commonest mistakes true decided texts intent_71 intent_72 12 of 42" in said
    first = re.search(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert first is not None
    assert len(re.findall("<text", first[0])) <= 20, "numbers of every tenth class, and no counts"
    assert len(text) < 250_000
    _, rows = count_cells(run)
    assert len(rows) == 78
    _, few, note = few_count_cells(run)
    assert len(few) == 13
    assert note == "Of 77 classes the 6 commonest and the 6 rarest are shown."
    assert "<summary>The rows of 77 classes</summary>" in (label_counts(run) or "")


def test_a_run_that_measured_no_classes_has_no_such_part(write_run, classifier) -> None:
    assert classes(read(write_run("writer") / "run.json"), key="k") is None
    bare = classifier()
    for stage in bare["metrics"].values():
        for part in (stage, stage["test"]):
            for key in ("confusion", "reliability"):
                del part[key]
    text = classes(read(write_run("bare", bare) / "run.json"), key="k")
    assert text is not None
    assert "<svg" not in text
    assert "medium" in words(text)


def test_a_matrix_shades_by_the_share_of_its_row() -> None:
    drawn = confusion([[3, 0], [1, 99]], ["a", "b"], key="k", title="what was taken for what")
    assert 'aria-label="what was taken for what"' in drawn
    opacities = {float(found) for found in re.findall(r"opacity: ([0-9.]+)", drawn)}
    assert max(opacities) == pytest.approx(0.12 + 0.88 / 12, abs=1e-5), "1 of 100; all of a row is not see-through"
    assert ">0<" not in drawn, "empty cells stay empty"


def test_a_diagram_draws_a_line_a_model() -> None:
    lines = [
        Calibration(name=n, colour=c, confidence=[0.5, 0.9], accuracy=[0.4, 0.9], count=[3, 9])
        for n, c in (("student", 1), ("teacher", 2))
    ]
    drawn = reliability(lines, key="k", title="sure and right")
    assert ">student<" in drawn
    assert ">teacher<" in drawn
    assert "var(--line-2)" in drawn


def test_the_classes_of_every_fold_are_drawn() -> None:
    few = label_distribution([[20, 80], [30, 70], [25, 75]], ["rare", "common"], key="few")
    assert ">rare<" in few
    assert {">20<", ">80<", ">30<", ">70<"} <= set(re.findall(r">[0-9]+<", few)), "shares in percent"
    crowd = label_distribution([[fold + 1] * 77 for fold in range(10)], [f"c{index}" for index in range(77)])
    assert "77 classes" in crowd
    assert len(crowd) < 120_000
    empty = label_distribution([[0, 0], [1, 1]], ["a", "b"])
    assert "<svg" in empty, "a fold without rows divides by nothing"
