"""The page: well-formed, self-contained, complete, and safe with any text."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kdlab.reporting.report import write_page

VOID = {"meta", "wbr"}


class Reader(HTMLParser):
    """Checks nesting, collects text, ids, references and elements."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.elements: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key in ("href", "src", "xlink:href", "action", "data"):
                self.references.append(value or "")
            assert not key.startswith("on"), (tag, key)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (self.open, tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())


def look(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def test_one_run_is_told_whole(write_run, tmp_path: Path) -> None:
    out = write_page([write_run()], tmp_path / "made" / "report.html")
    assert out == tmp_path / "made" / "report.html"
    seen = look(out)
    for told in (
        "The student gained", "fell from 10 to 2 nats", "80.0 %", "2,048 held-out tokens", "top-1 agreement", "26.0 %",
        "134.5 M", "538 MB", "269 MB", "Compression ratio", "2.71 ×", "600 tokens/s", "6 of its layers",
        "upon a time", "rhrh", "kdlab train experiment=quick", "loss.temperature",
        "3f786850e387 with uncommitted changes",
        "torch 2.13.0", "2 cores", "seed 0", "3 min 51 s", "reading: columns", "topic, text", "1,612",
        "training loss", "on held-out data",
    ):  # fmt: skip
        assert told in seen.text, told
    assert "torchao" not in seen.text
    assert seen.elements.count("svg") == 7
    assert seen.elements.count("h1") == 1
    assert {"title", "details", "table"} <= set(seen.elements)
    assert [path.name for path in out.parent.iterdir()] == ["report.html"], "nothing half-written is left"


def test_the_page_needs_nothing_from_outside(write_run, tmp_path: Path) -> None:
    page = write_page([write_run("a"), write_run("b", {"overrides": ["seed=1"]})], tmp_path / "r.html")
    seen = look(page)
    assert all(reference.startswith("#") for reference in seen.references), seen.references
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(seen.elements)
    text = page.read_text(encoding="utf-8")
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, "names, never fetched"
    assert "@import" not in text
    assert all(place.startswith("#") for place in re.findall(r"url\(([^)]*)\)", text))


def test_ids_are_unique_and_every_reference_has_its_target(write_run, tmp_path: Path) -> None:
    seen = look(write_page([write_run("a"), write_run("b", {"overrides": ["seed=1"]})], tmp_path / "r.html"))
    assert len(seen.ids) == len(set(seen.ids))
    assert {reference[1:] for reference in seen.references} <= set(seen.ids)


def test_colours_follow_the_reader(write_run, tmp_path: Path) -> None:
    text = write_page([write_run()], tmp_path / "r.html").read_text(encoding="utf-8")
    pictures = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--line-1)" in pictures
    assert not re.findall(r"(?:fill|stroke): #", pictures), "a fixed colour is unreadable in light or in dark"
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", text))
    light, dark = re.search(r":root \{(.*?)\}.*?:root \{(.*?)\}", text, flags=re.DOTALL).groups()
    for palette in (light, dark):
        assert used <= set(re.findall(r"(--[a-z0-9-]+):", palette))


ATTACK = "</pre><script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)>&lt; $\\frac{ [bold] \x00"


def test_any_text_is_shown_and_none_is_obeyed(write_run, tmp_path: Path) -> None:
    changes = {
        "name": ATTACK,
        "overrides": [f"x={ATTACK}"],
        "config.note": {ATTACK: ATTACK},
        "samples": [{"prompt": ATTACK, "teacher": ATTACK, "before": "", "after": ATTACK}],
        "data": {ATTACK: [ATTACK]},
        "models.student.source": ATTACK,
        "versions": {ATTACK: ATTACK},
        "hardware.processor": ATTACK,
        "error": ATTACK,
    }
    write_run("a", changes)
    write_run("b", {"overrides": ["x=$1$"]})
    for paths in ([tmp_path / "a"], [tmp_path / "a", tmp_path / "b"]):
        page = write_page(paths, tmp_path / "r.html")
        seen = look(page)
        assert not {"script", "img"} & set(seen.elements)
        assert "<script>alert('x')</script>" in seen.text


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"status": "running", "metrics": {"teacher": None, "before": None, "after": None}, "data": None, "samples": []},
        {
            "status": "failed",
            "error": "step 3: nan",
            "metrics.after": None,
            "models": {"teacher": None, "student": None},
        },
        {"metrics.teacher": None, "models.teacher": None, "compression_ratio": None},
        {"metrics.before.perplexity": float("inf"), "metrics.after.kl": float("nan")},
        {"metrics.before.kl": 0.0, "metrics.after.kl": 0.0, "metrics.before.nll": 0.0, "metrics.after.nll": 0.0},
        {"samples": None, "git": {"sha": None, "dirty": False}, "finished": None, "started": "yesterday"},
    ],
)
def test_unfinished_and_odd_runs_have_a_page_too(write_run, tmp_path: Path, changes: dict) -> None:
    one = write_run("a", changes)
    look(write_page([one], tmp_path / "one.html"))
    write_run("b", metrics=[])
    look(write_page([tmp_path / "a", tmp_path / "b"], tmp_path / "two.html"))


