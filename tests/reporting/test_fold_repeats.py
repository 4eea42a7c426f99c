"""Runs over the folds of one dataset: what repeats, their corrected intervals, and arms over the same folds."""

from __future__ import annotations

import math
import statistics

import pytest

from kdlab.reporting.arms import how_tested, pair_cells
from kdlab.reporting.intervals import interval, paired
from kdlab.reporting.repeat_table import metric_cells, repeat_cells, told
from kdlab.reporting.repeats import repeat_groups
from kdlab.reporting.runs import Run, read

NBSP = "\N{NO-BREAK SPACE}"


@pytest.fixture
def folded(write_run, classifier):
    def make(loss: str, rights: list[int], *, seed: int = 0, first: int = 0) -> list[Run]:
        runs = []
        for fold, right in enumerate(rights, start=first):
            changes = classifier(after=right, fold=fold) | {
                "overrides": [f"loss={loss}", f"dataset.fold={fold}", f"seed={seed}"],
                "seeds": {"seed": seed},
            }
            runs.append(read(write_run(f"{loss}/{fold},{seed}", changes) / "run.json"))
        return runs

    return make


def test_folds_are_repeats_with_the_corrected_interval(folded) -> None:
    (group,) = repeat_groups(folded("a", [80, 84, 79]))
    assert (group.folds, group.seeds, group.by_fold) == (["0", "1", "2"], ["0"], True)
    assert group.overlap == pytest.approx(100 / 900), "held-out rows to training rows, as run.json counts them"
    values = [0.8, 0.84, 0.79]
    sd = statistics.stdev(values)
    assert group.intervals["accuracy"].half_width == pytest.approx(4.302653 * sd * math.sqrt(1 / 3 + 1 / 9), rel=1e-6)
    head, ((label, n, folds, accuracy, *_),) = repeat_cells([group])
    assert head[:4] == ["setting", "n", "folds", "accuracy"]
    assert (label, n, folds) == ("quick", "3", "0, 1, 2")
    half = group.intervals["accuracy"].half_width
    assert accuracy == f"81.0{NBSP}% ± {100 * half:.1f}{NBSP}% (sd {100 * sd:.1f}{NBSP}%)"


def test_the_page_says_why_and_what_the_hold_out_interval_is_not(folded) -> None:
    said = told(repeat_groups(folded("a", [80, 84, 79])))
    assert "Nadeau and Bengio, 2003" in said
    assert "n_test/n_train is 0.111 here" in said
    assert "not how they would on other test rows" in said
    assert "differ in their seed only" not in said
    assert "Seeds of one fold" not in said


def test_every_metric_has_its_interval(folded) -> None:
    groups = repeat_groups(folded("a", [80, 84, 79]))
    head, rows = metric_cells(groups)
    assert head == ["metric", "setting", "n", "mean", "95 % interval", "sd"]
    titles = [row[0] for row in rows]
    for title in ("accuracy", "weighted F1", "macro precision", "accuracy, test", "calibration error (ECE), test"):
        assert title in titles
    found = groups[0].intervals["accuracy"]
    low, high = (100 * (found.mean + side * found.half_width) for side in (-1, 1))
    assert rows[0][4] == f"{low:.1f}{NBSP}% to {high:.1f}{NBSP}%"


def test_seeds_of_one_fold_count_as_one_repeat(folded) -> None:
    runs = [*folded("a", [80, 84, 79]), *folded("a", [82, 80, 75], seed=1)]
    (group,) = repeat_groups(runs)
    assert (len(group.runs), group.seeds, group.folds) == (6, ["0", "1"], ["0", "1", "2"])
    expected = interval([0.81, 0.82, 0.77], overlap=group.overlap)
    assert group.intervals["accuracy"].n == 3
    assert group.intervals["accuracy"].half_width == pytest.approx(expected.half_width)
    head, ((_, n, folds, seeds, *_),) = repeat_cells([group])
    assert head[2:4] == ["folds", "seeds"]
    assert (n, folds, seeds) == ("3", "0, 1, 2", "0, 1")
    assert "their mean counts as one repeat" in told([group])


def test_seeds_on_one_fold_are_seeds(folded) -> None:
    runs = [run for seed, right in enumerate([80, 84, 79]) for run in folded("a", [right], seed=seed, first=4)]
    (group,) = repeat_groups(runs)
    assert (group.overlap, group.by_fold) == (0.0, False)
    assert group.intervals["accuracy"] == interval([0.8, 0.84, 0.79])
    assert repeat_cells([group])[0][2] == "seeds"


def test_a_run_without_folds_is_no_repeat_of_one_with(folded, write_run, classifier) -> None:
    whole = classifier(fold=None) | {"overrides": ["loss=a", "seed=0"]}
    runs = [*folded("a", [80, 84]), read(write_run("whole", whole) / "run.json")]
    (group,) = repeat_groups(runs)
    assert group.folds == ["0", "1"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data.folds": None}, 100 / 900),
        ({"data": {"train": {"examples": 80}, "heldout": {"examples": 20}}}, 1 / 4),
        ({"data": None}, 1 / 9),
        ({"data": None, "config.dataset": {"labels": {}}}, 1 / 2),
    ],
)
def test_the_rows_of_a_fold_are_taken_from_what_a_run_tells(write_run, classifier, changes, expected: float) -> None:
    runs = []
    for fold in range(3):
        told_so = classifier(fold=fold) | {"overrides": [f"dataset.fold={fold}"]} | changes
        made = write_run(f"f{fold}", told_so)
        run = read(made / "run.json")
        run.record["config"]["dataset"]["fold"] = fold
        runs.append(run)
    (group,) = repeat_groups(runs)
    assert group.overlap == pytest.approx(expected)


def test_arms_over_the_same_folds_have_the_corrected_test(folded) -> None:
    first, second = [80, 84, 79, 83], [76, 81, 77]
    groups = repeat_groups([*folded("a", first), *folded("b", second)])
    head, (row,), note = pair_cells(groups)
    cells = dict(zip(head, row, strict=True))
    assert cells["difference"] == "loss=a − loss=b"
    assert (cells["n"], cells["folds"]) == ("3", "0, 1, 2")
    expected = paired([one / 100 for one in first[:3]], [one / 100 for one in second], overlap=1 / 9)
    width = f"{100 * expected.half_width:.1f}{NBSP}%"
    assert cells["accuracy"] == f"{100 * expected.difference:.1f}{NBSP}% ± {width} (p = {expected.p:.3f})"
    assert "(the same for every fold)" in cells["ECE"]
    assert "above 0 for the others" in note
    assert "corrected resampled t-test" in how_tested(groups)
    assert "Nadeau and Bengio" in how_tested(groups)


def test_the_seeds_that_both_have_are_compared_fold_by_fold(folded) -> None:
    runs = [*folded("a", [80, 84]), *folded("a", [70, 60], seed=1), *folded("b", [75, 77])]
    head, (row,), _ = pair_cells(repeat_groups(runs))
    assert dict(zip(head, row, strict=True))["accuracy"].startswith(f"6.0{NBSP}%"), "seed 1 has no partner"
