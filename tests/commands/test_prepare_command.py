"""`kdlab prepare` as it is typed: the plot of the classes is of the folds that it writes, and reads without a page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean, pstdev
from xml.etree import ElementTree

import pytest

from kdlab.cli import main

PLOT = "label_distribution.svg"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`prepare(["no", "yes"], "dataset.folds=3")`: the folder of a job over 40 rows whose labels go round, the first
    one twice as often."""
    monkeypatch.chdir(tmp_path)

    def run(names: list[str], *words: str) -> Path:
        lines = [{"text": f"text {i}", "label": names[i % (len(names) + 1) % len(names)]} for i in range(40)]
        Path("rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        options = ["name=p", "dataset=local", "dataset.path=rows.jsonl", "dataset.labels.column=label"]
        assert main(["prepare", *options, "dataset.fold_by=plain", *words]) == 0
        (folder,) = Path("multirun/p").iterdir()
        return folder

    return run


def bars(svg: ElementTree.Element) -> dict[str, list[tuple[float, float, float]]]:
    """Of each colour the bars, from above: left, right and top."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for path in svg.iter(f"{SVG}path"):
        fill = re.search(r"fill: (#[0-9a-f]{6})", path.get("style", ""))
        if fill is None or path.get("clip-path") is None:
            continue
        points = [(float(x), float(y)) for x, y in re.findall(r"([0-9.]+) ([0-9.]+)", path.get("d", ""))]
        across, down = zip(*points, strict=True)
        found.setdefault(fill[1], []).append((min(across), max(across), min(down)))
    return {colour: sorted(drawn, key=lambda bar: bar[2]) for colour, drawn in found.items()}


def test_a_bar_a_fold_is_cut_by_the_counts_of_folds_json(prepare) -> None:
    folder = prepare(["no", "yes", "so so"], "dataset.folds=3")
    counts = json.loads((folder / "folds.json").read_text())["counts"]
    assert len({tuple(fold) for fold in counts}) > 1, "the folds differ, so that one taken for another would show"
    svg = ElementTree.fromstring((folder / PLOT).read_text())
    drawn = list(bars(svg).values())
    assert [len(colour) for colour in drawn] == [3, 3, 3], "three colours, each once a fold"
    for k, fold in enumerate(counts):
        parts = [colour[k] for colour in drawn]
        left, whole = parts[0][0], parts[-1][1] - parts[0][0]
        assert len({top for _, _, top in parts}) == 1, "one below the other fold, in one line"
        for c in range(3):
            assert (parts[c][0] - left) / whole == pytest.approx(sum(fold[:c]) / sum(fold), abs=1e-5)
            assert (parts[c][1] - parts[c][0]) / whole == pytest.approx(fold[c] / sum(fold), abs=1e-5)
    words = ["".join(text.itertext()) for text in svg.iter(f"{SVG}text")]
    assert [word for word in words if word in ("no", "yes", "so so")] == sorted(["no", "yes", "so so"])
    assert {"0", "1", "2", "fold", "% of the fold's rows"} <= set(words)


def test_the_file_needs_no_page_for_its_colours(prepare) -> None:
    drawn = (prepare(["no", "yes"], "dataset.folds=2") / PLOT).read_text()
    assert "var(" not in drawn
    assert {"background: #ffffff", "fill: #2563eb", "fill: #d9730d"} <= set(
        re.findall(r"(?:fill|background): #[0-9a-f]{6}", drawn)
    )


def test_numbers_have_a_bar_a_fold_from_their_mean_and_deviation(prepare, capsys: pytest.CaptureFixture[str]) -> None:
    folder = prepare(["1", "2.5", "30"], "dataset.folds=3", "dataset.labels.regression=true")
    told = json.loads((folder / "folds.json").read_text())
    assert json.loads((folder / "prepare.json").read_text())["folds"]["spread"] == told["spread"]
    given = [float(json.loads(line)["label"]) for line in Path("rows.jsonl").read_text().splitlines()]
    of_folds = [[given[row] for row in rows] for rows in told["rows"]]
    means, sds = [fmean(values) for values in of_folds], [pstdev(values) for values in of_folds]
    assert len(set(means)) == 3, "the folds differ, so that one taken for another would show"
    said = capsys.readouterr().out
    words = ["".join(text.itertext()) for text in ElementTree.parse(folder / PLOT).iter(f"{SVG}text")]
    for k, values in enumerate(of_folds):
        about = [told["spread"][k][name] for name in ("rows", "mean", "sd", "min", "max")]
        assert about == pytest.approx([len(values), means[k], sds[k], min(values), max(values)])
        assert f"fold {k}: {len(values)} rows; mean {means[k]:.3g}, sd {sds[k]:.3g}, from 1 to 30" in said
        assert f"{means[k]:.3g} ± {sds[k]:.3g}, {len(values)} rows" in words
    assert {"label", "fold", "0", "1", "2", "mean ± sd", "least to greatest"} <= set(words)
    (drawn,) = [found for found in bars(ElementTree.parse(folder / PLOT).getroot()).values() if len(found) == 3]
    scale = (drawn[0][1] - drawn[0][0]) / (2 * sds[0])
    for k, (left, right, _) in enumerate(drawn):
        assert right - left == pytest.approx(2 * sds[k] * scale, abs=0.01)
        assert left - drawn[0][0] == pytest.approx((means[k] - sds[k] - means[0] + sds[0]) * scale, abs=0.01)
    assert "var(" not in (folder / PLOT).read_text()