def test_many_runs_are_compared(write_run, tmp_path: Path) -> None:
    for seed in range(3):
        for loss in ("reverse_kl", "forward_kl"):
            overrides = [f"loss={loss}", f"seed={seed}"]
            changes = {"overrides": overrides, "seeds.seed": seed, "metrics.after.kl": 2.0 + seed / 10}
            write_run(f"sweep/{loss}{seed}", changes)
    (tmp_path / "sweep" / "broken").mkdir()
    (tmp_path / "sweep" / "broken" / "run.json").write_text("{")
    seen = look(write_page([tmp_path / "sweep"], tmp_path / "many.html"))
    for told in ("6 runs", "6 finished, 0 not", "Over seeds", "2.100 ± 0.25 (sd 0.10)", "loss=reverse_kl", "Not read"):
        assert told in seen.text, told
    assert seen.elements.count("details") == 12


def test_more_runs_than_colours_are_counted(write_run, tmp_path: Path) -> None:
    for seed in range(12):
        write_run(f"sweep/{seed}", {"overrides": [f"seed={seed}"]})
    seen = look(write_page([tmp_path / "sweep"], tmp_path / "many.html"))
    assert "The best 9 of 12 runs are drawn." in seen.text


def test_a_page_of_a_long_run_stays_small(write_run, tmp_path: Path) -> None:
    lines = ["step,epoch,phase,loss,kl,perplexity,top1_agreement"]
    lines += [f"{step},0.1,train,{5 + step % 7}.5,,," for step in range(1, 20_001)]
    page = write_page([write_run("long", {"steps": 20_000}, metrics=lines)], tmp_path / "r.html")
    assert page.stat().st_size < 200_000
    assert "each point the mean of 50 steps" in look(page).text


def test_wide_bars_say_their_scale_and_shares_stay_linear(write_run, tmp_path: Path) -> None:
    folder = write_run("a", {"metrics.before.top1_agreement": 0.0001})
    text = look(write_page([folder], tmp_path / "r.html")).text
    assert "perplexity (log scale)" in text
    assert "top-1 agreement (log scale)" not in text


def test_without_matplotlib_the_page_says_how_to_get_the_plots(write_run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    one = look(write_page([write_run("runs/a")], tmp_path / "one.html"))
    write_run("runs/b", {"overrides": ["seed=1"], "seeds.seed": 1})
    many = look(write_page([tmp_path / "runs"], tmp_path / "many.html"))
    for page in (one, many):
        assert page.text.count("pip install 'kdlab[report]'") == 1
        assert "svg" not in page.elements
        assert "Held-out results" in page.text


def test_written_answers_are_shown_with_their_scores(write_run, tmp_path: Path, generation) -> None:
    seen = look(write_page([write_run("a", generation)], tmp_path / "r.html"))
    for told in (
        "ROUGE-L of written answers2.524.235.066.8 %",
        "ROUGE-1 of written answers3.030.041.0",
        "ROUGE-L of its answers rose from 2.5 to 24.2 (teacher 35.0)",
        "Scores from 0 to 100 over 200 written answers",
    ):
        assert told in seen.text, told
    assert "BLEU" not in seen.text
    assert "ROUGE-L of written answers (log scale)" not in seen.text


def test_two_tokenizers_are_compared_by_bytes_alone(write_run, tmp_path: Path, cross) -> None:
    seen = look(write_page([write_run("a", cross)], tmp_path / "r.html"))
    for told in (
        "bits per byte fell from 3.20 to 1.60 (teacher 0.900)",
        "bits per byte3.2001.6000.900069.6 %",
        "divergence of the loss5.5002.250–",
        "93.0 % of the student's rows lie in spans",
    ):
        assert told in seen.text, told
    table = seen.text.partition("Held-out results")[2].partition("Curves")[0]
    assert "KL to the teacher" not in table
    assert "below its teacher" not in seen.text, "perplexities per token of two tokenizers do not compare"
    assert "log-loss (nats)952" in table
    write_run("b", {**cross, "overrides": ["seed=1"], "seeds.seed": 1})
    many = look(write_page([tmp_path / "a", tmp_path / "b"], tmp_path / "two.html"))
    assert "3.200 → 1.600" in many.text
    assert "KL gap closed" not in many.text


def test_inner_terms_have_their_curves(write_run, tmp_path: Path) -> None:
    lines = ["step,epoch,phase,loss,hidden,relation"]
    lines += [f"{step},0.1,train,5.5,{1 / step},{2 / step}" for step in range(1, 6)]
    seen = look(write_page([write_run("a", metrics=lines)], tmp_path / "r.html"))
    assert "inner term: hidden states" in seen.text
    assert "inner term: self-relations" in seen.text
    assert "inner term: attention maps" not in seen.text


def test_settings_over_the_same_seeds_are_tested_against_each_other(write_run, tmp_path: Path) -> None:
    for loss, shift in (("a", 0.0), ("b", 1.0)):
        for seed in range(3):
            changes = {"overrides": [f"loss={loss}", f"seed={seed}"], "seeds.seed": seed}
            write_run(f"s/{loss}{seed}", {**changes, "metrics.after.kl": 2.0 + shift + seed * (1 + shift) / 10})
    seen = look(write_page([tmp_path / "s"], tmp_path / "r.html"))
    assert "Differences" in seen.text
    assert "loss=a − loss=b30, 1, 2-1.100 ± 0.25 (p = 0.003)" in seen.text


def test_what_was_cut_from_the_vocabularies_is_said(write_run, tmp_path: Path) -> None:
    changes = {"metrics.after.teacher_cut_mass": 0.0012, "metrics.after.student_cut_mass": 0.0}
    seen = look(write_page([write_run("a", changes)], tmp_path / "r.html"))
    assert "0.1 % of the teacher's probability and 0.0 % of the student's lay on tokens" in seen.text
